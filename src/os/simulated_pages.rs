//! A kernel with larger pages than this machine's, for tests: built with `--cfg simulated_page="16384"` (or 65536).
//!
//! Stands in for the functions of the C library that `memory.rs` calls. A call that such a kernel would refuse or round ends
//! the process with a panic; a mapping starts at a multiple of the page, as it would there. What the kernel itself counts of
//! a process, such as its resident memory, is not simulated.

use core::ptr;
pub(super) use libc::sbrk;
use libc::{c_int, c_ulong, c_void, off_t, size_t};

/// The simulated size, in bytes.
#[cfg(simulated_page = "16384")]
const PAGE: usize = 16 << 10;
#[cfg(simulated_page = "65536")]
const PAGE: usize = 64 << 10;

pub(super) unsafe fn getauxval(name: c_ulong) -> c_ulong {
    assert_eq!(name, libc::AT_PAGESZ, "only the page's size is simulated");
    PAGE as c_ulong
}

#[track_caller]
fn check(start: *mut c_void, len: size_t) {
    assert!(start.addr().is_multiple_of(PAGE), "{start:p} is no multiple of the simulated page");
    // The kernel would round it up, and so touch what the caller did not name.
    assert!(len.is_multiple_of(PAGE), "{len} bytes from {start:p} are no whole number of simulated pages");
}

pub(super) unsafe fn mmap(
    hint: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: off_t,
) -> *mut c_void {
    check(hint, len);
    // SAFETY: as for the caller.
    let at = unsafe { libc::mmap(hint, len, protection, flags, file, offset) };
    if at == libc::MAP_FAILED || at.addr().is_multiple_of(PAGE) {
        return at;
    }
    // SAFETY: the mapping was just made, and nobody knows of it.
    unsafe { libc::munmap(at, len) };
    let Some(padded) = len.checked_add(PAGE) else { return libc::MAP_FAILED };
    // SAFETY: as for the caller, who let the kernel choose the place.
    let base = unsafe { libc::mmap(ptr::null_mut(), padded, protection, flags, file, offset) };
    if base == libc::MAP_FAILED {
        return base;
    }
    let before = base.addr().next_multiple_of(PAGE) - base.addr();
    let start = base.wrapping_byte_add(before);
    if before > 0 {
        // SAFETY: the first bytes of the new mapping, before the part that is given out.
        unsafe { libc::munmap(base, before) };
    }
    if before < PAGE {
        // SAFETY: its last bytes, behind that part.
        unsafe { libc::munmap(start.wrapping_byte_add(len), PAGE - before) };
    }
    start
}

pub(super) unsafe fn munmap(start: *mut c_void, len: size_t) -> c_int {
    check(start, len);
    // SAFETY: as for the caller.
    unsafe { libc::munmap(start, len) }
}

pub(super) unsafe fn madvise(start: *mut c_void, len: size_t, advice: c_int) -> c_int {
    check(start, len);
    // SAFETY: as for the caller.
    unsafe { libc::madvise(start, len, advice) }
}

/// A page is in memory when any part of it is.
pub(super) unsafe fn mincore(start: *mut c_void, len: size_t, pages: *mut u8) -> c_int {
    // SAFETY: asks only for a number.
    let own = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    check(start, len);
    for page in 0..len / PAGE {
        let mut parts = [0; PAGE / 4096];
        // SAFETY: the part of the range that the caller asks about; there is a byte for each of its pages.
        let failed = unsafe { libc::mincore(start.wrapping_byte_add(page * PAGE), PAGE, parts.as_mut_ptr()) };
        if failed != 0 {
            return failed;
        }
        let resident = parts[..PAGE / own].iter().any(|part| part & 1 != 0);
        // SAFETY: the caller gives a byte for each page of the range.
        unsafe { pages.add(page).write(resident.into()) };
    }
    0
}

/// A mapping that has to move goes to a place that is a multiple of the simulated page.
pub(super) unsafe fn mremap(start: *mut c_void, old: size_t, new: size_t, flags: c_int, place: *mut u8) -> *mut c_void {
    check(start, old);
    check(start, new);
    if flags & libc::MREMAP_FIXED != 0 {
        check(place.cast(), new);
        // SAFETY: as for the caller.
        return unsafe { libc::mremap(start, old, new, flags, place) };
    }
    // SAFETY: as for the caller; where it stands, the mapping keeps its alignment.
    let at = unsafe { libc::mremap(start, old, new, 0) };
    if at != libc::MAP_FAILED || flags & libc::MREMAP_MAYMOVE == 0 {
        return at;
    }
    let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping at a place of the kernel's choice replaces nothing.
    let place = unsafe { mmap(ptr::null_mut(), new, protection, kind, -1, 0) };
    if place == libc::MAP_FAILED {
        return place;
    }
    // SAFETY: the caller gives up the old range; the new one was just made.
    let at = unsafe { libc::mremap(start, old, new, flags | libc::MREMAP_FIXED, place) };
    if at == libc::MAP_FAILED {
        // SAFETY: as above; nothing has moved there.
        unsafe { libc::munmap(place, new) };
    }
    at
}
