//! `libterrace`: the allocator for preloading and linking.
//!
//! The C names are those of `src/c_face/names.rs`. What only the shared library has, and why the static one does without, is
//! said in `operators` and `libc_names`.

#![no_std]

#[cfg(all(feature = "shared", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod deep_binding;
#[cfg(feature = "shared")]
mod libc_names;
#[macro_use]
#[path = "../../src/c_face/names.rs"]
mod names;
#[cfg(feature = "shared")]
mod operators;
#[cfg(feature = "shared")]
mod release;

use terrace_core::c_face;

// The functions that every object brings along itself, such as `atexit`, come with the C library's linker script.
#[link(name = "c")]
unsafe extern "C" {}

// Named by unwinding tables that the standard library's own code brings along in some builds. Nothing unwinds out of this library;
// what unwinds through it (the end of a cancelled thread) is told to go on. Weak, since a Rust program has its own.
core::arch::global_asm!(
    ".pushsection .text.rust_eh_personality,\"ax\",@progbits",
    ".weak rust_eh_personality",
    ".hidden rust_eh_personality",
    ".type rust_eh_personality, %function",
    "rust_eh_personality:",
    #[cfg(target_arch = "x86_64")]
    "mov eax, 8",
    #[cfg(target_arch = "aarch64")]
    "mov w0, #8",
    "ret",
    ".size rust_eh_personality, . - rust_eh_personality",
    ".popsection",
);

// The kernel maps 64 KiB of a file around each place that is touched, aligned to that. The linker of Rust's own tool chains for this target puts the
// linkage table behind all code, where it is jumped through once, by the compiler's own code for the end of a library: with this before it, it
// has 64 KiB of which nothing else is there to be mapped. And glibc loads the whole library at a multiple of 64 KiB then, so that what a
// process runs at its start, which lies at the beginning of the code, is mapped in one piece (decision 21).
#[cfg(all(feature = "shared", target_arch = "x86_64", target_env = "gnu"))]
core::arch::global_asm!(".pushsection .terrace.end, \"axR\", @progbits", ".balign 65536", ".byte 0", ".popsection",);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    c_face::panicked(info)
}
