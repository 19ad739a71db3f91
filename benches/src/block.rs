//! Blocks of the heap under test, as owned values: the only place where the workloads meet the allocator's raw interface.
//!
//! A block has no destructor: a workload gives it back where it says so. Owning the value is the right to the memory, and
//! since all values of a [`Heap`] type stand for one heap, `give_back` cannot go to the wrong one.
//!
//! Taking a block costs what it costs any Rust program: the call, and a test for null. Its first word is then written, and
//! the compiler is made to forget where the pointer came from, so that neither the calls nor the write can be elided: it
//! knows `malloc` and `free`, and would otherwise spare the C library what other allocators do.

use crate::heaps::Heap;
use crate::sizes::BlockSize;
use std::alloc::{GlobalAlloc, Layout};
use std::arch::asm;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Bytes between two touches when the pages of a block are touched.
const PAGE: usize = 4096;

/// Makes the compiler forget all it knows about `ptr` and about memory, without an instruction.
#[inline(always)]
pub fn opaque<T>(mut ptr: *mut T) -> *mut T {
    // SAFETY: the template is a comment: nothing is executed, and the register keeps its value.
    unsafe { asm!("/* {0} */", inout(reg) ptr, options(nostack, preserves_flags)) };
    ptr
}

/// Ends the process: a benchmark has no use for a heap that is exhausted.
#[cold]
#[inline(never)]
fn exhausted(layout: Layout) -> ! {
    eprintln!("the allocator under test returned null for {} bytes", layout.size());
    std::process::abort()
}

/// What an allocation returned, or the end.
#[inline(always)]
fn checked(ptr: *mut u8, layout: Layout) -> NonNull<u8> {
    NonNull::new(ptr).unwrap_or_else(|| exhausted(layout))
}

/// [`opaque`] for a block.
#[inline(always)]
fn forget_origin(block: NonNull<u8>) -> NonNull<u8> {
    // SAFETY: `opaque` returns its argument, which is not null.
    unsafe { NonNull::new_unchecked(opaque(block.as_ptr())) }
}

#[inline(always)]
fn alloc<H: Heap>(size: BlockSize) -> NonNull<u8> {
    let layout = size.layout();
    // SAFETY: a block size is never zero.
    let block = checked(unsafe { H::ALLOCATOR.alloc(layout) }, layout);
    // SAFETY: the block is ours alone, aligned to a word, and at least two words long.
    unsafe { block.cast::<u64>().write(size.bytes() as u64) };
    forget_origin(block)
}

/// # Safety
/// `block` came from `H` with the layout of `size`, and nobody uses it any more.
#[inline(always)]
unsafe fn dealloc<H: Heap>(block: NonNull<u8>, size: BlockSize) {
    // SAFETY: as the caller promises.
    unsafe { H::ALLOCATOR.dealloc(block.as_ptr(), size.layout()) }
}

/// A block whose size the compiler does not know.
#[must_use]
pub struct Block<H> {
    ptr: NonNull<u8>,
    size: BlockSize,
    heap: PhantomData<H>,
}

// SAFETY: a block is owned memory, and an allocator's blocks may be used and freed by any thread.
unsafe impl<H: Heap> Send for Block<H> {}

impl<H: Heap> Block<H> {
    /// Allocates, and writes the first word.
    #[inline(always)]
    pub fn take(size: BlockSize) -> Self {
        Self { ptr: alloc::<H>(size), size, heap: PhantomData }
    }

    /// Allocates zeroed memory and writes nothing to it.
    #[inline(always)]
    pub fn take_zeroed(size: BlockSize) -> Self {
        let layout = size.layout();
        // SAFETY: a block size is never zero.
        let ptr = checked(unsafe { H::ALLOCATOR.alloc_zeroed(layout) }, layout);
        Self { ptr: forget_origin(ptr), size, heap: PhantomData }
    }

    /// Frees the block.
    #[inline(always)]
    pub fn give_back(self) {
        // SAFETY: the value owned the block and is consumed.
        unsafe { dealloc::<H>(self.ptr, self.size) }
    }

    /// Frees the block and allocates one of `size` in its place.
    #[inline(always)]
    pub fn replace(&mut self, size: BlockSize) {
        // SAFETY: the value owns the block. It is given another before anyone can use it again: a failure ends the process.
        unsafe { dealloc::<H>(self.ptr, self.size) };
        (self.ptr, self.size) = (alloc::<H>(size), size);
    }

    /// Reallocates to `size`, keeping the content.
    #[inline(always)]
    pub fn resize(self, size: BlockSize) -> Self {
        // SAFETY: the value owns the block, and a block size is a valid size for its alignment.
        let ptr = unsafe { H::ALLOCATOR.realloc(self.ptr.as_ptr(), self.size.layout(), size.bytes()) };
        Self { ptr: forget_origin(checked(ptr, size.layout())), size, heap: PhantomData }
    }

    /// The block's size.
    pub fn size(&self) -> BlockSize {
        self.size
    }

    /// Writes a byte in each page of the block from byte `from` on.
    pub fn touch_pages(&mut self, from: usize) {
        for offset in (from..self.size.bytes()).step_by(PAGE) {
            self.write_byte(offset);
        }
    }

    /// Writes to the block's first and last byte.
    #[inline(always)]
    pub fn dirty(&mut self) {
        self.write_byte(0);
        self.write_byte(self.size.bytes() - 1);
    }

    #[inline(always)]
    fn write_byte(&mut self, offset: usize) {
        debug_assert!(offset < self.size.bytes(), "a touch beyond the block");
        // SAFETY: the offset lies inside the block.
        let byte = unsafe { self.ptr.add(offset) };
        // SAFETY: the block is ours alone.
        unsafe { byte.write_volatile(1) };
    }

    /// The bitwise union of the first and the last word, of a block that was taken zeroed.
    #[inline(always)]
    pub fn ends(&self) -> u64 {
        // SAFETY: the block is at least two words long.
        let last = unsafe { self.ptr.add(self.size.bytes() - size_of::<u64>()) };
        // SAFETY: the block was zeroed, so its first word is initialised.
        let first = unsafe { self.ptr.cast::<u64>().read() };
        // SAFETY: likewise the last, which need not be aligned.
        let last = unsafe { last.cast::<u64>().read_unaligned() };
        first | last
    }

    /// Turns the block into a bare pointer that carries its size in its first word, as messages between threads do.
    #[inline(always)]
    pub fn seal(self) -> Sealed<H> {
        // SAFETY: the block is ours alone, aligned to a word, and at least two words long.
        unsafe { self.ptr.cast::<u64>().write(self.size.bytes() as u64) };
        Sealed { ptr: self.ptr, heap: PhantomData }
    }
}

/// A block with an alignment of its own, in bytes.
#[must_use]
pub struct Aligned<H> {
    ptr: NonNull<u8>,
    layout: Layout,
    heap: PhantomData<H>,
}

// SAFETY: as for `Block`.
unsafe impl<H: Heap> Send for Aligned<H> {}

impl<H: Heap> Aligned<H> {
    /// Allocates, checks the alignment, and writes the first word.
    #[inline(always)]
    pub fn take(size: BlockSize, align: usize) -> Self {
        let layout = size.layout_aligned(align);
        // SAFETY: a block size is never zero.
        let block = checked(unsafe { H::ALLOCATOR.alloc(layout) }, layout);
        assert!(block.addr().get().is_multiple_of(align), "a block is not aligned");
        // SAFETY: the block is ours alone, aligned to a word, and at least two words long.
        unsafe { block.cast::<u64>().write(align as u64) };
        Self { ptr: forget_origin(block), layout, heap: PhantomData }
    }

    /// Frees the block.
    #[inline(always)]
    pub fn give_back(self) {
        // SAFETY: the value owned the block, of this layout, and is consumed.
        unsafe { H::ALLOCATOR.dealloc(self.ptr.as_ptr(), self.layout) }
    }
}

/// A block as a bare pointer; its first word holds its size.
#[must_use]
pub struct Sealed<H> {
    ptr: NonNull<u8>,
    heap: PhantomData<H>,
}

// SAFETY: as for `Block`.
unsafe impl<H: Heap> Send for Sealed<H> {}

impl<H: Heap> Sealed<H> {
    /// Reads the size back.
    #[inline(always)]
    pub fn open(self) -> Block<H> {
        // SAFETY: `seal` wrote the word, and nothing else writes to a sealed block.
        let bytes = unsafe { self.ptr.cast::<u64>().read() };
        Block { ptr: self.ptr, size: BlockSize::new(bytes as usize), heap: PhantomData }
    }
}

/// A block of a size that is a constant of its type, as a `Box<T>` is: the compiler folds the layout into the call.
#[must_use]
pub struct Fixed<H, const SIZE: usize> {
    ptr: NonNull<u8>,
    heap: PhantomData<H>,
}

// SAFETY: as for `Block`.
unsafe impl<H: Heap, const SIZE: usize> Send for Fixed<H, SIZE> {}

impl<H: Heap, const SIZE: usize> Fixed<H, SIZE> {
    const LAYOUT: BlockSize = BlockSize::new(SIZE);

    /// Allocates, and writes the first word.
    #[inline(always)]
    pub fn take() -> Self {
        Self { ptr: alloc::<H>(Self::LAYOUT), heap: PhantomData }
    }

    /// Frees the block.
    #[inline(always)]
    pub fn give_back(self) {
        // SAFETY: the value owned the block and is consumed.
        unsafe { dealloc::<H>(self.ptr, Self::LAYOUT) }
    }
}
