//! The ways of a block into a thread's hands and out of them. First the fast paths, which the faces have inline for each small block:
//! no lock, no call. Then the slow ones that they fall back to: each is entered by a jump, with the frame of whoever called the face,
//! where call stacks begin (`with_caller!`).

use super::magazine::limit;
use super::supply::FOREIGN_LEAST;
use super::{ThreadCache, lifecycle, slot, start};
use crate::arena::{Descriptor, Owner, Slab, slab_containing};
use crate::attended::{self as calls, Caller};
use crate::block::BlockPtr;
use crate::limit::LIMIT;
use crate::options::OPTIONS;
use crate::os;
use crate::report::{self, Fault};
use crate::size_class::{BYTE_TABLE_MAX, C_ALIGN, SizeClass};
use crate::sync::in_register;
use crate::with_caller;
use core::ptr::NonNull;

/// Tells the compiler that the branch that calls this is the rare one (`core::hint::cold_path` is too new).
#[cold]
#[inline]
pub(crate) fn cold_path() {}

/// Takes a block of the class, for a request of `size` bytes aligned to `align`; null, with `errno` set, when there is no
/// memory.
#[inline(always)]
pub(crate) fn allocate(class: SizeClass, size: usize, align: usize) -> *mut u8 {
    match take_at_hand(class) {
        Some(start) => start.as_ptr(),
        None => allocate_slow(size, align, class),
    }
}

/// As [`allocate`], of a class that the compiler knows most of the time.
#[inline(always)]
pub(crate) fn allocate_constant(class: SizeClass, size: usize, align: usize) -> *mut u8 {
    match slot::get().magazine(class).pop() {
        Some(block) => block.start().as_ptr(),
        None => allocate_slow(size, align, class),
    }
}

/// Takes a block of the class, if the calling thread has one at hand.
#[inline(always)]
pub(crate) fn take_at_hand(class: SizeClass) -> Option<NonNull<u8>> {
    slot::get().magazine_by_address(class).pop().map(BlockPtr::start)
}

/// Takes a block of `size` bytes, at most [`BYTE_TABLE_MAX`], aligned to 16; null, with `errno` set, when there is no memory.
#[inline(always)]
pub(crate) fn allocate_c(size: usize) -> *mut u8 {
    match allocate_at_hand(size) {
        Some(block) => block.as_ptr(),
        None => allocate_slow(size, C_ALIGN, SizeClass::by_byte_table(size)),
    }
}

/// As [`allocate_c`], if the calling thread has such a block at hand.
#[inline(always)]
pub(crate) fn allocate_at_hand(size: usize) -> Option<NonNull<u8>> {
    debug_assert!(size <= BYTE_TABLE_MAX);
    let cache = slot::get();
    // SAFETY: the table has an entry for each size up to BYTE_TABLE_MAX.
    let class = *unsafe { cache.by_size.get_unchecked(size) };
    cache.magazine_by_address(class).pop().map(BlockPtr::start)
}

/// Frees a block whose size class the caller knows (from a Rust layout).
///
/// # Safety
/// `start` must be the first byte of a live block of the class, which the caller gives up.
#[inline(always)]
pub(crate) unsafe fn free_known(start: NonNull<u8>, class: SizeClass) {
    let cache = slot::get();
    let descriptor = Descriptor::containing(start);
    // SAFETY: the caller gives the block up.
    let block = unsafe { BlockPtr::from_start(start) };
    // SAFETY: live blocks lie in registered segments.
    if unsafe { descriptor.is_owned_by(cache.owner()) } {
        if !cache.magazine(class).push(block) {
            cold_path();
            push_known_slow(block, class);
        }
    } else {
        cold_path();
        // SAFETY: as above.
        free_foreign(unsafe { descriptor.slab() }, block);
    }
}

/// Frees a block of another cache's slab, out of line.
#[inline(never)]
fn free_foreign(slab: &'static Slab, block: BlockPtr) {
    free_remote(slot::get(), slab, block);
}

/// Frees a block of a slab of this thread's own; `false`, and no change, when the address is anything else.
///
/// # Safety
/// The descriptor must be that of the address's slice, in a registered segment; the caller gives up the block that starts
/// there, if one does.
#[inline(always)]
pub(crate) unsafe fn free_own(descriptor: Descriptor, start: NonNull<u8>) -> bool {
    let cache = slot::get();
    // SAFETY: the caller's promise.
    if unsafe { !descriptor.is_owned_by(cache.owner()) } {
        return false;
    }
    // SAFETY: the caller's promise.
    if unsafe { !descriptor.starts_block(start) } {
        return false;
    }
    // SAFETY: it is a block's start, and the caller gives the block up.
    let block = unsafe { BlockPtr::from_start(start) };
    // SAFETY: the caller's promise, and a slice with an owner belongs to a slab.
    if !unsafe { cache.magazine_for(descriptor) }.push(block) {
        cold_path();
        push_slow(block);
    }
    true
}

/// Frees a block of another cache's slab, or one outside of the first slice of its slab; `false`, and no change, when the
/// address is no block of a slab.
///
/// # Safety
/// As for [`free_own`].
#[inline(always)]
pub(crate) unsafe fn free_in_slab(descriptor: Descriptor, start: NonNull<u8>) -> bool {
    let cache = slot::get();
    // Half a dozen of its fields follow: the sum that is its address is done once.
    // SAFETY: the caller's promise.
    let slab = in_register(unsafe { descriptor.slab() });
    if !slab.starts_block(start) && !slab.is_block_start(start) {
        return false;
    }
    // SAFETY: it is a block's start, and the caller gives the block up.
    free_remote(cache, slab, unsafe { BlockPtr::from_start(start) });
    true
}

with_caller! {
    /// Takes a block that is not at hand. The size stands first: it then stays where `malloc` was given it.
    fn allocate_slow(size: usize, align: usize, class: SizeClass) -> *mut u8 => allocate_from, ["rcx", "r8"], ["x3", "x4"]
}

/// As [`allocate_slow`], for a call that came from there.
#[cold]
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) extern "C" fn allocate_from(
    size: usize,
    align: usize,
    class: SizeClass,
    frame: usize,
    returns_to: usize,
) -> *mut u8 {
    let start = if is_attended() {
        calls::allocate(size, align, Some(class), Caller { frame, returns_to })
    } else {
        take(class)
    };
    match start {
        Some(start) => start.as_ptr(),
        None => {
            os::set_errno(libc::ENOMEM);
            core::ptr::null_mut()
        }
    }
}

/// Whether calls are attended. Before the first call that is only known when the options have been read.
pub(crate) fn is_attended() -> bool {
    if core::ptr::eq(slot::get(), &slot::NEWBORN) {
        let _ = start();
    }
    OPTIONS.attended()
}

/// Takes a block of a class that the calling thread has not at hand.
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn take(class: SizeClass) -> Option<NonNull<u8>> {
    let block = match lifecycle::own_or_attach() {
        // A thread's first call finds what the last one had at hand.
        Some(cache) => cache.pop_or_refill(class),
        None => lifecycle::with_orphanage(|cache| cache.pop_or_refill(class)),
    };
    LIMIT.heed();
    block.map(BlockPtr::start)
}

with_caller! {
    /// A push onto the magazine of the block's class was refused. That class is not handed on: it would cost the fast path.
    fn push_slow(block: BlockPtr) => push_from, ["rsi", "rdx"], ["x1", "x2"]
}

#[cold]
#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn push_from(block: BlockPtr, frame: usize, returns_to: usize) {
    // SAFETY: blocks lie in registered segments.
    let class = unsafe { slab_containing(block.start()) }.class();
    push_known_from(block, class, frame, returns_to);
}

with_caller! {
    /// A push onto the magazine of the class was refused. While calls are attended the block may be one of another class, or of
    /// none.
    fn push_known_slow(block: BlockPtr, class: SizeClass) => push_known_from, ["rdx", "rcx"], ["x2", "x3"]
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn push_known_from(block: BlockPtr, class: SizeClass, frame: usize, returns_to: usize) {
    // Only a thread that has a cache frees blocks of its own.
    let cache = slot::get();
    if cache.magazine(class).top() == Some(block) || cache.was_settled_last(block.start()) {
        // It is being freed twice, and nothing was done with it yet.
        return report::bad_pointer("free", block.start().as_ptr(), Fault::Freed { size: class.block_size() });
    }
    // The refused push took of the room.
    cache.magazine(class).restore_room();
    if cache.renew_room(class) {
        cache.magazine(class).put(block);
    } else {
        push_otherwise(cache, class, block, Caller { frame, returns_to });
    }
}

/// As [`push_known_slow`], when there is more to do than to make room.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
fn push_otherwise(cache: &'static ThreadCache, class: SizeClass, block: BlockPtr, caller: Caller) {
    if OPTIONS.attended() {
        // SAFETY: whoever freed the block gave it up.
        return unsafe { calls::free(block.start(), caller) };
    }
    if (cache.thin[class.index()].get() || cache.is_clock_next()) && cache.resettle_if_thin(class, block) {
        return cache.tick();
    }
    let most = cache.enlarge(class);
    if !cache.magazine(class).make_room(class, most) {
        return cache.push_rotating(class, block);
    }
    cache.busy[class.index()].set(true);
    cache.tick();
    cache.push_own(class, block);
}

#[cold]
pub(super) fn freed_twice(block: BlockPtr, size: usize) -> ! {
    report::harm_done("free", block.start().as_ptr(), Fault::Freed { size })
}

/// The owner of the slab of a block that was freed. A slab with a block out has one: without, the block was freed twice.
pub(super) fn known(owner: *mut Owner, block: BlockPtr, class: SizeClass) -> *mut Owner {
    if owner.is_null() {
        freed_twice(block, class.block_size());
    }
    owner
}

/// One in so many blocks of other caches' slabs goes home though there is room for it: nearly all are handed out warm, and none goes round with
/// another thread for ever, between neighbours that its owner writes to.
const STAYS: u8 = 64;

/// Frees a block of another cache's slab. A thread that has room for blocks of the class, as who takes such blocks himself has, keeps
/// it to hand it out again, nearly always; else it goes into the outbox, most of the time.
#[inline(always)]
fn free_remote(cache: &ThreadCache, slab: &'static Slab, block: BlockPtr) {
    if slab.class() >= FOREIGN_LEAST {
        let magazine = cache.magazine(slab.class());
        if magazine.top() == Some(block) {
            cold_path();
            return free_remote_slow(slab, block);
        }
        // A slab without an owner has no block out: this one is being freed twice.
        if magazine.has_room() && !slab.owner().is_null() {
            let stays = cache.stays.get();
            if stays <= 1 {
                cold_path();
                return free_remote_slow(slab, block);
            }
            cache.stays.set(stays - 1);
            return magazine.put(block);
        }
    }
    // A thread without a cache finds no chain in the outbox that it looks into.
    if !cache.outbox().try_gather(slab.owner(), slab.class(), block) {
        cold_path();
        free_remote_slow(slab, block);
    }
}

with_caller! {
    fn free_remote_slow(slab: &'static Slab, block: BlockPtr) => free_remote_from, ["rdx", "rcx"], ["x2", "x3"]
}

#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn free_remote_from(slab: &'static Slab, block: BlockPtr, frame: usize, returns_to: usize) {
    if OPTIONS.attended() {
        // SAFETY: whoever freed the block gave it up.
        return unsafe { calls::free(block.start(), Caller { frame, returns_to }) };
    }
    let class = slab.class();
    let owner = known(slab.owner(), block, class);
    let Some(cache) = lifecycle::own_or_attach() else {
        return lifecycle::send_alone(owner, class, block);
    };
    if owner == cache.owner().as_ptr() {
        // A block outside of its slab's first slice; or the thread had no cache a moment ago, and got the owner's.
        cache.stays.set(STAYS);
        return cache.push_own(class, block);
    }
    if class < FOREIGN_LEAST || !cache.keep_foreign(owner, class, block) {
        cache.gather(owner, class, block);
    }
}

impl ThreadCache {
    /// Keeps a block of another cache's slab: one whose class the magazine has no room for, if the thread takes such blocks, the
    /// magazine holds little, and the class is not thin here; or the first one after one that had to go home. `false` otherwise.
    fn keep_foreign(&'static self, owner: *mut Owner, class: SizeClass, block: BlockPtr) -> bool {
        if self.magazine(class).top() == Some(block) {
            report::bad_pointer("free", block.start().as_ptr(), Fault::Freed { size: class.block_size() });
            return true;
        }
        if self.outbox().has_last(owner, class, block) {
            // It went there before the thread took blocks of the class, or had to go home.
            freed_twice(block, class.block_size());
        }
        match self.stays.get() {
            // The next one comes here, too: if it is this one, freed twice, it is seen above.
            1 => {
                self.stays.set(0);
                return false;
            }
            0 => self.stays.set(STAYS),
            _ => {}
        }
        if self.magazine(class).has_room() {
            self.magazine(class).put(block);
            return true;
        }
        let (had, count) = (self.grants[class.index()].get() as usize, self.magazine(class).count(class));
        // A list that is longer must not lose what it was granted.
        if self.thin[class.index()].get() || 4 * count >= 3 * (2 * had).min(limit(class) as usize) {
            return false;
        }
        let most = self.enlarge(class);
        let made = self.magazine(class).make_room(class, most);
        if made {
            self.magazine(class).put(block);
            self.note(class);
            self.tick();
        }
        made
    }

    /// Makes room in the magazine of a class that has all that it can be granted, if it holds little and the clock need not be
    /// looked at: what most slow calls come to. `false`, and no change, otherwise.
    #[inline(always)]
    fn renew_room(&self, class: SizeClass) -> bool {
        let most = limit(class);
        if i32::from(self.grants[class.index()].get()) != most
            || OPTIONS.attended()
            || self.thin[class.index()].get()
            || self.is_clock_next()
        {
            return false;
        }
        let made = self.magazine(class).make_room(class, most);
        if made {
            self.busy[class.index()].set(true);
            self.slow_calls.set(self.slow_calls.get().wrapping_add(1));
        }
        made
    }

    /// Puts a block into a magazine that is full.
    #[inline(never)]
    #[unsafe(link_section = ".text.terrace.common")]
    fn push_rotating(&'static self, class: SizeClass, block: BlockPtr) {
        self.rotate(class);
        self.tick();
        self.push_own(class, block);
    }

    /// Puts a block of this cache's own into the magazine, from a slow path.
    fn push_own(&'static self, class: SizeClass, block: BlockPtr) {
        // A magazine that was just made room in refuses nothing, unless the housekeeping found the class thin and took the room back,
        // or let the C library call back into the allocator, which filled it.
        if !self.magazine(class).push(block) {
            push_known_slow(block, class);
        }
    }
}
