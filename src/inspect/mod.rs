//! Looking into a heap: of this process, of another one, or of a dead one in a core file.
//!
//! A reader needs the bytes ([`Memory`]) and the place of the [`Root`]. [`walk()`] then tells a [`Visitor`] of every arena,
//! thread cache, segment, zone and mapping; [`walk_blocks`] tells what each block of a slab is. Nothing here takes a lock,
//! allocates or trusts what it reads: threads may go on meanwhile, bytes may be corrupt. Chains are followed as far as they
//! can reach, what does not fit together is told to the visitor as [`Trouble`], and the walk goes on with the next structure.
//!
//! Of a process that goes on, each record is right as of some moment of the walk, but not all as of the same.
//!
//! ```
//! use terrace::inspect::{self, Content, Visitor, Zone};
//!
//! #[global_allocator]
//! static GLOBAL: terrace::Terrace = terrace::Terrace;
//!
//! #[derive(Default)]
//! struct Live(usize);
//!
//! impl Visitor for Live {
//!     fn zone(&mut self, zone: &Zone) {
//!         self.0 += match &zone.content {
//!             Content::Slab(slab) => slab.out() * slab.block_size,
//!             Content::Medium => zone.bytes,
//!             _ => 0,
//!         };
//!     }
//! }
//!
//! let words = vec![0_u8; 1000];
//! let mut live = Live::default();
//! inspect::walk_own(&mut live)?;
//! assert!(live.0 >= words.len());
//! # Ok::<(), inspect::Error>(())
//! ```

mod blocks;
mod checked;
mod dump;
mod reader;
mod records;
pub(crate) mod root;
mod settings;
mod text;
mod walk;

pub use blocks::{BlockState, walk_blocks};
pub use dump::{Extent, write_dump};
pub use records::{
    Arena, Cache, CacheClass, Checked, Content, Mapping, Process, Segment, Slab, SystemCalls, Trouble, Visitor, Zone,
};
pub use root::{MAGIC, MAX_CLASSES, OWN_ADDRESS, Root, VERSION, own_root};
pub use settings::settings;
pub use text::{Detail, write_map};
pub use walk::{outline, walk};

use crate::os;
use core::fmt;

/// Where the bytes of a heap come from.
pub trait Memory {
    /// Copies the bytes from `address` on.
    ///
    /// # Errors
    /// When not all of them can be had. What `into` holds then is of no account.
    fn read(&self, address: usize, into: &mut [u8]) -> Result<(), Unreadable>;
}

/// Bytes that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where the first of the bytes wanted lies.
    pub address: usize,
}

/// Why there is no looking into a heap at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The root cannot be read.
    Unreadable(Unreadable),
    /// There is no root at that address.
    NoRoot(Unreadable),
    /// The root is of this version, which is not [`VERSION`].
    Version(u32),
    /// What is named here, at that address, cannot be what it should be.
    Contradiction(&'static str, usize),
    /// There is nothing of the heap at that address.
    NoHeap(usize),
    /// The text could not be written.
    Unwritten,
}

impl From<Unreadable> for Error {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(Unreadable { address }) => write!(f, "the memory at {address:#x} cannot be read"),
            Self::NoRoot(Unreadable { address }) => write!(f, "there is no heap's root at {address:#x}"),
            Self::Version(version) => {
                write!(f, "the heap's root is of version {version}; this program reads version {VERSION}")
            }
            Self::NoHeap(address) => write!(f, "there is nothing of the heap at {address:#x}"),
            Self::Unwritten => write!(f, "the text could not be written"),
            Self::Contradiction(what, address) => write!(f, "{what}, at {address:#x}, is corrupt"),
        }
    }
}

impl core::error::Error for Error {}

/// The memory of this process. Addresses that are not mapped, or not any more, cannot be read; that is all.
#[derive(Clone, Copy, Default, Debug)]
pub struct Own;

impl Memory for Own {
    fn read(&self, address: usize, into: &mut [u8]) -> Result<(), Unreadable> {
        if os::copy_own_memory(address, into) { Ok(()) } else { Err(Unreadable { address }) }
    }
}

/// Walks the heap of this process.
///
/// # Errors
/// When the kernel does not let the process read its own memory (`process_vm_readv`), as in some sandboxes.
pub fn walk_own(visitor: &mut dyn Visitor) -> Result<(), Error> {
    let root = Root::read(&Own, own_root())?;
    walk(&Own, &root, visitor);
    Ok(())
}

/// As [`walk_own`], for the process, the arenas and the caches alone.
///
/// # Errors
/// As for [`walk_own`].
pub fn outline_own(visitor: &mut dyn Visitor) -> Result<(), Error> {
    let root = Root::read(&Own, own_root())?;
    outline(&Own, &root, visitor);
    Ok(())
}

/// Writes the zones of this process's heap, the blocks if asked for, and the totals.
///
/// # Errors
/// As for [`walk_own`], and when the text cannot be written.
pub fn write_own_map(detail: Detail, out: &mut dyn fmt::Write) -> Result<(), Error> {
    write_map(&Own, &Root::read(&Own, own_root())?, detail, out)
}

/// Writes a hex dump of the block or zone of this process's heap that an address lies in, with the state of each byte.
///
/// ```
/// use terrace::inspect::{self, Extent};
///
/// #[global_allocator]
/// static GLOBAL: terrace::Terrace = terrace::Terrace;
///
/// let (word, mut text) = (Box::new(*b"rain"), String::new());
/// inspect::write_own_dump(word.as_ptr(), Extent::Block, &mut text)?;
/// assert!(text.contains("72 61 69 6e") && text.contains("LLLL"));
/// # Ok::<(), inspect::Error>(())
/// ```
///
/// # Errors
/// As for [`walk_own`], when there is nothing of the heap at the address, and when the text cannot be written.
pub fn write_own_dump(address: *const u8, extent: Extent, out: &mut dyn fmt::Write) -> Result<(), Error> {
    write_dump(&Own, &Root::read(&Own, own_root())?, address.addr(), extent, out)
}
