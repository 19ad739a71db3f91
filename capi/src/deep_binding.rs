//! `dlopen` without deep binding, so that there stays one `malloc` in the process.
//!
//! An object that is opened with `RTLD_DEEPBIND` looks for each symbol among its own libraries first, and the C library is one of
//! them: it would get the C library's `malloc` and `free` in place of this library's, and every block that goes from it to the rest of
//! the program, or comes from there, would be freed by the wrong one. glibc has had no hooks in its own `malloc` since 2.34. PHP
//! opens each of its extensions that way. So the flag is taken away, and the call goes on to the C library.
//!
//! It goes on by a jump: the C library sees from the return address which object calls, and looks for names where that object says
//! (`DT_RUNPATH`).

use core::ffi::{c_char, c_int, c_void};

/// The C library's flag; in musl there is none.
const _: () = assert!(libc::RTLD_DEEPBIND == 8);

/// `dlopen`, but that `RTLD_DEEPBIND` has no effect.
///
/// # Safety
/// As for the C library's: `name` is NULL or a C string, and what the object runs when it is loaded is as safe as the caller
/// needs it to be.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlopen(name: *const c_char, mode: c_int) -> *mut c_void {
    core::arch::naked_asm!(
        "push rdi",
        "push rsi",
        "sub rsp, 8",
        "call {next}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "and esi, -9", // all but RTLD_DEEPBIND
        "jmp rax",
        next = sym next,
    )
}

/// `dlopen`, but that `RTLD_DEEPBIND` has no effect.
///
/// # Safety
/// As for the C library's: `name` is NULL or a C string, and what the object runs when it is loaded is as safe as the caller
/// needs it to be.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlopen(name: *const c_char, mode: c_int) -> *mut c_void {
    core::arch::naked_asm!(
        "stp x29, x30, [sp, #-32]!",
        "stp x0, x1, [sp, #16]",
        "bl {next}",
        "mov x16, x0",
        "ldp x0, x1, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        "and w1, w1, #0xfffffff7", // all but RTLD_DEEPBIND
        "br x16",
        next = sym next,
    )
}

/// The `dlopen` that comes after this library's.
extern "C" fn next() -> *mut c_void {
    // SAFETY: the name is a C string. The loader looks behind the library that this call is in, which is this one.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"dlopen".as_ptr()) };
    if next.is_null() { opens_nothing as *mut c_void } else { next }
}

/// Stands in where there is no other: before glibc 2.34, in a process without its `libdl`.
extern "C" fn opens_nothing(_name: *const c_char, _mode: c_int) -> *mut c_void {
    core::ptr::null_mut()
}
