//! The process's control group: files of version 2, and of version 1 as a container sees them.

use super::read_file;

/// Reads a file of the process's own group (version 2), or of the root as a container sees it (versions 2 and 1, whose names for
/// one thing differ) that has a value; `parse` says which.
pub(super) fn find<T>(name: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut text = [0; 64];
    let mut own = [0; 512];
    if let Some(group) = read_file(c"/proc/self/cgroup", &mut own).and_then(unified_group) {
        let path = Path::new(&[b"/sys/fs/cgroup", group, b"/", name]);
        if let Some(value) = path.read(&mut text).and_then(&parse) {
            return Some(value);
        }
    }
    Path::new(&[b"/sys/fs/cgroup/", name]).read(&mut text).and_then(&parse)
}

/// The path in the line `0::/path` of `/proc/self/cgroup`.
fn unified_group(text: &[u8]) -> Option<&[u8]> {
    text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::")).filter(|path| path.len() > 1)
}

#[unsafe(link_section = ".text.terrace.common")]
pub(super) fn parse_number(text: &[u8]) -> Option<usize> {
    let digits = text.trim_ascii();
    let append = |number: usize, digit: &u8| {
        let value = usize::from(digit.checked_sub(b'0').filter(|value| *value < 10)?);
        number.checked_mul(10)?.checked_add(value)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, append) }
}

/// A path put together on the stack; one that is too long is not read.
struct Path {
    bytes: [u8; 768],
    len: usize,
}

impl Path {
    fn new(parts: &[&[u8]]) -> Self {
        let mut path = Self { bytes: [0; 768], len: 0 };
        for part in parts {
            let end = path.len + part.len();
            // The last byte stays zero: it ends the string.
            if end < path.bytes.len() {
                path.bytes[path.len..end].copy_from_slice(part);
            }
            path.len = end;
        }
        path
    }

    #[unsafe(link_section = ".text.terrace.common")]
    fn read<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let path = self.bytes.get(..=self.len)?;
        read_file(core::ffi::CStr::from_bytes_with_nul(path).ok()?, buffer)
    }
}

/// How much memory the process may have, in bytes: its control group's limit, or what the machine has.
pub(crate) fn memory() -> usize {
    let version_1 = || find(b"memory/memory.limit_in_bytes", parse_number);
    let group = find(b"memory.max", parse_number).or_else(version_1).unwrap_or(usize::MAX);
    group.min(of_machine())
}

fn of_machine() -> usize {
    let mut buffer = [0; 128];
    let total = |text: &[u8]| {
        let line = text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"MemTotal:"))?;
        Some(parse_number(line.trim_ascii().strip_suffix(b"kB")?)? << 10)
    };
    read_file(c"/proc/meminfo", &mut buffer).and_then(total).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_path_is_found_among_other_lines() {
        assert_eq!(unified_group(b"1:name=x:/a\n0::/user/b\n"), Some(&b"/user/b"[..]));
        assert_eq!(unified_group(b"0::/\n"), None);
    }

    #[test]
    fn a_path_is_put_together_and_one_that_is_too_long_is_not_read() {
        let mut text = [0; 64];
        assert!(Path::new(&[b"/proc", b"/self", b"/stat"]).read(&mut text).is_some());
        assert!(Path::new(&[b"/proc", &[b'/'; 800], b"/self/stat"]).read(&mut text).is_none());
    }

    #[test]
    fn the_process_may_have_some_memory_and_no_more_than_the_machine_has() {
        assert!(memory() >= 16 << 20 && memory() <= of_machine() && of_machine() < usize::MAX);
        assert_eq!(parse_number(b"max\n"), None);
        assert_eq!(parse_number(b"1073741824\n"), Some(1 << 30));
        for wrong in ["", "\n", "-1", "1x", "18446744073709551616"] {
            assert_eq!(parse_number(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
