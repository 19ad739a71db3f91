//! The root: the record from which a reader finds everything else, and its image in a reader's hands.
//!
//! One static of the library's writable data. A reader finds it by looking, at multiples of 8, through the writable private
//! mappings of files for [`MAGIC`] followed by the record's own address, which no copy of the magic elsewhere has. The form of
//! the record is that of [`VERSION`]; where the fields of all other structures lie is said in the record itself.

use super::{Error, Memory, Unreadable};
use crate::arena::{ARENAS, Arenas, SEGMENTS, Segment};
use crate::attended::books::{BOOKS, Books};
use crate::block::BlockPtr;
use crate::history::{HISTORY, History};
use crate::large::{LARGE, Large};
use crate::layout::{Layout, Words};
use crate::metadata::METADATA_BYTES;
use crate::options::layout::SettingsLayout;
use crate::options::{OPTIONS, Options};
use crate::os::{self, SYSTEM_CALLS, SystemCalls};
use crate::size_class::{self, SizeClass};
use crate::stacks::{STACKS, Stacks};
use crate::sync::Counter;
use crate::tcache::{self, CACHES, Caches, ThreadCache};
use core::mem::offset_of;

/// What the record begins with.
pub const MAGIC: [u8; 16] = *b"terrace heap\r\n\x1a\0";

/// The version of the record and of what the fields mean that it leads to. A reader reads its own version alone.
pub const VERSION: u32 = 6;

/// Size classes that a record has room for.
pub const MAX_CLASSES: usize = 128;

/// How many bytes after the record's start its own address stands.
pub const OWN_ADDRESS: usize = offset_of!(Record, address);

#[repr(C)]
struct Record {
    magic: [u8; 16],
    version: u32,
    /// The length of the record, in bytes.
    bytes: u32,
    address: *const Record,
    /// The release of the library as text, filled up with zeroes.
    library: [u8; 16],
    segments: *const (),
    arenas: *const (),
    caches: *const (),
    large: *const (),
    metadata_bytes: *const (),
    system_calls: *const (),
    options: *const (),
    history: *const (),
    stacks: *const (),
    books: *const (),
    /// The kernel's page, in bytes; 0 until the process has allocated. Written once, by the thread that initialises the
    /// process.
    page_bytes: Counter,
    classes: u32,
    /// How much the number of a class is multiplied by where it is stored.
    class_scale: u32,
    /// Block sizes in units of 8 bytes.
    sizes: [u16; MAX_CLASSES],
    /// How many blocks one list of a magazine holds.
    limits: [u16; MAX_CLASSES],
    layout: Layout,
    settings: SettingsLayout,
}

// SAFETY: the pointers are never dereferenced here; all else is constant or atomic.
unsafe impl Sync for Record {}

static ROOT: Record = Record {
    magic: MAGIC,
    version: VERSION,
    bytes: size_of::<Record>() as u32,
    address: &raw const ROOT,
    library: padded(env!("CARGO_PKG_VERSION").as_bytes()),
    segments: (&raw const SEGMENTS).cast(),
    arenas: (&raw const ARENAS).cast(),
    caches: (&raw const CACHES).cast(),
    large: (&raw const LARGE).cast(),
    metadata_bytes: (&raw const METADATA_BYTES).cast(),
    system_calls: (&raw const SYSTEM_CALLS).cast(),
    options: (&raw const OPTIONS).cast(),
    history: (&raw const HISTORY).cast(),
    stacks: (&raw const STACKS).cast(),
    books: (&raw const BOOKS).cast(),
    page_bytes: Counter::new(),
    classes: size_class::COUNT as u32,
    class_scale: SizeClass::SCALE as u32,
    sizes: widened(size_class::sizes()),
    limits: widened(tcache::limits()),
    layout: Layout {
        segment: Segment::LAYOUT,
        arenas: Arenas::LAYOUT,
        caches: Caches::LAYOUT,
        cache: ThreadCache::LAYOUT,
        block: BlockPtr::LAYOUT,
        large: Large::LAYOUT,
        calls: SystemCalls::LAYOUT,
        history: History::LAYOUT,
        stacks: Stacks::LAYOUT,
        books: Books::LAYOUT,
    },
    settings: Options::LAYOUT,
};

const fn padded(text: &[u8]) -> [u8; 16] {
    let (mut padded, mut i) = ([0; 16], 0);
    while i < text.len() {
        padded[i] = text[i];
        i += 1;
    }
    padded
}

const fn widened(table: [u16; size_class::COUNT]) -> [u16; MAX_CLASSES] {
    let (mut wide, mut i) = ([0; MAX_CLASSES], 0);
    while i < table.len() {
        wide[i] = table[i];
        i += 1;
    }
    wide
}

/// Marks the record as that of a process that allocates. Called once, by the thread that initialises the process; it is also
/// what keeps the record in programs that the linker clears of everything unused.
pub(crate) fn begin() {
    ROOT.page_bytes.add(os::page_size() as u64);
}

/// Where the root of this process lies.
pub fn own_root() -> usize {
    (&raw const ROOT).addr()
}

/// A root that was read: where the structures of a heap are, and how they are laid out.
#[derive(Clone, Debug)]
pub struct Root {
    address: usize,
    library: [u8; 16],
    page_bytes: usize,
    pub(super) segments: usize,
    pub(super) arenas: usize,
    pub(super) caches: usize,
    pub(super) large: usize,
    pub(super) metadata_bytes: usize,
    pub(super) system_calls: usize,
    pub(super) options: usize,
    pub(crate) history: usize,
    pub(crate) stacks: usize,
    pub(super) books: usize,
    classes: usize,
    pub(super) class_scale: usize,
    sizes: [u16; MAX_CLASSES],
    limits: [u16; MAX_CLASSES],
    pub(crate) layout: Layout,
}

impl Root {
    /// Where the record tells how options are laid out, in bytes from its start.
    pub(super) const SETTINGS: usize = offset_of!(Record, settings);

    /// Reads the root at an address.
    ///
    /// # Errors
    /// When the memory cannot be read, there is no root, it is of another version, or it contradicts itself.
    pub fn read(memory: &dyn Memory, address: usize) -> Result<Self, Error> {
        let mut bytes = [0; size_of::<Record>()];
        let (head, rest) = bytes.split_at_mut(offset_of!(Record, library));
        memory.read(address, head)?;
        let head: &[u8] = head;
        if !head.starts_with(&MAGIC) || word(head, OWN_ADDRESS) != address {
            return Err(Error::NoRoot(Unreadable { address }));
        }
        let (version, length) = (half(head, offset_of!(Record, version)), half(head, offset_of!(Record, bytes)));
        if version != VERSION {
            return Err(Error::Version(version));
        }
        if length as usize != size_of::<Record>() {
            return Err(Error::Contradiction("the length of the root", address));
        }
        memory.read(address.wrapping_add(head.len()), rest)?;
        let root = Self::parse(&bytes, address).ok_or(Error::Contradiction("the root", address))?;
        root.check()?;
        Ok(root)
    }

    fn parse(bytes: &[u8; size_of::<Record>()], address: usize) -> Option<Self> {
        let words = bytes[offset_of!(Record, layout)..][..Layout::WORDS * 4].chunks_exact(4);
        let layout = Words::read(&mut words.map(|word| half(word, 0)))?;
        let table = |offset: usize| {
            let mut table = [0; MAX_CLASSES];
            for (entry, pair) in table.iter_mut().zip(bytes[offset..].chunks_exact(2)) {
                *entry = u16::from_ne_bytes([pair[0], pair[1]]);
            }
            table
        };
        Some(Self {
            address,
            library: bytes[offset_of!(Record, library)..][..16].try_into().ok()?,
            page_bytes: word(bytes, offset_of!(Record, page_bytes)),
            segments: word(bytes, offset_of!(Record, segments)),
            arenas: word(bytes, offset_of!(Record, arenas)),
            caches: word(bytes, offset_of!(Record, caches)),
            large: word(bytes, offset_of!(Record, large)),
            metadata_bytes: word(bytes, offset_of!(Record, metadata_bytes)),
            system_calls: word(bytes, offset_of!(Record, system_calls)),
            options: word(bytes, offset_of!(Record, options)),
            history: word(bytes, offset_of!(Record, history)),
            stacks: word(bytes, offset_of!(Record, stacks)),
            books: word(bytes, offset_of!(Record, books)),
            classes: half(bytes, offset_of!(Record, classes)) as usize,
            class_scale: half(bytes, offset_of!(Record, class_scale)) as usize,
            sizes: table(offset_of!(Record, sizes)),
            limits: table(offset_of!(Record, limits)),
            layout,
        })
    }

    /// Refuses what the walk would divide by, or count to without end.
    fn check(&self) -> Result<(), Error> {
        let segment = &self.layout.segment;
        let powers = [segment.size, segment.slice, segment.page, segment.slots];
        let counts = [
            (self.classes, MAX_CLASSES),
            (self.class_scale, 1 << 16),
            (segment.slots as usize, 1 << 24),
            (segment.size as usize, 1 << 30),
            (segment.size as usize / (segment.page.max(1) as usize), super::walk::MAX_PAGES),
            (self.layout.arenas.count as usize, 1 << 10),
            (self.layout.cache.size as usize, 1 << 20),
            (self.layout.cache.outbox.count as usize, 1 << 16),
            (self.layout.large.bucket_count as usize, 1 << 20),
            (self.layout.large.range_count as usize, 1 << 16),
        ];
        let sound = powers.iter().all(|power| power.is_power_of_two())
            && segment.page <= segment.slice
            && segment.slice <= segment.size
            && segment.header_pages < segment.size / segment.page
            && (1..64).contains(&self.layout.block.address_bits)
            && (1..64).contains(&self.layout.cache.outbox.class_shift)
            && counts.iter().all(|&(count, most)| (1..=most).contains(&count));
        if sound { Ok(()) } else { Err(Error::Contradiction("the layout in the root", self.address)) }
    }

    /// Where the record lies.
    pub fn address(&self) -> usize {
        self.address
    }

    /// The release of the library, such as `0.1.0`.
    pub fn library(&self) -> &str {
        let text = core::str::from_utf8(&self.library).unwrap_or("?");
        text.trim_end_matches('\0')
    }

    /// The kernel's page in bytes; 0 if the process has not allocated yet.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// How many size classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The block size of a class in bytes; 0 if there is no such class.
    pub fn block_size(&self, class: usize) -> usize {
        self.sizes.get(class).map_or(0, |&units| usize::from(units) * 8)
    }

    /// How many blocks one list of a magazine of a class holds.
    pub(super) fn limit(&self, class: usize) -> i32 {
        self.limits.get(class).map_or(0, |&limit| i32::from(limit))
    }

    /// Length of a thread cache's own record, in bytes.
    pub fn cache_bytes(&self) -> usize {
        self.layout.cache.size as usize
    }
}

fn word(bytes: &[u8], offset: usize) -> usize {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_ne_bytes(word) as usize
}

fn half(bytes: &[u8], offset: usize) -> u32 {
    let mut half = [0; 4];
    half.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(half)
}
