//! The statistics for programs that read them: JSON, and the text format that Prometheus and its relatives collect.
//!
//! Totals and size classes are those of [`statistics`], arenas and threads what the walker tells of them (nothing, where the
//! kernel does not let a process read its own memory so). The forms are described in docs/inspecting.md.

use crate::inspect::{self, Arena, Cache, Visitor};
use crate::statistics::{Statistics, statistics};
use core::fmt::{self, Write};

/// Accounts of memory: their names, and what they mean.
type Account = (&'static str, fn(&Statistics) -> usize);

const ACCOUNTS: [Account; 11] = [
    ("live", |found| found.live_bytes),
    ("cached", |found| found.cached_bytes),
    ("in_transit", |found| found.in_transit_bytes),
    ("listed", |found| found.listed_bytes),
    ("slack", |found| found.slack_bytes),
    ("dirty", |found| found.dirty_bytes),
    ("large_cached", |found| found.large_cached_bytes),
    ("metadata", |found| found.metadata_bytes),
    ("clean", |found| found.clean_bytes),
    ("mapped", |found| found.mapped_bytes),
    ("resident", |found| found.resident_bytes),
];

type Count = (&'static str, &'static str, fn(&Statistics) -> u64);

const COUNTS: [Count; 4] = [
    ("remote_frees", "Freed blocks of other threads' caches that were sent home.", |found| found.remote_frees),
    ("remote_batches", "Chains in which those blocks went home.", |found| found.remote_batches),
    ("refills", "Times a magazine was filled.", |found| found.refills),
    ("flushes", "Times a full magazine's older half went back to the slabs.", |found| found.flushes),
];

type Call = (&'static str, fn(&Statistics) -> u64);

const CALLS: [Call; 5] = [
    ("mmap", |found| found.system_calls.mmap),
    ("munmap", |found| found.system_calls.munmap),
    ("mremap", |found| found.system_calls.mremap),
    ("madvise", |found| found.system_calls.madvise),
    ("brk", |found| found.system_calls.brk),
];

/// Writes the statistics, by size class, arena and thread, as one object of JSON on one line. Allocates nothing.
///
/// ```
/// let mut text = String::new();
/// terrace::write_statistics_json(&mut text)?;
/// assert!(text.starts_with("{\"library\":\"") && text.ends_with("}\n"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
///
/// # Errors
/// When `out` fails.
pub fn write_statistics_json(out: &mut dyn Write) -> fmt::Result {
    let found = statistics();
    write!(out, "{{\"library\":\"{}\",\"bytes\":{{", env!("CARGO_PKG_VERSION"))?;
    list(out, ACCOUNTS, |out, (name, bytes)| write!(out, "\"{name}\":{}", bytes(&found)))?;
    out.write_str("},")?;
    for (name, (blocks, bytes)) in [("medium", found.medium), ("large", found.large)] {
        write!(out, "\"{name}\":{{\"blocks\":{blocks},\"bytes\":{bytes}}},")?;
    }
    out.write_str("\"counts\":{")?;
    list(out, COUNTS, |out, (name, _, count)| write!(out, "\"{name}\":{}", count(&found)))?;
    out.write_str("},\"system_calls\":{")?;
    list(out, CALLS, |out, (name, count)| write!(out, "\"{name}\":{}", count(&found)))?;
    out.write_str("},\"classes\":[")?;
    list(out, &found.classes, |out, class| {
        write!(
            out,
            "{{\"block_size\":{},\"live\":{},\"cached\":{},\"in_transit\":{},\"listed\":{}}}",
            class.block_size, class.live, class.cached, class.in_transit, class.listed
        )
    })?;
    out.write_str("],\"arenas\":[")?;
    let done = each_arena(out, |out, index, arena| {
        let comma = if index > 0 { "," } else { "" };
        write!(
            out,
            "{comma}{{\"number\":{},\"segments\":{},\"free_bytes\":{},\"dirty_bytes\":{}}}",
            arena.number, arena.segments, arena.free_bytes, arena.dirty_bytes
        )
    });
    done?;
    out.write_str("],\"threads\":[")?;
    each_thread(out, |out, index, thread| {
        let comma = if index > 0 { "," } else { "" };
        write!(
            out,
            "{comma}{{\"cache\":{},\"thread\":{},\"dormant\":{},\"cached_bytes\":{},\"in_transit_bytes\":{},\"slab_blocks\":{}}}",
            thread.cache, thread.thread, thread.is_dormant, thread.cached, thread.in_transit, thread.out
        )
    })?;
    out.write_str("]}\n")
}

/// Writes the statistics, by size class, arena and thread, in the text format of Prometheus (version 0.0.4). Allocates nothing.
///
/// # Errors
/// When `out` fails.
pub fn write_statistics_prometheus(out: &mut dyn Write) -> fmt::Result {
    let found = statistics();
    head(out, "terrace_memory_bytes", "gauge", "Memory by account, in bytes.")?;
    for (name, bytes) in ACCOUNTS {
        writeln!(out, "terrace_memory_bytes{{account=\"{name}\"}} {}", bytes(&found))?;
    }
    head(out, "terrace_blocks", "gauge", "Blocks with pages, or a mapping, of their own.")?;
    for (name, (blocks, _)) in [("medium", found.medium), ("large", found.large)] {
        writeln!(out, "terrace_blocks{{kind=\"{name}\"}} {blocks}")?;
    }
    for (name, meaning, count) in COUNTS {
        writeln!(out, "# HELP terrace_{name}_total {meaning}")?;
        writeln!(out, "# TYPE terrace_{name}_total counter\nterrace_{name}_total {}", count(&found))?;
    }
    head(out, "terrace_system_calls_total", "counter", "System calls that move memory.")?;
    for (name, count) in CALLS {
        writeln!(out, "terrace_system_calls_total{{call=\"{name}\"}} {}", count(&found))?;
    }
    head(out, "terrace_class_blocks", "gauge", "Blocks of a size class, by the size of a block in bytes.")?;
    for class in found.classes.iter().filter(|class| class.live + class.cached + class.in_transit + class.listed > 0) {
        let states = [
            ("live", class.live),
            ("cached", class.cached),
            ("in_transit", class.in_transit),
            ("listed", class.listed),
        ];
        for (state, blocks) in states {
            writeln!(out, "terrace_class_blocks{{size=\"{}\",state=\"{state}\"}} {blocks}", class.block_size)?;
        }
    }
    head(out, "terrace_arena_segments", "gauge", "Segments of 4 MiB that an arena holds.")?;
    each_arena(out, |out, _, arena| {
        writeln!(out, "terrace_arena_segments{{arena=\"{}\"}} {}", arena.number, arena.segments)
    })?;
    head(out, "terrace_arena_free_bytes", "gauge", "Free pages of an arena, in bytes.")?;
    each_arena(out, |out, _, arena| {
        let clean = arena.free_bytes.saturating_sub(arena.dirty_bytes);
        for (state, bytes) in [("dirty", arena.dirty_bytes), ("clean", clean)] {
            writeln!(out, "terrace_arena_free_bytes{{arena=\"{}\",state=\"{state}\"}} {bytes}", arena.number)?;
        }
        Ok(())
    })?;
    head(
        out,
        "terrace_thread_bytes",
        "gauge",
        "Free blocks in the hands of a thread, or on their way to it, in bytes.",
    )?;
    each_thread(out, |out, _, thread| {
        for (state, bytes) in [("cached", thread.cached), ("in_transit", thread.in_transit)] {
            writeln!(
                out,
                "terrace_thread_bytes{{cache=\"{}\",thread=\"{}\",state=\"{state}\"}} {bytes}",
                thread.cache, thread.thread
            )?;
        }
        Ok(())
    })
}

fn head(out: &mut dyn Write, name: &str, kind: &str, meaning: &str) -> fmt::Result {
    write!(out, "# HELP {name} {meaning}\n# TYPE {name} {kind}\n")
}

fn list<T>(
    out: &mut dyn Write,
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut dyn Write, T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.write_str(",")?;
        }
        each(out, item)?;
    }
    Ok(())
}

/// What is said of a thread's cache.
struct Thread {
    cache: usize,
    thread: u32,
    is_dormant: bool,
    /// Bytes at hand.
    cached: usize,
    /// Bytes in the outbox and the inboxes.
    in_transit: usize,
    /// Blocks of its slabs that are out.
    out: usize,
}

fn each_arena(out: &mut dyn Write, each: impl FnMut(&mut dyn Write, usize, &Arena) -> fmt::Result) -> fmt::Result {
    tell(out, each, |_, _, _| Ok(()))
}

fn each_thread(out: &mut dyn Write, each: impl FnMut(&mut dyn Write, usize, &Thread) -> fmt::Result) -> fmt::Result {
    tell(out, |_, _, _| Ok(()), each)
}

fn tell<A, T>(out: &mut dyn Write, arena: A, thread: T) -> fmt::Result
where
    A: FnMut(&mut dyn Write, usize, &Arena) -> fmt::Result,
    T: FnMut(&mut dyn Write, usize, &Thread) -> fmt::Result,
{
    let mut teller = Teller { out, arena, thread, arenas: 0, threads: 0, done: Ok(()) };
    // Where the process may not read its own memory, there is nothing to tell.
    let _ = inspect::outline_own(&mut teller);
    teller.done
}

struct Teller<'o, A, T> {
    out: &'o mut dyn Write,
    arena: A,
    thread: T,
    arenas: usize,
    threads: usize,
    done: fmt::Result,
}

impl<A, T> Visitor for Teller<'_, A, T>
where
    A: FnMut(&mut dyn Write, usize, &Arena) -> fmt::Result,
    T: FnMut(&mut dyn Write, usize, &Thread) -> fmt::Result,
{
    fn arena(&mut self, arena: &Arena) {
        if self.done.is_ok() {
            self.done = (self.arena)(self.out, self.arenas, arena);
        }
        self.arenas += 1;
    }

    fn cache(&mut self, cache: &Cache<'_>) {
        let mut thread = Thread {
            cache: cache.number,
            thread: cache.thread,
            is_dormant: cache.is_dormant,
            cached: 0,
            in_transit: 0,
            out: 0,
        };
        for class in cache.classes {
            thread.cached += class.in_magazine * class.block_size;
            thread.in_transit += (class.in_outbox + class.in_inbox) * class.block_size;
            thread.out += class.out;
        }
        if self.done.is_ok() {
            self.done = (self.thread)(self.out, self.threads, &thread);
        }
        self.threads += 1;
    }
}
