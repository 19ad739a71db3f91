//! Address space: mapping, returning and growing it.

#[cfg(loom)]
use super::kernel;
#[cfg(simulated_page)]
use super::simulated_pages as kernel;
use super::{SYSTEM_CALLS, errno, keeping_errno};
use crate::sync::{AtomicUsize, Ordering};
use core::ptr::{self, NonNull};
#[cfg(not(any(loom, simulated_page)))]
use libc as kernel;

/// The system's page size in bytes, read once; 0 until then. Any thread may write it, all write the same value.
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn page_size() -> usize {
    match PAGE_SIZE.load(Ordering::Relaxed) {
        0 => {
            // `sysconf` would tell as well, from 128 KiB of the C library that small programs do not touch otherwise.
            // SAFETY: no preconditions.
            let size = unsafe { kernel::getauxval(libc::AT_PAGESZ) } as usize;
            PAGE_SIZE.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    }
}

/// A length in bytes, rounded up to whole pages; at most `isize::MAX` before.
pub(crate) fn whole_pages(len: usize) -> usize {
    // A mask, since the compiler does not know that the page's size is a power of two, and would divide.
    let rest = page_size() - 1;
    (len + rest) & !rest
}

fn mmap(hint: *mut u8, len: usize, protection: i32, flags: i32) -> Option<NonNull<u8>> {
    SYSTEM_CALLS.mmap.add_shared(1);
    let address = keeping_errno(|| {
        // SAFETY: an anonymous private mapping without MAP_FIXED replaces nothing that exists.
        unsafe { kernel::mmap(hint.cast(), len, protection, flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) }
    });
    if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()) }
}

/// Maps `len` bytes (a multiple of the page size) of zeroed, writable memory, aligned to a page.
pub(crate) fn map(len: usize) -> Option<NonNull<u8>> {
    mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, 0)
}

/// Maps `len` bytes aligned to `align`, a power of two of at least a page. `hint` is where the caller would like it: a
/// mapping that lies right beside the last one costs neither a trim nor another entry in the kernel's list.
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn map_aligned(len: usize, align: usize, hint: *mut u8) -> Option<NonNull<u8>> {
    let writable = libc::PROT_READ | libc::PROT_WRITE;
    if !hint.is_null() {
        let at = mmap(hint, len, writable, 0)?;
        if at.addr().get().is_multiple_of(align) {
            return Some(at);
        }
        unmap(at, len);
    }
    let padded = len.checked_add(align - page_size())?;
    let base = mmap(ptr::null_mut(), padded, writable, 0)?;
    let before = base.addr().get().next_multiple_of(align) - base.addr().get();
    // SAFETY: `before` is below `align`, and `before + len` at most `padded`: both lie inside the new mapping.
    let start = unsafe { base.add(before) };
    if before > 0 {
        unmap(base, before);
    }
    let after = padded - before - len;
    if after > 0 {
        // SAFETY: `start + len` lies inside the mapping, since `after` is more than 0.
        unmap(unsafe { start.add(len) }, after);
    }
    Some(start)
}

/// Returns a mapping, or whole pages of one. `false` when the kernel refuses (cutting a mapping in two can exceed the
/// limit of mappings): the memory is then still mapped and still the caller's.
#[must_use = "a refused unmapping leaves the memory with the caller"]
fn munmap(start: NonNull<u8>, len: usize) -> bool {
    SYSTEM_CALLS.munmap.add_shared(1);
    keeping_errno(|| {
        // SAFETY: the caller of `unmap` owns these pages and gives them up.
        unsafe { kernel::munmap(start.as_ptr().cast(), len) == 0 }
    })
}

/// Returns whole pages to the kernel. If it refuses to cut a mapping, the contents are discarded instead, so that at
/// least the memory comes back; `false` then.
pub(crate) fn unmap(start: NonNull<u8>, len: usize) -> bool {
    munmap(start, len) || {
        discard(start, len);
        false
    }
}

/// Resizes a mapping, moving it if `may_move`; the contents go along.
pub(crate) fn remap(start: NonNull<u8>, old_len: usize, new_len: usize, may_move: bool) -> Option<NonNull<u8>> {
    SYSTEM_CALLS.mremap.add_shared(1);
    let flags = if may_move { libc::MREMAP_MAYMOVE } else { 0 };
    let address = keeping_errno(|| {
        // SAFETY: the caller owns the mapping and hands over the pointer to it; on failure nothing has changed.
        unsafe { kernel::mremap(start.as_ptr().cast(), old_len, new_len, flags, ptr::null_mut::<u8>()) }
    });
    if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()) }
}

/// What became of pages that were to be moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageMove {
    Done,
    /// The kernel had no memory for the move, as when the process has as many mappings as it may have. The pages are where they
    /// were; the place may have been cleared of its mapping.
    NoMemory,
    /// The kernel does not move such pages: some of them may have gone, and the place may have been cleared.
    Refused,
}

/// Moves the pages of a mapping to `place`, which is `len` bytes of another mapping of the caller's that give way.
pub(crate) fn move_pages(start: NonNull<u8>, len: usize, place: NonNull<u8>) -> PageMove {
    SYSTEM_CALLS.mremap.add_shared(1);
    keeping_errno(|| {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the caller owns both ranges.
        match unsafe { kernel::mremap(start.as_ptr().cast(), len, len, flags, place.as_ptr()) } {
            libc::MAP_FAILED if errno() == libc::ENOMEM => PageMove::NoMemory,
            libc::MAP_FAILED => PageMove::Refused,
            _ => PageMove::Done,
        }
    })
}

/// What was found at a place where memory was to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Occupancy {
    /// Nothing: memory is mapped there now.
    Mapped,
    /// Another mapping.
    Taken,
    /// Nothing, but there is no memory.
    NoMemory,
}

/// Maps zeroed memory at a place that may have been cleared of its mapping, if nothing is mapped there.
pub(crate) fn map_again(place: NonNull<u8>, len: usize) -> Occupancy {
    let (writable, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    SYSTEM_CALLS.mmap.add_shared(1);
    let (address, taken) = keeping_errno(|| {
        let flags = kind | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: with that flag nothing that exists is replaced.
        let address = unsafe { kernel::mmap(place.as_ptr().cast(), len, writable, flags, -1, 0) };
        (address, address == libc::MAP_FAILED && errno() == libc::EEXIST)
    });
    match NonNull::new(address.cast()) {
        _ if taken => Occupancy::Taken,
        Some(_) if address == libc::MAP_FAILED => Occupancy::NoMemory,
        Some(at) if at == place => Occupancy::Mapped,
        // A kernel older than the flag takes the place for a hint.
        Some(elsewhere) => {
            unmap(elsewhere, len);
            Occupancy::Taken
        }
        None => Occupancy::NoMemory,
    }
}

/// Gives the memory behind whole pages back and keeps the addresses; they read as zero afterwards. `false` if the kernel
/// refused (locked memory), in which case the contents are unchanged.
pub(crate) fn discard(start: NonNull<u8>, len: usize) -> bool {
    SYSTEM_CALLS.madvise.add_shared(1);
    keeping_errno(|| {
        // SAFETY: the caller owns these pages and keeps nothing in them.
        unsafe { kernel::madvise(start.as_ptr().cast(), len, libc::MADV_DONTNEED) == 0 }
    })
}

/// Has the kernel put whole huge pages' worth of memory into such pages, by copying; the contents stay. `false` if it cannot.
pub(crate) fn collapse(start: NonNull<u8>, len: usize) -> bool {
    /// Since Linux 6.1; musl does not name it.
    const MADV_COLLAPSE: libc::c_int = 25;
    SYSTEM_CALLS.madvise.add_shared(1);
    keeping_errno(|| {
        // SAFETY: no content changes, whoever's it is.
        unsafe { kernel::madvise(start.as_ptr().cast(), len, MADV_COLLAPSE) == 0 }
    })
}

/// Says for each page of the system's in a range whether it is in memory: bit 0 of its byte. `false`, and nothing said, where
/// the kernel does not tell.
pub(crate) fn residency(start: NonNull<u8>, len: usize, pages: &mut [u8]) -> bool {
    assert!(pages.len() >= len.div_ceil(page_size()));
    keeping_errno(|| {
        // SAFETY: there is a byte for each page; the call touches none of them.
        unsafe { kernel::mincore(start.as_ptr().cast(), len, pages.as_mut_ptr()) == 0 }
    })
}

/// Copies bytes of this process's memory, wherever they are; `false`, and the buffer of no account, where they cannot all be
/// read. The kernel does the copying: it knows what is mapped, also while other threads unmap it.
pub(crate) fn copy_own_memory(address: usize, into: &mut [u8]) -> bool {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: ptr::without_provenance_mut(address), iov_len: into.len() };
    let copied = keeping_errno(|| {
        let process = super::process_id();
        // SAFETY: the buffer is valid for its length, and the kernel checks the other range.
        unsafe { libc::process_vm_readv(process, &local, 1, &remote, 1, 0) }
    });
    usize::try_from(copied) == Ok(into.len())
}

/// Whether a word of this process's memory has a value: `false` where nothing is mapped. `None` where the kernel does not tell.
pub(crate) fn holds_word(place: NonNull<usize>, value: usize) -> Option<bool> {
    let mut found = 0_usize;
    let local = libc::iovec { iov_base: (&raw mut found).cast(), iov_len: size_of::<usize>() };
    let remote = libc::iovec { iov_base: place.as_ptr().cast(), iov_len: size_of::<usize>() };
    let (copied, unmapped) = keeping_errno(|| {
        let process = super::process_id();
        // SAFETY: the word is valid for a write, and the kernel checks the other range.
        let copied = unsafe { libc::process_vm_readv(process, &local, 1, &remote, 1, 0) };
        (copied, errno() == libc::EFAULT)
    });
    match usize::try_from(copied) {
        Ok(len) => Some(len == size_of::<usize>() && found == value),
        Err(_) => unmapped.then_some(false),
    }
}

/// What growing the break gave: `len` bytes from `start`, which belong to the caller alone.
pub(crate) struct Break {
    pub(crate) start: NonNull<u8>,
    pub(crate) len: usize,
}

/// Moves the break up by `len` bytes. The C library's own function is used, never the bare system call: it keeps a copy of
/// the break, and a foreign `sbrk` that starts from a stale one would take our memory away.
pub(crate) fn grow_break(len: usize) -> Option<Break> {
    SYSTEM_CALLS.brk.add_shared(1);
    let increment = libc::intptr_t::try_from(len).ok()?;
    let old = keeping_errno(|| {
        // SAFETY: growing the break touches no memory that exists.
        unsafe { kernel::sbrk(increment) }
    });
    // Where the kernel knows no break, or a filter denies it, some C libraries take its error for an address.
    let refused = old.addr() > isize::MAX as usize;
    if refused { None } else { Some(Break { start: NonNull::new(old.cast())?, len }) }
}

/// Moves the break down by `len` bytes if it still stands at `end`; `true` when it was moved.
pub(crate) fn shrink_break(end: NonNull<u8>, len: usize) -> bool {
    let Some(now) = grow_break(0) else { return false };
    if now.start != end {
        return false;
    }
    SYSTEM_CALLS.brk.add_shared(1);
    keeping_errno(|| {
        // SAFETY: the memory below `end` is the caller's, who gives it up. Between the two calls a foreign `sbrk` could
        // move the break up; the C library's `sbrk` is not safe against that either.
        unsafe { kernel::sbrk(-(len as libc::intptr_t)).addr() != usize::MAX }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aligned_mapping_is_aligned_and_zeroed() {
        for align in [1 << 16, 1 << 22, 1 << 24] {
            let start = map_aligned(1 << 16, align, ptr::null_mut()).unwrap();
            assert!(start.addr().get().is_multiple_of(align));
            // SAFETY: the mapping has 64 KiB.
            let bytes = unsafe { core::slice::from_raw_parts(start.as_ptr(), 1 << 16) };
            assert!(bytes.iter().all(|&b| b == 0));
            assert!(unmap(start, 1 << 16));
        }
    }

    #[test]
    fn discarded_pages_read_as_zero() {
        let start = map(page_size()).unwrap();
        // SAFETY: the mapping is a page long and ours.
        unsafe { start.write_bytes(7, page_size()) };
        assert!(discard(start, page_size()));
        // SAFETY: as above.
        assert_eq!(unsafe { start.read() }, 0);
        assert!(unmap(start, page_size()));
    }

    #[test]
    fn only_a_place_without_a_mapping_is_mapped_again() {
        let len = 4 * page_size();
        let start = map(len).unwrap();
        // SAFETY: the mapping is longer.
        let middle = unsafe { start.add(page_size()) };
        assert_eq!(map_again(middle, page_size()), Occupancy::Taken);
        assert!(unmap(middle, page_size()));
        assert_eq!(map_again(middle, page_size()), Occupancy::Mapped);
        assert_eq!(map_again(start, len), Occupancy::Taken);
        assert!(unmap(start, len));
        // The end of the widest address space of any of the targets.
        let beyond = NonNull::new(ptr::without_provenance_mut((1 << 56) - page_size())).unwrap();
        let found = map_again(beyond, len);
        // An emulated kernel may say that the place is taken.
        assert!(
            found == Occupancy::NoMemory || found == Occupancy::Taken && cfg!(target_arch = "aarch64"),
            "{found:?}"
        );
    }

    #[test]
    fn a_refused_mapping_is_none_and_leaves_errno_alone() {
        super::super::set_errno(77);
        assert!(map((usize::MAX / 2) & !(page_size() - 1)).is_none());
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(77));
    }
}
