//! The C names of the allocator, each a function of `c_face`, which says what it does. Compiled into the library (`capi/`), and
//! into the crate `terrace` by its feature `override`.
//!
//! Nothing here unwinds, allocates through the library itself, or uses stdio but for the stream that `malloc_info` is given.

use crate::c_face::{self, Event};
use core::arch::global_asm;
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// Called by the dynamic loader, or the start-up code of a static program, once this library is in place.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn start() {
    c_face::start(terrace_on_error);
}

/// Called when this library is unloaded, and at the end of the process.
#[used]
#[unsafe(link_section = ".fini_array")]
static STOP: extern "C" fn() = stop;

#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn stop() {
    c_face::stop();
}

// `malloc` and `free` each begin a cache line: a pair of calls takes some 5 % less time so (decision 18). Stable Rust aligns no
// function; a function that is alone in its section lies where that begins, and a section is as aligned as anything in it.
global_asm!(
    // Named first, it lies at the beginning of the library's code, and so beside these two (decision 21).
    ".pushsection .text.terrace.common, \"ax\", @progbits",
    ".popsection",
    ".pushsection .text.terrace.malloc, \"ax\", @progbits",
    ".p2align 6",
    ".popsection",
    ".pushsection .text.terrace.free, \"ax\", @progbits",
    ".p2align 6",
    ".popsection",
);

/// malloc(3).
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.terrace.malloc")]
pub extern "C" fn malloc(size: usize) -> *mut c_void {
    c_face::malloc(size).cast()
}

/// free(3).
///
/// # Safety
/// `block` is NULL or a block that the caller gives up.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.terrace.free")]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { c_face::free(block.cast()) }
}

/// The old name of `free`.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { c_face::free(block.cast()) }
}

/// calloc(3).
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.terrace.common")]
pub extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    c_face::calloc(count, size).cast()
}

/// realloc(3).
///
/// # Safety
/// `block` is NULL or a block that the caller gives up unless the call fails.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.terrace.common")]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { c_face::realloc(block.cast(), size).cast() }
}

/// The address of the function that goes by a C name in this process: this library's, unless the program has one of its own.
///
/// In assembler, since the compiler may make one function of this one and another with the same code, and know it by the other's
/// name.
macro_rules! by_name {
    ($name:literal, $function:path) => {{
        let _exists = $function;
        let address: *const c_void;
        // SAFETY: reads the entry that the linker or the loader made for that name.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        unsafe {
            core::arch::asm!(
                concat!("mov {}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        // SAFETY: as above.
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        unsafe {
            core::arch::asm!(
                concat!("adrp {0}, :got:", $name),
                concat!("ldr {0}, [{0}, :got_lo12:", $name, "]"),
                out(reg) address,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
        {
            address = $function as *const c_void;
        }
        address
    }};
}

/// reallocarray(3).
///
/// Goes by the name of `realloc`. Programs with a malloc of their own may have no `reallocarray`, and want a block of theirs; and
/// valgrind puts a function of its own in the place of `realloc`, but not every version knows this one.
///
/// # Safety
/// As for [`realloc`].
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.terrace.common")]
pub unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
    type Realloc = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
    let address = by_name!("realloc", realloc);
    // SAFETY: whatever goes by that name has this type.
    let by_name = unsafe { core::mem::transmute::<*const c_void, Realloc>(address) };
    match c_face::bytes_of_array(count, size) {
        // SAFETY: the caller's promise.
        Some(bytes) => unsafe { by_name(block, bytes) },
        None => core::ptr::null_mut(),
    }
}

/// aligned_alloc(3).
#[unsafe(no_mangle)]
pub extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    c_face::aligned_alloc(align, size).cast()
}

/// memalign(3).
#[unsafe(no_mangle)]
pub extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    c_face::aligned_alloc(align, size).cast()
}

/// posix_memalign(3).
///
/// # Safety
/// `place` must be valid for a write of a pointer.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.terrace.common")]
pub unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, align: usize, size: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { c_face::posix_memalign(place.cast(), align, size) }
}

/// valloc(3).
#[unsafe(no_mangle)]
pub extern "C" fn valloc(size: usize) -> *mut c_void {
    c_face::valloc(size).cast()
}

/// pvalloc(3).
#[unsafe(no_mangle)]
pub extern "C" fn pvalloc(size: usize) -> *mut c_void {
    c_face::pvalloc(size).cast()
}

/// malloc_usable_size(3).
///
/// # Safety
/// `block` is NULL or a block that the caller holds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    c_face::malloc_usable_size(block.cast())
}

/// malloc_trim(3): 1 if memory was returned to the kernel, 0 if there was none to return. Each arena keeps about `pad` bytes.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(pad: usize) -> c_int {
    c_face::malloc_trim(pad).into()
}

/// mallopt(3).
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(parameter: c_int, value: c_int) -> c_int {
    c_face::mallopt(parameter, value)
}

/// mallinfo(3).
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo() -> c_face::Mallinfo {
    c_face::mallinfo2().into()
}

/// mallinfo2(3).
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> c_face::Mallinfo2 {
    c_face::mallinfo2()
}

/// malloc_stats(3).
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    c_face::malloc_stats();
}

/// malloc_info(3).
///
/// # Safety
/// `stream` must be an open stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { c_face::malloc_info(options, stream) }
}

/// C23 7.24.3.4. The size is not looked at: `free` finds it, whatever the caller believes it to be. By the name of `free`, for
/// the reason given at [`reallocarray`].
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(block: *mut c_void, _size: usize) {
    type Free = unsafe extern "C" fn(*mut c_void);
    let address = by_name!("free", free);
    // SAFETY: whatever goes by that name has this type.
    let by_name = unsafe { core::mem::transmute::<*const c_void, Free>(address) };
    // SAFETY: the caller's promise.
    unsafe { by_name(block) }
}

/// C23 7.24.3.5. Alignment and size are not looked at; by the name of `free` as well.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, _align: usize, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { free_sized(block, size) }
}

/// malloc_good_size of macOS: how many bytes a block for `size` bytes has.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_good_size(size: usize) -> usize {
    c_face::good_size(size)
}

/// mallocx of jemalloc.
#[unsafe(no_mangle)]
pub extern "C" fn mallocx(size: usize, flags: c_int) -> *mut c_void {
    c_face::mallocx(size, flags).cast()
}

/// rallocx of jemalloc.
///
/// # Safety
/// `block` is one that the caller gives up unless the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rallocx(block: *mut c_void, size: usize, flags: c_int) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { c_face::rallocx(block.cast(), size, flags).cast() }
}

/// xallocx of jemalloc.
///
/// # Safety
/// `block` is one that the caller holds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xallocx(block: *mut c_void, size: usize, extra: usize, flags: c_int) -> usize {
    // SAFETY: the caller's promise.
    unsafe { c_face::xallocx(block.cast(), size, extra, flags) }
}

/// sallocx of jemalloc; no flag matters.
///
/// # Safety
/// `block` is one that the caller holds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sallocx(block: *const c_void, _flags: c_int) -> usize {
    c_face::malloc_usable_size(block.cast_mut().cast())
}

/// dallocx of jemalloc; no flag matters.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dallocx(block: *mut c_void, _flags: c_int) {
    // SAFETY: the caller's promise.
    unsafe { c_face::free(block.cast()) }
}

/// sdallocx of jemalloc; the size is not looked at, and no flag matters.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sdallocx(block: *mut c_void, _size: usize, _flags: c_int) {
    // SAFETY: the caller's promise.
    unsafe { c_face::free(block.cast()) }
}

/// nallocx of jemalloc.
#[unsafe(no_mangle)]
pub extern "C" fn nallocx(size: usize, flags: c_int) -> usize {
    c_face::nallocx(size, flags)
}

/// Sets an option: 0, or -1 with `errno` at `ENOENT` (there is no such option) or `EINVAL` (it has no such value).
///
/// # Safety
/// Both are C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_set_option(name: *const c_char, value: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    // SAFETY: the caller's promise.
    let value = unsafe { CStr::from_ptr(value) };
    c_face::set_option(name, value)
}

/// Returns all free memory to the kernel that can be returned now.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_purge() {
    c_face::malloc_trim(0);
}

/// Has a function called when more than the soft limit is mapped; NULL: none.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_set_limit_callback(callback: Option<c_face::LimitCallback>) {
    c_face::set_limit_callback(callback);
}

/// Prints the zones of the heap and their live blocks, with totals, on standard output.
#[unsafe(no_mangle)]
pub extern "C" fn show_alloc_mem() {
    c_face::show_alloc_mem();
}

/// Prints the same with the first bytes of each block.
#[unsafe(no_mangle)]
pub extern "C" fn show_alloc_mem_ex() {
    c_face::show_alloc_mem_ex();
}

/// Prints the block or zone that an address lies in on standard output: 0, or -1 with `errno` at `EINVAL` if there is nothing
/// of the heap. Any address will do.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_dump(address: *const c_void) -> c_int {
    c_face::dump(address.cast())
}

/// Writes the statistics as JSON to an open file: 0, or -1 with `errno` as `write` set it.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_stats_json(file: c_int) -> c_int {
    if c_face::stats_json(file) { 0 } else { -1 }
}

/// Writes the statistics in the text format of Prometheus to an open file: 0, or -1 with `errno` as `write` set it.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_stats_prometheus(file: c_int) -> c_int {
    if c_face::stats_prometheus(file) { 0 } else { -1 }
}

/// Looks at the red zones of all blocks and at the quarantine now; how many bugs were found, 0 while no check is on.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_check() -> usize {
    c_face::check()
}

/// Called whenever a bug of the program was found, after it was said: a place for a debugger's breakpoint.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn terrace_on_error() {
    core::hint::black_box(());
}

/// Switches the history on: each thread's last `events` events are kept; 0 switches it off.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_history_start(events: c_uint) {
    c_face::history_start(events);
}

/// Switches the history off; what was recorded can still be read.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_history_stop() {
    c_face::history_stop();
}

/// Writes the last `most` events of blocks in which the address lies, or lay; gives how many events there are.
///
/// # Safety
/// `events` must have room for `most` events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_history_of(address: *const c_void, events: *mut Event, most: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { c_face::history_of(address.cast(), events, most) }
}

/// Writes the return addresses of an event's call stack, the innermost first; gives how many there are.
///
/// # Safety
/// `event` must be one that `terrace_history_of` wrote, and `frames` must have room for `most` addresses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn terrace_event_frames(event: *const Event, frames: *mut *const c_void, most: usize) -> usize {
    // SAFETY: the caller's promise.
    let event = unsafe { &*event };
    // SAFETY: the caller's promise.
    unsafe { c_face::event_frames(event, frames.cast(), most) }
}

/// Prints the events of blocks in which the address lies, or lay, to standard error; for NULL all events.
#[unsafe(no_mangle)]
pub extern "C" fn terrace_history_print(address: *const c_void) {
    c_face::history_print(address.cast());
}
