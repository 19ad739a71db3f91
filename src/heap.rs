//! The heap as the faces see it: a request goes to the layer that serves its size, an address to the layer it came from.
//!
//! | size | alignment | served by |
//! |---|---|---|
//! | up to 32 KiB | up to 4 KiB | a slab, through the thread's cache |
//! | up to `TERRACE_MMAP_THRESHOLD` | below 1 MiB | a run of pages of an arena |
//! | any | any | a mapping of its own |

mod resizing;

pub(crate) use resizing::{move_block, reallocate_c, reallocate_c_for, reallocate_layout, resize_in_place};

use crate::arena::{
    self, ARENAS, Descriptor, Growth, MAX_RUN_PAGES, PAGE, PAGES_PER_SLICE, PageUse, Pages, Place, RunState,
    slab_containing, slice_index,
};
use crate::attended::{self, Caller};
use crate::history;
use crate::large::LARGE;
use crate::limit::LIMIT;
use crate::options::{OPTIONS, OptionDescription, OptionError};
use crate::os;
use crate::os::valgrind::Unreported;
use crate::report::{self, Fault};
use crate::size_class::{BYTE_TABLE_MAX, C_ALIGN, SizeClass, TABLE_MAX};
use crate::stacks;
use crate::sync::Cell;
use crate::tcache::{self, CACHES, PURGER};
use crate::with_caller;
use core::ptr::{self, NonNull};

/// Above this alignment, in bytes, a run of pages would waste much of a segment.
const MAX_RUN_ALIGN: usize = PAGES_PER_SLICE * PAGE * 16;

/// Memory of at least the size asked for.
pub(crate) struct Fresh {
    pub(crate) start: NonNull<u8>,
    /// Whether every byte is known to be zero.
    pub(crate) zeroed: bool,
}

/// `size` bytes aligned to 16; null, with `errno` set, when there is no memory.
#[inline(always)]
pub(crate) fn allocate_c(size: usize) -> *mut u8 {
    if size <= BYTE_TABLE_MAX { tcache::allocate_c(size) } else { allocate_beyond_table(size) }
}

/// As [`allocate_c`], if the calling thread has such a block at hand; the caller of this goes on to that.
#[inline(always)]
pub(crate) fn allocate_at_hand(size: usize) -> Option<NonNull<u8>> {
    if size <= BYTE_TABLE_MAX { tcache::allocate_at_hand(size) } else { None }
}

#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
fn allocate_beyond_table(size: usize) -> *mut u8 {
    if size <= TABLE_MAX {
        return tcache::allocate(SizeClass::by_table(size), size, C_ALIGN);
    }
    match SizeClass::of(size) {
        Some(class) => tcache::allocate(class, size, C_ALIGN),
        None => allocate_pages(size, C_ALIGN),
    }
}

/// `size` bytes aligned to `align`, a power of two. For constant arguments the compiler folds the size class.
#[inline(always)]
pub(crate) fn allocate_layout(size: usize, align: usize) -> *mut u8 {
    match class_of_layout(size, align) {
        Some(class) => tcache::allocate_constant(class, size, align),
        None => allocate_aligned(size, align),
    }
}

/// The class of a layout, by the look-up table if it is there; what is constant the compiler folds. `None` if it has none.
#[inline(always)]
pub(crate) fn class_of_layout(size: usize, align: usize) -> Option<SizeClass> {
    if size <= TABLE_MAX && align <= 8 {
        Some(SizeClass::by_table_fine(size))
    } else if size <= TABLE_MAX && align <= C_ALIGN {
        Some(SizeClass::by_table(size))
    } else if align > C_ALIGN
        && let Some(class) = SizeClass::by_table_aligned(size, align)
    {
        tcache::cold_path();
        Some(class)
    } else {
        tcache::cold_path();
        SizeClass::of_layout(size, align)
    }
}

/// `size` bytes aligned to `align`, a power of two of at least 16, if the calling thread has such a block at hand.
#[inline(always)]
pub(crate) fn allocate_aligned_at_hand(size: usize, align: usize) -> Option<NonNull<u8>> {
    tcache::take_at_hand(SizeClass::by_table_aligned(size, align)?)
}

/// As [`allocate_layout`], for arguments that are not constant and not common.
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn allocate_aligned(size: usize, align: usize) -> *mut u8 {
    match SizeClass::of_layout(size, align) {
        Some(class) => tcache::allocate(class, size, align),
        None => allocate_pages(size, align),
    }
}

/// As [`allocate_aligned`], for a call that came from there.
pub(crate) fn allocate_for(size: usize, align: usize, caller: Caller) -> *mut u8 {
    if tcache::is_attended() {
        let block = attended::allocate(size, align, SizeClass::of_layout(size, align), caller);
        return start_of(block.map(|start| Fresh { start, zeroed: false }));
    }
    allocate_aligned(size, align)
}

fn start_of(fresh: Option<Fresh>) -> *mut u8 {
    match fresh {
        Some(fresh) => fresh.start.as_ptr(),
        None => {
            os::set_errno(libc::ENOMEM);
            ptr::null_mut()
        }
    }
}

/// Zeroed memory of `size` bytes aligned to 16; null, with `errno` set, when there is none.
#[inline(always)]
pub(crate) fn allocate_zeroed_c(size: usize) -> *mut u8 {
    match allocate_at_hand(size) {
        Some(start) => zeroed_block(start, size),
        None => allocate_zeroed_otherwise(size),
    }
}

/// As [`allocate_zeroed_c`], of a size that needs the larger table, or when no block is at hand.
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
fn allocate_zeroed_otherwise(size: usize) -> *mut u8 {
    allocate_zeroed(size, C_ALIGN, class_of_layout(size, C_ALIGN))
}

/// Zeroed memory for a layout; null, with `errno` set, when there is none.
#[inline]
pub(crate) fn allocate_zeroed(size: usize, align: usize, class: Option<SizeClass>) -> *mut u8 {
    let Some(class) = class else { return allocate_zeroed_pages(size, align) };
    match tcache::take_at_hand(class) {
        Some(start) => zeroed_block(start, size),
        None => allocate_zeroed_slow(size, align, class),
    }
}

/// As [`zeroed`], for a block that is at hand. Up to 64 bytes are cleared by four stores, which overlap where it is less: without a
/// branch on the length, and always by the same store where the block begins. `memset` has the one or lacks the other, and who adds to
/// what was cleared waits for it (decision 33).
#[inline(always)]
fn zeroed_block(start: NonNull<u8>, size: usize) -> *mut u8 {
    const STEP: usize = 16;
    if size > 4 * STEP {
        return zeroed(start, size);
    }
    // Not rare; but so the way to `memset` is straight.
    tcache::cold_path();
    let last = size.max(STEP) - STEP;
    let second = last.min(STEP);
    for at in [last, last - second, second, 0] {
        // SAFETY: a block has 16 bytes at least, and `size` bytes: up to a step from `last`.
        let place = unsafe { start.add(at) };
        // SAFETY: as above, and nobody else knows the block yet.
        unsafe { place.cast::<[u64; STEP / 8]>().write_unaligned([0; STEP / 8]) };
    }
    start.as_ptr()
}

fn zeroed(start: NonNull<u8>, size: usize) -> *mut u8 {
    // SAFETY: the block has at least `size` bytes, and nobody else knows it yet.
    unsafe { start.write_bytes(0, size) };
    start.as_ptr()
}

with_caller! {
    /// As [`allocate_zeroed`], when no block is at hand.
    fn allocate_zeroed_slow(size: usize, align: usize, class: SizeClass) -> *mut u8
        => allocate_zeroed_from, ["rcx", "r8"], ["x3", "x4"]
}

#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn allocate_zeroed_from(
    size: usize,
    align: usize,
    class: SizeClass,
    frame: usize,
    returns_to: usize,
) -> *mut u8 {
    let start = tcache::allocate_from(size, align, class, frame, returns_to);
    NonNull::new(start).map_or(start, |start| zeroed(start, size))
}

/// A run of pages, or a mapping, of zeroes.
#[unsafe(link_section = ".text.terrace.common")]
fn allocate_zeroed_pages(size: usize, align: usize) -> *mut u8 {
    let at_hand = if size <= OPTIONS.mmap_threshold() { medium_at_hand(size, align) } else { None };
    match at_hand {
        Some(start) => zeroed(start, size),
        None => allocate_zeroed_pages_slow(size, align),
    }
}

with_caller! {
    /// As [`allocate_zeroed_pages`], when no block is at hand.
    fn allocate_zeroed_pages_slow(size: usize, align: usize) -> *mut u8 => allocate_zeroed_pages_from, ["rdx", "rcx"], ["x2", "x3"]
}

#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn allocate_zeroed_pages_from(size: usize, align: usize, frame: usize, returns_to: usize) -> *mut u8 {
    match allocate_pages_for(size, align, Caller { frame, returns_to }) {
        Some(fresh) if !fresh.zeroed => zeroed(fresh.start, size),
        fresh => start_of(fresh),
    }
}

/// A run of pages, or a mapping.
#[inline(always)]
fn allocate_pages(size: usize, align: usize) -> *mut u8 {
    if size <= OPTIONS.mmap_threshold() { allocate_medium(size, align) } else { allocate_pages_slow(size, align) }
}

/// As [`allocate_pages`], for up to `mmap_threshold` bytes: the block that the calling thread freed last, if it is of this length. All else needs a
/// frame, and so is a function of its own.
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
fn allocate_medium(size: usize, align: usize) -> *mut u8 {
    let latest = if align <= PAGE && !OPTIONS.attended() { tcache::unshelve_latest(size) } else { None };
    match latest {
        Some(start) => start.as_ptr(),
        None => allocate_medium_otherwise(size, align),
    }
}

/// As [`allocate_medium`], of any block that is at hand, or a new one.
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
fn allocate_medium_otherwise(size: usize, align: usize) -> *mut u8 {
    match medium_at_hand(size, align) {
        Some(start) => start.as_ptr(),
        None => allocate_pages_slow(size, align),
    }
}

/// A block of `size` bytes, at most `mmap_threshold`, aligned to `align`, if the calling thread has just such a medium one at hand.
#[inline(always)]
fn medium_at_hand(size: usize, align: usize) -> Option<NonNull<u8>> {
    if align < MAX_RUN_ALIGN && !OPTIONS.attended() { tcache::unshelve(size, align) } else { None }
}

with_caller! {
    /// As [`allocate_pages`], when no block is at hand.
    fn allocate_pages_slow(size: usize, align: usize) -> *mut u8 => allocate_pages_from, ["rdx", "rcx"], ["x2", "x3"]
}

#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn allocate_pages_from(size: usize, align: usize, frame: usize, returns_to: usize) -> *mut u8 {
    start_of(allocate_pages_for(size, align, Caller { frame, returns_to }))
}

#[inline(always)]
fn allocate_pages_for(size: usize, align: usize, caller: Caller) -> Option<Fresh> {
    if tcache::is_attended() {
        return attended::allocate(size, align, None, caller).map(|start| Fresh { start, zeroed: false });
    }
    allocate_pages_plainly(size, align)
}

/// As [`allocate_pages_slow`], whether calls are attended or not.
#[inline(always)]
pub(crate) fn allocate_pages_plainly(size: usize, align: usize) -> Option<Fresh> {
    tcache::tick();
    if (size <= OPTIONS.mmap_threshold() || (size <= MAX_RUN_PAGES * PAGE && LARGE.is_budget_spent()))
        && align < MAX_RUN_ALIGN
        && let Some(run) = allocate_run(size, align, true)
    {
        return Some(run);
    }
    let block = LARGE.allocate(size, align).or_else(|| {
        // The kernel is out of addresses, memory or mappings: it gets back all that is kept for later.
        purge();
        LARGE.allocate(size, align)
    });
    if let Some(block) = block {
        LIMIT.heed();
        ARENAS.yield_bytes(block.fresh);
        return Some(Fresh { start: block.start, zeroed: block.zeroed });
    }
    // No mapping is to be had. Free pages that an arena still has may hold the block.
    if size <= MAX_RUN_PAGES * PAGE && align < MAX_RUN_ALIGN { allocate_run(size, align, false) } else { None }
}

#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn allocate_run(size: usize, align: usize, may_grow: bool) -> Option<Fresh> {
    let (pages, align) = (size.div_ceil(PAGE).max(1), align.div_ceil(PAGE).max(1));
    let run = tcache::with_arena_hint(|hint| {
        ARENAS
            .take(hint, pages, align, RunState::Medium, Growth::Denied)
            .or_else(|| if may_grow { reclaim_or_grow(hint, pages, align) } else { None })
    })?;
    LARGE.yield_bytes(run.owed);
    Some(Fresh { start: run.start, zeroed: run.zeroed })
}

#[cold]
#[inline(never)]
fn reclaim_or_grow(hint: &Cell<usize>, pages: usize, align: usize) -> Option<Pages> {
    tcache::reclaim();
    let take = |growth| ARENAS.take(hint, pages, align, RunState::Medium, growth);
    take(Growth::Denied).or_else(|| take(Growth::Allowed).inspect(|_| LIMIT.heed()))
}

/// Frees the block at an address, whatever it is; NULL is nothing. Anything that is no block is reported and aborts.
///
/// # Safety
/// The caller gives up the block that starts at the address, if one does.
#[inline(always)]
pub(crate) unsafe fn free(address: *mut u8) {
    let Some(descriptor) = arena::find_descriptor(address) else {
        return free_outside(address);
    };
    // SAFETY: addresses in segments are never null.
    let start = unsafe { NonNull::new_unchecked(address) };
    // SAFETY: the descriptor is that of the address's slice, in a segment; the caller gives the block up.
    if unsafe { !tcache::free_own(descriptor, start) } {
        // SAFETY: as above.
        unsafe { free_inside(descriptor, start) };
    }
}

/// Frees a block in a segment that is no block of the first slice of a slab of this thread's own.
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
unsafe fn free_inside(descriptor: Descriptor, start: NonNull<u8>) {
    // SAFETY: the caller's promise.
    if unsafe { !tcache::free_in_slab(descriptor, start) } {
        free_run(start);
    }
}

/// Frees a medium block, or whatever it is that lies in a segment and in no slab: puts it at hand, if there is room as things are. All else
/// needs a frame, and so is a function of its own.
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
fn free_run(start: NonNull<u8>) {
    if OPTIONS.attended() || !tcache::try_shelve(start) {
        free_run_otherwise(start);
    }
}

/// As [`free_run`], where room has to be made first, or the block goes to its arena, or is none.
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
fn free_run_otherwise(start: NonNull<u8>) {
    if OPTIONS.attended() || !tcache::shelve(start) {
        free_medium(start);
    }
}

with_caller! {
    /// Frees a medium block, or whatever it is, that is not to be at hand.
    fn free_medium(start: NonNull<u8>) => free_medium_from, ["rsi", "rdx"], ["x1", "x2"]
}

#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn free_medium_from(start: NonNull<u8>, frame: usize, returns_to: usize) {
    if OPTIONS.attended() {
        // SAFETY: the caller of `free` gives up what starts there.
        return unsafe { attended::free(start, Caller { frame, returns_to }) };
    }
    if ARENAS.free_medium(start).is_err() {
        report::bad_pointer("free", start.as_ptr(), fault_inside(start));
    }
    tcache::tick();
}

with_caller! {
    /// Frees the large block at an address outside of all segments; NULL is nothing.
    fn free_outside(address: *mut u8) => free_outside_from, ["rsi", "rdx"], ["x1", "x2"]
}

#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn free_outside_from(address: *mut u8, frame: usize, returns_to: usize) {
    let Some(start) = NonNull::new(address) else { return };
    if OPTIONS.attended() {
        // SAFETY: the caller's promise.
        return unsafe { attended::free(start, Caller { frame, returns_to }) };
    }
    if !LARGE.free(start) {
        report::bad_pointer("free", address, fault_outside(start));
    }
    tcache::tick();
}

/// As [`free`], for a call that came from there.
///
/// # Safety
/// As for [`free`].
pub(crate) unsafe fn free_for(start: NonNull<u8>, caller: Caller) {
    if OPTIONS.attended() {
        // SAFETY: the caller's promise.
        return unsafe { attended::free(start, caller) };
    }
    // SAFETY: the caller's promise.
    unsafe { free(start.as_ptr()) };
}

/// As [`free`], out of line.
#[inline(never)]
unsafe fn free_any(address: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { free(address) };
}

/// Frees a block of a Rust layout.
///
/// # Safety
/// `start` must be a block that was allocated for this layout, which the caller gives up.
#[inline(always)]
pub(crate) unsafe fn free_layout(start: *mut u8, size: usize, align: usize) {
    match class_of_layout(size, align) {
        Some(class) => {
            // SAFETY: a live block is never null.
            let start = unsafe { NonNull::new_unchecked(start) };
            // SAFETY: blocks of such a layout are blocks of this class.
            unsafe { tcache::free_known(start, class) };
        }
        // SAFETY: the caller's promise.
        None => unsafe { free_any(start) },
    }
}

/// What an address that the program calls a block is.
pub(crate) enum Block {
    Small(SizeClass),
    Medium(usize),
    Large(usize),
}

impl Block {
    pub(crate) fn usable_size(&self) -> usize {
        match *self {
            Block::Small(class) => class.block_size(),
            Block::Medium(size) | Block::Large(size) => size,
        }
    }
}

/// Finds the block that starts at an address; anything else is reported as a fault of `call`, which as a rule ends the
/// process.
fn find(call: &str, start: NonNull<u8>) -> Option<Block> {
    let found = look_up(start);
    found.map_err(|fault| report::bad_pointer(call, start.as_ptr(), fault)).ok()
}

/// Finds the block that starts at an address, or says what is there instead.
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn look_up(start: NonNull<u8>) -> Result<Block, Fault> {
    if !arena::contains(start.as_ptr()) {
        return LARGE.find(start).map(|mapping| Block::Large(mapping.len)).ok_or_else(|| fault_outside(start));
    }
    // SAFETY: the address lies in a segment.
    let slab = unsafe { slab_containing(start) };
    if slab.is_block_start(start) {
        if tcache::was_just_freed(slab, start) || tcache::was_settled_last(start) {
            return Err(Fault::Freed { size: slab.block_size() });
        }
        return Ok(Block::Small(slab.class()));
    }
    ARENAS.medium_size(start).map(Block::Medium).ok_or_else(|| fault_inside(start))
}

/// How many bytes the block at `start` really has; 0 for what is no block, if the process goes on.
pub(crate) fn usable_size(start: NonNull<u8>) -> usize {
    if os::valgrind::is_memcheck() {
        return attended::memcheck::usable_size(start);
    }
    size_found("malloc_usable_size", start)
}

fn size_found(call: &str, start: NonNull<u8>) -> usize {
    match look_up(start) {
        Ok(block) => block.usable_size(),
        Err(fault) => attended::size_of(start).unwrap_or_else(|| {
            report::bad_pointer(call, start.as_ptr(), fault);
            0
        }),
    }
}

/// How many bytes a block for `size` bytes aligned to `align` would really have; `None` for more than a block can have.
pub(crate) fn size_for(size: usize, align: usize) -> Option<usize> {
    if let Some(class) = SizeClass::of_layout(size, align) {
        return Some(class.block_size());
    }
    let unit = if size <= OPTIONS.mmap_threshold() && align < MAX_RUN_ALIGN { PAGE } else { os::page_size() };
    size.max(1).checked_next_multiple_of(unit).filter(|&bytes| bytes <= isize::MAX as usize)
}

/// What is wrong with an address at which no block starts.
pub(crate) fn fault_at(address: NonNull<u8>) -> Fault {
    if arena::contains(address.as_ptr()) { fault_inside(address) } else { fault_outside(address) }
}

fn fault_outside(address: NonNull<u8>) -> Fault {
    match LARGE.find_around(address) {
        Some(mapping) => Fault::Inside { size: mapping.len, offset: address.addr().get() - mapping.start.addr().get() },
        None => LARGE.find_freed(address).map_or(Fault::Foreign, |range| Fault::FreedMapping { size: range.len }),
    }
}

fn fault_inside(address: NonNull<u8>) -> Fault {
    if slice_index(address) == 0 {
        return Fault::NoBlock;
    }
    // SAFETY: the address lies in a segment, outside of its first slice.
    let slab = unsafe { slab_containing(address) };
    if !slab.owner().is_null() {
        return match slab.place_of(address) {
            Place::Inside(offset) => Fault::Inside { size: slab.block_size(), offset },
            Place::Block | Place::Uncarved => Fault::NoBlock,
        };
    }
    match ARENAS.page_use(address) {
        PageUse::InsideMedium { size, offset } => Fault::Inside { size, offset },
        PageUse::Medium(size) | PageUse::Shelved(size) => Fault::Freed { size },
        PageUse::Nothing => Fault::NoBlock,
    }
}

/// Gives the memory of a block back, past all magazines and outboxes.
///
/// # Safety
/// `look_up` has found this block at `start`, and the caller gives it up.
pub(crate) unsafe fn release(start: NonNull<u8>, block: &Block) {
    let found = match block {
        Block::Small(_) => {
            // SAFETY: the caller's promise.
            unsafe { tcache::give_back(start) };
            return;
        }
        Block::Medium(_) => ARENAS.free_medium(start).is_ok(),
        Block::Large(_) => LARGE.free(start),
    };
    if !found {
        // Another thread was faster: both freed it.
        report::bad_pointer("free", start.as_ptr(), Fault::Freed { size: block.usable_size() });
    }
    tcache::tick();
}

/// Reads the options, if the environment was not there yet when the first call came.
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn read_options() {
    if OPTIONS.read_environment() {
        ARENAS.initialise(OPTIONS.source());
        if OPTIONS.attended() {
            // What is at hand already would be handed out as it is.
            tcache::flush();
        }
    }
}

/// Sets an option and has it take effect.
pub(crate) fn set_option(name: &[u8], value: &[u8]) -> Result<(), OptionError> {
    settle_options();
    take_effect(OPTIONS.set_by_call(name, value)?);
    Ok(())
}

/// As [`set_option`], for a number, which is taken for the nearest bound if it is out of bounds.
pub(crate) fn set_number(name: &str, number: usize) {
    settle_options();
    OPTIONS.set_number(name, number).into_iter().for_each(take_effect);
}

/// Leaves the number of arenas to the processors again.
pub(crate) fn forget_arenas() {
    settle_options();
    OPTIONS.forget_arenas();
    CACHES.set_arena_count();
}

/// What the environment says must not be read after a call has set an option, and go before it.
fn settle_options() {
    tcache::start();
    read_options();
}

fn take_effect(option: &OptionDescription) {
    match option.name {
        "source" => ARENAS.initialise(OPTIONS.source()),
        "arenas" => CACHES.set_arena_count(),
        "background" if OPTIONS.background() => PURGER.prepare_exit(),
        "background" => PURGER.end(),
        "limit" => ARENAS.initialise(OPTIONS.source()),
        "soft_limit" => {
            ARENAS.initialise(OPTIONS.source());
            LIMIT.renew();
        }
        "purge_delay_ms" => PURGER.look_again(),
        "stacks" => stacks::prepare(),
        "perturb" | "history" => {
            tcache::flush();
        }
        _ => {}
    }
}

/// Returns to the kernel all free memory that can be returned now, but for about `kept` bytes of each arena; whether there
/// was any.
pub(crate) fn purge_keeping(kept: usize) -> bool {
    let _unreported = Unreported::begin();
    let from_slabs = tcache::flush();
    let from_arenas = ARENAS.purge_keeping(kept.div_ceil(PAGE), 0, usize::MAX, true);
    let purged = (from_slabs + from_arenas) * PAGE + LARGE.purge(0);
    history::record_purge(purged);
    purged > 0
}

/// Returns to the kernel all free memory that can be returned now.
pub(crate) fn purge() {
    purge_keeping(0);
}
