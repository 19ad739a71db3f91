//! `realloc`: whether a block stays, grows or shrinks where it lies, has its pages moved, or is copied.

use super::{
    Block, Fresh, allocate_c, allocate_for, allocate_layout, class_of_layout, find, free, look_up, size_found, start_of,
};
use crate::arena::{self, ARENAS, MAX_RUN_PAGES, PAGE};
use crate::attended::{self, Caller};
use crate::large::LARGE;
use crate::options::OPTIONS;
use crate::os;
use crate::size_class::{C_ALIGN, MIN_BLOCK, SizeClass};
use crate::tcache::{self, PURGER};
use crate::with_caller;
use core::ptr::{self, NonNull};

/// Changes the size of a C block, moving it if need be; null, with `errno` set and the block untouched, when there is no
/// memory.
///
/// # Safety
/// The caller gives up the block at `start` unless the result is null.
#[inline(always)]
pub(crate) unsafe fn reallocate_c(start: NonNull<u8>, size: usize) -> *mut u8 {
    if OPTIONS.attended() {
        return reallocate_c_attended(start, size);
    }
    // SAFETY: the caller's promise.
    unsafe { reallocate_c_unattended(start, size) }
}

/// As [`reallocate_c`], for a call that came from there.
///
/// # Safety
/// As for [`reallocate_c`].
pub(crate) unsafe fn reallocate_c_for(start: NonNull<u8>, size: usize, caller: Caller) -> *mut u8 {
    if !OPTIONS.attended() {
        // SAFETY: the caller's promise.
        return unsafe { reallocate_c_unattended(start, size) };
    }
    let anew = || allocate_for(size, C_ALIGN, caller);
    // SAFETY: what moved is freed, which the caller gives up.
    let release = |old| unsafe { attended::free(old, caller) };
    // SAFETY: the caller's promise.
    let plain = || unsafe { reallocate_c_plainly(start, size, anew, release) };
    // SAFETY: the caller's promise.
    unsafe { attended::reallocate(start, size, C_ALIGN, caller, plain) }
}

with_caller! {
    fn reallocate_c_attended(start: NonNull<u8>, size: usize) -> *mut u8 => reallocate_c_from, ["rdx", "rcx"], ["x2", "x3"]
}

extern "C" fn reallocate_c_from(start: NonNull<u8>, size: usize, frame: usize, returns_to: usize) -> *mut u8 {
    // SAFETY: whoever called `realloc` gives the block up.
    unsafe { reallocate_c_for(start, size, Caller { frame, returns_to }) }
}

#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
unsafe fn reallocate_c_unattended(start: NonNull<u8>, size: usize) -> *mut u8 {
    match small_at(start) {
        Some(class) if small_stays(class, size) => start.as_ptr(),
        // SAFETY: the caller's promise.
        Some(class) => unsafe { reallocate_small(start, class, size) },
        // SAFETY: the caller's promise.
        None => unsafe { reallocate_c_otherwise(start, size) },
    }
}

/// Moves a small block.
///
/// # Safety
/// As for [`reallocate_c`]; the block is one of the class.
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
unsafe fn reallocate_small(start: NonNull<u8>, class: SizeClass, size: usize) -> *mut u8 {
    // SAFETY: what moved is freed, which the caller gives up.
    let release = |old: NonNull<u8>| unsafe { free(old.as_ptr()) };
    // SAFETY: the caller's promise.
    unsafe { move_or_keep(start, class.block_size(), size, || allocate_c(size), release) }
}

/// As [`reallocate_c`], for any address.
///
/// # Safety
/// As for [`reallocate_c`].
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
unsafe fn reallocate_c_otherwise(start: NonNull<u8>, size: usize) -> *mut u8 {
    // SAFETY: what moved is freed, which the caller gives up.
    let release = |old: NonNull<u8>| unsafe { free(old.as_ptr()) };
    // SAFETY: the caller's promise.
    unsafe { reallocate_c_plainly(start, size, || allocate_c(size), release) }
}

/// The class of the small block that starts at an address, if that lies in the first slice of a slab, as most do. `None` says nothing:
/// the address may be any.
#[inline(always)]
fn small_at(start: NonNull<u8>) -> Option<SizeClass> {
    let descriptor = arena::find_descriptor(start.as_ptr())?;
    // SAFETY: it is the descriptor of the address's slice, in a segment.
    if unsafe { !descriptor.starts_block(start) } {
        return None;
    }
    // SAFETY: as above.
    let slab = unsafe { descriptor.slab() };
    (!tcache::was_just_freed(slab, start)).then(|| slab.class())
}

/// Whether more than half of a small block is used by so many bytes, or it is as small as any: it stays where it is.
#[inline(always)]
fn small_stays(class: SizeClass, size: usize) -> bool {
    let has = class.block_size();
    size <= has && (size > has / 2 || has == MIN_BLOCK)
}

/// Changes the size of a C block; `anew` allocates the block that it moves to, and `release` frees the one that it had.
///
/// # Safety
/// As for [`reallocate_c`].
#[inline(always)]
unsafe fn reallocate_c_plainly(
    start: NonNull<u8>,
    size: usize,
    anew: impl FnOnce() -> *mut u8,
    release: impl FnOnce(NonNull<u8>),
) -> *mut u8 {
    let Some(block) = find("realloc", start) else {
        os::set_errno(libc::EINVAL);
        return ptr::null_mut();
    };
    let stays = match block {
        Block::Small(class) => small_stays(class, size),
        Block::Medium(_) | Block::Large(_) => SizeClass::of(size).is_none() && fits_in_place(&block, start, size),
    };
    if stays {
        return start.as_ptr();
    }
    if let (Block::Large(_), true) = (&block, size > OPTIONS.mmap_threshold())
        && let Some(moved) = resize_large(start, size)
    {
        return moved.as_ptr();
    }
    // SAFETY: the caller's promise.
    unsafe { move_or_keep(start, block.usable_size(), size, anew, release) }
}

/// Moves a C block of `usable` bytes to one for `size`, which `anew` allocates; `release` frees the one that it had.
///
/// # Safety
/// As for [`reallocate_c`]; the block has so many bytes, and the new one at least `size`.
#[inline(always)]
unsafe fn move_or_keep(
    start: NonNull<u8>,
    usable: usize,
    size: usize,
    anew: impl FnOnce() -> *mut u8,
    release: impl FnOnce(NonNull<u8>),
) -> *mut u8 {
    let new = anew();
    if new.is_null() && size <= usable {
        // There is no memory for a smaller block; the one there is will do.
        return start.as_ptr();
    }
    // SAFETY: both blocks are the caller's, the new one of at least `size` bytes.
    unsafe { move_block(start, new, usable.min(size), release) }
}

/// Changes the size of a Rust block; as for [`reallocate_c`], but a block stays where it is only if it is what a new
/// allocation of the layout would be, since `dealloc` trusts the layout.
///
/// # Safety
/// The block must have been allocated for the old layout; the caller gives it up unless the result is null.
#[inline]
pub(crate) unsafe fn reallocate_layout(start: NonNull<u8>, old_size: usize, align: usize, size: usize) -> *mut u8 {
    if OPTIONS.attended() {
        return reallocate_layout_attended(start, old_size, align, size);
    }
    // SAFETY: the caller's promise.
    unsafe { reallocate_layout_unattended(start, old_size, align, size) }
}

with_caller! {
    fn reallocate_layout_attended(start: NonNull<u8>, old_size: usize, align: usize, size: usize) -> *mut u8
        => reallocate_layout_from, ["r8", "r9"], ["x4", "x5"]
}

extern "C" fn reallocate_layout_from(
    start: NonNull<u8>,
    old_size: usize,
    align: usize,
    size: usize,
    frame: usize,
    returns_to: usize,
) -> *mut u8 {
    let caller = Caller { frame, returns_to };
    let anew = || {
        let block = attended::allocate(size, align, class_of_layout(size, align), caller);
        start_of(block.map(|start| Fresh { start, zeroed: false }))
    };
    // SAFETY: what moved is freed, which whoever called gives up.
    let release = |old| unsafe { attended::free(old, caller) };
    // SAFETY: whoever called `realloc` gives the block up.
    let plain = || unsafe { reallocate_layout_plainly(start, old_size, align, size, anew, release) };
    // SAFETY: as above.
    unsafe { attended::reallocate(start, size, align, caller, plain) }
}

#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
unsafe fn reallocate_layout_unattended(start: NonNull<u8>, old_size: usize, align: usize, size: usize) -> *mut u8 {
    let anew = || allocate_layout(size, align);
    // SAFETY: what moved is freed, which the caller gives up.
    let release = |old: NonNull<u8>| unsafe { free(old.as_ptr()) };
    // SAFETY: the caller's promise.
    unsafe { reallocate_layout_plainly(start, old_size, align, size, anew, release) }
}

/// As [`reallocate_c_plainly`], for a Rust block.
#[inline(always)]
unsafe fn reallocate_layout_plainly(
    start: NonNull<u8>,
    old_size: usize,
    align: usize,
    size: usize,
    anew: impl FnOnce() -> *mut u8,
    release: impl FnOnce(NonNull<u8>),
) -> *mut u8 {
    let (old_class, class) = (class_of_layout(old_size, align), class_of_layout(size, align));
    if old_class.is_some() && old_class == class {
        return start.as_ptr();
    }
    if old_class.is_none() && class.is_none() {
        let Some(block) = find("realloc", start) else { return ptr::null_mut() };
        if fits_in_place(&block, start, size) {
            return start.as_ptr();
        }
        if let (Block::Large(_), true) = (&block, align <= os::page_size() && size > OPTIONS.mmap_threshold())
            && let Some(moved) = resize_large(start, size)
        {
            return moved.as_ptr();
        }
    }
    let new = anew();
    // SAFETY: both blocks are the caller's and hold that many bytes.
    unsafe { move_block(start, new, old_size.min(size), release) }
}

/// Makes the block at `start` hold `size` bytes, and up to `most` if that is to be had, without moving it, as far as that
/// goes; gives the size that it really has then.
pub(crate) fn resize_in_place(start: NonNull<u8>, size: usize, most: usize) -> usize {
    if os::valgrind::is_memcheck() {
        return attended::memcheck::resize_in_place(start, size, most);
    }
    if let Ok(block @ Block::Medium(_)) = look_up(start)
        && SizeClass::of(most).is_none()
    {
        let _ = fits_in_place(&block, start, most) || fits_in_place(&block, start, size);
    }
    size_found("xallocx", start)
}

fn resize_large(start: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
    let block = LARGE.resize(start, size)?;
    ARENAS.yield_bytes(block.fresh);
    Some(block.start)
}

/// Makes a medium block hold `size` bytes where it lies, or finds that a large one does so closely enough.
fn fits_in_place(block: &Block, start: NonNull<u8>, size: usize) -> bool {
    match *block {
        Block::Small(_) => false,
        Block::Medium(_) => {
            let fits = size <= MAX_RUN_PAGES * PAGE && ARENAS.resize_medium(start, size.div_ceil(PAGE));
            PURGER.note();
            fits
        }
        Block::Large(len) => size <= len && size > len - os::page_size(),
    }
}

/// Copies `len` bytes to a new block and has the old one freed; if there is no new one, nothing happens.
///
/// # Safety
/// `from` is a live block that the caller gives up if `to` is not null; both have at least `len` bytes.
#[inline(always)]
pub(crate) unsafe fn move_block(
    from: NonNull<u8>,
    to: *mut u8,
    len: usize,
    release: impl FnOnce(NonNull<u8>),
) -> *mut u8 {
    if !to.is_null() {
        // SAFETY: two live blocks do not overlap, and both have `len` bytes.
        unsafe { from.as_ptr().copy_to_nonoverlapping(to, len) };
        release(from);
    }
    to
}
