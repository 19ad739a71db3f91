//! A process that goes on or is stopped: its memory by `process_vm_readv`, the rest from `/proc`.
//!
//! Nothing is stopped, and nothing changed: pages that have no memory are not read, since that would give them some.

use super::{Map, Obstacle, Space};
use crate::snapshot::{Process, Source};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use terrace_core::inspect::{Memory, Unreadable};

const PAGE: usize = 4096;
/// Bits of an entry of `pagemap`: the page is in memory, or swapped out; it is a file's, or shared; it is mapped once.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_A_FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;

/// A process as it was when it was opened.
pub struct Live {
    pid: u32,
    folder: PathBuf,
    maps: Vec<Map>,
    /// `None` where the kernel does not tell which pages are in memory.
    pagemap: Option<File>,
    page_size: usize,
    is_stopped: bool,
    now_ms: u64,
}

impl Live {
    /// Opens the files of a process that this user may look into.
    pub fn open(pid: u32) -> Result<Self, Obstacle> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let state = state(&folder)?;
        let maps = parse(&read(&folder.join("smaps"))?);
        if maps.is_empty() || matches!(state, 'Z' | 'X') {
            return Err(Obstacle::Ended);
        }
        let page_size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_err(|error| Obstacle::System(error.into()))?;
        let live = Self {
            pid,
            pagemap: File::open(folder.join("pagemap")).ok(),
            folder,
            maps,
            page_size: page_size.and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE),
            is_stopped: matches!(state, 'T' | 't'),
            now_ms: now.tv_sec() as u64 * 1000 + now.tv_nsec() as u64 / 1_000_000,
        };
        // The right to list mappings is not that to read memory.
        let readable = live.maps.iter().find(|map| map.permissions.starts_with('r') && map.resident > 0);
        match readable.map(|map| live.copy(map.start, &mut [0; 8])) {
            Some(Err(Errno::EPERM)) => Err(Obstacle::Forbidden),
            Some(Err(Errno::ESRCH)) => Err(Obstacle::Ended),
            Some(Err(Errno::ENOSYS)) => Err(Obstacle::System(Errno::ENOSYS.into())),
            _ => Ok(live),
        }
    }

    fn copy(&self, address: usize, into: &mut [u8]) -> Result<(), Errno> {
        let remote = [RemoteIoVec { base: address, len: into.len() }];
        let len = into.len();
        match process_vm_readv(Pid::from_raw(self.pid as i32), &mut [IoSliceMut::new(into)], &remote)? {
            copied if copied == len => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn map_around(&self, address: usize) -> Option<&Map> {
        let after = self.maps.partition_point(|map| map.start <= address);
        self.maps[..after].last().filter(|map| address < map.end)
    }

    /// The entries of `pagemap` for the pages of a range.
    fn entries(&self, start: usize, bytes: usize) -> Option<Vec<u64>> {
        let first = start / self.page_size;
        let count = (start + bytes).div_ceil(self.page_size) - first;
        // A record may be garbage: nobody has as much.
        let mut entries = Vec::new();
        entries.try_reserve_exact(count * 8).ok()?;
        entries.resize(count * 8, 0);
        self.pagemap.as_ref()?.read_exact_at(&mut entries, first as u64 * 8).ok()?;
        Some(entries.chunks_exact(8).map(|entry| u64::from_ne_bytes(entry.try_into().unwrap_or_default())).collect())
    }

    /// Whether an entry of `pagemap`, for the page at this address, is of memory that counts as resident. The kernel's one page of zeroes, which
    /// stands for memory that was read and never written, does not: it is no file's and mapped by many. Neither does a page of zeroes
    /// that the process shares with a child, which looks alike.
    fn is_resident(&self, page: usize, entry: u64) -> bool {
        if entry & PRESENT == 0 {
            return false;
        }
        let mut bytes = vec![0; self.page_size];
        entry & (OF_A_FILE | EXCLUSIVE) != 0
            || self.copy(page, &mut bytes).is_err()
            || bytes.iter().any(|byte| *byte != 0)
    }

    /// Whether a range lies in unnamed memory of which nothing was ever touched.
    fn is_untouched(&self, address: usize, bytes: usize) -> bool {
        let is_unnamed = |map: &Map| map.end >= address + bytes && (map.name.is_empty() || map.name == "[heap]");
        self.map_around(address).is_some_and(is_unnamed)
            && self
                .entries(address, bytes)
                .is_some_and(|entries| entries.iter().all(|entry| entry & (PRESENT | SWAPPED) == 0))
    }
}

impl Memory for Live {
    fn read(&self, address: usize, into: &mut [u8]) -> Result<(), Unreadable> {
        if self.is_untouched(address, into.len()) {
            into.fill(0);
            return Ok(());
        }
        self.copy(address, into).map_err(|_| Unreadable { address })
    }
}

impl Space for Live {
    fn maps(&self) -> &[Map] {
        &self.maps
    }

    fn was_touched(&self, start: usize, bytes: usize) -> bool {
        self.entries(start, bytes).is_none_or(|entries| entries.iter().any(|entry| entry & (PRESENT | SWAPPED) != 0))
    }

    fn resident(&self, start: usize, bytes: usize, _is_used: bool) -> u64 {
        let Some(entries) = self.entries(start, bytes) else { return bytes as u64 };
        let first = start / self.page_size * self.page_size;
        let pages = entries.iter().enumerate();
        let resident = pages.filter(|(index, entry)| self.is_resident(first + index * self.page_size, **entry));
        // Zones may be smaller than the kernel's page.
        let overlap = |index: usize| {
            let page = first + index * self.page_size;
            (page + self.page_size).min(start + bytes) - page.max(start)
        };
        resident.map(|(index, _)| overlap(index) as u64).sum()
    }

    fn process(&self) -> Process {
        let name = read(&self.folder.join("comm")).unwrap_or_default();
        let command = fs::read(self.folder.join("cmdline")).unwrap_or_default();
        Process {
            source: if self.is_stopped { Source::Stopped } else { Source::Live },
            pid: self.pid,
            name: name.trim_end().to_owned(),
            command: words_of(&command),
            time_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            library: String::new(),
            page_bytes: self.page_size as u64,
            resident_bytes: self.maps.iter().map(|map| map.resident).sum(),
            swapped_bytes: self.maps.iter().map(|map| map.swapped).sum(),
            is_residency_exact: self.pagemap.is_some(),
        }
    }

    fn confirm(&self) -> Result<(), Obstacle> {
        match state(&self.folder) {
            Ok('Z' | 'X') | Err(Obstacle::Absent) => Err(Obstacle::Ended),
            Ok(_) if read(&self.folder.join("maps"))?.is_empty() => Err(Obstacle::Ended),
            Ok(_) => Ok(()),
            Err(obstacle) => Err(obstacle),
        }
    }

    fn files(&self) -> (Vec<Map>, PathBuf) {
        let root = self.folder.join("root");
        // What cannot be entered shows the files of this command's own root, as a rule the same.
        (self.maps.clone(), if root.join("proc").exists() { root } else { PathBuf::from("/") })
    }

    fn now_ms(&self) -> Option<u64> {
        Some(self.now_ms)
    }
}

fn read(path: &std::path::Path) -> Result<String, Obstacle> {
    let bytes = fs::read(path).map_err(|error| match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => Obstacle::Absent,
        (io::ErrorKind::PermissionDenied, _) => Obstacle::Forbidden,
        (_, Some(code)) if code == Errno::ESRCH as i32 => Obstacle::Ended,
        _ => Obstacle::System(error),
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The letter for the process's state.
fn state(folder: &std::path::Path) -> Result<char, Obstacle> {
    let stat = read(&folder.join("stat"))?;
    // The name, in parentheses, may hold anything.
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    Ok(after.chars().next().unwrap_or('X'))
}

/// Reads `/proc/PID/smaps`.
pub fn parse(smaps: &str) -> Vec<Map> {
    let mut maps: Vec<Map> = Vec::new();
    for line in smaps.lines() {
        if let Some(map) = heading(line) {
            maps.push(map);
        } else if let (Some(map), Some((key, value))) = (maps.last_mut(), line.split_once(':')) {
            let bytes = || value.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kibibytes| kibibytes << 10);
            match key {
                "Rss" => map.resident = bytes(),
                "Swap" => map.swapped = bytes(),
                _ => {}
            }
        }
    }
    maps
}

/// Reads a line such as `7f00-7f01 rw-p 00000000 00:00 0    /a/file name`.
fn heading(line: &str) -> Option<Map> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let permissions = words.next()?.to_owned();
    let name = words.nth(3).map_or("", str::trim_start).to_owned();
    Some(Map { start, end, permissions, name, ..Map::default() })
}

/// The words of a command line, each ended by a zero. A program that writes a title of its own over them fills the rest with zeroes.
fn words_of(line: &[u8]) -> Vec<String> {
    let len = line.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let words = line[..len].split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    if len == 0 { Vec::new() } else { words.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_has_no_words_behind_its_end() {
        assert_eq!(words_of(b"sh\0-c\0true\0"), ["sh", "-c", "true"]);
        assert_eq!(words_of(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(words_of(b"redis-server *:6379\0\0\0\0"), ["redis-server *:6379"]);
        assert!(words_of(b"").is_empty());
    }

    #[test]
    fn mappings_are_read_with_their_memory_and_their_names() {
        let smaps = "5581-5583 rw-p 00001000 fe:00 12     /a/file name: 1\nSize: 8 kB\nRss:                8 kB\nSwap:  4 kB\n\
                     7f00-7f02 r--p 00000000 00:00 0 \nRss: 0 kB\nVmFlags: rd\n";
        let maps = parse(smaps);
        assert_eq!(maps.len(), 2);
        assert_eq!((maps[0].start, maps[0].end, maps[0].permissions.as_str()), (0x5581, 0x5583, "rw-p"));
        assert_eq!((maps[0].name.as_str(), maps[0].resident, maps[0].swapped), ("/a/file name: 1", 8192, 4096));
        assert!(maps[0].may_hold_root() && !maps[1].may_hold_root());
        assert_eq!((maps[1].name.as_str(), maps[1].resident), ("", 0));
    }

    #[test]
    fn a_page_that_was_only_read_is_not_resident() {
        const PAGES: usize = 1024;
        let live = || Live::open(std::process::id()).map_err(|_| "this process can not be looked into").unwrap();
        let page = live().page_size;
        // So large that it is a mapping of its own, which nobody has touched.
        let mut memory = vec![0_u8; PAGES * page];
        let start = memory.as_ptr().addr().next_multiple_of(page);
        let inside = start - memory.as_ptr().addr();
        assert_eq!(live().resident(start, 8 * page, true), 0);
        memory[inside + page] = 1;
        let read = std::hint::black_box(&memory)[inside + 4 * page];
        assert_eq!(read, 0);
        assert_eq!(live().resident(start, 8 * page, true), page as u64);
    }
}
