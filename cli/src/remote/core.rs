//! A core file: what a process left when it died, or what a debugger wrote of it.
//!
//! Which pages were in memory it does not say: of those that it holds, the ones in use count, and of the others those that
//! are not all zero.

use super::{Map, Obstacle, Space};
use crate::snapshot::{Process, Source};
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{NativeEndian, ReadCache};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use terrace_core::inspect::{Memory, Unreadable};

const PAGE: usize = 4096;
/// Types of notes that the kernel writes: a process's name and arguments, its auxiliary vector, its mapped files.
const PRPSINFO: u32 = 3;
const AUXV: u32 = 6;
const FILES: u32 = 0x4649_4c45;
/// The key of the page's size in the auxiliary vector.
const PAGE_SIZE: u64 = 6;

/// A range of addresses whose bytes the file holds, from the front as far as it does.
struct Part {
    start: usize,
    bytes: usize,
    offset: u64,
    held: usize,
}

/// A core file that was opened.
pub struct Core {
    file: File,
    parts: Vec<Part>,
    maps: Vec<Map>,
    /// Mappings of files, those among them whose bytes nobody wrote down.
    files: Vec<Map>,
    process: Process,
}

impl Core {
    /// Reads the headers and notes.
    pub fn open(path: &Path) -> Result<Self, Obstacle> {
        let file = File::open(path).map_err(Obstacle::System)?;
        let metadata = file.metadata().map_err(Obstacle::System)?;
        let cache = ReadCache::new(file.try_clone().map_err(Obstacle::System)?);
        let header = elf::FileHeader64::<NativeEndian>::parse(&cache).map_err(|_| Obstacle::NotACore)?;
        let endian = header.endian().map_err(|_| Obstacle::NotACore)?;
        if header.e_type(endian) != elf::ET_CORE || header.e_machine(endian) != MACHINE {
            return Err(Obstacle::NotACore);
        }
        let segments = header.program_headers(endian, &cache).map_err(|_| Obstacle::Truncated(1))?;
        let end = segments.iter().filter_map(|segment| segment.p_offset(endian).checked_add(segment.p_filesz(endian)));
        let missing = end.max().unwrap_or(0).saturating_sub(metadata.len());
        if missing > 0 {
            return Err(Obstacle::Truncated(missing));
        }
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let mut core = Self {
            file,
            parts: Vec::new(),
            maps: Vec::new(),
            files: Vec::new(),
            process: Process {
                source: Source::Core,
                pid: 0,
                name: String::new(),
                command: Vec::new(),
                time_ms: modified.map_or(0, |since| since.as_millis() as u64),
                library: String::new(),
                page_bytes: PAGE as u64,
                resident_bytes: 0,
                swapped_bytes: 0,
                is_residency_exact: false,
            },
        };
        for segment in segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD) {
            let (start, bytes) = (segment.p_vaddr(endian) as usize, segment.p_memsz(endian) as usize);
            let (Some(end), held) = (start.checked_add(bytes), segment.p_filesz(endian) as usize) else {
                return Err(Obstacle::NotACore);
            };
            core.parts.push(Part { start, bytes, offset: segment.p_offset(endian), held: held.min(bytes) });
            let flag =
                |bit: elf::ProgramFlags, letter| if segment.p_flags(endian).contains(bit) { letter } else { '-' };
            let permissions =
                [flag(elf::PF_R, 'r'), flag(elf::PF_W, 'w'), flag(elf::PF_X, 'x'), 'p'].into_iter().collect();
            core.maps.push(Map { start, end, permissions, ..Map::default() });
        }
        core.parts.sort_by_key(|part| part.start);
        core.maps.sort_by_key(|map| map.start);
        for segment in segments {
            let Ok(Some(mut notes)) = segment.notes(endian, &cache) else { continue };
            while let Ok(Some(note)) = notes.next() {
                match note.n_type(endian).0 {
                    PRPSINFO => core.take_process(note.desc()),
                    AUXV => core.take_page_size(note.desc()),
                    FILES => core.take_files(note.desc()),
                    _ => {}
                }
            }
        }
        for index in 0..core.maps.len() {
            let (start, end) = (core.maps[index].start, core.maps[index].end);
            core.maps[index].resident = core.resident(start, end - start, false);
        }
        core.process.resident_bytes = core.maps.iter().map(|map| map.resident).sum();
        Ok(core)
    }

    /// `struct elf_prpsinfo` of 64-bit machines.
    fn take_process(&mut self, note: &[u8]) {
        let text = |range: std::ops::Range<usize>| {
            let bytes = note.get(range).unwrap_or_default();
            String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
        };
        let pid = note.get(24..28).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
        self.process.pid = pid;
        self.process.name = text(40..56);
        // The kernel puts blanks between the words, so the words are not known for sure.
        self.process.command = text(56..136).split_whitespace().map(str::to_owned).collect();
    }

    fn take_page_size(&mut self, note: &[u8]) {
        if let Some(pair) = words(note).collect::<Vec<_>>().chunks_exact(2).find(|pair| pair[0] == PAGE_SIZE) {
            self.process.page_bytes = pair[1];
        }
    }

    /// The number of files, the unit of offsets, for each file its first address, its end and its offset; then the names.
    fn take_files(&mut self, note: &[u8]) {
        let count = words(note).next().unwrap_or(0).min(note.len() as u64 / 24) as usize;
        let ranges: Vec<u64> = words(note).skip(2).take(count * 3).collect();
        let names = note.get(16 + count * 24..).unwrap_or_default().split(|&byte| byte == 0);
        for (range, name) in ranges.chunks_exact(3).zip(names) {
            let name = String::from_utf8_lossy(name).into_owned();
            let (start, end) = (range[0] as usize, range[1] as usize);
            let mut is_listed = false;
            for map in self.maps.iter_mut().filter(|map| (start..end).contains(&map.start)) {
                map.name.clone_from(&name);
                self.files.push(map.clone());
                is_listed = true;
            }
            if !is_listed {
                // What may be done with it is not known: it can be code.
                self.files.push(Map { start, end, permissions: "r-xp".to_owned(), name, ..Map::default() });
            }
        }
    }

    fn part_around(&self, address: usize) -> Option<&Part> {
        let after = self.parts.partition_point(|part| part.start <= address);
        self.parts[..after].last().filter(|part| address - part.start < part.bytes)
    }
}

#[cfg(target_arch = "x86_64")]
const MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: elf::Machine = elf::EM_AARCH64;

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()))
}

impl Memory for Core {
    fn read(&self, address: usize, into: &mut [u8]) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address };
        let (mut at, mut rest) = (address, into);
        while !rest.is_empty() {
            let part = self.part_around(at).ok_or(unreadable)?;
            let len = rest.len().min(part.held.saturating_sub(at - part.start));
            if len == 0 {
                return Err(unreadable);
            }
            let (front, back) = rest.split_at_mut(len);
            self.file.read_exact_at(front, part.offset + (at - part.start) as u64).map_err(|_| unreadable)?;
            (at, rest) = (at.checked_add(len).ok_or(unreadable)?, back);
        }
        Ok(())
    }
}

impl Space for Core {
    fn maps(&self) -> &[Map] {
        &self.maps
    }

    fn was_touched(&self, _start: usize, _bytes: usize) -> bool {
        true
    }

    fn resident(&self, start: usize, bytes: usize, is_used: bool) -> u64 {
        const CHUNK: usize = 64 * PAGE;
        let mut chunk = vec![0; CHUNK];
        let mut resident = 0;
        let mut at = start;
        while at < start + bytes {
            let Some(part) = self.part_around(at) else { break };
            let held = (part.start + part.held).saturating_sub(at).min(start + bytes - at).min(CHUNK);
            if held == 0 || self.read(at, &mut chunk[..held]).is_err() {
                at = part.start + part.bytes;
                continue;
            }
            let pages = chunk[..held].chunks(PAGE).filter(|page| is_used || page.iter().any(|&byte| byte != 0));
            resident += pages.map(|page| page.len() as u64).sum::<u64>();
            at += held;
        }
        resident
    }

    fn process(&self) -> Process {
        self.process.clone()
    }

    fn confirm(&self) -> Result<(), Obstacle> {
        Ok(())
    }

    fn files(&self) -> (Vec<Map>, PathBuf) {
        (self.files.clone(), PathBuf::from("/"))
    }

    fn now_ms(&self) -> Option<u64> {
        None
    }
}
