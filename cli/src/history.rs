//! `terrace history`: what happened to the blocks of a running process lately, read from outside.
//!
//! The process is neither stopped nor asked. Its library has written the events down (`src/history/` of the library), if its
//! history is on: by `TERRACE_HISTORY`, by `terrace run --history`, or by a call of its own.

use crate::failure::Failure;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs;
use std::io::{self, IoSliceMut, Write};
use std::thread;
use std::time::Duration;
use terrace_core::history::Event;
use terrace_core::history::outside::{self, OutsideRing};

/// Show what happened to the blocks of a process lately
///
/// The history has to be on in the process: start it by `terrace run --history`, or with TERRACE_HISTORY=1000 in its environment.
#[derive(clap::Args)]
pub struct Arguments {
    /// The process
    pid: i32,

    /// Only the events of blocks in which this address lies, or lay, such as 0x7f0012345678
    #[arg(long, value_parser = address)]
    address: Option<usize>,

    /// Only the last so many events
    #[arg(long, value_name = "EVENTS")]
    last: Option<usize>,

    /// Go on with what happens from now on, until the process ends
    #[arg(long)]
    follow: bool,
}

fn address(text: &str) -> Result<usize, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// How often a process that is followed is looked at.
const PAUSE: Duration = Duration::from_millis(100);

pub fn history(arguments: &Arguments) -> Result<(), Failure> {
    let process = Process { pid: arguments.pid };
    let record = process.find_record()?;
    let mut seen = HashMap::new();
    let mut events = process.events_since(record, &mut seen);
    if seen.is_empty() && !arguments.follow {
        return Err(Failure::NoHistory(arguments.pid, "its history was never on; TERRACE_HISTORY=1000 switches it on"));
    }
    loop {
        events.retain(|event| arguments.address.is_none_or(|address| event.concerns(address)));
        let skip = arguments.last.map_or(0, |last| events.len().saturating_sub(last));
        let mut out = io::stdout().lock();
        // Whoever does not listen any more has seen enough.
        if events[skip..].iter().try_for_each(|event| writeln!(out, "{event}")).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        if !arguments.follow || !process.is_there() {
            return Ok(());
        }
        thread::sleep(PAUSE);
        events = process.events_since(record, &mut seen);
    }
}

struct Process {
    pid: i32,
}

impl Process {
    fn try_read(&self, address: usize, into: &mut [u8]) -> nix::Result<()> {
        let remote = [RemoteIoVec { base: address, len: into.len() }];
        let len = into.len();
        let read = process_vm_readv(Pid::from_raw(self.pid), &mut [IoSliceMut::new(into)], &remote)?;
        if read == len { Ok(()) } else { Err(nix::errno::Errno::EFAULT) }
    }

    fn read(&self, address: usize, into: &mut [u8]) -> bool {
        self.try_read(address, into).is_ok()
    }

    fn is_there(&self) -> bool {
        // A process that has ended and was not waited for has no mappings.
        fs::read(format!("/proc/{}/maps", self.pid)).is_ok_and(|maps| !maps.is_empty())
    }

    /// Where the library's record lies: in the writable mappings of files, by its magic with its own address behind that.
    fn find_record(&self) -> Result<usize, Failure> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid))
            .map_err(|error| Failure::NotReadable(self.pid, error))?;
        if maps.is_empty() {
            return Err(Failure::NotReadable(self.pid, io::ErrorKind::NotFound.into()));
        }
        let mut refusal = None;
        for (start, end) in maps.lines().filter_map(writable_file) {
            let mut bytes = vec![0; end - start];
            if let Err(error) = self.try_read(start, &mut bytes) {
                refusal = Some(error);
                continue;
            }
            let places = (0..bytes.len().saturating_sub(outside::MAGIC.len())).step_by(8);
            for place in places.filter(|&place| bytes[place..].starts_with(&outside::MAGIC)) {
                match outside::version(|at, into| self.read(at, into), start + place) {
                    Some(outside::VERSION) => return Ok(start + place),
                    Some(_) => return Err(Failure::NoHistory(self.pid, "its library is of another version")),
                    None => {}
                }
            }
        }
        match refusal {
            Some(error @ (nix::Error::EPERM | nix::Error::ESRCH)) => Err(Failure::NotReadable(self.pid, error.into())),
            _ => Err(Failure::NoHistory(self.pid, "it does not run on Terrace")),
        }
    }

    /// The events that came since those that were seen, in the order of time. `seen` says how many there were in each ring.
    fn events_since(&self, record: usize, seen: &mut HashMap<usize, u64>) -> Vec<Event> {
        let read = |at, into: &mut [u8]| self.read(at, into);
        let mut rings: Vec<OutsideRing> = Vec::new();
        outside::rings(read, record, |ring| rings.push(ring));
        let mut events = Vec::new();
        for ring in rings {
            let from = seen.insert(ring.address(), ring.written()).unwrap_or(0);
            ring.events(read, from, |event| events.push(*event));
        }
        events.sort_by_key(|event| event.time_ns);
        events
    }
}

/// The range of a line of `/proc/PID/maps`, if it is a writable private mapping of a file.
fn writable_file(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    let inode = words.nth(2)?;
    let (start, end) = range.split_once('-')?;
    let wanted = permissions.starts_with("rw") && permissions.ends_with('p') && inode != "0";
    let number = |text| usize::from_str_radix(text, 16).ok();
    if wanted { Some((number(start)?, number(end)?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writable_private_mappings_of_files_are_looked_through() {
        let library = "7f12a000-7f12b000 rw-p 0002a000 fe:00 1234   /usr/lib/libterrace.so";
        assert_eq!(writable_file(library), Some((0x7f12a000, 0x7f12b000)));
        for other in [
            "7f12a000-7f12b000 r--p 0002a000 fe:00 1234   /usr/lib/libterrace.so",
            "7f12a000-7f12b000 rw-s 0002a000 fe:00 1234   /dev/shm/file",
            "7f12a000-7f12b000 rw-p 00000000 00:00 0",
            "",
        ] {
            assert_eq!(writable_file(other), None, "{other}");
        }
    }

    #[test]
    fn an_address_is_taken_in_both_bases() {
        assert_eq!((address("0x1f"), address("31")), (Ok(31), Ok(31)));
        assert!(address("1f").is_err());
    }
}
