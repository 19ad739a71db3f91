//! The books of the checks: every block that was handed out while a check was on, by its address, with who allocated it and who
//! freed it; those in quarantine, oldest first; and the last ones that left it, so that a second free is known for what it is.
//!
//! ```text
//!   Live ──free──▶ Leaving ──▶ Quarantined ──too many bytes──▶ Gone ──too many, or the address is handed out anew──▶ forgotten
//! ```
//!
//! One lock guards all of it. With the lock held nothing is called but the metadata, so it ranks right above that. A block's
//! bytes are looked at under the lock while it is live or quarantined; one that is leaving belongs to the thread that frees it,
//! or takes it out of the quarantine. Records come from the metadata and return to a list of unused ones.

use super::{words, zones};
use crate::layout::BooksLayout;
use crate::stacks::Stack;
use crate::sync::{Cell, Mutex};
use crate::{metadata, os};
use core::mem::offset_of;
use core::ptr::{self, NonNull};

/// Freed blocks that are remembered when they have left the quarantine.
const GONE_MOST: usize = 1 << 16;
/// Buckets of the table when it is made; it doubles when there are as many records.
const FIRST_BUCKETS: usize = 1 << 12;

pub(crate) static BOOKS: Mutex<Books> = Mutex::new(Books::new());

/// A block as it is known to the checks.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Known {
    pub(super) start: NonNull<u8>,
    /// What was asked for, in bytes.
    pub(super) size: usize,
    pub(super) place: Place,
    pub(super) state: State,
    pub(super) allocated: Event,
    /// Who freed it, if it is not live.
    pub(super) freed: Event,
}

/// The memory that a block was cut from: the program's bytes and the red zones.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Place {
    pub(super) base: NonNull<u8>,
    /// In bytes.
    pub(super) len: usize,
    /// The mapping around it, with its guard pages, if it has one of its own; otherwise its length is 0.
    mapping: NonNull<u8>,
    mapping_len: usize,
}

impl Place {
    /// A place in a block of the heap's.
    pub(super) fn in_block(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len, mapping: base, mapping_len: 0 }
    }

    /// A place between the guard pages of a mapping.
    pub(super) fn in_mapping(base: NonNull<u8>, len: usize, mapping: NonNull<u8>, mapping_len: usize) -> Self {
        Self { base, len, mapping, mapping_len }
    }

    /// The mapping around it and its length in bytes, if it has one of its own.
    pub(super) fn mapping(&self) -> Option<(NonNull<u8>, usize)> {
        (self.mapping_len > 0).then_some((self.mapping, self.mapping_len))
    }
}

/// The numbers are read from outside of the process, too.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// The record tells of no block.
    Unused = 0,
    Live = 1,
    Leaving = 2,
    Quarantined = 3,
    Gone = 4,
}

/// Who did something, and from where.
#[derive(Clone, Copy)]
pub(super) struct Event {
    /// The kernel's number of the thread.
    pub(super) thread: u32,
    pub(super) stack: Option<&'static Stack>,
}

#[repr(C)]
pub(super) struct Record {
    known: Cell<Known>,
    /// The next one of the bucket, or of the unused ones.
    next: Cell<Option<&'static Record>>,
    /// The next one of the queue.
    newer: Cell<Option<&'static Record>>,
}

type Bucket = Cell<Option<&'static Record>>;

/// Records, oldest first.
struct Queue {
    oldest: Option<&'static Record>,
    newest: Option<&'static Record>,
}

impl Queue {
    const EMPTY: Self = Self { oldest: None, newest: None };

    fn push(&mut self, record: &'static Record) {
        record.newer.set(None);
        match self.newest.replace(record) {
            Some(before) => before.newer.set(Some(record)),
            None => self.oldest = Some(record),
        }
    }

    fn pop(&mut self) -> Option<&'static Record> {
        let record = self.oldest?;
        self.oldest = record.newer.get();
        if self.oldest.is_none() {
            self.newest = None;
        }
        Some(record)
    }
}

#[repr(C)]
pub(crate) struct Books {
    /// Where the table lies, and how many buckets it has: a power of two, or 0.
    table: *const Bucket,
    bucket_count: usize,
    records: usize,
    unused: Option<&'static Record>,
    quarantine: Queue,
    quarantined_bytes: usize,
    gone: Queue,
    gone_count: usize,
    /// Calls since the last self-check.
    calls: usize,
    /// Whether the last words at exit are arranged for.
    pub(super) ready_for_exit: bool,
}

// SAFETY: records are reached only under the lock that guards the books.
unsafe impl Send for Books {}

impl Books {
    /// A walk from outside reads the numbers of `State` as they stand.
    pub(crate) const LAYOUT: BooksLayout = {
        const BOOKS: usize = Mutex::<Books>::VALUE;
        const KNOWN: usize = offset_of!(Record, known);
        const PLACE: usize = KNOWN + offset_of!(Known, place);
        BooksLayout {
            table: (BOOKS + offset_of!(Self, table)) as u32,
            bucket_count: (BOOKS + offset_of!(Self, bucket_count)) as u32,
            records: (BOOKS + offset_of!(Self, records)) as u32,
            start: (KNOWN + offset_of!(Known, start)) as u32,
            size: (KNOWN + offset_of!(Known, size)) as u32,
            state: (KNOWN + offset_of!(Known, state)) as u32,
            base: (PLACE + offset_of!(Place, base)) as u32,
            len: (PLACE + offset_of!(Place, len)) as u32,
            mapping: (PLACE + offset_of!(Place, mapping)) as u32,
            mapping_len: (PLACE + offset_of!(Place, mapping_len)) as u32,
            next: offset_of!(Record, next) as u32,
            red_zones: words::RED_ZONES,
            red_zone_bytes: zones::MOST as u32,
        }
    };

    const fn new() -> Self {
        Self {
            table: ptr::null(),
            bucket_count: 0,
            records: 0,
            unused: None,
            quarantine: Queue::EMPTY,
            quarantined_bytes: 0,
            gone: Queue::EMPTY,
            gone_count: 0,
            calls: 0,
            ready_for_exit: false,
        }
    }

    fn buckets(&self) -> &'static [Bucket] {
        if self.bucket_count == 0 {
            return &[];
        }
        // SAFETY: the table has that many buckets; it is unmapped only when it is replaced, with no bucket in use.
        unsafe { core::slice::from_raw_parts(self.table, self.bucket_count) }
    }

    /// What the table takes beside the records, in bytes.
    pub(super) fn table_bytes(&self) -> usize {
        (self.bucket_count * size_of::<Bucket>()).next_multiple_of(os::page_size())
    }

    fn bucket(&self, start: NonNull<u8>) -> &'static Bucket {
        let hash = (start.addr().get() as u64 / 16).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &self.buckets()[(hash >> 32) as usize & (self.bucket_count - 1)]
    }

    fn record(&self, start: NonNull<u8>) -> Option<&'static Record> {
        if self.bucket_count == 0 {
            return None;
        }
        let first = self.bucket(start).get();
        core::iter::successors(first, |record| record.next.get())
            .find(|record| record.known().is_some_and(|known| known.start == start))
    }

    /// The block that starts at an address, or last did.
    pub(super) fn find(&self, start: NonNull<u8>) -> Option<Known> {
        self.record(start)?.known()
    }

    /// All blocks that are known.
    pub(super) fn all(&self) -> impl Iterator<Item = Known> {
        self.buckets()
            .iter()
            .flat_map(|bucket| core::iter::successors(bucket.get(), |record| record.next.get()))
            .filter_map(Record::known)
    }

    /// Live blocks with guard pages, their bytes, and the bytes of such blocks that are in quarantine; each time as pages that could
    /// be touched.
    pub(super) fn guarded(&self) -> (usize, usize, usize) {
        let (mut blocks, mut bytes, mut quarantined) = (0, 0, 0);
        for known in self.all().filter(|known| known.place.mapping().is_some()) {
            match known.state {
                State::Live | State::Leaving => (blocks, bytes) = (blocks + 1, bytes + known.place.len),
                State::Quarantined => quarantined += known.place.len,
                State::Gone | State::Unused => {}
            }
        }
        (blocks, bytes, quarantined)
    }

    /// The block whose place an address lies in, its mapping included; slow, for reports.
    pub(super) fn find_around(&self, address: usize) -> Option<Known> {
        let holds = |known: &Known| {
            let (start, len) = known.place.mapping().unwrap_or((known.place.base, known.place.len));
            address.wrapping_sub(start.addr().get()) < len
        };
        let mut found = None;
        for known in self.all().filter(holds) {
            // Of two that lay at one place the later one is not gone.
            if found.is_none() || known.state != State::Gone {
                found = Some(known);
            }
        }
        found
    }

    /// Enters a live block; `false` when there is no memory for its record.
    pub(super) fn enter(&mut self, known: Known) -> bool {
        if self.records >= self.bucket_count && !self.grow() && self.bucket_count == 0 {
            return false;
        }
        if let Some(before) = self.record(known.start) {
            // It has left the quarantine, since its address was handed out again. Its queue still has the record.
            self.unlink(before);
            before.forget();
        }
        let Some(record) = self.unused.or_else(Record::make) else { return false };
        self.unused = record.next.get();
        record.known.set(known);
        self.link(record, known.start);
        true
    }

    fn link(&mut self, record: &'static Record, start: NonNull<u8>) {
        let bucket = self.bucket(start);
        record.next.set(bucket.replace(Some(record)));
        self.records += 1;
    }

    fn unlink(&mut self, record: &'static Record) {
        let Some(known) = record.known() else { return };
        let mut link = self.bucket(known.start);
        while let Some(other) = link.get() {
            if core::ptr::eq(other, record) {
                link.set(record.next.get());
                self.records -= 1;
                return;
            }
            link = &other.next;
        }
    }

    /// Makes the table twice as large; `false`, and no change, when there is no memory.
    fn grow(&mut self) -> bool {
        let count = (self.bucket_count * 2).max(FIRST_BUCKETS);
        let (old, page) = (self.buckets(), os::page_size());
        let old_len = size_of_val(old);
        let Some(memory) = os::map((count * size_of::<Bucket>()).next_multiple_of(page)) else { return false };
        // The memory has room for so many, is aligned to a page, and reads as zero, which is `None` for a reference.
        (self.table, self.bucket_count, self.records) = (memory.cast::<Bucket>().as_ptr(), count, 0);
        for bucket in old {
            let mut next = bucket.take();
            while let Some(record) = next {
                next = record.next.get();
                if let Some(known) = record.known() {
                    self.link(record, known.start);
                }
            }
        }
        if let Some(start) = NonNull::new(old.as_ptr().cast_mut().cast()).filter(|_| old_len > 0) {
            os::unmap(start, old_len.next_multiple_of(page));
        }
        true
    }

    /// Gives a live block into the hands of the thread that frees it; otherwise says what became of it before.
    pub(super) fn leave(&self, start: NonNull<u8>, freed: Event) -> Option<Result<Known, Known>> {
        let record = self.record(start)?;
        let known = record.known()?;
        if known.state != State::Live {
            return Some(Err(known));
        }
        record.known.set(Known { state: State::Leaving, freed, ..known });
        Some(Ok(known))
    }

    /// Puts a block that is leaving into the quarantine.
    pub(super) fn keep(&mut self, start: NonNull<u8>) {
        let Some(record) = self.record(start) else { return };
        let Some(known) = record.known() else { return };
        record.known.set(Known { state: State::Quarantined, ..known });
        self.quarantined_bytes += known.place.len;
        self.quarantine.push(record);
    }

    /// Takes the oldest block out of the quarantine while it holds more than `most` bytes.
    pub(super) fn let_go(&mut self, most: usize) -> Option<Known> {
        if self.quarantined_bytes <= most {
            return None;
        }
        let record = self.quarantine.pop()?;
        let known = record.known()?;
        self.quarantined_bytes -= known.place.len;
        self.remember(record, known);
        Some(known)
    }

    fn remember(&mut self, record: &'static Record, known: Known) {
        record.known.set(Known { state: State::Gone, ..known });
        self.gone.push(record);
        self.gone_count += 1;
        if self.gone_count > GONE_MOST
            && let Some(oldest) = self.gone.pop()
        {
            self.gone_count -= 1;
            self.unlink(oldest);
            oldest.forget();
            oldest.next.set(self.unused.replace(oldest));
        }
    }

    /// Counts a call; whether it is the `every`th since the last such.
    pub(super) fn count_call(&mut self, every: usize) -> bool {
        self.calls += 1;
        let due = self.calls >= every;
        if due {
            self.calls = 0;
        }
        due
    }
}

impl Record {
    fn make() -> Option<&'static Self> {
        let memory = metadata::allocate::<Self>()?;
        let nobody = Event { thread: 0, stack: None };
        let place = Place::in_block(NonNull::dangling(), 0);
        let (start, state) = (NonNull::dangling(), State::Unused);
        let known = Cell::new(Known { start, size: 0, place, state, allocated: nobody, freed: nobody });
        // SAFETY: the memory is aligned, large enough, and nobody else's.
        unsafe { memory.write(Self { known, next: Cell::new(None), newer: Cell::new(None) }) };
        // SAFETY: as above; it was just written, and lives for ever.
        Some(unsafe { memory.as_ref() })
    }

    fn known(&self) -> Option<Known> {
        Some(self.known.get()).filter(|known| known.state != State::Unused)
    }

    fn forget(&self) {
        self.known.set(Known { state: State::Unused, ..self.known.get() });
    }
}
