//! How many processors this process may use: its affinity, and its control group's share of time.

use super::{keeping_errno, read_file};

/// At least 1. A quota of 1.5 processors counts as 2.
pub(crate) fn processors() -> usize {
    let allowed = affinity().max(1);
    quota().map_or(allowed, |quota| allowed.min(quota.max(1)))
}

fn affinity() -> usize {
    let mut set = core::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    let failed = keeping_errno(|| {
        // SAFETY: the set is as large as the size given.
        unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) != 0 }
    });
    if failed {
        return 1;
    }
    // SAFETY: a zeroed set is a valid one, and the call has filled it.
    let set = unsafe { set.assume_init() };
    // SAFETY: the set is a valid one.
    unsafe { libc::CPU_COUNT(&set) as usize }
}

/// The quota of the process's own control group (version 2), or of the root as a container sees it (versions 2 and 1).
fn quota() -> Option<usize> {
    let mut path = Path::new(b"/sys/fs/cgroup");
    let mut own = [0; 512];
    if let Some(group) = read_file(c"/proc/self/cgroup", &mut own).and_then(unified_group) {
        path.push(group);
    }
    path.push(b"/cpu.max");
    let mut text = [0; 64];
    if let Some(quota) = path.read(&mut text).and_then(parse_cpu_max) {
        return Some(quota);
    }
    if let Some(quota) = read_file(c"/sys/fs/cgroup/cpu.max", &mut text).and_then(parse_cpu_max) {
        return Some(quota);
    }
    let quota = read_file(c"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &mut text).and_then(parse_number)?;
    let period = read_file(c"/sys/fs/cgroup/cpu/cpu.cfs_period_us", &mut text).and_then(parse_number)?;
    (period > 0).then(|| quota.div_ceil(period))
}

/// The path in the line `0::/path` of `/proc/self/cgroup`.
fn unified_group(text: &[u8]) -> Option<&[u8]> {
    text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::")).filter(|path| path.len() > 1)
}

/// `cpu.max` holds `QUOTA PERIOD` in microseconds, or `max PERIOD` when there is none.
fn parse_cpu_max(text: &[u8]) -> Option<usize> {
    let mut fields = text.trim_ascii().split(|&b| b == b' ');
    let quota = parse_number(fields.next()?)?;
    let period = parse_number(fields.next()?)?;
    (period > 0).then(|| quota.div_ceil(period))
}

fn parse_number(text: &[u8]) -> Option<usize> {
    core::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// A path put together on the stack; one that is too long is not read.
struct Path {
    bytes: [u8; 768],
    len: usize,
}

impl Path {
    fn new(start: &[u8]) -> Self {
        let mut path = Self { bytes: [0; 768], len: 0 };
        path.push(start);
        path
    }

    fn push(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        // The last byte stays zero: it ends the string.
        if end < self.bytes.len() {
            self.bytes[self.len..end].copy_from_slice(part);
        }
        self.len = end;
    }

    fn read<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let path = self.bytes.get(..=self.len)?;
        read_file(core::ffi::CStr::from_bytes_with_nul(path).ok()?, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_round_up_and_max_means_none() {
        assert_eq!(parse_cpu_max(b"150000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max(b"50000 100000\n"), Some(1));
        assert_eq!(parse_cpu_max(b"max 100000\n"), None);
        assert_eq!(parse_cpu_max(b"nonsense"), None);
    }

    #[test]
    fn the_groups_path_is_found_among_other_lines() {
        assert_eq!(unified_group(b"1:name=x:/a\n0::/user/b\n"), Some(&b"/user/b"[..]));
        assert_eq!(unified_group(b"0::/\n"), None);
    }

    #[test]
    fn there_is_at_least_one_processor_and_no_more_than_the_affinity_allows() {
        let available = std::thread::available_parallelism().unwrap().get();
        assert_eq!(processors(), available);
    }
}
