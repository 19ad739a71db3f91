//! One look at a process on Terrace: what its heap held and what the kernel counted, at one time.
//!
//! [`remote`](crate::remote) fills it from a live process or a core file; the views show it; `--json` writes it as it stands
//! here. The form is described by `docs/snapshot.schema.json`. All addresses and lengths are in bytes. Addresses are below
//! 2^48, so that every reader of JSON can hold them. While the process goes on, figures of different parts can be some
//! calls apart.

use serde::{Deserialize, Serialize};

/// What changes when a reader of the old form would misread the new one.
pub const FORM: u32 = 1;

/// One look at a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The version of this form, 1.
    pub form: u32,
    /// Which process, and when.
    pub process: Process,
    /// The options that the process runs with, by their names in docs/options.md, but for those whose value was left to the library.
    pub options: Vec<Setting>,
    /// The arenas that have segments, by number.
    pub arenas: Vec<Arena>,
    /// Large blocks and freed mappings that are kept, by address.
    pub large: Vec<Large>,
    /// The thread caches, those that no thread has among them.
    pub caches: Vec<Cache>,
    /// The size classes, smallest first; those without a slab are left out.
    pub classes: Vec<Class>,
    /// The allocator's own structures outside of segments.
    pub metadata: Metadata,
    /// What the checks (`TERRACE_CHECK`) know, if any is on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checked: Option<Checked>,
    /// What the heap did since the process began.
    pub counters: Counters,
    /// The process's mappings by address, those of the allocator among them.
    pub mappings: Vec<Mapping>,
    /// What could not be read, or did not fit together: a sentence each.
    pub notes: Vec<String>,
}

/// Which process was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Where the bytes came from.
    pub source: Source,
    /// Its number; in a core file, the one it had.
    pub pid: u32,
    /// Its name, as the kernel has it.
    pub name: String,
    /// Its command line, or as much as is known of it.
    pub command: Vec<String>,
    /// When it was looked at (of a core file: when that was written), in milliseconds since the beginning of 1970 in UTC.
    pub time_ms: u64,
    /// The version of the library, such as 0.1.0.
    pub library: String,
    /// The kernel's page, in bytes.
    pub page_bytes: u64,
    /// Memory of the whole process, in bytes: the sum of the mappings' resident memory.
    pub resident_bytes: u64,
    /// Memory of the process that was swapped out, in bytes.
    pub swapped_bytes: u64,
    /// Whether the kernel told which pages are in memory. In a core file, pages that it holds count as resident.
    pub is_residency_exact: bool,
}

/// Where a snapshot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A process that went on while it was looked at.
    Live,
    /// A process that was stopped.
    Stopped,
    /// A core file.
    Core,
}

/// An option and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its name, such as `purge_delay_ms`.
    pub name: String,
    /// Its value, as one would write it in the environment.
    pub value: String,
}

/// An arena that has segments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Arena {
    /// Its number, from 0.
    pub number: u32,
    /// Its segments, by address.
    pub segments: Vec<Segment>,
}

/// A segment: 4 MiB of address space, aligned to its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its first byte.
    pub start: u64,
    /// Its length, in bytes.
    pub bytes: u64,
    /// Whether the memory came from the break (`brk`); else it was mapped.
    pub from_break: bool,
    /// The zones that fill it without a gap, by address. The first is its header.
    pub zones: Vec<Zone>,
}

/// Pages of a segment with one use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Zone {
    /// Its first byte, a multiple of 4096.
    pub start: u64,
    /// Its length in bytes, a multiple of 4096.
    pub bytes: u64,
    /// How much of it is in memory, in bytes.
    pub resident_bytes: u64,
    /// What it is used for.
    #[serde(flatten)]
    pub content: Content,
}

/// What a zone is used for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Content {
    /// The segment's own tables.
    Header,
    /// Blocks of one size class.
    Slab(Slab),
    /// One block, with pages of its own.
    Medium,
    /// Free pages that were used before and are kept for reuse: until the purge delay is over, or as long as a thread has them at hand.
    Dirty {
        /// How long they have been free, in milliseconds; unknown in a core file.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        free_ms: Option<u64>,
    },
    /// Free pages without memory. The little that is resident here was touched by accident of larger kernel pages.
    Clean,
    /// What could not be read, or made no sense.
    Unknown,
}

impl Content {
    /// One word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Slab(_) => "slab",
            Self::Medium => "medium",
            Self::Dirty { .. } => "dirty",
            Self::Clean => "clean",
            Self::Unknown => "unknown",
        }
    }
}

/// A slab: `capacity = out + listed + bare + uncarved`, in blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Slab {
    /// The size of a block, in bytes.
    pub block_bytes: u64,
    /// How many blocks it can hold.
    pub capacity: u32,
    /// Blocks that the program holds, or that lie in magazines, outboxes and inboxes.
    pub out: u32,
    /// Free blocks on the slab's list.
    pub listed: u32,
    /// Free blocks whose pages were returned to the kernel, wholly or in part.
    pub bare: u32,
    /// Blocks that were never made.
    pub uncarved: u32,
    /// The number of the cache that owns it, if that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<u32>,
    /// How long it has had blocks on its list without a break, in milliseconds, if that is noted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub free_ms: Option<u64>,
}

/// A mapping for large blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Large {
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// How much of it is in memory, in bytes.
    pub resident_bytes: u64,
    /// Whether a block of the program lies in it; else it was freed and is kept for reuse.
    pub is_live: bool,
    /// Whether guard pages, which belong to its length, lie around the block: one of the checks' (`TERRACE_CHECK=guards`). Freed, it is
    /// kept in quarantine.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_guarded: bool,
    /// How long it has been free, in milliseconds; unknown in a core file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub free_ms: Option<u64>,
}

/// A thread cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Its number in this snapshot, from 0; slabs name their owner by it.
    pub number: u32,
    /// Where its record lies.
    pub address: u64,
    /// Whether a thread has it.
    pub state: CacheState,
    /// The thread that has it, as the kernel numbers threads, if that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub thread: Option<u32>,
    /// How long ago its thread was last seen on a slow path, in milliseconds; unknown in a core file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seen_ms: Option<u64>,
    /// Free blocks that its thread has at hand, in bytes.
    pub magazine_bytes: u64,
    /// Blocks of others that its thread freed and has not sent home yet, in bytes.
    pub outbox_bytes: u64,
    /// Its own blocks that other threads sent home and nobody has taken yet, in bytes.
    pub inbox_bytes: u64,
    /// The slabs that it owns.
    pub slabs: u32,
    /// Their length, in bytes.
    pub slab_bytes: u64,
}

/// Whether a thread has a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CacheState {
    /// A thread has it.
    Attached,
    /// Its thread has ended, and another may take it.
    Dormant,
}

/// A size class: `out = live + in_magazines + in_outboxes + in_inboxes`, in blocks, where `out` is what its slabs count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The size of a block, in bytes.
    pub block_bytes: u64,
    /// Slabs of the class.
    pub slabs: u32,
    /// The length of those slabs, in bytes.
    pub slab_bytes: u64,
    /// How much of them is in memory, in bytes.
    pub resident_bytes: u64,
    /// Blocks that the program holds.
    pub live: u64,
    /// Blocks at hand in magazines.
    pub in_magazines: u64,
    /// Blocks that another thread freed and has not sent home yet.
    pub in_outboxes: u64,
    /// Blocks that were sent home and nobody has taken yet.
    pub in_inboxes: u64,
    /// Free blocks on the lists of their slabs.
    pub listed: u64,
    /// Free blocks whose pages were returned to the kernel, wholly or in part.
    pub bare: u64,
    /// Blocks that were never made.
    pub uncarved: u64,
}

/// The allocator's own structures outside of segments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Address space that they were given, in bytes.
    pub bytes: u64,
    /// How much of it is in memory, in bytes.
    pub resident_bytes: u64,
}

/// Blocks that the checks know. Each lies, with what is put around it, in a block or mapping that counts as live elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Checked {
    /// Blocks that the program holds.
    pub live: u64,
    /// What was asked for, in bytes.
    pub live_bytes: u64,
    /// Freed blocks in quarantine.
    pub quarantined: u64,
    /// What had been asked for, in bytes.
    pub quarantined_bytes: u64,
}

/// What the heap did since the process began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Times a magazine was filled from slabs or from what other threads sent.
    pub refills: u64,
    /// Times a full magazine's older half went back to the slabs.
    pub flushes: u64,
    /// Freed blocks of other threads' caches that were sent home.
    pub remote_frees: u64,
    /// Chains in which those blocks went home.
    pub remote_batches: u64,
    /// System calls that mapped memory (`mmap`).
    pub mmap: u64,
    /// System calls that gave mappings back (`munmap`).
    pub munmap: u64,
    /// System calls that moved or resized mappings (`mremap`).
    pub mremap: u64,
    /// System calls that gave pages back (`madvise`).
    pub madvise: u64,
    /// System calls that moved the break (`brk`).
    pub brk: u64,
}

/// A mapping of the process, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// How much of it is in memory, in bytes.
    pub resident_bytes: u64,
    /// How much of that is segments, large mappings and metadata of the allocator, in bytes.
    pub heap_resident_bytes: u64,
    /// The file that is mapped, or what the kernel calls it (`[stack]`, `[heap]`); empty for unnamed memory.
    pub name: String,
    /// What may be done with it, as in `rw-p`.
    pub permissions: String,
}

/// A look at a small server, the same for all tests.
#[cfg(test)]
pub fn sample() -> Snapshot {
    serde_json::from_str(include_str!("../tests/inspect/server.json")).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = include_str!("../../docs/snapshot.schema.json");

    #[test]
    fn the_schema_in_the_docs_is_that_of_this_form() {
        let now = serde_json::to_string_pretty(&schemars::schema_for!(Snapshot)).unwrap() + "\n";
        if now != SCHEMA && std::env::var_os("BLESS").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/snapshot.schema.json"), &now).unwrap();
        }
        assert!(now == SCHEMA, "docs/snapshot.schema.json is out of date; run the test once more with BLESS=1");
    }

    #[test]
    fn a_look_passes_the_schema_and_comes_back_as_it_was() {
        let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let mut written = serde_json::to_value(sample()).unwrap();
        assert_eq!(validator.validate(&written).map_err(|error| error.to_string()), Ok(()));
        assert_eq!(serde_json::from_value::<Snapshot>(written.clone()).unwrap(), sample());

        written["arenas"][0]["segments"][0]["zones"][1]["kind"] = "slob".into();
        assert!(!validator.is_valid(&written), "a kind of zone that does not exist");
        let mut without_process = serde_json::to_value(sample()).unwrap();
        without_process.as_object_mut().unwrap().remove("process");
        assert!(!validator.is_valid(&without_process));
    }
}
