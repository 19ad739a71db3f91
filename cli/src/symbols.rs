//! What return addresses mean: functions, files and lines, from the tables in the files that a process has mapped. The allocator
//! itself knows none of this.

use crate::remote::Map;
use addr2line::Loader;
use object::read::elf::FileHeader;
use object::{Endianness, ReadCache, elf};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

/// The files of one process, opened as they are needed.
pub struct Symbols {
    maps: Vec<Map>,
    /// What stands before a file's name: another root for a process in a container.
    root: PathBuf,
    files: HashMap<String, Option<Image>>,
}

struct Image {
    loader: Loader,
    /// Whether its addresses are those in memory, as linked.
    is_fixed: bool,
}

impl Symbols {
    /// For a process with these mappings, whose files are found below `root`.
    pub fn new(maps: Vec<Map>, root: PathBuf) -> Self {
        Self { maps, root, files: HashMap::new() }
    }

    /// Whether an address lies in the allocator, as a library of its own.
    pub fn is_of_library(&self, address: usize) -> bool {
        let map = self.maps.iter().find(|map| (map.start..map.end).contains(&address));
        map.and_then(|map| map.name.rsplit('/').next()).is_some_and(|name| name.starts_with("libterrace"))
    }

    /// The place of the call that returns to an address: a line for the function that has it, and one for each that was inlined there,
    /// the innermost first. Without such tables, the file and the offset in it. `None` where there is no code.
    pub fn of(&mut self, address: usize) -> Option<Vec<String>> {
        let map = self.maps.iter().find(|map| (map.start..map.end).contains(&address))?;
        // In a core file the kernel's own page has no name.
        if !map.permissions.contains('x') {
            return None;
        }
        let name = map.name.clone();
        let first = self.maps.iter().find(|other| other.name == name).map_or(map.start, |first| first.start);
        let plain = if name.is_empty() { format!("{address:#x}") } else { format!("{name}+{:#x}", address - first) };
        let root = &self.root;
        let image = self.files.entry(name).or_insert_with_key(|name| Image::open(root, name));
        let Some(image) = image else { return Some(vec![plain]) };
        let within = (if image.is_fixed { address } else { address - first }) as u64;
        // The call lies before the address to which it returns.
        let places = image.places(within.saturating_sub(1));
        Some(if places.is_empty() { vec![plain] } else { places })
    }
}

impl Image {
    fn open(root: &std::path::Path, name: &str) -> Option<Self> {
        let path = root.join(name.strip_prefix('/')?);
        let cache = ReadCache::new(File::open(&path).ok()?);
        let header = elf::FileHeader64::<Endianness>::parse(&cache).ok()?;
        let is_fixed = header.e_type(header.endian().ok()?) == elf::ET_EXEC;
        Some(Self { loader: Loader::new(&path).ok()?, is_fixed })
    }

    fn places(&self, address: u64) -> Vec<String> {
        let mut places = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let Some(function) = frame.function else { continue };
                let name = function.demangle().map_or_else(|_| "?".to_owned(), Cow::into_owned);
                let line = frame.location.and_then(|location| Some((location.file?, location.line?)));
                places.push(line.map_or_else(|| name.clone(), |(file, line)| format!("{name} at {file}:{line}")));
            }
        }
        if places.is_empty()
            && let Some(symbol) = self.loader.find_symbol(address)
        {
            places.push(addr2line::demangle_auto(Cow::Borrowed(symbol), None).into_owned());
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn well_known() -> usize {
        let here: fn() -> usize = well_known;
        here as usize
    }

    /// This program's own functions, by its own mappings.
    #[test]
    fn an_address_of_this_program_has_its_name_and_line() {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut symbols = Symbols::new(crate::remote::maps_of(&maps), "/".into());
        // Some bytes behind the beginning, as a return address is.
        let places = symbols.of(well_known() + 5).unwrap();
        let last = places.last().unwrap();
        assert!(last.contains("well_known") && last.contains("symbols.rs:"), "{places:?}");
        assert_eq!(symbols.of(8), None);
        let on_the_stack = 0_u8;
        assert_eq!(symbols.of((&raw const on_the_stack).addr()), None, "there is no code");
    }
}
