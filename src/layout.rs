//! Where the fields lie that a reader from outside looks at: of each structure its size and the offsets of some fields, in bytes.
//!
//! Each structure's own file fills in its record, by `offset_of!`; the [root](crate::inspect) carries all of them, so that a
//! reader built apart from the library (other compiler, other flags, other release) finds its way by them. A field that
//! moves changes a number here and nothing else. A field that changes its meaning changes the root's version.

macro_rules! records {
    ($($(#[$about:meta])* $name:ident { $($field:ident: $type:ident,)+ })+) => {$(
        $(#[$about])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $(pub(crate) $field: $type,)+
        }

        impl Words for $name {
            fn read(words: &mut dyn Iterator<Item = u32>) -> Option<Self> {
                Some(Self { $($field: Words::read(words)?,)+ })
            }
        }
    )+};
}

/// What can be read from 32-bit words, in the order in which they lie in memory.
pub(crate) trait Words: Sized {
    /// `None` when there are too few words.
    fn read(words: &mut dyn Iterator<Item = u32>) -> Option<Self>;
}

impl Words for u32 {
    fn read(words: &mut dyn Iterator<Item = u32>) -> Option<Self> {
        words.next()
    }
}

records! {
    /// Segments and the table that names them.
    SegmentLayout {
        slots: u32, size: u32, slice: u32, page: u32, header_pages: u32, arena: u32, from_break: u32,
        heads: u32, runs: u32, run: RunLayout, slab: SlabLayout,
    }
    /// The descriptor of a page.
    RunLayout { size: u32, stamp: u32, pages: u32, state: u32, dirty: u32, zeroed: u32, shelved: u32, }
    /// The descriptor of a slice; the first one in a segment is its header.
    SlabLayout {
        size: u32, owner: u32, class: u32, block_size: u32, slices_before: u32, slices: u32, free: u32, bare: u32,
        stamp: u32, free_count: u32, carved: u32, capacity: u32, bare_count: u32, is_aging: u32,
    }
    /// The arenas.
    ArenasLayout { arenas: u32, count: u32, used: u32, size: u32, segments: u32, free_pages: u32, dirty_pages: u32, }
    /// The list of thread caches.
    CachesLayout { newest: u32, count: u32, }
    /// A thread cache.
    CacheLayout {
        size: u32, next: u32, state: u32, thread: u32, seen: u32, arena: u32, refills: u32, settled_lists: u32,
        remote_frees: u32, chains_sent: u32, old: u32, old_size: u32, old_head: u32, old_count: u32, inboxes: u32,
        inbox_size: u32, slabs: u32, magazines: u32, magazine: MagazineLayout, places: u32, granted_bytes: u32,
        outbox: OutboxLayout, sets: SetsLayout,
    }
    /// The young list of one class.
    MagazineLayout { size: u32, top: u32, room: u32, taken: u32, }
    /// The places of the outbox; a key is an owner's address with a class above it.
    OutboxLayout { count: u32, size: u32, key: u32, head: u32, room: u32, granted: u32, class_shift: u32, }
    /// What a cache's lock guards, class by class.
    SetsLayout { classes: u32, size: u32, pending: u32, pending_blocks: u32, out: u32, listed: u32, touched: u32, }
    /// Free blocks: where a block names the next one, and the next chain.
    BlockLayout { next: u32, parcel: u32, address_bits: u32, }
    /// Large blocks and freed mappings.
    LargeLayout {
        buckets: u32, bucket_count: u32, count: u32, entry_start: u32, entry_len: u32, entry_next: u32,
        ranges: u32, range_count: u32, range_size: u32, range_start: u32, range_len: u32, range_stamp: u32,
    }
    /// Counters of system calls.
    CallsLayout { mmap: u32, munmap: u32, mremap: u32, madvise: u32, brk: u32, }
    /// The rings of the history: from the history the newest one, in a ring its fields, and the slots behind it. The words of an
    /// event are those of `Event::words`.
    HistoryLayout {
        newest: u32, ring_bytes: u32, older: u32, capacity: u32, written: u32, slot_bytes: u32, version: u32, words: u32,
        word_count: u32,
    }
    /// Call stacks: the pages of the table of stacks, and the frames of a stack, ended by 0.
    StacksLayout { pages: u32, page_count: u32, page_places: u32, frames: u32, depth: u32, }
    /// Blocks that the checks know: the table of their records, and a record. `red_zones` is the bit of `attended` that is set when
    /// blocks have red zones, `red_zone_bytes` what is filled of a long one.
    BooksLayout {
        table: u32, bucket_count: u32, records: u32, start: u32, size: u32, state: u32, base: u32, len: u32,
        mapping: u32, mapping_len: u32, next: u32, red_zones: u32, red_zone_bytes: u32,
    }
    /// All of them.
    Layout {
        segment: SegmentLayout, arenas: ArenasLayout, caches: CachesLayout, cache: CacheLayout, block: BlockLayout,
        large: LargeLayout, calls: CallsLayout, history: HistoryLayout, stacks: StacksLayout, books: BooksLayout,
    }
}

impl Layout {
    /// Its length in 32-bit words.
    pub(crate) const WORDS: usize = size_of::<Self>() / size_of::<u32>();
}
