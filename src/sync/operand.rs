//! Comparisons with an atomic word in memory, in one instruction.
//!
//! The compiler does not fold an atomic load into the comparison that it is made for, nor the address's arithmetic into
//! that. On the path of every `free` there are three such comparisons: an instruction and a register each. So on x86-64 the
//! comparison is written out, with the branch that follows it; elsewhere, and in the models, it is the load that it says.
//!
//! What is read is a `Relaxed` load, and each use says why that is enough.

use super::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use core::marker::PhantomData;

/// The atomic word at `base + index * SCALE + OFFSET`.
pub(crate) struct Operand<W: 'static, const SCALE: usize, const OFFSET: isize> {
    base: *const u8,
    index: usize,
    word: PhantomData<&'static W>,
}

impl<W, const SCALE: usize, const OFFSET: isize> Operand<W, SCALE, OFFSET> {
    /// # Safety
    /// At that address must lie a `W` for as long as the operand is used.
    #[inline(always)]
    pub(crate) unsafe fn new(base: *const u8, index: usize) -> Self {
        Self { base, index, word: PhantomData }
    }

    #[inline(always)]
    fn word(&self) -> &W {
        let word = self.base.wrapping_add(self.index * SCALE).wrapping_offset(OFFSET).cast::<W>();
        // SAFETY: the promise that the operand was made with.
        unsafe { &*word }
    }
}

/// Compares the word with a register, at the given width, and leaves the function with `false` on the condition.
#[cfg(target_arch = "x86_64")]
macro_rules! leave_if {
    ($operand:expr, $width:literal, $register:literal, $jump:literal, $value:expr) => {
        // SAFETY: reads the aligned word that the operand was promised to be, as a relaxed load would.
        unsafe {
            core::arch::asm!(
                concat!("cmp ", $width, " ptr [{base} + {scale}*{index} + {offset}], ", $register),
                concat!($jump, " {leave}"),
                base = in(reg) $operand.base,
                index = in(reg) $operand.index,
                scale = const SCALE,
                offset = const OFFSET,
                value = in(reg) $value,
                leave = label { return false },
                options(readonly, nostack),
            )
        }
    };
}

impl<const SCALE: usize, const OFFSET: isize> Operand<AtomicUsize, SCALE, OFFSET> {
    /// Whether the word is `value`.
    #[inline(always)]
    pub(crate) fn is(&self, value: usize) -> bool {
        if cfg!(any(not(target_arch = "x86_64"), loom, miri)) {
            return self.word().load(Ordering::Relaxed) == value;
        }
        #[cfg(target_arch = "x86_64")]
        leave_if!(self, "qword", "{value}", "jne", value);
        true
    }
}

impl<T, const SCALE: usize, const OFFSET: isize> Operand<AtomicPtr<T>, SCALE, OFFSET> {
    /// Whether the word is `value`.
    #[inline(always)]
    pub(crate) fn is(&self, value: *mut T) -> bool {
        if cfg!(any(not(target_arch = "x86_64"), loom, miri)) {
            return self.word().load(Ordering::Relaxed) == value;
        }
        #[cfg(target_arch = "x86_64")]
        leave_if!(self, "qword", "{value}", "jne", value);
        true
    }
}

impl<const SCALE: usize, const OFFSET: isize> Operand<AtomicU32, SCALE, OFFSET> {
    /// Whether the word is at least `value`.
    #[inline(always)]
    pub(crate) fn reaches(&self, value: u32) -> bool {
        if cfg!(any(not(target_arch = "x86_64"), loom, miri)) {
            return self.word().load(Ordering::Relaxed) >= value;
        }
        #[cfg(target_arch = "x86_64")]
        leave_if!(self, "dword", "{value:e}", "jb", value);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr;

    #[test]
    fn a_word_is_compared_where_it_lies() {
        let words = [const { AtomicUsize::new(0) }; 8];
        words[5].store(usize::MAX - 1, Ordering::Relaxed);
        let base = words.as_ptr().cast::<u8>();
        // SAFETY: the words lie there.
        let scaled = unsafe { Operand::<AtomicUsize, 8, 0>::new(base, 5) };
        // SAFETY: as above.
        let shifted = unsafe { Operand::<AtomicUsize, 1, -8>::new(base, 48) };
        assert!(scaled.is(usize::MAX - 1) && shifted.is(usize::MAX - 1));
        assert!(!scaled.is(usize::MAX) && !shifted.is(0));
    }

    #[test]
    fn a_pointer_and_a_half_word_are_compared_as_what_they_are() {
        let pointer = AtomicPtr::new(ptr::without_provenance_mut::<u8>(9));
        let half = AtomicU32::new(0x8000_0000);
        // SAFETY: the words lie there.
        let pointer = unsafe { Operand::<AtomicPtr<u8>, 1, 0>::new(ptr::from_ref(&pointer).cast(), 0) };
        assert!(pointer.is(ptr::without_provenance_mut(9)) && !pointer.is(ptr::null_mut()));
        // SAFETY: as above.
        let half = unsafe { Operand::<AtomicU32, 4, 0>::new(ptr::from_ref(&half).cast(), 0) };
        assert!(half.reaches(0) && half.reaches(0x8000_0000) && !half.reaches(0x8000_0001));
    }
}
