//! What kind of program a file is, as far as preloading is concerned: read from its ELF headers.

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, ReadCache, ReadRef};
use std::fs::File;
use std::io;
use std::path::Path;

/// The parts of an ELF file's headers that decide whether a library can be preloaded into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    machine: Machine,
    shared_object: bool,
    dynamic: bool,
}

/// A dynamic loader takes only libraries of its own kind.
#[derive(Clone, Debug, PartialEq)]
struct Machine {
    architecture: elf::Machine,
    is_64_bit: bool,
    is_little_endian: bool,
}

impl Image {
    /// Reads the headers of a file; `None` when it is not an ELF file.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = ReadCache::new(File::open(path)?);
        Ok(match FileKind::parse(&file) {
            Ok(FileKind::Elf32) => Self::of_headers::<elf::FileHeader32<Endianness>, _>(&file),
            Ok(FileKind::Elf64) => Self::of_headers::<elf::FileHeader64<Endianness>, _>(&file),
            _ => None,
        })
    }

    fn of_headers<'data, H, R>(file: R) -> Option<Self>
    where
        H: FileHeader,
        R: ReadRef<'data>,
    {
        let header = H::parse(file).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, file).ok()?;
        Some(Self {
            machine: Machine {
                architecture: header.e_machine(endian),
                is_64_bit: header.is_type_64(),
                is_little_endian: header.is_little_endian(),
            },
            shared_object: header.e_type(endian) == elf::ET_DYN,
            dynamic: segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP),
        })
    }

    /// Whether the file can be loaded at any address, as a library must be.
    pub fn is_shared_object(&self) -> bool {
        self.shared_object
    }

    /// Whether the kernel hands the program to a dynamic loader, which is the one that preloads. A position-independent
    /// static program is a shared object, too, so the type of the file does not tell.
    pub fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// Whether both files are for the same kind of machine.
    pub fn same_machine(&self, other: &Self) -> bool {
        self.machine == other.machine
    }
}
