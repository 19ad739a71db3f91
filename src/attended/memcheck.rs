//! Blocks under valgrind's memcheck: each is announced when the program gets it and when it gives it up, and has a red zone
//! behind what was asked for, so that memcheck sees an overrun by a byte, a use after free, a leak, and a bad `free`.
//!
//! ```text
//!  start          start + size                        start + usable
//!  ├──────────────┼──────────────────────┬─────────────┤
//!  │ the program's│ red zone, ≥ 8 bytes  │ size, masked│   next block
//!  └──────────────┴──────────────────────┴─────────────┘
//! ```
//!
//! The red zone of one block lies before the next, and what no block was made of yet is nobody's either. A freed block is not used
//! again until some 20 MB more were freed, for which memcheck remembers it. What memcheck reports is not reported once more, and does
//! not abort: the call does nothing, as under memcheck's own `malloc`.

use super::Caller;
use crate::block::BlockPtr;
use crate::heap;
use crate::os;
use crate::os::valgrind::{self, Unreported};
use crate::report;
use crate::size_class::SizeClass;
use crate::sync::Mutex;
use crate::tcache;
use core::ptr::{self, NonNull};

/// What a block has beyond the bytes that were asked for, in bytes, at least; its last word tells how many those were.
const RED_ZONE: usize = 16;

/// Masks the size in the last word, so that neither zeroes nor the links of free blocks look like one.
const MASK: usize = 0x6b1d_93c5_a7e2_4f38;

/// Marks the size of a block that was freed; no block is that large.
const FREED: usize = 1 << 63;

/// Bytes of freed blocks that are kept from being used again; more than memcheck's `--freelist-vol` is by default.
const KEPT_BYTES: usize = 20 << 20;

/// Freed blocks that are not used again yet, oldest first. The lock is only tried, so that nobody waits for it across a `fork`.
static KEPT: Mutex<Kept> = Mutex::new(Kept { ends: None, bytes: 0 });

struct Kept {
    /// The first and the last block, of a list linked as the heap's own are.
    ends: Option<(BlockPtr, BlockPtr)>,
    /// What they had been asked for, in all.
    bytes: usize,
}

// SAFETY: free blocks are reached only under the lock.
unsafe impl Send for Kept {}

/// A live block, as memcheck knows it.
struct Live {
    block: heap::Block,
    /// The bytes that were asked for.
    size: usize,
}

/// As `attended::allocate`.
pub(super) fn allocate(size: usize, align: usize, class: Option<SizeClass>) -> Option<NonNull<u8>> {
    let _unreported = Unreported::begin();
    let padded = size.checked_add(RED_ZONE)?;
    let start = match (SizeClass::of_layout(padded, align), class) {
        (Some(class), _) => tcache::take(class)?,
        // Whoever frees a block by its layout expects it in a segment.
        (None, Some(_)) => heap::allocate_run(padded, align, true)?.start,
        (None, None) => heap::allocate_pages_plainly(padded, align)?.start,
    };
    let usable = heap::look_up(start).ok()?.usable_size();
    set_size(start, usable, size);
    valgrind::block_given(start, size, usable);
    Some(start)
}

/// As `attended::free`.
///
/// # Safety
/// The caller gives up the block that starts at the address, if one does.
pub(super) unsafe fn free(start: NonNull<u8>, caller: Caller) {
    let live = find(start);
    // What is no block is reported by memcheck.
    valgrind::block_freed(start.as_ptr());
    let Some(Live { block, size }) = live else { return };
    super::record_free(start, &block, size, caller);
    let _unreported = Unreported::begin();
    set_size(start, block.usable_size(), size | FREED);
    // SAFETY: the caller gives the block up.
    let freed = unsafe { BlockPtr::from_start(start) };
    match KEPT.try_lock() {
        Some(mut kept) => kept.put(freed, size),
        None => return release(freed),
    }
    while let Some(old) = KEPT.try_lock().and_then(|mut kept| kept.take()) {
        release(old);
    }
}

/// Gives a block that was kept, or was to be, back to the heap.
fn release(freed: BlockPtr) {
    if let Ok(block) = heap::look_up(freed.start()) {
        // SAFETY: the block was found there, and nobody else has it.
        unsafe { heap::release(freed.start(), &block) };
    }
}

impl Kept {
    fn put(&mut self, freed: BlockPtr, size: usize) {
        freed.set_next(None);
        let first = self.ends.map_or(freed, |(first, last)| {
            last.set_next(Some(freed));
            first
        });
        self.ends = Some((first, freed));
        self.bytes += size;
    }

    /// Takes the oldest block, if there are too many.
    fn take(&mut self) -> Option<BlockPtr> {
        let (oldest, last) = self.ends.filter(|_| self.bytes > KEPT_BYTES)?;
        // A program that writes to freed memory, which memcheck reports and lets it do, may have broken the chain.
        self.ends = oldest.next().filter(|next| heap::look_up(next.start()).is_ok()).map(|first| (first, last));
        if self.ends.is_none() {
            self.bytes = 0;
            return Some(oldest);
        }
        let size = heap::look_up(oldest.start()).map_or(0, |block| size_of_block(oldest.start(), block.usable_size()));
        self.bytes -= (size & !FREED).min(self.bytes);
        Some(oldest)
    }
}

/// As `attended::reallocate`; the block always moves, so that uses of the old one show.
///
/// # Safety
/// The caller gives up the block at `start` unless the result is null.
pub(super) unsafe fn reallocate(start: NonNull<u8>, size: usize, align: usize, caller: Caller) -> *mut u8 {
    let Some(old) = find(start) else {
        valgrind::block_freed(start.as_ptr());
        os::set_errno(libc::EINVAL);
        return ptr::null_mut();
    };
    let Some(new) = super::allocate(size, align, heap::class_of_layout(size, align), caller) else {
        os::set_errno(libc::ENOMEM);
        return ptr::null_mut();
    };
    // SAFETY: two live blocks do not overlap, and both have that many bytes.
    unsafe { new.copy_from_nonoverlapping(start, old.size.min(size)) };
    // SAFETY: the caller gives the old block up.
    unsafe { super::free(start, caller) };
    new.as_ptr()
}

/// The bytes of a block that the program may use.
pub(crate) fn usable_size(start: NonNull<u8>) -> usize {
    let Some(live) = find(start) else {
        report::bad_pointer("malloc_usable_size", start.as_ptr(), heap::fault_at(start));
        return 0;
    };
    live.size
}

/// As `heap::resize_in_place`.
pub(crate) fn resize_in_place(start: NonNull<u8>, size: usize, most: usize) -> usize {
    let Some(live) = find(start) else {
        report::bad_pointer("xallocx", start.as_ptr(), heap::fault_at(start));
        return 0;
    };
    let usable = live.block.usable_size();
    let room = usable - RED_ZONE;
    if size > room {
        return live.size;
    }
    let new = most.min(room);
    let _unreported = Unreported::begin();
    set_size(start, usable, new);
    valgrind::block_resized(start, live.size, new, usable);
    new
}

/// The block that starts here, if the program holds one.
fn find(start: NonNull<u8>) -> Option<Live> {
    let _unreported = Unreported::begin();
    let block = heap::look_up(start).ok()?;
    let usable = block.usable_size();
    let size = size_of_block(start, usable);
    if size <= usable - RED_ZONE {
        return Some(Live { block, size });
    }
    // The word of a live block was overwritten, or the block is not live.
    valgrind::is_somebodys(start).then_some(Live { block, size: usable - RED_ZONE })
}

fn size_word(start: NonNull<u8>, usable: usize) -> NonNull<usize> {
    // SAFETY: blocks have at least `RED_ZONE` bytes, and their sizes are multiples of 8.
    unsafe { start.add(usable - size_of::<usize>()) }.cast()
}

fn size_of_block(start: NonNull<u8>, usable: usize) -> usize {
    // SAFETY: the last word of a block of this size.
    unsafe { size_word(start, usable).read() ^ MASK }
}

fn set_size(start: NonNull<u8>, usable: usize, size: usize) {
    // SAFETY: the last word of a block, which is not the program's.
    unsafe { size_word(start, usable).write(size ^ MASK) };
}
