//! Instructions an operation, counted by callgrind as the difference of two run lengths: start-up cancels out. The count is
//! the same on any machine that runs this compiler's code, so a rise is a change in the code, not noise.

use crate::process::{self, Watch};
use crate::results::{Cell, Face, Sample};
use crate::sample::Kit;
use crate::workshop::Workshop;
use clap::Args;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

/// A figure to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// The face.
    pub face: Face,
    /// The row.
    pub row: &'static str,
    /// Whether the harness's own instructions are taken off: those of the same loop around a pair of empty calls.
    pub beyond_harness: bool,
    /// Operations of the shorter run; the longer has six times as many.
    pub operations: u64,
    /// What it is.
    pub what: &'static str,
}

impl Count {
    const fn new(face: Face, row: &'static str, operations: u64, what: &'static str) -> Self {
        Self { face, row, beyond_harness: false, operations, what }
    }

    const fn beyond_harness(self) -> Self {
        Self { beyond_harness: true, ..self }
    }

    /// Its name in results and limits.
    pub fn name(&self) -> String {
        let face = if self.face == Face::C { "c" } else { "rust" };
        format!("{face}-{}", self.row)
    }
}

/// All figures: each fast and each slow path.
pub const COUNTS: [Count; 24] = [
    Count::new(Face::C, "pairs-random", 200_000, "random LIFO pair, beyond the harness").beyond_harness(),
    Count::new(Face::C, "set-1k", 200_000, "random pair in a set of 1,000, beyond the harness").beyond_harness(),
    Count::new(Face::C, "refill-flush", 200_000, "pair of a burst of 20,000: refill and flush"),
    Count::new(Face::C, "handover", 100_000, "block allocated by one thread and freed by another"),
    Count::new(Face::C, "pairs-zeroed", 100_000, "calloc of 256 bytes, and free"),
    Count::new(Face::C, "realloc-same", 100_000, "malloc, realloc to the same size, free"),
    Count::new(Face::C, "realloc-moves", 100_000, "malloc, realloc from 64 to 1,000 bytes, free"),
    Count::new(Face::C, "pairs-aligned-64", 100_000, "aligned_alloc to 64 bytes, and free"),
    Count::new(Face::C, "pairs-aligned-4k", 50_000, "aligned_alloc to a page, and free"),
    Count::new(Face::C, "pairs-medium", 50_000, "pair of 64 KiB"),
    Count::new(Face::C, "pairs-large", 10_000, "pair of 4 MiB"),
    Count::new(Face::C, "realloc-small", 500, "vector that doubles from 16 bytes to 32 KiB"),
    Count::new(Face::C, "thread-lives", 200, "thread with 100 blocks, half of them left to the next"),
    Count::new(Face::Rust, "pairs-64", 200_000, "constant LIFO pair, with its loop"),
    Count::new(Face::Rust, "set-1k", 200_000, "random pair in a set of 1,000, beyond the harness").beyond_harness(),
    Count::new(Face::Rust, "typed-1k", 200_000, "constant layouts in a set of 1,000, beyond the harness")
        .beyond_harness(),
    Count::new(Face::Rust, "refill-flush", 200_000, "pair of a burst of 20,000: refill and flush"),
    Count::new(Face::Rust, "handover", 100_000, "block allocated by one thread and freed by another"),
    Count::new(Face::Rust, "pairs-zeroed", 100_000, "alloc_zeroed of 256 bytes, and dealloc"),
    Count::new(Face::Rust, "realloc-moves", 100_000, "alloc, realloc from 64 to 1,000 bytes, dealloc"),
    Count::new(Face::Rust, "pairs-aligned-64", 100_000, "pair of 100 bytes aligned to 64, of no constant layout"),
    Count::new(Face::Rust, "pairs-aligned-4k", 50_000, "pair of 100 bytes aligned to a page, of no constant layout"),
    Count::new(Face::Rust, "pairs-medium", 50_000, "pair of 64 KiB"),
    Count::new(Face::Rust, "pairs-large", 10_000, "pair of 4 MiB"),
];

/// A program on an allocator.
struct Target<'a> {
    program: &'a Path,
    allocator: &'a str,
    preload: Option<&'a Path>,
}

/// Instructions of a whole run, and how many operations it did.
fn collected(target: &Target, row: &str, operations: u64) -> Result<(u64, u64), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut command = Command::new("valgrind");
    process::clean(&mut command).args(["--tool=callgrind", "--log-file=log", "--callgrind-out-file=out"]);
    command.current_dir(folder.path()).arg(target.program).args([
        "count",
        target.allocator,
        row,
        &operations.to_string(),
    ]);
    if let Some(object) = target.preload {
        command.env("LD_PRELOAD", object);
    }
    // What is done after some time, and not after some operations, has no place in a count of operations.
    command.env("TERRACE_PURGE_DELAY_MS", "3600000");
    let ended = process::run(&mut command, Watch::Nothing);
    let ended =
        ended.map_err(|reason| format!("{} does not run under valgrind ({row}): {reason}", target.allocator))?;
    let log = std::fs::read_to_string(folder.path().join("log")).map_err(|error| error.to_string())?;
    let done = process::parse(&ended.output)?.get("operations").and_then(serde_json::Value::as_u64);
    match (read_count(&log), done) {
        (Some(count), Some(done)) => Ok((count, done)),
        _ => Err(format!("callgrind did not count {row} on {}", target.allocator)),
    }
}

/// The number that callgrind says it collected.
fn read_count(log: &str) -> Option<u64> {
    let line = log.lines().find_map(|line| line.split_once("Collected")?.1.split_once(':'))?;
    line.1.trim().parse().ok()
}

/// Instructions an operation, loop and harness included.
fn per_operation(target: &Target, count: &Count) -> Result<f64, String> {
    let (short, short_operations) = collected(target, count.row, count.operations)?;
    let (long, long_operations) = collected(target, count.row, count.operations * 6)?;
    Ok((long as f64 - short as f64) / (long_operations as f64 - short_operations as f64))
}

fn figure(count: &Count, target: &Target) -> Result<f64, String> {
    let whole = per_operation(target, count)?;
    if !count.beyond_harness {
        return Ok(whole);
    }
    let nothing = Target { program: target.program, allocator: "nothing", preload: None };
    Ok(whole - per_operation(&nothing, count)?)
}

/// Counts one cell for the comparison.
pub fn sample(kit: &Kit, cell: &Cell) -> Sample {
    let found = COUNTS.iter().find(|count| count.name() == cell.item).ok_or(format!("there is no count {}", cell.item));
    let found = found.and_then(|count| {
        let c_face = kit.tools.join("c_face");
        let (program, preload) = match cell.face {
            Face::C => (&c_face, kit.preloads.get(&cell.allocator).and_then(Option::as_deref)),
            Face::Rust => (kit.rows.get(&cell.allocator).ok_or("the rows were not built")?, None),
        };
        figure(count, &Target { program, allocator: &cell.allocator, preload })
    });
    let (figures, failed) = match found {
        Ok(figure) => (BTreeMap::from([("instructions".to_owned(), figure)]), None),
        Err(reason) => (BTreeMap::new(), Some(reason)),
    };
    Sample { cell: cell.clone(), run: 0, figures, checksum: None, latency: BTreeMap::new(), memory: Vec::new(), failed }
}

/// The figure of each count, as many counted at a time as there are processors: valgrind runs a program on one, and what runs beside
/// it changes little: how often the clock says that housekeeping is due.
fn side_by_side(figure: impl Fn(&Count) -> Result<f64, String> + Sync) -> Result<Vec<(&'static Count, f64)>, String> {
    let counts = Mutex::new(COUNTS.iter().enumerate());
    let found = Mutex::new(BTreeMap::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some((number, count)) = counts.lock().expect("nobody panics with the lock").next() else {
                        return;
                    };
                    let result = figure(count).map(|figure| (count, figure));
                    found.lock().expect("nobody panics with the lock").insert(number, result);
                }
            });
        }
    });
    found.into_inner().expect("nobody panicked with the lock").into_values().collect()
}

/// Fails when Terrace needs more instructions an operation than the limits allow
#[derive(Args, Debug)]
pub struct Options {
    /// Write the present figures as the new limits
    #[arg(long)]
    record: bool,

    /// The file of the limits [default: limits.toml in benches]
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,

    /// A libterrace.so to use instead of building one
    #[arg(long, value_name = "FILE")]
    terrace_library: Option<PathBuf>,

    /// Build jobs
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<u32>,
}

/// The file of the limits.
#[derive(Debug, Deserialize)]
struct Limits {
    tolerance: f64,
    limits: BTreeMap<String, f64>,
}

impl Limits {
    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// What is wrong with a figure, as a sentence; nothing if it is within its limit.
    fn verdict(&self, name: &str, figure: f64) -> Option<String> {
        let Some(limit) = self.limits.get(name) else {
            return Some(format!(
                "no limit is recorded for {name}, which takes {figure:.2} instructions; record it with --record"
            ));
        };
        (figure > limit * (1.0 + self.tolerance)).then(|| {
            format!(
                "{name} takes {figure:.2} instructions an operation, {:.1} % above the recorded {limit:.2} (allowed: {} %); \
                 make it cheaper, or record the new figure with --record and say why",
                100.0 * (figure / limit - 1.0),
                100.0 * self.tolerance
            )
        })
    }
}

const HEAD: &str = "\
# Instructions an operation of Terrace, as callgrind counts them: `cargo xtask instructions --record` writes this file, and
# `cargo xtask instructions` fails when a figure has risen by more than the tolerance, or when none is recorded.
tolerance = 0.02

[limits]
";

fn render(figures: &[(&Count, f64)]) -> String {
    figures.iter().fold(HEAD.to_owned(), |mut text, (count, figure)| {
        let _ = writeln!(text, "{} = {figure:.2} # {}", count.name(), count.what);
        text
    })
}

/// Counts all figures of Terrace and checks them. Returns whether all are within their limits.
///
/// # Errors
/// A sentence, if something could not be counted.
pub fn check(options: &Options) -> Result<bool, String> {
    let mut shop = Workshop::new(true, options.jobs)?;
    shop.tool("valgrind", "valgrind")?;
    let path = options.limits.clone().unwrap_or_else(|| shop.root.join("benches").join("limits.toml"));
    let tools = shop.instruction_tools()?;
    let preloads = shop.preloads(&["terrace".to_owned()], options.terrace_library.as_deref());
    let library = preloads.get("terrace").and_then(Option::as_deref).ok_or("there is no libterrace.so")?;
    let (c_face, rust_face) = (tools.join("c_face"), tools.join("rust_face"));
    let figures = side_by_side(|count| {
        let (program, preload) = match count.face {
            Face::C => (&c_face, Some(library)),
            Face::Rust => (&rust_face, None),
        };
        figure(count, &Target { program, allocator: "terrace", preload })
    })?;
    for (count, found) in &figures {
        println!("{found:10.2}  {:<22} {}", count.name(), count.what);
    }
    if options.record {
        std::fs::write(&path, render(&figures)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let limits = Limits::read(&path)?;
    let complaints: Vec<_> =
        figures.iter().filter_map(|(count, found)| limits.verdict(&count.name(), *found)).collect();
    for complaint in &complaints {
        eprintln!("instructions: {complaint}");
    }
    // The plain closing line that test harnesses read.
    println!("{} passed, {} failed", figures.len() - complaints.len(), complaints.len());
    Ok(complaints.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { tolerance: 0.02, limits: BTreeMap::from([("c-pairs".into(), 40.0)]) }
    }

    #[test]
    fn two_per_cent_are_allowed() {
        assert_eq!(limits().verdict("c-pairs", 40.8), None);
    }

    #[test]
    fn more_is_not_and_the_message_says_how_much() {
        let words = limits().verdict("c-pairs", 41.0).expect("a complaint");
        assert!(words.contains("2.5 % above the recorded 40.00 (allowed: 2 %)"), "{words}");
    }

    #[test]
    fn a_figure_without_a_limit_fails() {
        assert!(limits().verdict("rust-pairs", 1.0).expect("a complaint").contains("no limit is recorded"));
    }

    #[test]
    fn recorded_limits_are_read_again() {
        let text = render(&[(&COUNTS[0], 47.5)]);
        let read: Limits = toml::from_str(&text).expect("a file of limits");
        assert_eq!(read.limits[&COUNTS[0].name()], 47.5);
        assert_eq!(read.tolerance, 0.02);
    }

    #[test]
    fn callgrinds_count_is_found() {
        assert_eq!(read_count("==1== Events    : Ir\n==1== Collected : 123456\n"), Some(123_456));
        assert_eq!(read_count("==1== nothing\n"), None);
    }

    #[test]
    fn every_count_is_of_a_row_that_there_is() {
        let rows = terrace_bench::catalogue::rows::<terrace_bench::heaps::Preloaded>();
        for count in &COUNTS {
            assert!(rows.iter().any(|row| row.name == count.row), "{}", count.row);
        }
    }
}
