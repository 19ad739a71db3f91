//! What the kernel says about a process: memory and processor time.

use std::ffi::{CStr, c_void};
use std::fs;
use std::io::{self, Read};

/// The file that `malloc` comes from.
pub fn provider() -> String {
    // SAFETY: the structure is pointers, for which null is valid.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the address is a function's, and the result is a structure of the right type.
    let found = unsafe { libc::dladdr(libc::malloc as *const c_void, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return "unknown".into();
    }
    // SAFETY: the dynamic linker keeps the name of a loaded object as a C string.
    unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned()
}

/// How many mappings the process `pid` has, or this one for `self`.
///
/// # Errors
/// If the process is gone, or belongs to somebody else.
pub fn mappings(pid: &str) -> io::Result<u64> {
    let mut maps = fs::File::open(format!("/proc/{pid}/maps"))?;
    let (mut buffer, mut lines) = ([0; 4096], 0);
    loop {
        match maps.read(&mut buffer)? {
            0 => return Ok(lines),
            read => lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

/// The resident memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// All resident pages, exact (`Rss` of `smaps_rollup`).
    pub total_kib: u64,
    /// Pages that no file backs.
    pub anonymous_kib: u64,
    /// The highest `total_kib` of the process's life (`VmHWM`), as exact as the kernel's counters: some tens of pages.
    pub peak_kib: u64,
}

impl Resident {
    /// Reads the figures of the process `pid`, or of this one for `self`.
    ///
    /// # Errors
    /// If the process is gone, or belongs to somebody else.
    pub fn of(pid: &str) -> io::Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            total_kib: field(&rollup, "Rss:"),
            anonymous_kib: field(&rollup, "Anonymous:"),
            peak_kib: field(&status, "VmHWM:"),
        })
    }
}

/// The number after `name` at the start of a line, or zero.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What a process has used up since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads, in nanoseconds.
    pub cpu_ns: u64,
    /// The system's share of it, in nanoseconds.
    pub system_ns: u64,
    /// Page faults that needed no input.
    pub faults: u64,
    /// The highest resident memory of the process, or of the largest of several, in KiB.
    pub largest_kib: u64,
}

impl Usage {
    /// The figures of this process.
    pub fn now() -> Self {
        Self::of(libc::RUSAGE_SELF)
    }

    /// The figures of the children that have ended, and of theirs.
    pub fn of_children() -> Self {
        Self::of(libc::RUSAGE_CHILDREN)
    }

    fn of(whom: i32) -> Self {
        // SAFETY: `rusage` is plain numbers, for which all zeroes are valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a structure of the right type.
        unsafe { libc::getrusage(whom, &raw mut usage) };
        let nanoseconds = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
        let system_ns = nanoseconds(usage.ru_stime);
        Self {
            cpu_ns: nanoseconds(usage.ru_utime) + system_ns,
            system_ns,
            faults: usage.ru_minflt as u64,
            largest_kib: usage.ru_maxrss as u64,
        }
    }

    /// What was used since `earlier`; the peak is that of the whole time.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns - earlier.cpu_ns,
            system_ns: self.system_ns - earlier.system_ns,
            faults: self.faults - earlier.faults,
            largest_kib: self.largest_kib,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_resident_memory_and_a_peak() {
        let resident = Resident::of("self").expect("a process may read its own figures");
        assert!(resident.total_kib > 0 && resident.anonymous_kib <= resident.total_kib, "{resident:?}");
        assert!(resident.peak_kib > 0, "{resident:?}");
        assert!(mappings("self").expect("a process may read its own map") > 10);
    }

    #[test]
    fn malloc_comes_from_a_file() {
        assert!(provider().starts_with('/'), "{}", provider());
    }
}
