//! Size classes: which block size serves which request.
//!
//! ```text
//! 16 24 32 40 ... 120 128 | 144 160 ... 256 | 288 ... 512 | ... | 7680 8192 | 10240 12288 14336 16384 | ... 32768
//! steps of 8 (odd ones for    8 per doubling: at most 11 %                  | 4 per doubling
//! Rust's small alignments)    of a block is not asked for                   |
//! ```
//!
//! Every class above 128 bytes is a multiple of 16, and of each power of two up to the step of its doubling; so the class
//! of a size that is a multiple of some alignment is a multiple of that alignment as well. That is what lets aligned
//! requests be served by the same classes.

/// The smallest block: room for the two words that a chain of free blocks needs.
pub const MIN_BLOCK: usize = 16;
/// The largest block that a slab serves, in bytes; above it, blocks are runs of pages.
pub const MAX_SMALL: usize = 32 * 1024;
/// The largest size that the look-up table answers.
pub(crate) const TABLE_MAX: usize = 8 * 1024;
/// The largest size that the table of single bytes answers.
pub(crate) const BYTE_TABLE_MAX: usize = 1024;
/// The alignment that C programs expect of every block.
pub(crate) const C_ALIGN: usize = 16;
/// How many classes there are.
pub const COUNT: usize = 71;
/// Alignments above this are served by runs of pages.
pub(crate) const MAX_SMALL_ALIGN: usize = 4096;

/// The number of a size class, below [`COUNT`]; stored times [`SizeClass::SCALE`], which is what finds the class's
/// magazine in a thread cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct SizeClass(u16);

/// An entry for each size up to [`BYTE_TABLE_MAX`].
pub(crate) type ByteTable = [SizeClass; BYTE_TABLE_MAX + 1];

/// Class by size, aligned to 16: for the C face, whose most frequent requests are spared the rounding.
pub(crate) static BYTE_TABLE: ByteTable = {
    let mut table = [SizeClass(0); BYTE_TABLE_MAX + 1];
    let mut size = 0;
    while size < table.len() {
        table[size] = SizeClass::of_fine(size.next_multiple_of(16));
        size += 1;
    }
    table
};

/// Class by size in steps of 8 bytes, rounded up, in pairs: the first of each pair is a multiple of 16.
static TABLE: [[SizeClass; 2]; TABLE_MAX / 16 + 1] = {
    let mut table = [[SizeClass(0); 2]; TABLE_MAX / 16 + 1];
    let mut i = 0;
    while i < table.len() {
        table[i] = [SizeClass::of_fine(i * 16), SizeClass::of_fine(i * 16 + 8)];
        i += 1;
    }
    table
};

static SIZES: [u16; COUNT] = sizes();

/// The block size of each class, in units of 8 bytes.
pub(crate) const fn sizes() -> [u16; COUNT] {
    let mut sizes = [0; COUNT];
    let mut size = MIN_BLOCK;
    while size <= MAX_SMALL {
        // 32768 does not fit with the others' low bits kept, so sizes are stored in units of 8 bytes.
        sizes[SizeClass::of_fine(size).index()] = (size / 8) as u16;
        size += 8;
    }
    // The loop passes through every size of a class last at the class's own size.
    sizes
}

const _: () = assert!(COUNT * SizeClass::SCALE < 4096, "arrays by class lie within a page");

impl From<SizeClass> for u16 {
    fn from(class: SizeClass) -> Self {
        class.0
    }
}

impl SizeClass {
    /// The size of a magazine, in bytes.
    pub(crate) const SCALE: usize = 16;

    /// The class with this number, for walks over all classes.
    pub(crate) const fn from_index(index: usize) -> Self {
        assert!(index < COUNT);
        Self((index * Self::SCALE) as u16)
    }

    /// All classes, smallest first. In the models those that they use, which keeps the schedules short.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..COUNT).map(Self::from_index).filter(|class| !cfg!(loom) || matches!(class.block_size(), 4096 | 32768))
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize / Self::SCALE
    }

    /// Where the class's magazine begins in an array of magazines, in bytes.
    #[inline(always)]
    pub(crate) const fn offset(self) -> usize {
        self.0 as usize
    }

    /// The size of this class's blocks, in bytes.
    pub const fn block_size(self) -> usize {
        // SAFETY: classes are made in this module alone, with numbers below COUNT, or are zeroes of fresh descriptors, which is one.
        unsafe { core::hint::assert_unchecked(self.index() < COUNT) };
        SIZES[self.index()] as usize * 8
    }

    /// The class of `size` bytes aligned to 16; `None` above [`MAX_SMALL`].
    pub const fn of(size: usize) -> Option<Self> {
        if size > MAX_SMALL { None } else { Some(Self::of_fine(size.next_multiple_of(16))) }
    }

    /// The class that serves a Rust layout: alignments of at most 8 may use the odd multiples of 8.
    #[inline(always)]
    pub const fn of_layout(size: usize, align: usize) -> Option<Self> {
        if size > MAX_SMALL || align > MAX_SMALL_ALIGN {
            return None;
        }
        if align <= 8 {
            return Some(Self::of_fine(size));
        }
        // `align` is at most 4096 and `size` at most 32 KiB, both sums are far from overflow.
        let size = if size == 0 { 1 } else { size };
        Self::of((size + align - 1) & !(align - 1))
    }

    /// The class of `size` bytes aligned to 16; `size` at most [`BYTE_TABLE_MAX`].
    #[inline(always)]
    pub(crate) fn by_byte_table(size: usize) -> Self {
        debug_assert!(size <= BYTE_TABLE_MAX);
        // SAFETY: the table has an entry for each size up to BYTE_TABLE_MAX.
        unsafe { *BYTE_TABLE.get_unchecked(size) }
    }

    /// The class of `size` bytes aligned to 16, by the table; `size` at most [`TABLE_MAX`].
    #[inline(always)]
    pub(crate) fn by_table(size: usize) -> Self {
        debug_assert!(size <= TABLE_MAX);
        // SAFETY: for a size of at most TABLE_MAX the index is at most TABLE_MAX / 16, the table's last entry.
        unsafe { TABLE.get_unchecked(size.wrapping_add(15) / 16)[0] }
    }

    /// The class of `size` bytes aligned to 8, by the table; `size` at most [`TABLE_MAX`].
    #[inline(always)]
    pub(crate) fn by_table_fine(size: usize) -> Self {
        debug_assert!(size <= TABLE_MAX);
        // SAFETY: for a size of at most TABLE_MAX the index is at most TABLE_MAX / 8, below the table's length.
        unsafe { *TABLE.as_flattened().get_unchecked(size.wrapping_add(7) / 8) }
    }

    /// The class of `size` bytes aligned to `align`, a power of two of at least 16, if the table has it. The last byte of the
    /// block is that of a multiple of the alignment, and the class of such a multiple is one itself.
    #[inline(always)]
    pub(crate) fn by_table_aligned(size: usize, align: usize) -> Option<Self> {
        debug_assert!(align.is_power_of_two() && align >= C_ALIGN);
        let last_byte = size.saturating_sub(1) | (align - 1);
        // SAFETY: the table has an entry for each multiple of 16 up to TABLE_MAX.
        (last_byte < TABLE_MAX && align <= MAX_SMALL_ALIGN)
            .then(|| unsafe { TABLE.get_unchecked(last_byte / 16 + 1)[0] })
    }

    /// How many blocks of the class `bytes` hold, but at least `least` and at most `most`.
    pub(crate) const fn blocks_in(self, bytes: usize, least: usize, most: usize) -> usize {
        let blocks = bytes / self.block_size();
        if blocks < least {
            least
        } else if blocks > most {
            most
        } else {
            blocks
        }
    }

    /// By arithmetic, for sizes of at most [`MAX_SMALL`], odd multiples of 8 included.
    const fn of_fine(size: usize) -> Self {
        let index = if size <= 16 {
            0
        } else if size <= 128 {
            size.div_ceil(8) - 2
        } else {
            let last = size - 1;
            let doubling = last.ilog2() as usize;
            if doubling < 13 {
                15 + (doubling - 7) * 8 + ((last >> (doubling - 3)) & 7)
            } else {
                63 + (doubling - 13) * 4 + ((last >> (doubling - 2)) & 3)
            }
        };
        Self((index * Self::SCALE) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_fits_its_class_and_no_smaller_one() {
        for size in 0..=MAX_SMALL {
            let class = SizeClass::of(size).unwrap();
            assert!(class.block_size() >= size, "{size}");
            let mut smaller = (0..class.index()).rev().map(SizeClass::from_index).filter(|c| c.block_size() % 16 == 0);
            assert!(smaller.next().is_none_or(|c| c.block_size() < size), "{size}");
        }
        assert_eq!(SizeClass::of(MAX_SMALL + 1), None);
        assert_eq!(SizeClass::of(MAX_SMALL).unwrap().index(), COUNT - 1);
    }

    #[test]
    fn classes_grow_and_waste_at_most_a_ninth() {
        for i in 1..COUNT {
            let (below, class) = (SizeClass::from_index(i - 1).block_size(), SizeClass::from_index(i).block_size());
            assert!(below < class);
            let waste = (class - below - 1) as f64 / class as f64;
            let limit = if class <= 128 {
                0.34
            } else if class <= 8192 {
                0.112
            } else {
                0.2
            };
            assert!(waste < limit, "{class}: {waste}");
        }
    }

    #[test]
    fn an_aligned_layout_gets_a_class_that_its_alignment_divides() {
        for align in (0..=12).map(|shift| 1_usize << shift) {
            for size in (0..=MAX_SMALL).step_by(7) {
                if let Some(class) = SizeClass::of_layout(size, align) {
                    assert!(class.block_size() >= size);
                    assert_eq!(class.block_size() % align, 0, "{size} aligned to {align}");
                }
            }
        }
        assert_eq!(SizeClass::of_layout(64, 8192), None);
    }

    #[test]
    fn the_tables_agree_with_the_arithmetic() {
        for size in 0..=TABLE_MAX {
            assert_eq!(SizeClass::by_table(size), SizeClass::of(size).unwrap());
            assert_eq!(SizeClass::by_table_fine(size), SizeClass::of_layout(size, 8).unwrap());
        }
        for align in (4..=14).map(|shift| 1_usize << shift) {
            for size in 0..=TABLE_MAX {
                let exists = align <= MAX_SMALL_ALIGN && size.next_multiple_of(align) <= TABLE_MAX;
                let class = SizeClass::of_layout(size, align).filter(|_| exists);
                assert_eq!(SizeClass::by_table_aligned(size, align), class, "{size} aligned to {align}");
            }
            for size in [TABLE_MAX + 1, MAX_SMALL, isize::MAX as usize, usize::MAX] {
                assert_eq!(SizeClass::by_table_aligned(size, align), None, "{size} aligned to {align}");
            }
        }
        for size in 0..=BYTE_TABLE_MAX {
            assert_eq!(SizeClass::by_byte_table(size), SizeClass::of(size).unwrap());
        }
    }

    #[test]
    fn small_alignments_have_the_odd_multiples_of_eight() {
        assert_eq!(SizeClass::of_layout(24, 8).unwrap().block_size(), 24);
        assert_eq!(SizeClass::of_layout(24, 16).unwrap().block_size(), 32);
        assert_eq!(SizeClass::of(24).unwrap().block_size(), 32);
    }
}
