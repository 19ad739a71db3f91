//! A block: a header, and directly behind it the payload that the caller gets.
//!
//! ```text
//!              header                        payload
//!  ┌────────┬────────┬──────────────┬─────────────────────────┐
//!  │ size   │ status │ [prev,] next │ `size` bytes            │
//!  └────────┴────────┴──────────────┴─────────────────────────┘
//!  0        8        16             HEADER                    HEADER + size
//! ```
//!
//! `size` counts the payload alone and is a multiple of 8, so one block ends where the next one's header may begin,
//! aligned. The links lie in the header, never in the payload: what a caller wrote stays as it is after a free.

use core::mem::{offset_of, size_of};
use core::ptr::NonNull;

/// Bytes between a block's start and its payload: 24, or 32 with the feature `header-32`.
pub const HEADER: usize = size_of::<Header>();

/// Headers and payloads start at multiples of this many bytes.
pub const ALIGNMENT: usize = 8;

/// What a block is used for. Not an `enum`, since callers can reach the header and may leave any number in it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// In the heap, waiting to be handed out.
    pub const FREE: Self = Self(0);
    /// In the heap, handed out.
    pub const ALLOCATED: Self = Self(1);
    /// A mapping of its own, handed out; not in the heap's list.
    pub const MAPPED: Self = Self(2);
}

#[repr(C)]
struct Header {
    size: usize,
    status: Status,
    /// Always 0, so that no byte of a header is undefined.
    padding: u32,
    #[cfg(feature = "header-32")]
    prev: Option<Block>,
    next: Option<Block>,
}

// The part that callers may read, and the two editions.
const _: () = assert!(offset_of!(Header, size) == 0 && offset_of!(Header, status) == 8);
const _: () = assert!(HEADER == if cfg!(feature = "header-32") { 32 } else { 24 });

/// The payload of a block that can hold `size` bytes: `size` rounded up to 8.
///
/// None for a size of 0, and for one so large that no block of it has an end.
pub fn payload_for(size: usize) -> Option<usize> {
    let payload = size.checked_next_multiple_of(ALIGNMENT)?;
    payload.checked_add(HEADER)?;
    (payload > 0).then_some(payload)
}

/// A pointer to a block's header.
///
/// Whoever makes one (both ways are unsafe) promises that the header stays readable and writable for as long as the
/// `Block` is used, and that no other thread touches it meanwhile. All methods lean on that promise. Heap memory is
/// never given back, so it is easily kept there, even for a block that has since become a part of another.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(NonNull<Header>);

impl Block {
    /// Writes a header with no neighbours at `start`, and so makes a block.
    ///
    /// # Safety
    /// `start` is a multiple of 8, and the `HEADER + size` bytes from there are the block's alone, as said at [`Block`].
    pub unsafe fn write(start: NonNull<u8>, size: usize, status: Status) -> Self {
        let header = Header {
            size,
            status,
            padding: 0,
            #[cfg(feature = "header-32")]
            prev: None,
            next: None,
        };
        let block = Self(start.cast());
        // SAFETY: the caller gives aligned memory that holds at least a header.
        unsafe { block.0.write(header) };
        block
    }

    /// The block whose payload a caller holds.
    ///
    /// # Safety
    /// `payload` came from [`Block::payload`], and the block still exists.
    pub unsafe fn of_payload(payload: NonNull<u8>) -> Self {
        // SAFETY: a header lies before every payload.
        Self(unsafe { payload.byte_sub(HEADER) }.cast())
    }

    /// Where the header begins.
    pub fn start(self) -> NonNull<u8> {
        self.0.cast()
    }

    /// Where the payload begins: what the caller gets.
    pub fn payload(self) -> NonNull<u8> {
        // SAFETY: the block's memory reaches over the header.
        unsafe { self.start().byte_add(HEADER) }
    }

    /// The first byte behind the payload.
    pub fn end(self) -> NonNull<u8> {
        // SAFETY: the block's memory reaches over its payload, and its end is one past that.
        unsafe { self.payload().byte_add(self.size()) }
    }

    /// Bytes of payload.
    pub fn size(self) -> usize {
        // SAFETY: the header is readable.
        unsafe { (*self.0.as_ptr()).size }
    }

    /// Says how many bytes of payload there are.
    pub fn set_size(self, size: usize) {
        // SAFETY: the header is writable.
        unsafe { (*self.0.as_ptr()).size = size }
    }

    /// What the block is used for.
    pub fn status(self) -> Status {
        // SAFETY: the header is readable.
        unsafe { (*self.0.as_ptr()).status }
    }

    /// Says what the block is used for.
    pub fn set_status(self, status: Status) {
        // SAFETY: the header is writable.
        unsafe { (*self.0.as_ptr()).status = status }
    }

    /// Whether the block is a free one of the heap.
    pub fn is_free(self) -> bool {
        self.status() == Status::FREE
    }

    /// The following block of the list, in address order.
    pub fn next(self) -> Option<Block> {
        // SAFETY: the header is readable.
        unsafe { (*self.0.as_ptr()).next }
    }

    /// Makes `next` the following block of the list, and this one the block before it.
    pub fn link(self, next: Option<Block>) {
        // SAFETY: the header is writable.
        unsafe { (*self.0.as_ptr()).next = next }
        #[cfg(feature = "header-32")]
        if let Some(next) = next {
            // SAFETY: the neighbour's header is writable as well.
            unsafe { (*next.0.as_ptr()).prev = Some(self) }
        }
    }
}
