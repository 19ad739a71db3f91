//! How many processors this process may use: its affinity, and its control group's share of time; and how many mappings.

use super::control_group::{self, parse_number};
use super::{keeping_errno, read_file};

/// At least 1. A quota of 1.5 processors counts as 2.
pub(crate) fn processors() -> usize {
    let allowed = affinity().max(1);
    quota().map_or(allowed, |quota| allowed.min(quota.max(1)))
}

/// How many mappings the kernel allows a process; its default if it does not say.
pub(crate) fn max_mappings() -> usize {
    const DEFAULT: usize = 65_530;
    let mut text = [0; 32];
    read_file(c"/proc/sys/vm/max_map_count", &mut text).and_then(parse_number).unwrap_or(DEFAULT).max(1)
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

/// The quota of the process's control group.
fn quota() -> Option<usize> {
    if let Some(quota) = control_group::find(b"cpu.max", parse_cpu_max) {
        return Some(quota);
    }
    let mut text = [0; 64];
    let quota = read_file(c"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &mut text).and_then(parse_number)?;
    let period = read_file(c"/sys/fs/cgroup/cpu/cpu.cfs_period_us", &mut text).and_then(parse_number)?;
    (period > 0).then(|| quota.div_ceil(period))
}

/// `cpu.max` holds `QUOTA PERIOD` in microseconds, or `max PERIOD` when there is none.
fn parse_cpu_max(text: &[u8]) -> Option<usize> {
    let mut fields = text.trim_ascii().split(|&b| b == b' ');
    let quota = parse_number(fields.next()?)?;
    let period = parse_number(fields.next()?)?;
    (period > 0).then(|| quota.div_ceil(period))
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
    fn there_is_at_least_one_processor_and_no_more_than_the_affinity_allows() {
        let available = std::thread::available_parallelism().unwrap().get();
        assert_eq!(processors(), available);
    }
}
