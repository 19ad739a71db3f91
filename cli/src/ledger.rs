//! The ledger: on which account each byte of a process's resident memory stands.
//!
//! A slab's pages hold blocks in several states. Blocks that were never touched have no memory; so where a class's blocks come
//! to more than its resident pages, each account of the class gets its share of what is resident.

use crate::snapshot::{Class, Content, Snapshot, Zone};

/// Resident memory by account, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Blocks of up to 32 KiB that the program holds.
    pub small: u64,
    /// Blocks with pages of their own that the program holds.
    pub medium: u64,
    /// Blocks with a mapping of their own that the program holds.
    pub large: u64,
    /// Free blocks that threads have at hand.
    pub magazines: u64,
    /// Freed blocks on their way home, in outboxes and inboxes.
    pub in_transit: u64,
    /// Free blocks of slabs, in pages that have memory.
    pub listed: u64,
    /// What is left over in slabs: rounding, parts not carved, edges of returned pages.
    pub slack: u64,
    /// Free pages that were used before and are kept until the purge delay is over.
    pub dirty: u64,
    /// Freed large mappings that are kept until the purge delay is over.
    pub large_kept: u64,
    /// The allocator's own structures.
    pub metadata: u64,
    /// Resident pages of the heap that count as free and clean, or could not be read.
    pub stray: u64,
    /// Files: the program, its libraries, and what it mapped.
    pub files: u64,
    /// Stacks that the kernel names so.
    pub stacks: u64,
    /// Other memory without a name, such as threads' stacks and what the program mapped itself.
    pub anonymous: u64,
    /// What the kernel counts beyond the sum of all others; negative when it counts less. Arises when the process goes on
    /// while it is looked at.
    pub unexplained: i64,
    /// The sum of all.
    pub resident: u64,
}

impl Ledger {
    /// Adds up what a snapshot holds.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut ledger = Self { resident: snapshot.process.resident_bytes, ..Self::default() };
        for zone in zones(snapshot) {
            match zone.content {
                Content::Header => ledger.metadata += zone.resident_bytes,
                Content::Medium => ledger.medium += zone.resident_bytes,
                Content::Dirty { .. } => ledger.dirty += zone.resident_bytes,
                Content::Clean | Content::Unknown => ledger.stray += zone.resident_bytes,
                // By class: which of a slab's blocks lie in magazines is only known in sum.
                Content::Slab(_) => {}
            }
        }
        for class in &snapshot.classes {
            let parts = ClassParts::of(class);
            ledger.small += parts.live;
            ledger.magazines += parts.magazines;
            ledger.in_transit += parts.in_transit;
            ledger.listed += parts.listed;
            ledger.slack += parts.slack;
        }
        for large in &snapshot.large {
            *(if large.is_live { &mut ledger.large } else { &mut ledger.large_kept }) += large.resident_bytes;
        }
        ledger.metadata += snapshot.metadata.resident_bytes;
        for mapping in &snapshot.mappings {
            let account = match mapping.name.as_str() {
                name if name.starts_with("[stack") => &mut ledger.stacks,
                name if name.starts_with('/') => &mut ledger.files,
                _ => &mut ledger.anonymous,
            };
            *account += mapping.resident_bytes.saturating_sub(mapping.heap_resident_bytes);
        }
        let known = ledger.live() + ledger.held() + ledger.outside();
        ledger.unexplained = ledger.resident.cast_signed() - known.cast_signed();
        ledger
    }

    /// What the program holds.
    pub fn live(&self) -> u64 {
        self.small + self.medium + self.large
    }

    /// What the allocator holds beyond that.
    pub fn held(&self) -> u64 {
        self.caches() + self.fragmentation() + self.decaying() + self.metadata + self.stray
    }

    /// Free blocks in the hands of threads.
    pub fn caches(&self) -> u64 {
        self.magazines + self.in_transit
    }

    /// Free memory in pages that a slab has.
    pub fn fragmentation(&self) -> u64 {
        self.listed + self.slack
    }

    /// Free memory that goes back when the purge delay is over.
    pub fn decaying(&self) -> u64 {
        self.dirty + self.large_kept
    }

    /// What is not the heap's.
    pub fn outside(&self) -> u64 {
        self.files + self.stacks + self.anonymous
    }
}

/// The resident memory of a class's slabs by account, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassParts {
    pub live: u64,
    pub magazines: u64,
    pub in_transit: u64,
    pub listed: u64,
    pub slack: u64,
}

impl ClassParts {
    pub fn of(class: &Class) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(class.block_bytes);
        let whole = Self {
            live: bytes(class.live),
            magazines: bytes(class.in_magazines),
            in_transit: bytes(class.in_outboxes + class.in_inboxes),
            listed: bytes(class.listed),
            slack: 0,
        };
        let sum = whole.live + whole.magazines + whole.in_transit + whole.listed;
        if sum <= class.resident_bytes {
            return Self { slack: class.resident_bytes - sum, ..whole };
        }
        let part = |of: u64| (u128::from(of) * u128::from(class.resident_bytes) / u128::from(sum)) as u64;
        let (magazines, in_transit, listed) = (part(whole.magazines), part(whole.in_transit), part(whole.listed));
        Self { live: class.resident_bytes - magazines - in_transit - listed, magazines, in_transit, listed, slack: 0 }
    }

    /// Free memory in pages that the class's slabs have.
    pub fn fragmentation(&self) -> u64 {
        self.listed + self.slack
    }
}

/// All zones of all segments, by arena and address.
pub fn zones(snapshot: &Snapshot) -> impl Iterator<Item = &Zone> {
    snapshot.arenas.iter().flat_map(|arena| &arena.segments).flat_map(|segment| &segment.zones)
}

/// The classes by how much free memory their slabs' pages hold, the worst first; those without any are left out.
pub fn worst_fragmented(snapshot: &Snapshot) -> Vec<(&Class, ClassParts)> {
    let mut classes: Vec<_> = snapshot.classes.iter().map(|class| (class, ClassParts::of(class))).collect();
    classes.retain(|(_, parts)| parts.fragmentation() > 0);
    classes.sort_by_key(|(class, parts)| (std::cmp::Reverse(parts.fragmentation()), class.block_bytes));
    classes
}

/// Bytes of the blocks that the program holds, whether in memory or not.
pub fn live_bytes(snapshot: &Snapshot) -> u64 {
    let small: u64 = snapshot.classes.iter().map(|class| class.live * class.block_bytes).sum();
    let medium: u64 = zones(snapshot).filter(|zone| zone.content == Content::Medium).map(|zone| zone.bytes).sum();
    let large: u64 = snapshot.large.iter().filter(|large| large.is_live).map(|large| large.bytes).sum();
    small + medium + large
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;

    #[test]
    fn the_accounts_add_up_to_resident_memory() {
        let ledger = Ledger::of(&sample());
        assert_eq!(ledger.unexplained, 0);
        assert_eq!(ledger.live() + ledger.held() + ledger.outside(), ledger.resident);
        assert!([ledger.small, ledger.medium, ledger.large, ledger.magazines, ledger.listed].iter().all(|&n| n > 0));
    }

    #[test]
    fn what_the_kernel_counts_besides_is_shown_as_unexplained() {
        let mut snapshot = sample();
        snapshot.process.resident_bytes -= 4096;
        assert_eq!(Ledger::of(&snapshot).unexplained, -4096);
    }

    #[test]
    fn blocks_that_were_never_touched_have_no_memory() {
        let class = Class {
            block_bytes: 32768,
            slabs: 1,
            slab_bytes: 262_144,
            resident_bytes: 40_960,
            live: 1,
            in_magazines: 4,
            in_outboxes: 0,
            in_inboxes: 0,
            listed: 0,
            bare: 0,
            uncarved: 3,
        };
        let parts = ClassParts::of(&class);
        assert_eq!(parts, ClassParts { live: 8192, magazines: 32768, ..ClassParts::default() });
    }
}
