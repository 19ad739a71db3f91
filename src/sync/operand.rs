//! Comparisons with a word in memory, and sums, in one instruction.
//!
//! The compiler does not fold an atomic load into the comparison that it is made for, nor the address's arithmetic into
//! that, nor a load that it needs twice. On the path of every `free` there are four such comparisons: an instruction and a register
//! each. So on x86-64 the comparison is written out, with the branch that follows it; elsewhere, and in the models, it is the load
//! that it says.
//!
//! What is read of an atomic is a `Relaxed` load, and each use says why that is enough.

use super::{AtomicPtr, AtomicU32, AtomicUsize, Cell, Ordering};
use core::marker::PhantomData;

/// The word at `base + index * SCALE + OFFSET`.
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

impl<const SCALE: usize, const OFFSET: isize> Operand<Cell<u64>, SCALE, OFFSET> {
    /// Whether the word is more than `value`.
    #[inline(always)]
    pub(crate) fn is_above(&self, value: u64) -> bool {
        if cfg!(any(not(target_arch = "x86_64"), loom, miri)) {
            return self.word().get() > value;
        }
        #[cfg(target_arch = "x86_64")]
        leave_if!(self, "qword", "{value}", "jbe", value);
        true
    }
}

impl<T: Copy + Into<u16>, const SCALE: usize, const OFFSET: isize> Operand<Cell<T>, SCALE, OFFSET> {
    /// The address so many bytes after `start`, with no multiple of 65,536 between the two: the low half-word is all that differs.
    #[inline(always)]
    pub(crate) fn after(&self, start: *const u8) -> *const u8 {
        const { assert!(size_of::<T>() == 2) };
        if cfg!(any(not(target_arch = "x86_64"), loom, miri)) {
            return start.wrapping_add(usize::from(self.word().get().into()));
        }
        #[cfg(target_arch = "x86_64")]
        let mut start = start;
        // SAFETY: reads the aligned half-word that the operand was promised to be.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            core::arch::asm!(
                "add {start:x}, word ptr [{base} + {scale}*{index} + {offset}]",
                base = in(reg) self.base,
                index = in(reg) self.index,
                scale = const SCALE,
                offset = const OFFSET,
                start = inout(reg) start,
                options(pure, readonly, nostack),
            )
        };
        start
    }
}

/// The same place, with its address in one register. The compiler does sums of addresses anew in each access, where the processor does
/// them for nothing; this is for those that cost an access something all the same.
#[inline(always)]
pub(crate) fn in_register<T>(place: &T) -> &T {
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    return place;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut address = core::ptr::from_ref(place);
        // SAFETY: no instruction at all.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) address, options(pure, readonly, nostack, preserves_flags));
        }
        // SAFETY: the address is what it was.
        unsafe { &*address }
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

    #[test]
    fn a_plain_word_is_above_what_is_less() {
        let word = Cell::new(1_u64 << 63);
        // SAFETY: the word lies there.
        let operand = unsafe { Operand::<Cell<u64>, 1, 0>::new(ptr::from_ref(&word).cast(), 0) };
        assert!(operand.is_above(0) && operand.is_above((1 << 63) - 1));
        assert!(!operand.is_above(1 << 63) && !operand.is_above(u64::MAX));
    }

    #[test]
    fn a_half_word_is_added_to_an_address() {
        let half_words = [Cell::new(7_u16), Cell::new(0xFFF)];
        // SAFETY: the half-words lie there.
        let operand = |index| unsafe { Operand::<Cell<u16>, 2, 0>::new(half_words.as_ptr().cast(), index) };
        let start = ptr::without_provenance::<u8>(0x7FFF_1234_F000);
        assert_eq!(operand(0).after(start).addr(), 0x7FFF_1234_F007);
        assert_eq!(operand(1).after(start).addr(), 0x7FFF_1234_FFFF);
        // What is read is what stands there now.
        half_words[0].set(0);
        assert_eq!(operand(0).after(start), start);
    }
}
