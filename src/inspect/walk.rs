//! The walk over a heap's structures.

use super::checked::each_checked;
use super::reader::Reader;
use super::records::{
    Arena, Cache, CacheClass, Checked, Content, Mapping, Process, Segment, Slab, SystemCalls, Trouble, Visitor, Zone,
};
use super::root::{MAX_CLASSES, Root};
use super::{Memory, Unreadable};

/// Pages that a segment can have at most.
pub(super) const MAX_PAGES: usize = 1024;
/// Pages that a reader could not make out are looked at anew so often: the process may have been changing them.
const TRIES: usize = 8;
/// Chains may be longer than their count says by this much: they grow while they are followed.
const SLACK: usize = 4096;
/// More thread caches than this are taken for a sign of corruption.
const MAX_CACHES: usize = 1 << 20;

/// Tells the visitor of the whole heap.
pub fn walk(memory: &dyn Memory, root: &Root, visitor: &mut dyn Visitor) {
    outline(memory, root, visitor);
    let mut walk = Walk { reader: Reader::new(memory), root, visitor };
    let segments = walk.segments();
    walk.note("the table of segments", segments);
    let large = walk.large();
    walk.note("the registry of large blocks", large);
    walk.checked();
}

/// Tells the visitor of the process, the arenas and the caches alone, which takes little time whatever the size of the heap.
pub fn outline(memory: &dyn Memory, root: &Root, visitor: &mut dyn Visitor) {
    let mut walk = Walk { reader: Reader::new(memory), root, visitor };
    let process = walk.process();
    walk.note("the record of the process", process);
    let arenas = walk.arenas();
    walk.note("the record of an arena", arenas);
    let caches = walk.caches();
    walk.note("the list of thread caches", caches);
}

struct Walk<'w, 'm> {
    reader: Reader<'m>,
    root: &'w Root,
    visitor: &'w mut dyn Visitor,
}

/// A run of pages as it was read.
#[derive(Clone, Copy, Default)]
struct Run {
    page: u16,
    pages: u16,
    stamp: u32,
    state: u8,
    dirty: bool,
    zeroed: bool,
    shelved: bool,
}

const FREE: u8 = 1;
const MEDIUM: u8 = 2;
const SLAB: u8 = 3;
const RECENT: u8 = 4;

impl Walk<'_, '_> {
    fn note(&mut self, what: &'static str, done: Result<(), Unreadable>) {
        if let Err(unreadable) = done {
            self.visitor.trouble(Trouble::unreadable(what, unreadable));
        }
    }

    fn process(&mut self) -> Result<(), Unreadable> {
        let (root, layout, reader) = (self.root, &self.root.layout, &mut self.reader);
        let calls = &layout.calls;
        let process = Process {
            arenas: reader.word(root.arenas, layout.arenas.used)?,
            caches: reader.word(root.caches, layout.caches.count)?,
            metadata_bytes: reader.word(root.metadata_bytes, 0)?,
            system_calls: SystemCalls {
                mmap: reader.u64(root.system_calls, calls.mmap)?,
                munmap: reader.u64(root.system_calls, calls.munmap)?,
                mremap: reader.u64(root.system_calls, calls.mremap)?,
                madvise: reader.u64(root.system_calls, calls.madvise)?,
                brk: reader.u64(root.system_calls, calls.brk)?,
            },
        };
        self.visitor.process(&process);
        Ok(())
    }

    fn arenas(&mut self) -> Result<(), Unreadable> {
        let layout = &self.root.layout.arenas;
        let page = self.root.layout.segment.page as usize;
        for number in 0..layout.count as usize {
            let at = self.root.arenas.wrapping_add(layout.arenas as usize).wrapping_add(number * layout.size as usize);
            let arena = Arena {
                number,
                segments: self.reader.word(at, layout.segments)?,
                free_bytes: self.reader.word(at, layout.free_pages)?.saturating_mul(page),
                dirty_bytes: self.reader.word(at, layout.dirty_pages)?.saturating_mul(page),
            };
            if arena.segments > 0 {
                self.visitor.arena(&arena);
            }
        }
        Ok(())
    }

    fn caches(&mut self) -> Result<(), Unreadable> {
        let root = self.root;
        let newest = self.reader.word(root.caches, root.layout.caches.newest)?;
        let count = self.reader.word(root.caches, root.layout.caches.count)?;
        let (visitor, mut left) = (&mut *self.visitor, count);
        let whole = self.reader.follow(newest, count.min(MAX_CACHES).saturating_add(SLACK), |reader, at| {
            left = left.saturating_sub(1);
            if let Err(unreadable) = cache(reader, root, at, left, visitor) {
                visitor.trouble(Trouble::unreadable("a thread cache", unreadable));
            }
            reader.word(at, root.layout.cache.next)
        })?;
        if !whole {
            self.visitor.trouble(Trouble::senseless("the list of thread caches", newest));
        }
        Ok(())
    }

    fn segments(&mut self) -> Result<(), Unreadable> {
        let layout = &self.root.layout.segment;
        for slot in 0..layout.slots as usize {
            let place = self.root.segments.wrapping_add(slot * 8);
            let tag = self.reader.word(place, 0)?;
            if tag == 0 {
                continue;
            }
            let (mask, size) = (layout.size as usize - 1, layout.size as usize);
            if tag & mask != mask || tag / size % layout.slots as usize != slot {
                self.visitor.trouble(Trouble::senseless("the table of segments", place));
                continue;
            }
            if let Err(unreadable) = self.segment(tag & !mask) {
                // A segment that has left the table meanwhile was given back to the kernel.
                self.reader.renew();
                if self.reader.word(place, 0) == Ok(tag) {
                    self.visitor.trouble(Trouble::unreadable("a segment", unreadable));
                }
            }
        }
        Ok(())
    }

    fn segment(&mut self, start: usize) -> Result<(), Unreadable> {
        let (layout, most) = (&self.root.layout.segment, self.root.layout.arenas.count);
        let arena = self.reader.u32(start, layout.arena)?;
        let segment = Segment {
            start,
            bytes: layout.size as usize,
            arena: arena as usize,
            from_break: self.reader.u8(start, layout.from_break)? != 0,
        };
        if arena >= most {
            self.visitor.trouble(Trouble::senseless("the number of a segment's arena", start));
        }
        let mut runs = [Run::default(); MAX_PAGES];
        let mut found = self.runs(start, &mut runs)?;
        for _ in 1..TRIES {
            if found.whole {
                break;
            }
            self.reader.renew();
            found = self.runs(start, &mut runs)?;
        }
        if !found.whole {
            self.visitor.trouble(Trouble::senseless("the table of a segment's pages", start));
        }
        self.visitor.segment(&segment);
        let (page, arena) = (layout.page as usize, segment.arena);
        let header = layout.header_pages as usize * page;
        self.visitor.zone(&Zone { start, bytes: header, arena, content: Content::Header });
        for run in &runs[..found.count] {
            let (start, bytes) = (start + usize::from(run.page) * page, usize::from(run.pages) * page);
            let content = match run.state {
                FREE => {
                    let stamp = run.dirty.then_some(run.stamp);
                    Content::Free { dirty: run.dirty, zeroed: run.zeroed, at_hand: false, stamp }
                }
                RECENT => Content::Free { dirty: true, zeroed: false, at_hand: false, stamp: None },
                MEDIUM if run.shelved => Content::Free { dirty: true, zeroed: false, at_hand: true, stamp: None },
                MEDIUM => Content::Medium,
                SLAB => self.slab(start, bytes)?,
                _ => Content::Unknown,
            };
            self.visitor.zone(&Zone { start, bytes, arena, content });
        }
        Ok(())
    }

    /// Reads the runs of a segment. Pages that begin no run, where one should begin, become runs of state 0.
    fn runs(&mut self, start: usize, runs: &mut [Run; MAX_PAGES]) -> Result<Found, Unreadable> {
        let layout = &self.root.layout.segment;
        let (pages, run) = ((layout.size / layout.page) as usize, &layout.run);
        let pages_per_slice = (layout.slice / layout.page) as usize;
        let (mut page, mut found) = (layout.header_pages as usize, Found { count: 0, whole: true });
        while page < pages {
            let (slice, in_slice) = (page / pages_per_slice, page % pages_per_slice);
            let (array, index) = if in_slice == 0 { (layout.heads, slice) } else { (layout.runs, page) };
            let at = start.wrapping_add(array as usize).wrapping_add(index * run.size as usize);
            let mut next = Run {
                page: page as u16,
                pages: self.reader.u16(at, run.pages)?,
                stamp: self.reader.u32(at, run.stamp)?,
                state: self.reader.u8(at, run.state)?,
                dirty: self.reader.u8(at, run.dirty)? != 0,
                zeroed: self.reader.u8(at, run.zeroed)? != 0,
                shelved: self.reader.u8(at, run.shelved)? != 0,
            };
            let sound = matches!(next.state, FREE | MEDIUM | SLAB | RECENT)
                && next.pages > 0
                && page + usize::from(next.pages) <= pages
                && (next.state != SLAB || (page * layout.page as usize).is_multiple_of(layout.slice as usize));
            if !sound {
                found.whole = false;
                (next.state, next.pages) = (0, 1);
            }
            page += usize::from(next.pages);
            match runs[..found.count].last_mut() {
                Some(last) if !sound && last.state == 0 => last.pages += 1,
                _ => {
                    runs[found.count] = next;
                    found.count += 1;
                }
            }
        }
        Ok(found)
    }

    fn slab(&mut self, start: usize, bytes: usize) -> Result<Content, Unreadable> {
        for _ in 0..TRIES {
            if let Some(slab) = slab(&mut self.reader, self.root, start, bytes)? {
                return Ok(Content::Slab(slab));
            }
            self.reader.renew();
        }
        self.visitor.trouble(Trouble::senseless("the descriptor of the slab", start));
        Ok(Content::Unknown)
    }

    fn checked(&mut self) {
        let visitor = &mut *self.visitor;
        each_checked(self.reader.memory(), self.root, &mut |found| match found {
            Ok(checked) => tell_checked(checked, visitor),
            Err(trouble) => visitor.trouble(trouble),
        });
    }

    fn large(&mut self) -> Result<(), Unreadable> {
        let (layout, large) = (&self.root.layout.large, self.root.large);
        let mut left = self.reader.word(large, layout.count)?.saturating_add(SLACK);
        let visitor = &mut *self.visitor;
        for bucket in 0..layout.bucket_count {
            let first = self.reader.word(large.wrapping_add(bucket as usize * 8), layout.buckets)?;
            let most = left;
            let whole = self.reader.follow(first, most, |reader, at| {
                left -= 1;
                let (start, bytes) = (reader.word(at, layout.entry_start)?, reader.word(at, layout.entry_len)?);
                if start != 0 {
                    let live = Mapping { start, bytes, is_live: true, freed: None, is_guarded: false, record: at };
                    tell_mapping(live, visitor);
                }
                reader.word(at, layout.entry_next)
            });
            match whole {
                Ok(true) => {}
                Ok(false) => visitor.trouble(Trouble::senseless("a chain of large blocks", first)),
                Err(unreadable) => visitor.trouble(Trouble::unreadable("the entry of a large block", unreadable)),
            }
        }
        for range in 0..layout.range_count as usize {
            let at = large.wrapping_add(range * layout.range_size as usize).wrapping_add(layout.ranges as usize);
            let (start, bytes) = (self.reader.word(at, layout.range_start)?, self.reader.word(at, layout.range_len)?);
            if start != 0 {
                let freed = Some(self.reader.u32(at, layout.range_stamp)?);
                tell_mapping(Mapping { start, bytes, is_live: false, freed, is_guarded: false, record: at }, visitor);
            }
        }
        Ok(())
    }
}

/// Blocks of the checks; those with guard pages have mappings that the registry does not know.
fn tell_checked(checked: &Checked, visitor: &mut dyn Visitor) {
    if let Some((start, bytes)) = checked.mapping {
        let (is_live, record) = (checked.is_live, checked.record);
        tell_mapping(Mapping { start, bytes, is_live, freed: None, is_guarded: true, record }, visitor);
    }
    visitor.checked(checked);
}

struct Found {
    count: usize,
    /// Whether all pages belong to runs that follow each other.
    whole: bool,
}

/// No program has memory beyond: more is never asked for.
const ADDRESSES: usize = 1 << 48;

fn tell_mapping(mapping: Mapping, visitor: &mut dyn Visitor) {
    let sound = mapping.bytes > 0
        && (mapping.start | mapping.bytes).is_multiple_of(4096)
        && mapping.start.checked_add(mapping.bytes).is_some_and(|end| end <= ADDRESSES);
    if sound {
        visitor.mapping(&mapping);
    } else {
        visitor.trouble(Trouble::senseless("the record of a mapping", mapping.start));
    }
}

/// The slab whose first byte is given; `None` when what is read makes no sense.
pub(super) fn slab(
    reader: &mut Reader<'_>,
    root: &Root,
    start: usize,
    bytes: usize,
) -> Result<Option<Slab>, Unreadable> {
    let (segment, layout) = (&root.layout.segment, &root.layout.segment.slab);
    let (size, slice) = (segment.size as usize, segment.slice as usize);
    let at = (start & !(size - 1)).wrapping_add(start % size / slice * layout.size as usize);
    let slab = Slab {
        start,
        bytes,
        class: usize::from(reader.u16(at, layout.class)?) / root.class_scale,
        block_size: reader.u32(at, layout.block_size)? as usize,
        capacity: usize::from(reader.u16(at, layout.capacity)?),
        carved: usize::from(reader.u16(at, layout.carved)?),
        listed: usize::from(reader.u16(at, layout.free_count)?),
        bare: usize::from(reader.u16(at, layout.bare_count)?),
        bare_pages: reader.u64(at, layout.bare)?,
        owner: reader.word(at, layout.owner)?,
        listed_since: if reader.u8(at, layout.is_aging)? == 1 { Some(reader.u32(at, layout.stamp)?) } else { None },
        free: reader.word(at, layout.free)?,
    };
    let sound = slab.class < root.classes()
        && slab.block_size == root.block_size(slab.class)
        && slab.block_size > 0
        && slab.capacity == bytes / slab.block_size
        && slab.capacity <= super::blocks::MAX_BLOCKS
        && slab.carved <= slab.capacity
        && slab.listed + slab.bare <= slab.carved
        && usize::from(reader.u8(at, layout.slices)?) == bytes / slice
        && reader.u8(at, layout.slices_before)? == 0
        && slab.owner != 0;
    Ok(sound.then_some(slab))
}

fn cache(
    reader: &mut Reader<'_>,
    root: &Root,
    at: usize,
    number: usize,
    visitor: &mut dyn Visitor,
) -> Result<(), Unreadable> {
    let (layout, mut held) = (&root.layout.cache, [CacheClass::default(); MAX_CLASSES]);
    let classes = &mut held[..root.classes()];
    for (index, class) in classes.iter_mut().enumerate() {
        let magazine = at.wrapping_add(layout.magazines as usize + index * layout.magazine.size as usize);
        // Both change with each call of the thread; a glance between two stores can be one off.
        let (room, taken) =
            (reader.u32(magazine, layout.magazine.room)? as i32, reader.u32(magazine, layout.magazine.taken)? as i32);
        let young = i64::from(root.limit(index)) - i64::from(room) - i64::from(taken);
        class.block_size = root.block_size(index);
        class.in_magazine = young.clamp(0, i64::from(u16::MAX)) as usize;
    }
    for (index, class) in classes.iter_mut().enumerate() {
        let old = at.wrapping_add(layout.old as usize + index * layout.old_size as usize);
        class.in_magazine += reader.word(old, layout.old_count)?.min(usize::from(u16::MAX));
    }
    for (index, class) in classes.iter_mut().enumerate() {
        class.in_inbox = waiting(reader, root, at, index)?;
    }
    for (index, class) in classes.iter_mut().enumerate() {
        let (sets, of) = (&layout.sets, at.wrapping_add(layout.slabs as usize));
        let of = of.wrapping_add(index * sets.size as usize);
        let of = of.wrapping_add(sets.classes as usize);
        let bounded = |blocks: usize| blocks.min(u32::MAX as usize);
        class.in_inbox += bounded(reader.word(of, sets.pending_blocks)?);
        class.out = bounded(reader.word(of, sets.out)?);
        class.listed = bounded(reader.word(of, sets.listed)?);
        class.touched_bytes = reader.word(of, sets.touched)?;
    }
    let granted = reader.word(at, layout.granted_bytes)?;
    if granted > 0 {
        for_each_parcel(reader, root, at, |class, _, count| {
            if let Some(class) = classes.get_mut(class) {
                class.in_outbox += count;
            }
        })?;
    }
    let cache = Cache {
        number,
        address: at,
        is_dormant: reader.u32(at, layout.state)? != 0,
        thread: reader.u32(at, layout.thread)?,
        seen_ms: reader.u64(at, layout.seen)?,
        arena: reader.word(at, layout.arena)?,
        outbox_granted_bytes: granted,
        refills: reader.u64(at, layout.refills)?,
        flushes: reader.u64(at, layout.settled_lists)?,
        remote_frees: reader.u64(at, layout.remote_frees)?,
        remote_batches: reader.u64(at, layout.chains_sent)?,
        classes: &held[..root.classes()],
    };
    visitor.cache(&cache);
    Ok(())
}

/// Where the chains of the inbox of a class begin, and how many blocks wait there; many stand for more.
pub(super) fn inbox(
    reader: &mut Reader<'_>,
    root: &Root,
    cache: usize,
    class: usize,
) -> Result<(usize, usize), Unreadable> {
    let layout = &root.layout.cache;
    let head = reader.word(cache.wrapping_add(layout.inboxes as usize + class * layout.inbox_size as usize), 0)?;
    Ok(parcel(root, head))
}

/// The two parts of a word with an address and a count.
pub(super) fn parcel(root: &Root, word: usize) -> (usize, usize) {
    let bits = root.layout.block.address_bits;
    (word & ((1 << bits) - 1), word >> bits)
}

/// How many blocks wait in an inbox.
fn waiting(reader: &mut Reader<'_>, root: &Root, cache: usize, class: usize) -> Result<usize, Unreadable> {
    let (head, count) = inbox(reader, root, cache, class)?;
    if count < usize::from(u16::MAX) {
        return Ok(count);
    }
    // The word has room for no more: the chains are counted. Somebody may take them meanwhile, and the links are gone then.
    let mut blocks = 0;
    let counted = reader.follow(head, 1 << 24, |reader, at| {
        let (next, count) = parcel(root, reader.word(at, root.layout.block.parcel)?);
        blocks += count;
        Ok(next)
    });
    Ok(if counted == Ok(true) { blocks } else { count })
}

/// Calls `each` with the class, the first block and the number of blocks of each chain in an outbox.
pub(super) fn for_each_parcel(
    reader: &mut Reader<'_>,
    root: &Root,
    cache: usize,
    mut each: impl FnMut(usize, usize, usize),
) -> Result<(), Unreadable> {
    let layout = &root.layout.cache.outbox;
    let places = cache.wrapping_add(root.layout.cache.places as usize);
    for place in 0..layout.count as usize {
        let at = places.wrapping_add(place * layout.size as usize);
        let granted = reader.u32(at, layout.granted)?;
        let head = reader.word(at, layout.head)?;
        if granted == 0 || head == 0 {
            continue;
        }
        let count = granted.saturating_sub(reader.u32(at, layout.room)?) as usize;
        let class = (reader.word(at, layout.key)? >> layout.class_shift) / root.class_scale;
        each(class, head, count.min(usize::from(u16::MAX)));
    }
    Ok(())
}
