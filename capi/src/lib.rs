//! `libterrace`: the allocator for preloading and linking.
//!
//! The C names are those of `src/c_face/names.rs`. What only the shared library has, and why the static one does without, is
//! said in `operators` and `libc_names`.

#![no_std]

#[cfg(feature = "shared")]
mod libc_names;
#[path = "../../src/c_face/names.rs"]
mod names;
#[cfg(feature = "shared")]
mod operators;

use terrace_core::c_face;

// The functions that every object brings along itself, such as `atexit`, come with the C library's linker script.
#[link(name = "c")]
unsafe extern "C" {}

/// Named by unwinding tables that unoptimised builds keep; nothing unwinds, so it is never called.
#[cfg(debug_assertions)]
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    c_face::panicked(info)
}
