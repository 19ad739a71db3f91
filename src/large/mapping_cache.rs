//! The cache of freed mappings: large blocks that come and go need not fault their pages in anew each time.
//!
//! Bounded in bytes and in number, and emptied with age. A request takes the smallest cached range that holds it and cuts
//! off what it needs; ranges that touch are joined. A request that no range serves takes the largest ones as pieces, to be
//! moved together, so that the cache never adds to the peak. Guarded by the lock of `Large`.

use super::registry::Mapping;
use crate::os;
use core::mem::offset_of;
use core::ptr::NonNull;

/// Ranges kept at most.
const RANGES: usize = 64;
/// A range is not cut more finely than this when a part of it is evicted, in bytes: whole pages of any kernel.
const EVICTED_AT_LEAST: usize = 64 << 10;
/// Bytes kept at most.
const MAX_BYTES: usize = 256 << 20;

#[derive(Clone, Copy)]
struct Range {
    mapping: Mapping,
    stamp: u32,
}

pub(crate) struct MappingCache {
    /// The first `count` are there, in no order.
    ranges: [Option<Range>; RANGES],
    count: usize,
    bytes: usize,
}

// SAFETY: the ranges are memory that belongs to the cache alone.
unsafe impl Send for MappingCache {}

// The place of no range has a null pointer for its start.
const _: () = assert!(size_of::<Option<Range>>() == size_of::<Range>());

impl MappingCache {
    /// Where the ranges lie, and of each its start, its length and when it came.
    pub(crate) const RANGES: usize = offset_of!(Self, ranges);
    pub(crate) const RANGE_COUNT: usize = RANGES;
    pub(crate) const RANGE_SIZE: usize = size_of::<Option<Range>>();
    pub(crate) const RANGE_START: usize = offset_of!(Range, mapping.start);
    pub(crate) const RANGE_LEN: usize = offset_of!(Range, mapping.len);
    pub(crate) const RANGE_STAMP: usize = offset_of!(Range, stamp);

    pub(crate) const fn new() -> Self {
        Self { ranges: [None; RANGES], count: 0, bytes: 0 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The ranges that are there (and no place behind them holds one, since readers from outside look at all), each with its place.
    fn present(&self) -> impl Iterator<Item = (usize, &Range)> {
        self.ranges[..self.count].iter().flatten().enumerate()
    }

    /// Adds a range, for which there must be room; its bytes are counted by the caller.
    fn add(&mut self, range: Range) {
        self.ranges[self.count] = Some(range);
        self.count += 1;
    }

    /// Takes out the range at a place, which the last one then has; its bytes are counted by the caller.
    fn remove(&mut self, place: usize) {
        self.count -= 1;
        let last = self.ranges[self.count].take();
        if place < self.count {
            self.ranges[place] = last;
        }
    }

    /// Cuts `len` bytes off the start of the range at a place.
    fn cut(&mut self, place: usize, len: usize) -> Option<Mapping> {
        let range = self.ranges[place].as_mut()?;
        let (taken, rest) = range.mapping.split_at(len);
        if rest.len == 0 {
            self.remove(place);
        } else {
            range.mapping = rest;
        }
        self.bytes -= len;
        Some(taken)
    }

    /// Takes `len` bytes from the smallest range that has them.
    pub(crate) fn take(&mut self, len: usize) -> Option<Mapping> {
        let fitting = self.present().filter(|(_, range)| range.mapping.len >= len);
        let (place, _) = fitting.min_by_key(|(_, range)| range.mapping.len)?;
        self.cut(place, len)
    }

    /// Takes the largest range, or as much of it as `most` bytes, for a block that no single range holds.
    pub(crate) fn take_piece(&mut self, most: usize) -> Option<Mapping> {
        let (place, range) = self.present().max_by_key(|(_, range)| range.mapping.len)?;
        let len = range.mapping.len.min(most);
        self.cut(place, len)
    }

    /// Takes `len` bytes that follow right behind `end`.
    pub(crate) fn take_behind(&mut self, end: NonNull<u8>, len: usize) -> bool {
        let found = self.present().find(|(_, range)| range.mapping.start == end && range.mapping.len >= len);
        found.map(|(place, _)| place).and_then(|place| self.cut(place, len)).is_some()
    }

    /// The range that an address lies in.
    pub(crate) fn find_around(&self, address: NonNull<u8>) -> Option<Mapping> {
        let around = |mapping: &Mapping| (mapping.start..mapping.end()).contains(&address);
        self.present().map(|(_, range)| range.mapping).find(around)
    }

    /// Puts a freed mapping in; `false`, and no change, when it is larger than the whole cache may be or there is no room
    /// for another range. The caller makes room first with `evict_oldest`.
    #[must_use = "a mapping that was not taken in must be unmapped"]
    pub(crate) fn put(&mut self, mut mapping: Mapping, mut stamp: u32) -> bool {
        if self.bytes + mapping.len > MAX_BYTES {
            return false;
        }
        let len = mapping.len;
        let (mut place, mut largest) = (0, len);
        while place < self.count {
            let joined = self.ranges[place].and_then(|range| Some((range, range.mapping.joined_with(mapping)?)));
            match joined {
                Some((range, joined)) => {
                    mapping = joined;
                    // The age of the largest part counts, so that a range does not stay young for ever by small additions.
                    if range.mapping.len > largest {
                        (largest, stamp) = (range.mapping.len, range.stamp);
                    }
                    // Another range comes to this place.
                    self.remove(place);
                }
                None => place += 1,
            }
        }
        // Joining only makes room, so a refusal here means that nothing was joined.
        if self.count == RANGES {
            return false;
        }
        self.bytes += len;
        self.add(Range { mapping, stamp });
        true
    }

    /// Whether putting in a mapping of `len` bytes needs room to be made first.
    pub(crate) fn is_full_for(&self, len: usize) -> bool {
        len <= MAX_BYTES && (self.bytes + len > MAX_BYTES || self.count == RANGES)
    }

    /// Takes `len` bytes aligned to `align` from the smallest range that has them.
    pub(crate) fn take_aligned(&mut self, len: usize, align: usize) -> Option<Mapping> {
        let skip_in = |mapping: &Mapping| {
            let start = mapping.start.addr().get();
            let skip = start.checked_next_multiple_of(align)? - start;
            (skip.checked_add(len)? <= mapping.len).then_some(skip)
        };
        if self.count == RANGES {
            // A cut out of the middle leaves a range more than there was.
            return None;
        }
        let fitting = self.present().filter(|(_, range)| skip_in(&range.mapping).is_some());
        let (place, &Range { mapping, stamp }) = fitting.min_by_key(|(_, range)| range.mapping.len)?;
        let (before, rest) = mapping.split_at(skip_in(&mapping)?);
        let (taken, after) = rest.split_at(len);
        self.remove(place);
        for mapping in [before, after] {
            if mapping.len > 0 {
                self.add(Range { mapping, stamp });
            }
        }
        self.bytes -= len;
        Some(taken)
    }

    /// Takes out up to about `most` bytes, from the end of the oldest range, for the caller to unmap.
    pub(crate) fn evict_some(&mut self, now_ms: u32, most: usize) -> Option<Mapping> {
        let place = self.oldest(now_ms, 0)?;
        let range = self.ranges[place].as_mut()?;
        let (kept, evicted) = range.mapping.split_at(range.mapping.len.saturating_sub(most) & !(EVICTED_AT_LEAST - 1));
        if kept.len == 0 {
            self.remove(place);
        } else {
            range.mapping = kept;
        }
        self.bytes -= evicted.len;
        Some(evicted)
    }

    /// Takes out the oldest range that is at least `age_ms` old, for the caller to unmap.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn evict_oldest(&mut self, now_ms: u32, age_ms: u32) -> Option<Mapping> {
        let place = self.oldest(now_ms, age_ms)?;
        let len = self.ranges[place]?.mapping.len;
        self.cut(place, len)
    }

    /// The place of the oldest range that is at least `age_ms` old.
    fn oldest(&self, now_ms: u32, age_ms: u32) -> Option<usize> {
        let age = |range: &Range| os::age_ms(now_ms, range.stamp);
        let (place, oldest) = self.present().max_by_key(|(_, range)| age(range))?;
        (age(oldest) >= age_ms).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(page: usize, pages: usize) -> Mapping {
        let start = core::num::NonZeroUsize::new((page + 1) * 4096).unwrap();
        Mapping { start: NonNull::without_provenance(start), len: pages * 4096 }
    }

    #[test]
    fn the_smallest_range_that_fits_is_cut() {
        let mut cache = MappingCache::new();
        assert!(cache.put(mapping(0, 10), 1));
        assert!(cache.put(mapping(20, 5), 2));
        assert_eq!(cache.take(4 * 4096), Some(mapping(20, 4)));
        assert_eq!(cache.take(4 * 4096), Some(mapping(0, 4)));
        assert_eq!(cache.take(7 * 4096), None);
        assert_eq!(cache.bytes(), 7 * 4096);
    }

    #[test]
    fn ranges_that_touch_are_joined() {
        let mut cache = MappingCache::new();
        assert!(cache.put(mapping(0, 4), 1));
        assert!(cache.put(mapping(8, 4), 1));
        assert!(cache.put(mapping(4, 4), 1));
        assert_eq!(cache.take(12 * 4096), Some(mapping(0, 12)));
        assert_eq!(cache.bytes(), 0);
        assert!(cache.ranges.iter().all(Option::is_none));
    }

    #[test]
    fn a_range_is_as_old_as_its_largest_part() {
        let mut cache = MappingCache::new();
        assert!(cache.put(mapping(0, 100), 1));
        assert_eq!(cache.take(4096), Some(mapping(0, 1)));
        assert!(cache.put(mapping(0, 1), 500));
        assert_eq!(cache.evict_oldest(600, 599), Some(mapping(0, 100)));
    }

    #[test]
    fn the_oldest_range_leaves_first_and_only_when_old_enough() {
        let mut cache = MappingCache::new();
        assert!(cache.put(mapping(0, 1), 100));
        assert!(cache.put(mapping(10, 1), 50));
        assert_eq!(cache.evict_oldest(120, 60), Some(mapping(10, 1)));
        assert_eq!(cache.evict_oldest(120, 60), None);
        assert_eq!(cache.evict_oldest(160, 60), Some(mapping(0, 1)));
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn pieces_come_largest_first_and_what_follows_a_block_can_be_had_in_place() {
        let mut cache = MappingCache::new();
        assert!(cache.put(mapping(0, 3), 1));
        assert!(cache.put(mapping(10, 8), 1));
        assert_eq!(cache.take_piece(100 * 4096), Some(mapping(10, 8)));
        assert_eq!(cache.take_piece(2 * 4096), Some(mapping(0, 2)));
        assert!(!cache.take_behind(mapping(0, 1).end(), 4096));
        assert!(!cache.take_behind(mapping(0, 2).end(), 2 * 4096));
        assert!(cache.take_behind(mapping(0, 2).end(), 4096));
        assert_eq!(cache.bytes(), 0);
        assert_eq!(cache.take_piece(4096), None);
    }

    #[test]
    fn an_aligned_part_is_cut_out_of_a_range() {
        let mut cache = MappingCache::new();
        // Pages 1 to 10; the test's page 0 lies at address 4096.
        assert!(cache.put(mapping(0, 10), 1));
        assert_eq!(cache.take_aligned(2 * 4096, 4 * 4096), Some(mapping(3, 2)));
        assert_eq!(cache.bytes(), 8 * 4096);
        assert_eq!(cache.take(3 * 4096), Some(mapping(0, 3)));
        assert_eq!(cache.take(5 * 4096), Some(mapping(5, 5)));
    }

    #[test]
    fn a_part_of_the_oldest_range_can_be_evicted() {
        let mut cache = MappingCache::new();
        assert!(cache.put(mapping(0, 64), 1));
        let evicted = cache.evict_some(5, 16 * 4096).unwrap();
        assert_eq!(evicted, mapping(48, 16));
        assert_eq!(cache.bytes(), 48 * 4096);
        assert_eq!(cache.evict_some(5, 1 << 30), Some(mapping(0, 48)));
        assert!(cache.evict_some(5, 1).is_none());
    }

    #[test]
    fn it_is_bounded_in_bytes_and_in_number() {
        let mut cache = MappingCache::new();
        assert!(!cache.put(mapping(0, MAX_BYTES / 4096 + 1), 0));
        for i in 0..RANGES {
            assert!(cache.put(mapping(2 * i, 1), 0));
        }
        assert!(cache.is_full_for(4096));
        assert!(!cache.put(mapping(1000, 1), 0));
        assert!(cache.put(mapping(1, 1), 0), "it joins its neighbours");
    }
}
