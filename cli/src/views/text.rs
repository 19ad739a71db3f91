//! `terrace map` and `terrace stats` as text: aligned columns, sizes in units.

use crate::ledger::{Ledger, live_bytes, worst_fragmented};
use crate::snapshot::{Cache, CacheState, Class, Content, Large, Segment, Setting, Snapshot, Source, Zone};
use crate::units::{Count, Many, Milliseconds, Share, Size};
use std::fmt::{self, Write};

/// The whole map: every zone with its state.
pub fn map(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_map(&mut text, snapshot);
    text
}

/// The totals alone.
pub fn statistics(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_statistics(&mut text, snapshot);
    text
}

fn write_head(text: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let process = &snapshot.process;
    let state = match process.source {
        Source::Live => "",
        Source::Stopped => ", stopped",
        Source::Core => ", from a core file",
    };
    writeln!(
        text,
        "process {} ({}){state}, Terrace {}: {} resident, {} live, {} held",
        process.pid,
        process.name,
        process.library,
        Size(process.resident_bytes),
        Size(live_bytes(snapshot)),
        Size(Ledger::of(snapshot).held()),
    )?;
    write_options(text, snapshot)
}

/// The options that differ from their defaults.
fn write_options(text: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let is_default = |setting: &&Setting| {
        terrace_core::options().iter().any(|option| option.name == setting.name && option.is_default(&setting.value))
    };
    let mut set = snapshot.options.iter().filter(|setting| !is_default(setting)).peekable();
    if set.peek().is_none() {
        return Ok(());
    }
    write!(text, "options:")?;
    set.try_for_each(|Setting { name, value }| write!(text, " {name}={value}"))?;
    writeln!(text, "; all others at their defaults")
}

fn write_map(text: &mut String, snapshot: &Snapshot) -> fmt::Result {
    write_head(text, snapshot)?;
    for arena in &snapshot.arenas {
        let (bytes, resident) = arena.segments.iter().fold((0, 0), |(bytes, resident), segment| {
            (bytes + segment.bytes, resident + segment.zones.iter().map(|zone| zone.resident_bytes).sum::<u64>())
        });
        writeln!(
            text,
            "\narena {}: {}, {}, {} resident",
            arena.number,
            Many(arena.segments.len() as u64, "segment"),
            Size(bytes),
            Size(resident)
        )?;
        arena.segments.iter().try_for_each(|segment| write_segment(text, segment))?;
    }
    write_large(text, &snapshot.large)?;
    write_caches(text, &snapshot.caches)?;
    write_classes(text, &snapshot.classes)?;
    write_worst(text, snapshot)?;
    writeln!(text, "\nother mappings                                                 size    resident")?;
    for mapping in &snapshot.mappings {
        let resident = mapping.resident_bytes.saturating_sub(mapping.heap_resident_bytes);
        if resident == 0 {
            continue;
        }
        let name = if mapping.name.is_empty() { "(unnamed)" } else { &mapping.name };
        let (bytes, resident) = (Size(mapping.bytes), Size(resident));
        writeln!(text, "  {:<14} {} {name:<35} {bytes:>11} {resident:>11}", hex(mapping.start), mapping.permissions)?;
    }
    super::write_notes(text, snapshot)
}

fn hex(address: u64) -> String {
    format!("{address:#x}")
}

fn write_segment(text: &mut String, segment: &Segment) -> fmt::Result {
    let origin = if segment.from_break { "from the break" } else { "mapped" };
    let (start, end) = (hex(segment.start), hex(segment.start + segment.bytes));
    writeln!(text, "  segment {start}-{end}, {origin}")?;
    writeln!(
        text,
        "    {:<14} {:>9} {:>9}  {:<7} {:>6} {:>13} {:>5} {:>6} {:>6} {:>6}  {:>8}",
        "address", "size", "resident", "kind", "block", "out/capacity", "used", "listed", "bare", "owner", "free for"
    )?;
    segment.zones.iter().try_for_each(|zone| write_zone(text, zone))
}

fn write_zone(text: &mut String, zone: &Zone) -> fmt::Result {
    let mut line = format!(
        "    {:<14} {:>9} {:>9}  {:<7}",
        hex(zone.start),
        Size(zone.bytes),
        Size(zone.resident_bytes),
        zone.content.name()
    );
    let age = |age: Option<u64>| age.map_or_else(String::new, |age| Milliseconds(age).to_string());
    match &zone.content {
        Content::Slab(slab) => write!(
            line,
            " {:>6} {:>13} {:>5} {:>6} {:>6} {:>6}  {:>8}",
            slab.block_bytes,
            format!("{}/{}", slab.out, slab.capacity),
            Share(slab.out.into(), slab.capacity.into()),
            slab.listed,
            slab.bare,
            slab.owner.map_or_else(|| "?".to_owned(), |owner| owner.to_string()),
            age(slab.free_ms)
        )?,
        Content::Dirty { free_ms } => write!(line, "{:>58}", age(*free_ms))?,
        _ => {}
    }
    writeln!(text, "{}", line.trim_end())
}

fn write_large(text: &mut String, mappings: &[Large]) -> fmt::Result {
    if mappings.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nlarge blocks           size    resident  state  free for")?;
    for large in mappings {
        let age = large.free_ms.map_or_else(String::new, |age| Milliseconds(age).to_string());
        let line = format!(
            "  {:<14} {:>10} {:>11}  {:<6} {:>7}",
            hex(large.start),
            Size(large.bytes),
            Size(large.resident_bytes),
            match (large.is_live, large.is_guarded) {
                (true, false) => "live",
                (true, true) => "guarded",
                (false, false) => "kept",
                (false, true) => "quarantined",
            },
            age
        );
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

fn write_caches(text: &mut String, caches: &[Cache]) -> fmt::Result {
    writeln!(text, "\ncache  thread     state     last seen   magazines      outbox     inboxes  slabs   in slabs")?;
    for cache in caches {
        writeln!(
            text,
            "{:>5}  {:<9}  {:<8} {:>10}  {:>10}  {:>10}  {:>10}  {:>5} {:>10}",
            cache.number,
            cache.thread.map_or_else(String::new, |thread| thread.to_string()),
            match cache.state {
                CacheState::Attached => "attached",
                CacheState::Dormant => "dormant",
            },
            cache.seen_ms.map_or_else(String::new, |seen| Milliseconds(seen).to_string()),
            Size(cache.magazine_bytes),
            Size(cache.outbox_bytes),
            Size(cache.inbox_bytes),
            cache.slabs,
            Size(cache.slab_bytes),
        )?;
    }
    Ok(())
}

fn write_classes(text: &mut String, classes: &[Class]) -> fmt::Result {
    writeln!(text, "\nblock  slabs   resident         live  magazines   outboxes    inboxes     listed       bare")?;
    for class in classes {
        writeln!(
            text,
            "{:>5} {:>6} {:>10} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
            class.block_bytes,
            class.slabs,
            Size(class.resident_bytes),
            Count(class.live),
            Count(class.in_magazines),
            Count(class.in_outboxes),
            Count(class.in_inboxes),
            Count(class.listed),
            Count(class.bare),
        )?;
    }
    Ok(())
}

fn write_worst(text: &mut String, snapshot: &Snapshot) -> fmt::Result {
    writeln!(text, "\nworst fragmented: block   free memory   of the class")?;
    for (class, parts) in worst_fragmented(snapshot).iter().take(8) {
        let free = parts.fragmentation();
        writeln!(text, "{:>23} {:>13} {:>14}", class.block_bytes, Size(free), Share(free, class.resident_bytes))?;
    }
    Ok(())
}

fn write_statistics(text: &mut String, snapshot: &Snapshot) -> fmt::Result {
    write_head(text, snapshot)?;
    let ledger = Ledger::of(snapshot);
    writeln!(text)?;
    for (name, bytes) in [
        ("live: small", ledger.small),
        ("live: medium", ledger.medium),
        ("live: large", ledger.large),
        ("magazines", ledger.magazines),
        ("on the way home", ledger.in_transit),
        ("free in slabs", ledger.listed),
        ("left over in slabs", ledger.slack),
        ("free pages", ledger.dirty),
        ("large mappings kept", ledger.large_kept),
        ("metadata", ledger.metadata),
        ("stray", ledger.stray),
        ("not the heap's", ledger.outside()),
    ] {
        writeln!(text, "{name:<20} {:>11}  {:>5}", Size(bytes), Share(bytes, ledger.resident))?;
    }
    let (sign, difference) = (if ledger.unexplained < 0 { "-" } else { "" }, Size(ledger.unexplained.unsigned_abs()));
    writeln!(text, "{:<20} {:>11}", "changed meanwhile", format!("{sign}{difference}"))?;
    writeln!(text, "{:<20} {:>11}  (the sum)", "resident", Size(ledger.resident))?;
    let counters = &snapshot.counters;
    writeln!(
        text,
        "\n{}, {}, {} in {}",
        Many(counters.refills, "refill"),
        Many(counters.flushes, "flush"),
        Many(counters.remote_frees, "remote free"),
        Many(counters.remote_batches, "batch")
    )?;
    writeln!(
        text,
        "{} mmap, {} munmap, {} mremap, {} madvise, {} brk",
        counters.mmap, counters.munmap, counters.mremap, counters.madvise, counters.brk
    )?;
    write_classes(text, &snapshot.classes)?;
    super::write_notes(text, snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;
    use crate::views::golden;

    #[test]
    fn the_map_of_a_small_server() {
        golden("map.txt", &map(&sample()));
    }

    #[test]
    fn the_statistics_of_a_small_server() {
        golden("stats.txt", &statistics(&sample()));
    }

    #[test]
    fn what_does_not_fit_is_said_at_the_end() {
        let mut snapshot = sample();
        snapshot.process.is_residency_exact = false;
        snapshot.notes = vec!["a slab's list is longer than its count".to_owned()];
        let text = map(&snapshot);
        assert!(text.ends_with("counts as resident.\n\nNote: a slab's list is longer than its count\n"), "{text}");
    }
}
