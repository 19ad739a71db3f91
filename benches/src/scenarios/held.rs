//! Blocks of the heap under test: counted while they live, and looked at when they are freed.

use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes asked for and not freed. Written by every thread that allocates or frees, read by whoever looks; `Relaxed`, since
/// it is a sum that nothing else hangs on.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// What a page of the machine holds, in bytes.
pub const PAGE: usize = 4096;

/// Bytes asked for and not freed.
pub fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// A block from `malloc`, whichever that is. Every byte of it is written; dropping it frees it.
pub struct Held {
    start: NonNull<u8>,
    size: u32,
}

// SAFETY: a block may be freed by any thread.
unsafe impl Send for Held {}

impl Held {
    /// A block of `size` bytes.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn new(size: usize) -> Self {
        assert!(size > 0 && u32::try_from(size).is_ok(), "a size out of bounds");
        // SAFETY: any size may be asked for.
        let start = unsafe { libc::malloc(black_box(size)) };
        let start = NonNull::new(start.cast::<u8>()).expect("there is memory for the block");
        // SAFETY: the block has that many bytes and nobody else knows it.
        unsafe { start.write_bytes(Self::stamp(start), size) };
        LIVE.fetch_add(size, Ordering::Relaxed);
        Self { start, size: size as u32 }
    }

    fn stamp(start: NonNull<u8>) -> u8 {
        (start.addr().get() >> 4) as u8
    }

    /// Its length in bytes.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// The numbers of the first and the last page that it touches.
    pub fn pages(&self) -> (usize, usize) {
        let first = self.start.addr().get();
        (first / PAGE, (first + self.size() - 1) / PAGE)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the block has `size` bytes, all of them written, and the offset is below it.
        let last = unsafe { self.start.add(self.size() - 1) };
        // SAFETY: as above.
        let last = unsafe { last.read() };
        // SAFETY: as above.
        let first = unsafe { self.start.read() };
        let stamp = Self::stamp(self.start);
        assert!((first, last) == (stamp, stamp), "a block of {} bytes was overwritten", self.size);
        LIVE.fetch_sub(self.size(), Ordering::Relaxed);
        // SAFETY: the block came from `malloc`, and this is its one owner.
        unsafe { libc::free(black_box(self.start.as_ptr()).cast()) };
    }
}

/// Bytes of the pages that hold any of the blocks.
pub fn bytes_of_pages<'h>(blocks: impl Iterator<Item = &'h Held>) -> usize {
    let mut touched: Vec<(usize, usize)> = blocks.map(Held::pages).collect();
    touched.sort_unstable();
    let (mut pages, mut next) = (0, 0);
    for (first, last) in touched {
        let first = first.max(next);
        if first <= last {
            pages += last - first + 1;
            next = last + 1;
        }
    }
    pages * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn pages_are_counted_once() {
        let blocks: Vec<Held> = [9000, 9000, 40, 40, 40].map(Held::new).into_iter().collect();
        let bytes = bytes_of_pages(blocks.iter());
        let of_bytes =
            |block: &Held| (0..block.size()).map(|offset| block.start.addr().get() + offset).collect::<Vec<_>>();
        let pages: HashSet<usize> = blocks.iter().flat_map(of_bytes).map(|address| address / PAGE).collect();
        assert_eq!(bytes, pages.len() * PAGE);
        let twice = bytes_of_pages(blocks.iter().chain(&blocks));
        assert_eq!(twice, bytes);
        assert_eq!(bytes_of_pages([].iter()), 0);
    }

    #[test]
    #[should_panic(expected = "was overwritten")]
    fn a_damaged_block_is_noticed() {
        let block = Held::new(100);
        // SAFETY: the byte belongs to the block.
        let last = unsafe { block.start.as_ptr().add(99) };
        // SAFETY: as above.
        unsafe { last.write(!Held::stamp(block.start)) };
        drop(block);
    }
}
