//! Valgrind: what memcheck is told about blocks, by client requests.
//!
//! A request is a sequence of instructions that changes nothing on a processor, which valgrind knows and takes for a call
//! (`valgrind.h`, "How client requests work"). Numbers and meanings are those of `valgrind.h` and `memcheck.h`, which keep them
//! for all versions. Other tools of valgrind's know the requests as well, but only memcheck needs them: the programs that
//! count instructions under callgrind are to run as they do elsewhere.
//!
//! While the allocator reads and writes free memory, which memcheck has been told not to be anybody's, its errors are not
//! reported: [`Unreported`]. What such writes leave is still nobody's.

use crate::sync::{AtomicU32, Ordering};
use core::marker::PhantomData;
use core::ptr::NonNull;

/// 1 when the process runs under memcheck. Written by whoever starts the allocator, always the same value; read by any
/// thread: `Relaxed`, since it stands for itself. No model runs under valgrind.
static MEMCHECK: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy)]
#[repr(usize)]
enum Request {
    MalloclikeBlock = 0x1301,
    FreelikeBlock = 0x1302,
    ResizeInplaceBlock = 0x130b,
    ChangeErrDisablement = 0x1801,
    MakeMemNoaccess = MEMCHECK_BASE,
    MakeMemDefined = MEMCHECK_BASE + 2,
    GetVbits = MEMCHECK_BASE + 8,
}

/// The requests of the tool "MC".
const MEMCHECK_BASE: usize = (b'M' as usize) << 24 | (b'C' as usize) << 16;

/// Makes a request; 0 where nobody understands it.
#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
#[inline]
fn ask(request: Request, arguments: [usize; 4]) -> usize {
    let block = [request as usize, arguments[0], arguments[1], arguments[2], arguments[3], 0];
    let mut answer = 0_usize;
    // SAFETY: the rotations add up to two whole turns, and an exchange of a register with itself does nothing. Valgrind reads
    // the block and, for some requests, memory that it names.
    unsafe {
        core::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") block.as_ptr(),
            inout("rdx") answer,
            out("rdi") _,
            options(nostack),
        );
    }
    answer
}

/// Makes a request; 0 where nobody understands it.
#[cfg(all(target_arch = "aarch64", not(any(loom, miri))))]
#[inline]
fn ask(request: Request, arguments: [usize; 4]) -> usize {
    let block = [request as usize, arguments[0], arguments[1], arguments[2], arguments[3], 0];
    let mut answer = 0_usize;
    // SAFETY: as on x86-64; the last instruction copies a register to itself.
    unsafe {
        core::arch::asm!(
            "ror x12, x12, #3",
            "ror x12, x12, #13",
            "ror x12, x12, #51",
            "ror x12, x12, #61",
            "orr x10, x10, x10",
            inout("x3") answer,
            in("x4") block.as_ptr(),
            out("x12") _,
            options(nostack),
        );
    }
    answer
}

/// Valgrind is not known to run on other processors, nor in models.
#[cfg(any(loom, miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[inline]
fn ask(_request: Request, _arguments: [usize; 4]) -> usize {
    0
}

/// Looks whether the process runs under memcheck; says so.
pub(crate) fn detect() -> bool {
    // Only memcheck keeps bits.
    let runs = bits_of(core::ptr::from_ref(&MEMCHECK).addr()) == 1;
    MEMCHECK.store(u32::from(runs), Ordering::Relaxed);
    runs
}

/// Whether the process was found to run under memcheck.
#[inline]
pub(crate) fn is_memcheck() -> bool {
    !cfg!(loom) && MEMCHECK.load(Ordering::Relaxed) != 0
}

/// Announces a block that the program gets: `size` bytes at `start`, whose contents count as undefined. What it has up to `usable`
/// bytes is nobody's.
pub(crate) fn block_given(start: NonNull<u8>, size: usize, usable: usize) {
    nobodys(start, usable);
    ask(Request::MalloclikeBlock, [start.addr().get(), size, 0, 0]);
}

/// Announces that the program frees what it says is a block. Memcheck reports it if it is none.
pub(crate) fn block_freed(address: *const u8) {
    ask(Request::FreelikeBlock, [address.addr(), 0, 0, 0]);
}

/// Announces that a block of `old` bytes has `new` bytes from now on, where it lies, of `usable` bytes.
pub(crate) fn block_resized(start: NonNull<u8>, old: usize, new: usize, usable: usize) {
    let address = start.addr().get();
    ask(Request::ResizeInplaceBlock, [address, old, new, 0]);
    ask(Request::MakeMemNoaccess, [address + new, usable - new, 0, 0]);
}

/// Announces memory that the program must not touch until it gets a block there.
pub(crate) fn nobodys(start: NonNull<u8>, len: usize) {
    ask(Request::MakeMemNoaccess, [start.addr().get(), len, 0, 0]);
}

/// Announces memory whose contents are known: the break's counts as undefined, although the kernel zeroes it.
pub(crate) fn defined(start: NonNull<u8>, len: usize) {
    ask(Request::MakeMemDefined, [start.addr().get(), len, 0, 0]);
}

/// Whether the byte at an address is somebody's. Reported as an error if not: to be asked while nothing is.
pub(crate) fn is_somebodys(address: NonNull<u8>) -> bool {
    bits_of(address.addr().get()) == 1
}

/// What memcheck answers when it is asked for its bits of a byte: 1 if it has any.
fn bits_of(address: usize) -> usize {
    let mut bits = 0_u8;
    ask(Request::GetVbits, [address, core::ptr::from_mut(&mut bits).expose_provenance(), 1, 0])
}

/// While a value of this lives, memcheck reports no error of the calling thread's. They nest.
#[must_use]
pub(crate) struct Unreported {
    begun: bool,
    /// Of one thread.
    _thread: PhantomData<*mut ()>,
}

impl Unreported {
    #[inline]
    pub(crate) fn begin() -> Self {
        let begun = is_memcheck();
        if begun {
            ask(Request::ChangeErrDisablement, [1, 0, 0, 0]);
        }
        Self { begun, _thread: PhantomData }
    }
}

impl Drop for Unreported {
    #[inline]
    fn drop(&mut self) {
        if self.begun {
            ask(Request::ChangeErrDisablement, [usize::MAX, 0, 0, 0]);
        }
    }
}
