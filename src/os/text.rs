//! Small reads and writes of text: files of the kernel, the environment, standard error.
//!
//! By bare system calls: the C library's `open`, `read` and `write` are points at which a thread can be cancelled, and
//! `malloc` must not be one.

use super::keeping_errno;
use core::ffi::CStr;
use core::fmt;

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

/// Calls `f` with each line of a file; of lines longer than 1,024 bytes with their parts.
pub(crate) fn for_each_line(path: &CStr, mut f: impl FnMut(&[u8])) {
    keeping_errno(|| {
        let file = open(path, libc::O_RDONLY);
        if file < 0 {
            return;
        }
        let (mut buffer, mut filled) = ([0; 1024], 0);
        loop {
            let room = &mut buffer[filled..];
            // SAFETY: the buffer is valid for its length.
            let read = unsafe { libc::syscall(libc::SYS_read, file, room.as_mut_ptr(), room.len()) };
            let read = usize::try_from(read).unwrap_or(0);
            filled += read;
            let mut begin = 0;
            while let Some(len) = buffer[begin..filled].iter().position(|&byte| byte == b'\n') {
                f(&buffer[begin..begin + len]);
                begin += len + 1;
            }
            if (read == 0 || (begin == 0 && filled == buffer.len())) && begin < filled {
                f(&buffer[begin..filled]);
                begin = filled;
            }
            if read == 0 {
                break;
            }
            buffer.copy_within(begin..filled, 0);
            filled -= begin;
        }
        close(file);
    });
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

/// Writes to a stream of the C library's, which may allocate meanwhile; `false`, with `errno` set, if that failed.
///
/// # Safety
/// `stream` must be open.
pub(crate) unsafe fn write_to_stream(stream: *mut libc::FILE, text: &[u8]) -> bool {
    // SAFETY: the text is valid for its length; the caller's promise.
    unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), stream) == text.len() }
}

/// Text for an open file, gathered in a buffer and written by bare system calls.
pub(crate) struct FileWriter {
    file: i32,
    buffer: [u8; 1024],
    len: usize,
}

impl FileWriter {
    pub(crate) fn new(file: i32) -> Self {
        Self { file, buffer: [0; 1024], len: 0 }
    }

    /// Writes what is left. Fails, with `errno` as the kernel set it, when the file takes no more.
    pub(crate) fn finish(mut self) -> fmt::Result {
        self.flush()
    }

    fn flush(&mut self) -> fmt::Result {
        let len = core::mem::take(&mut self.len);
        if write_all(self.file.into(), &self.buffer[..len]) { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Write for FileWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.as_bytes().chunks(self.buffer.len()) {
            if self.len + part.len() > self.buffer.len() {
                self.flush()?;
            }
            self.buffer[self.len..self.len + part.len()].copy_from_slice(part);
            self.len += part.len();
        }
        Ok(())
    }
}

fn open(path: &CStr, flags: i32) -> libc::c_long {
    // SAFETY: the path is a C string.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) }
}

fn close(file: libc::c_long) {
    // SAFETY: the caller opened the file and closes it once.
    unsafe { libc::syscall(libc::SYS_close, file) };
}

/// `false` if not all of it was written.
fn write_all(file: libc::c_long, mut text: &[u8]) -> bool {
    while !text.is_empty() {
        // SAFETY: the text is valid for its length.
        let written = unsafe { libc::syscall(libc::SYS_write, file, text.as_ptr(), text.len()) };
        match usize::try_from(written) {
            Ok(n) if n > 0 => text = &text[n..],
            _ => return false,
        }
    }
    true
}

unsafe extern "C" {
    static environ: *const *const core::ffi::c_char;
}

/// Whether the C library has set up the environment.
pub(crate) fn has_environment() -> bool {
    // SAFETY: the C library defines the variable; a program that changes it while another thread allocates for the first
    // time has a race with `getenv` as well.
    !unsafe { environ }.is_null()
}

/// Calls `f` with the name and value of each environment variable, in their order; of a program that runs with more rights than
/// its caller, with none.
pub(crate) fn for_each_variable(mut f: impl FnMut(&[u8], &[u8])) {
    // SAFETY: reading the kernel's auxiliary vector has no preconditions.
    if !has_environment() || unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return;
    }
    // SAFETY: the C library defines the variable. Options are read once, before the program's own code can change the
    // environment from another thread.
    let mut entry = unsafe { environ };
    loop {
        // SAFETY: the entries are pointers to C strings, ended by a null one.
        let text = unsafe { entry.read() };
        if text.is_null() {
            return;
        }
        // SAFETY: as above.
        let text = unsafe { CStr::from_ptr(text) }.to_bytes();
        if let Some(cut) = text.iter().position(|&byte| byte == b'=') {
            f(&text[..cut], &text[cut + 1..]);
        }
        // SAFETY: the entry was not the last.
        entry = unsafe { entry.add(1) };
    }
}

/// What the program's own `const char *terrace_options` says, if it has one.
pub(crate) fn compiled_options() -> Option<&'static CStr> {
    let variable: *const *const core::ffi::c_char;
    // SAFETY: reads the address that the linker or loader has put in place for a weak symbol: null if nobody defines it.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        core::arch::asm!(
            ".weak terrace_options",
            "mov {0}, qword ptr [rip + terrace_options@GOTPCREL]",
            out(reg) variable,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    // SAFETY: as above.
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    unsafe {
        core::arch::asm!(
            ".weak terrace_options",
            "adrp {0}, :got:terrace_options",
            "ldr {0}, [{0}, :got_lo12:terrace_options]",
            out(reg) variable,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        variable = core::ptr::null();
    }
    if variable.is_null() {
        return None;
    }
    // SAFETY: whoever defines the symbol defines it as a pointer, which the loader has set before constructors run.
    let list = unsafe { variable.read() };
    if list.is_null() {
        return None;
    }
    // SAFETY: the pointer is to a C string, by the same definition.
    Some(unsafe { CStr::from_ptr(list) })
}

/// The process's name as the kernel knows it, without the line's end.
pub(crate) fn process_name(buffer: &mut [u8; 32]) -> &[u8] {
    read_file(c"/proc/self/comm", buffer).map_or(b"?", |name| name.trim_ascii())
}
