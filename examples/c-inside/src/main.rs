//! A Rust program with C code inside, both on Terrace. The C part is `c_part.c`, compiled by hand, since there is no build script:
//!
//! ```console
//! $ gcc -O2 -c examples/c-inside/c_part.c -o /tmp/c_part.o
//! $ cargo rustc -p c-inside --features override -- -Clink-arg=/tmp/c_part.o
//! ```
//!
//! The feature `override` has the program export `malloc` and its relatives, so that C code in it, and the C library itself,
//! allocate from the same heap as Rust does.

use std::ffi::{CStr, c_char, c_void};

#[global_allocator]
static GLOBAL: terrace::Terrace = terrace::Terrace;

terrace::options!("mmap_threshold=65536,arenas=2");

unsafe extern "C" {
    /// A block of so many bytes, each of them 7; from `malloc`, or from the C library's own `open_memstream` if that is wanted.
    fn c_part_gives(size: usize, by_the_c_library: bool) -> *mut u8;
    /// Frees a block, and what a C++ or C function allocated on its own.
    fn c_part_takes(block: *mut c_void) -> *const c_char;
}

fn main() {
    for by_the_c_library in [false, true] {
        let before = terrace::statistics();
        // SAFETY: the function takes any size.
        let block = unsafe { c_part_gives(300_000, by_the_c_library) };
        let during = terrace::statistics();
        assert!(during.live_bytes >= before.live_bytes + 300_000, "C code has another malloc");
        // The program's own options count.
        assert_eq!(during.large.0, before.large.0 + 1, "the block has no mapping of its own");
        // SAFETY: the block has that many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(block, 300_000) };
        assert!(bytes.iter().all(|&byte| byte == 7));
        // SAFETY: the block is C's to free.
        let said = unsafe { c_part_takes(block.cast()) };
        // SAFETY: the function gives a constant of its own.
        let said = unsafe { CStr::from_ptr(said) };
        assert_eq!(said.to_str(), Ok("taken"));
        assert_eq!(terrace::statistics().large.0, before.large.0);
    }
    // Both ways: what Rust has, C frees, and the other way round.
    let boxed: *mut [u8; 100_000] = Box::into_raw(Box::new([7; 100_000]));
    // SAFETY: both sides have the same heap.
    unsafe { libc::free(boxed.cast()) };
    // SAFETY: no preconditions.
    let block = unsafe { libc::malloc(64) }.cast::<[u8; 64]>();
    // SAFETY: the block has 64 bytes.
    unsafe { block.write([1; 64]) };
    // SAFETY: it is a block for this type, on the heap that `Box` uses.
    drop(unsafe { Box::from_raw(block) });
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                // SAFETY: the function takes any size.
                let block = unsafe { c_part_gives(1000, true) };
                // SAFETY: the block is C's to free.
                unsafe { c_part_takes(block.cast()) };
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    println!("one heap");
}
