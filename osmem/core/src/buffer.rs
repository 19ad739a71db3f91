//! A heap's memory in a plain buffer: it plays the program break's part where there is no program to disturb.

use core::ptr::NonNull;

use crate::heap::Memory;

/// Memory that grows within a buffer, and says no at its end.
pub struct Buffer<'a> {
    words: &'a mut [u64],
    used: usize,
}

impl<'a> Buffer<'a> {
    /// Nothing of `words` is used yet.
    pub const fn new(words: &'a mut [u64]) -> Self {
        Self { words, used: 0 }
    }

    /// Bytes handed out so far.
    pub fn used(&self) -> usize {
        self.used * 8
    }
}

// SAFETY: words are 8 bytes, so their addresses are multiples of 8; each is handed out once, in order, and the borrow
// keeps everybody else away.
unsafe impl Memory for Buffer<'_> {
    fn grow(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let words = bytes.div_ceil(8);
        if words > self.words.len() - self.used {
            return None;
        }
        let start = self.end();
        self.used += words;
        NonNull::new(start)
    }

    fn end(&self) -> *mut u8 {
        self.words.as_ptr().cast_mut().wrapping_add(self.used).cast()
    }
}
