//! Makes a snapshot of what the walk tells.

use super::Space;
use crate::snapshot::{
    Arena, Cache, CacheState, Checked, Class, Content, Counters, FORM, Large, Mapping, Metadata, Segment, Setting,
    Slab, Snapshot, Zone,
};
use std::collections::{BTreeMap, BTreeSet};
use terrace_core::history::outside;
use terrace_core::inspect::{self, Root, Trouble, Visitor};

const PAGE: usize = 4096;
/// Notes beyond these are only counted.
const MAX_NOTES: usize = 50;

/// Walks the heap of a root.
pub fn snapshot(space: &dyn Space, root: &Root) -> Snapshot {
    let mut process = space.process();
    process.library = root.library().to_owned();
    let snapshot = Snapshot {
        form: FORM,
        process,
        options: Vec::new(),
        arenas: Vec::new(),
        large: Vec::new(),
        caches: Vec::new(),
        classes: (0..root.classes()).map(|class| empty_class(root.block_size(class))).collect(),
        metadata: Metadata::default(),
        checked: None,
        counters: Counters::default(),
        mappings: Vec::new(),
        notes: Vec::new(),
    };
    let mut filler = Filler {
        space,
        cache_bytes: root.cache_bytes(),
        snapshot,
        numbers: BTreeMap::new(),
        heap: Vec::new(),
        records: BTreeSet::new(),
        more_notes: 0,
    };
    let options = &mut filler.snapshot.options;
    let told = inspect::settings(space, root, &mut |name, value| {
        options.push(Setting { name: name.to_owned(), value: value.to_string() });
    });
    if told.is_err() {
        filler.snapshot.notes.push("not all options could be read".to_owned());
    }
    inspect::walk(space, root, &mut filler);
    filler.take_rings(root);
    filler.finish()
}

fn empty_class(block_size: usize) -> Class {
    Class {
        block_bytes: block_size as u64,
        slabs: 0,
        slab_bytes: 0,
        resident_bytes: 0,
        live: 0,
        in_magazines: 0,
        in_outboxes: 0,
        in_inboxes: 0,
        listed: 0,
        bare: 0,
        uncarved: 0,
    }
}

struct Filler<'s> {
    space: &'s dyn Space,
    cache_bytes: usize,
    snapshot: Snapshot,
    /// The numbers of caches by their addresses.
    numbers: BTreeMap<usize, usize>,
    /// Where the heap's memory lies, how much of it is in memory, and how much of that the mapping does not count.
    heap: Vec<(usize, u64, u64)>,
    /// Pages with records of the allocator's own.
    records: BTreeSet<usize>,
    more_notes: usize,
}

impl Filler<'_> {
    /// How long ago a stamp of 32 bits was set; one that is a moment younger than the look counts as now.
    fn age(&self, stamp: u32) -> Option<u64> {
        let age = (self.space.now_ms()? as u32).wrapping_sub(stamp) as i32;
        Some(age.max(0) as u64)
    }

    fn resident(&mut self, start: usize, bytes: usize, is_used: bool) -> u64 {
        let resident = self.space.resident(start, bytes, is_used);
        let more = resident - self.space.resident(start, bytes, false).min(resident);
        self.heap.push((start, resident, more));
        resident
    }

    /// How much of a zone is in memory.
    fn resident_of(&mut self, zone: &inspect::Zone) -> u64 {
        let used = match &zone.content {
            inspect::Content::Slab(slab) => (slab.carved * slab.block_size).next_multiple_of(PAGE).min(zone.bytes),
            inspect::Content::Medium | inspect::Content::Free { dirty: true, .. } => zone.bytes,
            _ => 0,
        };
        let front = if used > 0 { self.resident(zone.start, used, true) } else { 0 };
        let rest = if used < zone.bytes { self.resident(zone.start + used, zone.bytes - used, false) } else { 0 };
        front + rest
    }

    /// Counts the rings of the history among the allocator's own structures.
    fn take_rings(&mut self, root: &Root) {
        let mut rings = Vec::new();
        let read = outside::rings(self.space, root, |ring| rings.push((ring.address(), ring.bytes(root))));
        if read.is_err() {
            self.note("a ring of the history could not be read".to_owned());
        }
        for (start, bytes) in rings {
            if self.is_mapped(start, bytes) {
                self.snapshot.metadata.bytes += bytes as u64;
                self.note_record(start, bytes);
            }
        }
    }

    fn note(&mut self, sentence: String) {
        if self.snapshot.notes.len() < MAX_NOTES {
            self.snapshot.notes.push(sentence);
        } else {
            self.more_notes += 1;
        }
    }

    /// Whether all of a range is mapped.
    fn is_mapped(&self, start: usize, bytes: usize) -> bool {
        let (mut at, end) = (start, start.saturating_add(bytes));
        let maps = self.space.maps();
        let first = maps.partition_point(|map| map.end <= at);
        for map in &maps[first..] {
            if at >= end || map.start > at {
                break;
            }
            at = map.end;
        }
        at >= end
    }

    fn note_record(&mut self, start: usize, bytes: usize) {
        self.records.extend(start / PAGE..=start.saturating_add(bytes - 1) / PAGE);
    }

    fn slab(&mut self, slab: &inspect::Slab, resident: u64) -> Slab {
        if let Some(class) = self.snapshot.classes.get_mut(slab.class) {
            class.slabs += 1;
            class.slab_bytes += slab.bytes as u64;
            class.resident_bytes += resident;
            class.live += slab.out() as u64;
            class.listed += slab.listed as u64;
            class.bare += slab.bare as u64;
            class.uncarved += slab.uncarved() as u64;
        }
        let owner = self.numbers.get(&slab.owner).copied();
        if let Some(cache) =
            owner.and_then(|number| self.snapshot.caches.iter_mut().find(|c| c.number == number as u32))
        {
            cache.slabs += 1;
            cache.slab_bytes += slab.bytes as u64;
        }
        Slab {
            block_bytes: slab.block_size as u64,
            capacity: slab.capacity as u32,
            out: slab.out() as u32,
            listed: slab.listed as u32,
            bare: slab.bare as u32,
            uncarved: slab.uncarved() as u32,
            owner: owner.map(|number| number as u32),
            free_ms: slab.listed_since.and_then(|stamp| self.age(stamp)),
        }
    }

    fn finish(mut self) -> Snapshot {
        let mut records = 0;
        for page in std::mem::take(&mut self.records) {
            records += self.resident(page * PAGE, PAGE, true);
        }
        let Self { space, mut snapshot, mut heap, more_notes, .. } = self;
        snapshot.metadata.resident_bytes = records;
        snapshot.classes.retain(|class| class.slabs > 0 || class.in_magazines + class.in_inboxes > 0);
        for class in &mut snapshot.classes {
            // While threads go on, what lies in their hands can be counted later than the slabs are.
            class.live = class.live.saturating_sub(class.in_magazines + class.in_outboxes + class.in_inboxes);
        }
        snapshot.arenas.sort_by_key(|arena| arena.number);
        snapshot.arenas.iter_mut().for_each(|arena| arena.segments.sort_by_key(|segment| segment.start));
        snapshot.large.sort_by_key(|large| large.start);
        snapshot.caches.sort_by_key(|cache| cache.number);
        heap.sort_unstable();
        for map in space.maps() {
            let first = heap.partition_point(|(start, ..)| *start < map.start);
            let within = heap[first..].iter().take_while(|(start, ..)| *start < map.end);
            let (resident, more) = within.fold((0, 0), |sum, (_, resident, more)| (sum.0 + resident, sum.1 + more));
            snapshot.mappings.push(Mapping {
                start: map.start as u64,
                bytes: (map.end - map.start) as u64,
                resident_bytes: map.resident + more,
                heap_resident_bytes: resident.min(map.resident + more),
                name: map.name.clone(),
                permissions: map.permissions.clone(),
            });
        }
        if space.now_ms().is_none() {
            snapshot.process.resident_bytes = snapshot.mappings.iter().map(|mapping| mapping.resident_bytes).sum();
        }
        if more_notes > 0 {
            snapshot.notes.push(format!("{more_notes} more of the kind"));
        }
        snapshot
    }
}

impl Visitor for Filler<'_> {
    fn process(&mut self, process: &inspect::Process) {
        let calls = &process.system_calls;
        let counters = &mut self.snapshot.counters;
        (counters.mmap, counters.munmap, counters.mremap) = (calls.mmap, calls.munmap, calls.mremap);
        (counters.madvise, counters.brk) = (calls.madvise, calls.brk);
        self.snapshot.metadata.bytes = process.metadata_bytes as u64;
    }

    fn cache(&mut self, cache: &inspect::Cache<'_>) {
        self.numbers.insert(cache.address, cache.number);
        self.note_record(cache.address, self.cache_bytes);
        let mut bytes = [0; 3];
        for (class, held) in self.snapshot.classes.iter_mut().zip(cache.classes) {
            let blocks = [held.in_magazine, held.in_outbox, held.in_inbox].map(|blocks| blocks as u64);
            class.in_magazines += blocks[0];
            class.in_outboxes += blocks[1];
            class.in_inboxes += blocks[2];
            bytes.iter_mut().zip(blocks).for_each(|(bytes, blocks)| *bytes += blocks * class.block_bytes);
        }
        let counters = &mut self.snapshot.counters;
        counters.refills += cache.refills;
        counters.flushes += cache.flushes;
        counters.remote_frees += cache.remote_frees;
        counters.remote_batches += cache.remote_batches;
        self.snapshot.caches.push(Cache {
            number: cache.number as u32,
            address: cache.address as u64,
            state: if cache.is_dormant { CacheState::Dormant } else { CacheState::Attached },
            thread: (cache.thread != 0).then_some(cache.thread),
            seen_ms: self.space.now_ms().map(|now| now.saturating_sub(cache.seen_ms)),
            magazine_bytes: bytes[0],
            outbox_bytes: bytes[1],
            inbox_bytes: bytes[2],
            slabs: 0,
            slab_bytes: 0,
        });
    }

    fn segment(&mut self, segment: &inspect::Segment) {
        let number = segment.arena as u32;
        let arenas = &mut self.snapshot.arenas;
        let place = arenas.iter().position(|arena| arena.number == number).unwrap_or_else(|| {
            arenas.push(Arena { number, segments: Vec::new() });
            arenas.len() - 1
        });
        arenas[place].segments.push(Segment {
            start: segment.start as u64,
            bytes: segment.bytes as u64,
            from_break: segment.from_break,
            zones: Vec::new(),
        });
    }

    fn zone(&mut self, zone: &inspect::Zone) {
        let resident_bytes = self.resident_of(zone);
        let content = match &zone.content {
            inspect::Content::Header => Content::Header,
            inspect::Content::Slab(slab) => Content::Slab(self.slab(slab, resident_bytes)),
            inspect::Content::Medium => Content::Medium,
            inspect::Content::Free { dirty: true, stamp, .. } => {
                Content::Dirty { free_ms: stamp.and_then(|stamp| self.age(stamp)) }
            }
            inspect::Content::Free { dirty: false, .. } => Content::Clean,
            _ => Content::Unknown,
        };
        let number = zone.arena as u32;
        let arena = self.snapshot.arenas.iter_mut().find(|arena| arena.number == number);
        if let Some(segment) = arena.and_then(|arena| arena.segments.last_mut()) {
            let (start, bytes) = (zone.start as u64, zone.bytes as u64);
            segment.zones.push(Zone { start, bytes, resident_bytes, content });
        }
    }

    fn mapping(&mut self, mapping: &inspect::Mapping) {
        if !self.is_mapped(mapping.start, mapping.bytes) {
            let (start, bytes) = (mapping.start, mapping.bytes);
            // A thread may have given it back meanwhile; or the record is corrupt.
            return self
                .note(format!("{bytes} bytes for a large block at {start:#x} are not mapped; they are left out"));
        }
        let resident_bytes = self.resident(mapping.start, mapping.bytes, true);
        if mapping.is_live || mapping.is_guarded {
            self.note_record(mapping.record, 1);
        }
        self.snapshot.large.push(Large {
            start: mapping.start as u64,
            bytes: mapping.bytes as u64,
            resident_bytes,
            is_live: mapping.is_live,
            is_guarded: mapping.is_guarded,
            free_ms: mapping.freed.and_then(|stamp| self.age(stamp)),
        });
    }

    fn checked(&mut self, block: &inspect::Checked) {
        self.note_record(block.record, 1);
        let Checked { live, live_bytes, quarantined, quarantined_bytes } =
            self.snapshot.checked.get_or_insert_default();
        let (blocks, bytes) = if block.is_live { (live, live_bytes) } else { (quarantined, quarantined_bytes) };
        (*blocks, *bytes) = (*blocks + 1, bytes.saturating_add(block.size as u64));
    }

    fn trouble(&mut self, trouble: Trouble) {
        self.note(trouble.to_string());
    }
}
