//! Looks into a heap from outside: that of a process, running or stopped, or of a dead one in a core file.
//!
//! [`process`] and [`core`] give the bytes, the list of mappings, and what of it is in memory; the allocator's own walker
//! (`terrace::inspect`) finds its way through the structures; [`fill`] makes a snapshot of what it tells.

mod core;
mod fill;
mod process;

use crate::failure::Failure;
use crate::snapshot::{Process, Snapshot};
use crate::symbols::Symbols;
use crate::target::Target;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use terrace_core::inspect::{self, Extent, MAGIC, Memory, OWN_ADDRESS, Root, Visitor};

/// Why there is nothing to be seen.
#[derive(Debug)]
pub enum Obstacle {
    /// The process does not exist.
    Absent,
    /// The process ended before all was read.
    Ended,
    /// The kernel does not let this user look.
    Forbidden,
    /// There is no heap of Terrace's.
    NoTerrace,
    /// The library is there, and has not given out anything yet.
    NotBegun,
    /// The heap's root leads nowhere.
    Heap(inspect::Error),
    /// The file is no core file of this kind of machine.
    NotACore,
    /// The file is shorter than its headers say, by so many bytes.
    Truncated(u64),
    /// The system refused to read something.
    System(io::Error),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "there is no such process"),
            Self::Ended => write!(f, "it ended meanwhile"),
            Self::Forbidden => write!(
                f,
                "the system does not permit it; it takes the same user with the right to trace it \
                 (see /proc/sys/kernel/yama/ptrace_scope), or root"
            ),
            Self::NoTerrace => write!(
                f,
                "it does not run on Terrace: none of its programs and libraries has a heap's root in its writable data"
            ),
            Self::NotBegun => write!(f, "Terrace is in it, but has not given out any memory yet"),
            Self::Heap(error) => write!(f, "{error}"),
            Self::NotACore => write!(f, "it is no core file of a 64-bit Linux process of this kind of machine"),
            Self::Truncated(1) => write!(f, "the core file is cut off; its last byte is missing"),
            Self::Truncated(bytes) => write!(f, "the core file is cut off; {bytes} bytes are missing at its end"),
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

impl From<inspect::Error> for Obstacle {
    fn from(error: inspect::Error) -> Self {
        Self::Heap(error)
    }
}

/// A mapping of the process that is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    pub start: usize,
    pub end: usize,
    /// As in `rw-p`.
    pub permissions: String,
    /// The file, or the kernel's name in brackets; empty for unnamed memory.
    pub name: String,
    resident: u64,
    swapped: u64,
}

impl Map {
    /// Whether the writable data of a program or library may lie here.
    fn may_hold_root(&self) -> bool {
        self.permissions.starts_with("rw") && self.permissions.ends_with('p') && self.name.starts_with('/')
    }
}

/// An address space that can be read.
trait Space: Memory {
    /// Its mappings, by address.
    fn maps(&self) -> &[Map];
    /// How many bytes of a range, which begins and ends at pages of 4096 bytes, are in memory. Where that is not known, pages
    /// of nothing but zeroes count if `is_used`.
    fn resident(&self, start: usize, bytes: usize, is_used: bool) -> u64;
    /// What is known of the process as a whole; the heap's part is left open.
    fn process(&self) -> Process;
    /// Whether anything of a range was ever touched: reading the rest of a process would bring in what it never asked for.
    fn was_touched(&self, start: usize, bytes: usize) -> bool;
    /// Whether it can still be read; otherwise why not.
    fn confirm(&self) -> Result<(), Obstacle>;
    /// Where files are mapped, and below which folder those are found.
    fn files(&self) -> (Vec<Map>, PathBuf);
    /// The coarse monotonic clock as of the look, in milliseconds; `None` in a core file.
    fn now_ms(&self) -> Option<u64>;
}

/// A heap that is read more than once.
pub struct Heap {
    space: Box<dyn Space>,
    root: Root,
    name: String,
}

impl Heap {
    /// Finds the heap of a process or in a core file.
    pub fn open(target: &Target) -> Result<Self, Failure> {
        let name = target.name();
        let found = match target {
            Target::Process(pid) => process::Live::open(*pid).map(|live| Box::new(live) as Box<dyn Space>),
            Target::File(path) => core::Core::open(path).map(|core| Box::new(core) as Box<dyn Space>),
        };
        let found = found.and_then(|space| {
            let root = find_root(&*space);
            space.confirm().and(root).map(|(root, _)| (space, root))
        });
        match found {
            Ok((space, root)) => Ok(Self { space, root, name }),
            Err(obstacle) => Err(Failure::CannotLook(name, obstacle)),
        }
    }

    /// Its memory and its root.
    pub fn parts(&self) -> (&dyn Memory, &Root) {
        (&*self.space, &self.root)
    }

    /// Whether the process is still there.
    pub fn is_there(&self) -> bool {
        self.space.confirm().is_ok()
    }

    /// The names of what lies at addresses of its code.
    pub fn symbols(&self) -> Symbols {
        let (maps, root) = self.space.files();
        Symbols::new(maps, root)
    }

    /// The failure to read a part of it.
    pub fn unreadable(&self, what: &str) -> Failure {
        let error = io::Error::other(format!("{what} cannot be read"));
        Failure::CannotLook(self.name.clone(), Obstacle::System(error))
    }
}

/// The mappings that a text of the form of `/proc/PID/smaps` tells of.
#[cfg(test)]
pub fn maps_of(smaps: &str) -> Vec<Map> {
    process::parse(smaps)
}

/// Looks at a process.
pub fn look(pid: u32) -> Result<Snapshot, Failure> {
    let failed = |obstacle| Failure::CannotLook(format!("process {pid}"), obstacle);
    let space = process::Live::open(pid).map_err(failed)?;
    let looked = look_into(&space);
    // What a process that ends has left gives any of the errors, or none.
    space.confirm().map_err(failed)?;
    looked.map_err(failed)
}

/// Looks at a core file.
pub fn look_at_core(path: &Path) -> Result<Snapshot, Failure> {
    let looked = core::Core::open(path).and_then(|core| look_into(&core));
    looked.map_err(|obstacle| Failure::CannotLook(path.display().to_string(), obstacle))
}

/// Dumps what lies at an address of a process's heap, byte by byte.
pub fn dump(pid: u32, address: usize, extent: Extent) -> Result<String, Failure> {
    let failed = |obstacle| Failure::CannotLook(format!("process {pid}"), obstacle);
    let space = process::Live::open(pid).map_err(failed)?;
    let dumped = dump_from(&space, address, extent);
    space.confirm().map_err(failed)?;
    dumped.map_err(failed)
}

/// Dumps what lies at an address of the heap in a core file.
pub fn dump_core(path: &Path, address: usize, extent: Extent) -> Result<String, Failure> {
    let dumped = core::Core::open(path).and_then(|core| dump_from(&core, address, extent));
    dumped.map_err(|obstacle| Failure::CannotLook(path.display().to_string(), obstacle))
}

fn dump_from(space: &dyn Space, address: usize, extent: Extent) -> Result<String, Obstacle> {
    let (root, _) = find_root(space)?;
    let mut text = String::new();
    inspect::write_dump(space, &root, address, extent, &mut text)?;
    Ok(text)
}

fn look_into(space: &dyn Space) -> Result<Snapshot, Obstacle> {
    let (root, others) = find_root(space)?;
    let mut snapshot = fill::snapshot(space, &root);
    if others > 0 {
        snapshot.notes.push(match others {
            1 => "another copy of Terrace is in the process; this is the heap of the larger".to_owned(),
            _ => format!("{others} more copies of Terrace are in the process; this is the heap of the largest"),
        });
    }
    Ok(snapshot)
}

/// The root of the largest heap, and how many others there are that gave out memory, too.
fn find_root(space: &dyn Space) -> Result<(Root, usize), Obstacle> {
    let mut obstacle = Obstacle::NoTerrace;
    let mut roots = Vec::new();
    for map in space.maps().iter().filter(|map| map.may_hold_root()) {
        for address in roots_in(space, map) {
            match Root::read(space, address) {
                Ok(root) if root.page_bytes() == 0 => obstacle = Obstacle::NotBegun,
                Ok(root) => roots.push(root),
                Err(error) => obstacle = error.into(),
            }
        }
    }
    let others = roots.len().saturating_sub(1);
    let largest = roots.into_iter().max_by_key(|root| {
        let mut size = Size(0);
        inspect::walk(space, root, &mut size);
        size.0
    });
    largest.map(|root| (root, others)).ok_or(obstacle)
}

/// Bytes of segments and large mappings.
struct Size(usize);

impl Visitor for Size {
    fn segment(&mut self, segment: &inspect::Segment) {
        self.0 = self.0.saturating_add(segment.bytes);
    }
    fn mapping(&mut self, mapping: &inspect::Mapping) {
        self.0 = self.0.saturating_add(mapping.bytes);
    }
}

/// Where in a mapping something says that it is a root.
fn roots_in(space: &dyn Space, map: &Map) -> Vec<usize> {
    const PAGE: usize = 4096;
    let mut found = Vec::new();
    let mut page = vec![0; PAGE];
    for start in (map.start..map.end).step_by(PAGE) {
        // A root's page was written when the library was loaded.
        if !space.was_touched(start, PAGE) || space.read(start, &mut page).is_err() {
            continue;
        }
        for offset in (0..PAGE).step_by(8).filter(|&offset| page[offset..].starts_with(&MAGIC)) {
            let (address, mut own) = (start + offset, [0; 8]);
            let is_own = space.read(address + OWN_ADDRESS, &mut own).is_ok() && usize::from_ne_bytes(own) == address;
            found.extend(is_own.then_some(address));
        }
    }
    found
}
