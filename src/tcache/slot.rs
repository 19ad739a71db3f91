//! The slot: where a thread finds its cache.
//!
//! One pointer of static thread-local storage. It is never null: a thread that has no cache yet finds [`NEWBORN`], whose
//! magazines are empty, and one whose cache is gone finds [`DEAD`]. So the fast paths have no branch for either; they miss
//! and take the slow path, which looks.
//!
//! `thread_local!` in a shared object costs a call of `__tls_get_addr` on stable Rust (and that function may itself call
//! `malloc`), so the slot is defined in assembly and reached by the initial-exec sequence of two instructions, which a
//! linker relaxes further in executables. Its name carries the version, so that two versions in one process do not meet.
//! Objects that are loaded late, when the C library's reserve of static storage may be used up, are built with the feature
//! `late-load` and go through a TLS descriptor instead. On targets without a sequence of their own the slot is a value of a
//! `pthread_key`; there a thread that allocates after its last destructor gets a cache that is not taken up again.

use super::ThreadCache;

/// What a thread has before its first slow path.
pub(crate) static NEWBORN: ThreadCache = ThreadCache::stand_in();
/// What a thread has after its cache was given up: its last frees and allocations go through shared, locked structures.
pub(crate) static DEAD: ThreadCache = ThreadCache::stand_in();

pub(crate) use place::{get, set};

/// In the models the kernel's stand-in keeps the slots.
#[cfg(loom)]
mod place {
    use super::{NEWBORN, ThreadCache};
    use crate::os::kernel;

    pub(crate) fn get() -> &'static ThreadCache {
        // SAFETY: the slot holds a static or a cache that lives as long as the model.
        unsafe { kernel::slot().cast::<ThreadCache>().as_ref() }.unwrap_or(&NEWBORN)
    }

    pub(crate) fn set(cache: &'static ThreadCache) {
        kernel::set_slot(core::ptr::from_ref(cache).cast());
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(any(loom, miri))))]
mod place {
    use super::{NEWBORN, ThreadCache};
    use core::arch::{asm, global_asm};

    global_asm!(
        ".pushsection .tdata.terrace_slot_0_1,\"awT\",@progbits",
        ".globl terrace_slot_0_1",
        ".hidden terrace_slot_0_1",
        ".type terrace_slot_0_1, @object",
        ".size terrace_slot_0_1, 8",
        ".p2align 3",
        "terrace_slot_0_1:",
        ".quad {newborn}",
        ".popsection",
        newborn = sym NEWBORN,
    );

    /// Where the slot lies from the thread pointer, by a TLS descriptor: its function finds the slot, and gives it a place when
    /// the thread has none yet. It keeps all registers but one, save vector registers in some versions of glibc.
    #[cfg(feature = "late-load")]
    #[inline]
    fn offset() -> usize {
        let offset;
        // SAFETY: calls the function that the loader has put in place for this slot.
        unsafe {
            asm!(
                "leaq terrace_slot_0_1@tlsdesc(%rip), %rax",
                "call *terrace_slot_0_1@tlscall(%rax)",
                out("rax") offset,
                clobber_abi("C"),
                options(att_syntax),
            );
        }
        offset
    }

    /// Where the slot lies from the thread pointer: the same for all threads, so the compiler may keep it at hand.
    #[cfg(not(feature = "late-load"))]
    #[inline(always)]
    fn offset() -> usize {
        let offset;
        // SAFETY: reads a constant that the linker or loader has put in place.
        unsafe {
            asm!(
                "mov {0}, qword ptr [rip + terrace_slot_0_1@GOTTPOFF]",
                out(reg) offset,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        offset
    }

    /// The calling thread's cache.
    #[inline(always)]
    pub(crate) fn get() -> &'static ThreadCache {
        let cache: *const ThreadCache;
        // SAFETY: reads the slot of the calling thread and nothing else.
        unsafe {
            asm!(
                "mov {0}, qword ptr fs:[{1}]",
                out(reg) cache,
                in(reg) offset(),
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        // SAFETY: the slot holds a static or a cache that lives for ever.
        unsafe { &*cache }
    }

    /// Makes `cache` the calling thread's.
    pub(crate) fn set(cache: &'static ThreadCache) {
        // SAFETY: writes the slot of the calling thread and nothing else.
        unsafe {
            asm!(
                "mov qword ptr fs:[{0}], {1}",
                in(reg) offset(),
                in(reg) core::ptr::from_ref(cache),
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(all(target_arch = "aarch64", target_os = "linux", not(any(loom, miri))))]
mod place {
    use super::{NEWBORN, ThreadCache};
    use core::arch::{asm, global_asm};

    global_asm!(
        ".pushsection .tdata.terrace_slot_0_1,\"awT\",@progbits",
        ".globl terrace_slot_0_1",
        ".hidden terrace_slot_0_1",
        ".type terrace_slot_0_1, @object",
        ".size terrace_slot_0_1, 8",
        ".p2align 3",
        "terrace_slot_0_1:",
        ".xword {newborn}",
        ".popsection",
        newborn = sym NEWBORN,
    );

    /// Where the slot lies from the thread pointer, by a TLS descriptor, as on x86-64; the call goes through `x1`.
    #[cfg(feature = "late-load")]
    #[inline]
    fn offset() -> usize {
        let offset;
        // SAFETY: calls the function that the loader has put in place for this slot.
        unsafe {
            asm!(
                "adrp x0, :tlsdesc:terrace_slot_0_1",
                "ldr x1, [x0, :tlsdesc_lo12:terrace_slot_0_1]",
                "add x0, x0, :tlsdesc_lo12:terrace_slot_0_1",
                ".tlsdesccall terrace_slot_0_1",
                "blr x1",
                out("x0") offset,
                clobber_abi("C"),
            );
        }
        offset
    }

    /// Where the slot lies from the thread pointer: the same for all threads, so the compiler may keep it at hand.
    #[cfg(not(feature = "late-load"))]
    #[inline(always)]
    fn offset() -> usize {
        let offset;
        // SAFETY: reads a constant that the linker or loader has put in place.
        unsafe {
            asm!(
                "adrp {0}, :gottprel:terrace_slot_0_1",
                "ldr {0}, [{0}, :gottprel_lo12:terrace_slot_0_1]",
                out(reg) offset,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        offset
    }

    /// The calling thread's cache.
    #[inline(always)]
    pub(crate) fn get() -> &'static ThreadCache {
        let cache: *const ThreadCache;
        // SAFETY: reads the slot of the calling thread and nothing else.
        unsafe {
            asm!(
                "mrs {0}, tpidr_el0",
                "ldr {0}, [{0}, {1}]",
                out(reg) cache,
                in(reg) offset(),
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        // SAFETY: the slot holds a static or a cache that lives for ever.
        unsafe { &*cache }
    }

    /// Makes `cache` the calling thread's.
    pub(crate) fn set(cache: &'static ThreadCache) {
        // SAFETY: writes the slot of the calling thread and nothing else.
        unsafe {
            asm!(
                "mrs {0}, tpidr_el0",
                "str {2}, [{0}, {1}]",
                out(reg) _,
                in(reg) offset(),
                in(reg) core::ptr::from_ref(cache),
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(any(loom, all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri)))))]
mod place {
    use super::{NEWBORN, ThreadCache};
    use crate::os;
    use crate::sync::{AtomicU32, Ordering};

    /// The key whose value is the slot, plus one; 0 until it was made. Written once, by the first thread that sets a slot;
    /// `Relaxed`, since a thread that does not see it finds no value and looks NEWBORN, which it then is.
    static KEY: AtomicU32 = AtomicU32::new(0);

    /// The calling thread's cache.
    #[inline]
    pub(crate) fn get() -> &'static ThreadCache {
        let key = KEY.load(Ordering::Relaxed);
        if key == 0 {
            return &NEWBORN;
        }
        let value = os::thread_key_get(key - 1).cast::<ThreadCache>();
        // SAFETY: the key's values are null or caches that live for ever.
        unsafe { value.as_ref() }.unwrap_or(&NEWBORN)
    }

    /// Makes `cache` the calling thread's.
    pub(crate) fn set(cache: &'static ThreadCache) {
        unsafe extern "C" fn keep(_: *mut core::ffi::c_void) {}
        let mut key = KEY.load(Ordering::Relaxed);
        if key == 0 {
            let Some(new) = os::thread_key(keep) else { return };
            key = match KEY.compare_exchange(0, new + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => new + 1,
                Err(other) => other,
            };
        }
        // Where there is no memory for the value, the thread stays NEWBORN and looks for a cache again next time.
        let _ = os::thread_key_set(key - 1, core::ptr::from_ref(cache).cast_mut().cast());
    }
}
