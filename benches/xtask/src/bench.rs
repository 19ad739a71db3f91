//! `cargo xtask bench`: decides what is measured, builds what that takes, and takes the samples in turn.

use crate::instructions;
use crate::machine;
use crate::real::{FRESH, REAL, Real};
use crate::report;
use crate::results::{Cell, Face, Header, Results, Store, Suite};
use crate::sample::Kit;
use crate::workshop::{C_ALLOCATORS, RUST_ALLOCATORS, Workshop};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use regex_lite::Regex;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use terrace_bench::catalogue::rows;
use terrace_bench::heaps::Preloaded;
use terrace_bench::programs::PROGRAMS;

/// Rows whose single calls are timed.
const TIMED_ROWS: [&str; 6] = ["pairs-random", "set-1k", "set-10k", "set-100k", "ring", "mailboxes"];
/// Threads with which the memory and the single calls of whole programs are watched.
const WATCHED_THREADS: u32 = 4;
/// Runs of the suites that are not about time: memory, latency, fresh programs.
const FEW_RUNS: u32 = 3;

/// What to measure
#[derive(Args, Debug)]
pub struct Options {
    /// How often each sample is taken
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Factor on the amount of work; 1 is about half a second a sample
    #[arg(long, default_value_t = 1.0)]
    scale: f64,

    /// A first look: 3 runs of a quarter of the work, with 1 and 4 threads
    #[arg(long)]
    quick: bool,

    /// Suites to measure [default: all]
    #[arg(long, value_delimiter = ',', value_name = "SUITES")]
    suites: Vec<Suite>,

    /// Programs and rows whose whole name matches
    #[arg(long, value_name = "REGEX")]
    only: Option<String>,

    /// Numbers of threads of the whole programs
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 16, 64], value_name = "NUMBERS")]
    threads: Vec<u32>,

    /// Faces to measure [default: both]
    #[arg(long, value_delimiter = ',', value_name = "FACES")]
    faces: Vec<Face>,

    /// Allocators to measure [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    allocators: Vec<String>,

    /// Where results and reports go [default: bench/run in cargo's target folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Begin anew instead of going on with the results in the folder
    #[arg(long)]
    fresh: bool,

    /// Do not install Debian's packages of rivals and programs
    #[arg(long)]
    no_install: bool,

    /// A libterrace.so to use instead of building one
    #[arg(long, value_name = "FILE")]
    terrace_library: Option<PathBuf>,

    /// Build jobs
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<u32>,

    /// Say what would be measured and how long that takes, and stop
    #[arg(long)]
    dry_run: bool,
}

/// Samples that differ in the allocator alone.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    suite: Suite,
    item: String,
    threads: u32,
    face: Face,
    allocators: Vec<String>,
    runs: u32,
    /// About how long a sample takes at full scale, for the time left at the start.
    seconds: f64,
}

impl Options {
    fn settle(&mut self) -> Result<(), String> {
        if self.quick {
            (self.runs, self.scale, self.threads) = (3, self.scale / 4.0, vec![1, 4]);
        }
        if !self.scale.is_finite() || self.scale <= 0.0 || self.threads.contains(&0) {
            return Err("the scale and the numbers of threads must be above zero".into());
        }
        if let Some(unknown) = self
            .allocators
            .iter()
            .find(|name| !C_ALLOCATORS.contains(&name.as_str()) && !RUST_ALLOCATORS.contains(&name.as_str()))
        {
            return Err(format!("there is no allocator {unknown}; known: {C_ALLOCATORS:?} and {RUST_ALLOCATORS:?}"));
        }
        Ok(())
    }

    fn wants(&self, suite: Suite) -> bool {
        self.suites.is_empty() || self.suites.contains(&suite)
    }

    fn has_face(&self, face: Face) -> bool {
        self.faces.is_empty() || self.faces.contains(&face)
    }

    fn allocators(&self, face: Face) -> Vec<String> {
        let all: &[&str] = if face == Face::C { &C_ALLOCATORS } else { &RUST_ALLOCATORS };
        let chosen =
            all.iter().filter(|name| self.allocators.is_empty() || self.allocators.iter().any(|it| it == *name));
        chosen.map(|name| (*name).to_owned()).collect()
    }

    /// All groups, in the order in which a round goes through them.
    fn groups(&self) -> Result<Vec<Group>, String> {
        let only = self.only.as_deref().map(|text| Regex::new(&format!("^(?:{text})$"))).transpose();
        let only = only.map_err(|error| error.to_string())?;
        let chosen = |item: &str| only.as_ref().is_none_or(|only| only.is_match(item));
        let mut groups = Vec::new();
        let mut add = |suite, item: &str, threads, face, runs, seconds| {
            if self.wants(suite) && self.has_face(face) && chosen(item) {
                let mut allocators = self.allocators(face);
                if face == Face::Rust && matches!(suite, Suite::Programs) {
                    // The C library's allocator is the same program on either face.
                    allocators.retain(|name| name != "glibc");
                }
                groups.push(Group { suite, item: item.into(), threads, face, allocators, runs, seconds });
            }
        };
        let faces = [Face::C, Face::Rust];
        let few = self.runs.min(FEW_RUNS);
        let own: Vec<&str> = PROGRAMS.iter().map(|program| program.name).chain(["http"]).collect();
        for item in &own {
            for threads in &self.threads {
                faces.iter().for_each(|face| add(Suite::Programs, item, *threads, *face, self.runs, 0.55));
            }
        }
        REAL.iter().for_each(|(item, _)| add(Suite::Programs, item, 1, Face::C, self.runs, 3.0));
        for row in rows::<Preloaded>() {
            faces.iter().for_each(|face| add(Suite::Rows, row.name, row.threads, *face, self.runs, 0.3));
        }
        for item in own.iter().copied().chain(["redis"]) {
            let threads = if item == "redis" { 1 } else { WATCHED_THREADS };
            add(Suite::Memory, item, threads, Face::C, few, 3.1);
        }
        for item in &own {
            add(Suite::Latency, item, WATCHED_THREADS, Face::C, few, 1.0);
        }
        for row in rows::<Preloaded>().iter().filter(|row| TIMED_ROWS.contains(&row.name)) {
            faces.iter().for_each(|face| add(Suite::Latency, row.name, row.threads, *face, few, 1.0));
        }
        FRESH.iter().for_each(|item| add(Suite::Fresh, item, 1, Face::C, few, 0.05));
        for count in instructions::COUNTS {
            add(Suite::Instructions, &count.name(), 1, count.face, 1, 6.0);
        }
        Ok(groups)
    }
}

/// The allocators of a group in the order of a run: each starts with the next, so that none always runs first, or always
/// after the same other.
fn rotated(allocators: &[String], run: u32, place: usize) -> impl Iterator<Item = &String> {
    let shift = if allocators.is_empty() { 0 } else { (run as usize + place) % allocators.len() };
    allocators[shift..].iter().chain(&allocators[..shift])
}

/// All samples in their order: rounds outermost, so that what disturbs the machine for a while disturbs all.
fn order(groups: &[Group]) -> Vec<(Cell, u32)> {
    let rounds = groups.iter().map(|group| group.runs).max().unwrap_or(0);
    let mut samples = Vec::new();
    for run in 0..rounds {
        for (place, group) in groups.iter().enumerate().filter(|(_, group)| run < group.runs) {
            samples.extend(rotated(&group.allocators, run, place).map(|allocator| {
                let cell = Cell {
                    suite: group.suite,
                    item: group.item.clone(),
                    threads: group.threads,
                    face: group.face,
                    allocator: allocator.clone(),
                };
                (cell, run)
            }));
        }
    }
    samples
}

/// Measures, and writes the report. Returns whether every sample succeeded.
///
/// # Errors
/// A sentence.
pub fn run(mut options: Options) -> Result<bool, String> {
    options.settle()?;
    let groups = options.groups()?;
    if groups.is_empty() {
        return Err("nothing matches; see --help".into());
    }
    let estimate: f64 = groups
        .iter()
        .map(|group| {
            let scale = if group.suite == Suite::Instructions { 1.0 } else { options.scale.clamp(0.1, 100.0) };
            group.seconds * scale * f64::from(group.runs) * group.allocators.len() as f64
        })
        .sum();
    let samples = order(&groups);
    eprintln!(
        "{} samples of {} programs and rows, about {:.0} minutes after the build",
        samples.len(),
        groups.len(),
        (estimate / 60.0).max(1.0)
    );
    if options.dry_run {
        for group in &groups {
            println!(
                "{:?} {} {} {:?}: {}",
                group.suite,
                group.item,
                group.threads,
                group.face,
                group.allocators.join(" ")
            );
        }
        return Ok(true);
    }
    let mut shop = Workshop::new(!options.no_install, options.jobs)?;
    let out = options.out.clone().unwrap_or_else(|| shop.store.with_file_name("run"));
    std::fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let path = out.join("results.jsonl");
    if options.fresh && path.exists() {
        std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let kit = prepare(&mut shop, &options, &groups)?;
    let header = header(&shop, &options)?;
    let mut store = Store::open(&path, &header)?;
    let failures = measure(&kit, &mut store, &samples)?;
    for failure in &failures {
        eprintln!("failed: {failure}");
    }
    let (results, _) = Results::read(&path)?;
    report::write(&results, &out)?;
    Ok(failures.is_empty())
}

/// Builds and finds what the groups need.
fn prepare(shop: &mut Workshop, options: &Options, groups: &[Group]) -> Result<Kit, String> {
    let needs = |wanted: &dyn Fn(&Group) -> bool| groups.iter().any(wanted);
    let tools = shop.tools()?;
    let mut preloads = BTreeMap::new();
    if needs(&|group| group.face == Face::C) {
        preloads = shop.preloads(&options.allocators(Face::C), options.terrace_library.as_deref());
    }
    let mut rows = BTreeMap::new();
    let of_rows = |group: &Group| matches!(group.suite, Suite::Rows | Suite::Latency | Suite::Instructions);
    if needs(&|group| group.face == Face::Rust && of_rows(group)) {
        rows = shop.rows(&options.allocators(Face::Rust));
    }
    let mut programs = BTreeMap::new();
    if needs(&|group| group.face == Face::Rust && group.suite == Suite::Programs) {
        for name in options.allocators(Face::Rust).into_iter().filter(|name| name != "glibc") {
            programs.extend(shop.attempt(|shop| shop.programs(&name)).map(|folder| (name, folder)));
        }
    }
    let timed =
        if needs(&|group| group.suite == Suite::Latency) { shop.attempt(|shop| shop.timed_programs()) } else { None };
    let wanted: Vec<String> = groups.iter().map(|group| group.item.clone()).collect();
    let real = Real::prepare(shop, tools.join("launch"), options.scale, &wanted)?;
    if needs(&|group| group.suite == Suite::Instructions) {
        shop.attempt(|shop| shop.tool("valgrind", "valgrind"));
    }
    Ok(Kit { tools, timed, preloads, rows, programs, real, scale: options.scale })
}

fn header(shop: &Workshop, options: &Options) -> Result<Header, String> {
    let mut code = String::new();
    for folder in ["src", "capi"] {
        read_sources(&shop.root.join(folder), &mut code)?;
    }
    let mut settings = BTreeMap::from([
        ("scale".to_owned(), options.scale.to_string()),
        ("terrace's sources".to_owned(), crate::real::digest(&code)),
    ]);
    if let Some(library) = &options.terrace_library {
        let bytes = std::fs::read(library).map_err(|error| format!("{}: {error}", library.display()))?;
        settings.insert("libterrace.so".into(), crate::real::digest(&bytes));
    }
    let mut facts = machine::facts(&shop.root);
    facts.extend(shop.versions.iter().map(|(name, version)| (name.clone(), version.clone())));
    Ok(Header { settings, facts, missing: shop.missing.clone() })
}

/// Appends all Rust sources below a folder, in the order of their names.
fn read_sources(folder: &Path, text: &mut String) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).map_err(told)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            read_sources(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).map_err(told)?);
        }
    }
    Ok(())
}

/// Takes the samples that the store does not have; returns what failed.
fn measure(kit: &Kit, store: &mut Store, samples: &[(Cell, u32)]) -> Result<Vec<String>, String> {
    let left: Vec<_> = samples.iter().filter(|(cell, run)| !store.has(cell, *run)).collect();
    eprintln!("{} samples to take; {} are there already", left.len(), samples.len() - left.len());
    let bar = progress(left.len() as u64);
    let (begin, mut said) = (Instant::now(), Instant::now());
    let mut failures = Vec::new();
    for (done, (cell, run)) in left.into_iter().enumerate() {
        let words = format!("{} {} on {}", cell.item, cell.threads, cell.allocator);
        bar.set_message(words.clone());
        // A cell that failed in this very run is not tried again.
        if !store.has(cell, *run) && available(kit, cell) {
            let sample = match cell.suite {
                Suite::Instructions => instructions::sample(kit, cell),
                _ => kit.take(cell, *run),
            };
            let sample = store.append(sample)?;
            failures.extend(sample.failed.map(|reason| format!("{words}: {reason}")));
        }
        bar.inc(1);
        // Where there is no terminal, a line a minute.
        if bar.is_hidden() && said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            let total = bar.length().unwrap_or(1);
            let rest = begin.elapsed().as_secs_f64() / (done + 1) as f64 * (total - done as u64 - 1) as f64;
            eprintln!("{} of {total} samples, {:.0} minutes left", done + 1, rest / 60.0);
        }
    }
    bar.finish_and_clear();
    Ok(failures)
}

/// Whether the allocator could be had for the cell; if not, that stands among what is missing, and is no failure.
fn available(kit: &Kit, cell: &Cell) -> bool {
    match (cell.face, cell.suite) {
        (Face::C, _) => kit.preloads.contains_key(&cell.allocator),
        (Face::Rust, Suite::Programs) => kit.programs.contains_key(&cell.allocator),
        (Face::Rust, _) => kit.rows.contains_key(&cell.allocator),
    }
}

fn progress(samples: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} samples, {eta} left: {msg}");
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(samples), target);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// Makes the report of a folder anew from its raw results.
///
/// # Errors
/// A sentence.
pub fn render(folder: &Path) -> Result<(), String> {
    let (results, _) = Results::read(&folder.join("results.jsonl"))?;
    report::write(&results, folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Options {
        let mut options = Line::parse_from([&["bench"], words].concat()).options;
        options.settle().expect("sound options");
        options
    }

    fn group(allocators: &[&str], runs: u32) -> Group {
        Group {
            suite: Suite::Rows,
            item: "row".into(),
            threads: 1,
            face: Face::C,
            allocators: allocators.iter().map(|name| (*name).into()).collect(),
            runs,
            seconds: 0.1,
        }
    }

    #[test]
    fn every_allocator_takes_each_place_once() {
        let names: String = order(&[group(&["a", "b", "c"], 3)]).into_iter().map(|(cell, _)| cell.allocator).collect();
        assert_eq!(names, "abcbcacab");
    }

    #[test]
    fn rounds_are_outermost_and_short_groups_end_early() {
        let runs: Vec<u32> = order(&[group(&["a"], 3), group(&["b"], 1)]).into_iter().map(|(_, run)| run).collect();
        assert_eq!(runs, [0, 0, 1, 2]);
    }

    #[test]
    fn the_issues_programs_threads_and_faces_are_all_there() {
        let groups = options(&[]).groups().expect("groups");
        for item in ["server", "exchange", "dying", "phases", "big-blocks", "sharing-active", "symbolic", "lru", "http"]
        {
            for threads in [1, 2, 4, 16, 64] {
                for face in [Face::C, Face::Rust] {
                    let found = groups.iter().filter(|group| {
                        group.suite == Suite::Programs
                            && (group.item.as_str(), group.threads, group.face) == (item, threads, face)
                    });
                    assert_eq!(found.count(), 1, "{item} {threads} {face:?}");
                }
            }
        }
        for item in ["gcc", "python3", "sqlite3", "redis"] {
            assert!(groups.iter().any(|group| group.item == item && group.runs == 10), "{item}");
        }
    }

    #[test]
    fn only_what_matches_is_measured() {
        let groups =
            options(&["--only", "set-.*", "--suites", "rows", "--faces", "c", "--allocators", "terrace,glibc"]);
        let groups = groups.groups().expect("groups");
        assert!(groups.len() == 3 && groups.iter().all(|group| group.item.starts_with("set-")), "{groups:?}");
        assert_eq!(groups[0].allocators, ["terrace", "glibc"]);
    }

    #[test]
    fn the_sources_are_read_with_all_folders_below() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("below")).expect("a folder");
        for (name, words) in [("b.rs", "two"), ("below/c.rs", "three"), ("a.rs", "one"), ("note.md", "no")] {
            std::fs::write(folder.path().join(name), words).expect("a file");
        }
        let mut text = String::new();
        read_sources(folder.path(), &mut text).expect("the sources");
        assert_eq!(text, "onetwothree");
    }

    #[test]
    fn an_unknown_allocator_is_refused() {
        let mut options = Line::parse_from(["bench", "--allocators", "dream"]).options;
        assert!(options.settle().expect_err("a refusal").contains("dream"));
    }
}
