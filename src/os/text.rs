//! Small reads and writes of text: files of the kernel, the environment, standard error.
//!
//! By bare system calls: the C library's `open`, `read` and `write` are points at which a thread can be cancelled, and
//! `malloc` must not be one.

use super::keeping_errno;
use core::ffi::CStr;

/// Reads the beginning of a file into `buffer`.
pub(crate) fn read_file<'b>(path: &CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let read = keeping_errno(|| {
        let file = open(path, libc::O_RDONLY);
        if file < 0 {
            return -1;
        }
        // SAFETY: the buffer is valid for its length.
        let read = unsafe { libc::syscall(libc::SYS_read, file, buffer.as_mut_ptr(), buffer.len()) };
        close(file);
        read
    });
    buffer.get(..usize::try_from(read).ok()?)
}

/// Appends the text to a file, which is created if need be.
pub(crate) fn append_to_file(path: &CStr, text: &[u8]) {
    keeping_errno(|| {
        let file = open(path, libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT);
        if file >= 0 {
            write_all(file, text);
            close(file);
        }
    });
}

/// Writes straight to standard error; what cannot be written is dropped, since there is nowhere else to say so.
pub(crate) fn write_standard_error(text: &[u8]) {
    keeping_errno(|| write_all(libc::STDERR_FILENO.into(), text));
}

fn open(path: &CStr, flags: i32) -> libc::c_long {
    // SAFETY: the path is a C string.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) }
}

fn close(file: libc::c_long) {
    // SAFETY: the caller opened the file and closes it once.
    unsafe { libc::syscall(libc::SYS_close, file) };
}

fn write_all(file: libc::c_long, mut text: &[u8]) {
    while !text.is_empty() {
        // SAFETY: the text is valid for its length.
        let written = unsafe { libc::syscall(libc::SYS_write, file, text.as_ptr(), text.len()) };
        match usize::try_from(written) {
            Ok(n) if n > 0 => text = &text[n..],
            _ => return,
        }
    }
}

/// Whether the C library has set up the environment.
pub(crate) fn has_environment() -> bool {
    unsafe extern "C" {
        static environ: *const *const core::ffi::c_char;
    }
    // SAFETY: the C library defines the variable; a program that changes it while another thread allocates for the first
    // time has a race with `getenv` as well.
    !unsafe { environ }.is_null()
}

/// The value of an environment variable; nothing in a program that runs with more rights than its caller.
pub(crate) fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: reading the kernel's auxiliary vector has no preconditions.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return None;
    }
    // SAFETY: the name is a C string. Options are read once, before the program's own code can change the environment
    // from another thread.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv returned a C string of the environment.
    Some(unsafe { CStr::from_ptr(value) })
}

/// The process's name as the kernel knows it, without the line's end.
pub(crate) fn process_name(buffer: &mut [u8; 32]) -> &[u8] {
    read_file(c"/proc/self/comm", buffer).map_or(b"?", |name| name.trim_ascii())
}
