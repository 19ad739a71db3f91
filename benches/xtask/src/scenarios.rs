//! `cargo xtask scenarios`: plays each scenario on the allocators, draws resident memory over time, and says which targets of
//! Terrace are met. Memory is a stable figure: one run tells, and a missed target fails the command.

use crate::plots::{self, Axes, Line, Scale};
use crate::process::{self, Guarded, Watch, resident_mib};
use crate::tables::SUBJECT;
use crate::workshop::{C_ALLOCATORS, Workshop};
use clap::Args;
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use terrace_bench::scenarios::SCENARIOS;

/// What to play
#[derive(Args, Debug)]
pub struct Options {
    /// Less memory and work, for a check
    #[arg(long)]
    quick: bool,

    /// Scenarios whose whole name matches
    #[arg(long, value_name = "REGEX")]
    only: Option<String>,

    /// Allocators to play on
    #[arg(long, value_delimiter = ',', default_values = ["terrace", "mimalloc-v3", "jemalloc", "glibc"], value_name = "NAMES")]
    allocators: Vec<String>,

    /// Where figures and plots go [default: bench/scenarios in cargo's target folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Do not install Debian's packages of rivals
    #[arg(long)]
    no_install: bool,

    /// A libterrace.so to use instead of building one
    #[arg(long, value_name = "FILE")]
    terrace_library: Option<PathBuf>,

    /// Build jobs
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<u32>,
}

/// A figure of a scenario on one allocator, and what it is to be at most.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
struct Figure {
    what: String,
    value: f64,
    target: f64,
    /// More than the target where Terrace does not reach it; beyond this, it has become worse.
    limit: f64,
}

impl Figure {
    fn is_met(&self) -> bool {
        self.value <= self.target
    }
}

/// What a scenario gave on one allocator.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Played {
    /// The file that `malloc` came from.
    provider: String,
    figures: Vec<Figure>,
    /// Seconds; resident, live, and the floor, in MiB.
    looks: Vec<[f64; 4]>,
}

/// A row of the table: a scenario on each allocator, in the order of the options.
struct Row {
    name: &'static str,
    what: &'static str,
    played: Vec<(String, Played)>,
}

/// A program that has just started.
struct Fresh {
    name: &'static str,
    what: &'static str,
    program: Program,
    /// With how many times the resident memory of the leanest rival Terrace's may be: the target, or what is reached in its stead where the
    /// leanest is the C library's own allocator, which needs no library beside it, and the kernel may have files in larger pieces.
    limit: f64,
}

enum Program {
    /// One that ends by itself, with its arguments, on a preloaded allocator.
    Ending(&'static [&'static str]),
    /// The example server, on a preloaded allocator.
    Server,
    /// The example server with the allocator linked in, as a Rust program has it.
    RustServer,
}

static FRESH: [Fresh; 4] = [
    Fresh { name: "fresh-true", what: "`true`, as it exits", program: Program::Ending(&["/bin/true"]), limit: 1.3 },
    Fresh {
        name: "fresh-python3",
        what: "`python3 -c pass`, as it exits",
        program: Program::Ending(&["/usr/bin/python3", "-c", "pass"]),
        limit: FRESH_TARGET,
    },
    Fresh { name: "fresh-server", what: "the example server, idle", program: Program::Server, limit: 1.18 },
    Fresh {
        name: "fresh-server-rust",
        what: "the example server with the allocator linked in, idle",
        program: Program::RustServer,
        limit: 1.15,
    },
];

/// Of a fresh program's resident memory the mean of so many runs counts, if it ends by itself: where the kernel puts things
/// moves it by a tenth either way, since it maps a file's pages by aligned 64 KiB around each one that is touched.
const FRESH_RUNS: usize = 61;
/// The same of one that has to be ended, which takes longer and is larger, so that this matters less.
const IDLE_RUNS: usize = 9;

/// How many times the resident memory of the leanest rival Terrace's may be.
const FRESH_TARGET: f64 = 1.1;

/// What an allocator is told. Where the process is idle: to return memory by itself. Where an hour is a minute: to wait for a
/// sixtieth of its usual time before it does.
fn environment(scenario: &str, allocator: &str) -> &'static [(&'static str, &'static str)] {
    match (scenario, allocator) {
        ("peak-idle", "terrace") => &[("TERRACE_BACKGROUND", "1")],
        ("peak-idle", "jemalloc") => &[("MALLOC_CONF", "background_thread:true")],
        ("drift", "terrace") => &[("TERRACE_PURGE_DELAY_MS", "17")],
        ("drift", "jemalloc") => &[("MALLOC_CONF", "dirty_decay_ms:167")],
        ("drift", "mimalloc-v3") => &[("MIMALLOC_PURGE_DELAY", "17")],
        ("drift", "mimalloc-v2") => &[("MIMALLOC_PURGE_DELAY", "1")],
        _ => &[],
    }
}

/// Plays the scenarios and writes figures, plots and the table. Returns whether Terrace met every target, or the limit that
/// stands in for one that it does not reach.
///
/// # Errors
/// A sentence.
pub fn run(options: &Options) -> Result<bool, String> {
    if let Some(unknown) = options.allocators.iter().find(|name| !C_ALLOCATORS.contains(&name.as_str())) {
        return Err(format!("there is no allocator {unknown} with a C face; known: {C_ALLOCATORS:?}"));
    }
    let only = options.only.as_deref().map(|text| Regex::new(&format!("^(?:{text})$"))).transpose();
    let only = only.map_err(|error| error.to_string())?;
    let chosen = |name: &str| only.as_ref().is_none_or(|only| only.is_match(name));
    let mut shop = Workshop::new(!options.no_install, options.jobs)?;
    let out = options.out.clone().unwrap_or_else(|| shop.store.with_file_name("scenarios"));
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let tools = shop.scenario_tools(FRESH.iter().any(|it| chosen(it.name)))?;
    let preloads = shop.preloads(&options.allocators, options.terrace_library.as_deref());
    let usable: Vec<(&String, Option<&Path>)> =
        options.allocators.iter().filter_map(|name| Some((name, preloads.get(name)?.as_deref()))).collect();
    let mut rows = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| chosen(scenario.name)) {
        let scale = if options.quick { scenario.quick } else { 1.0 };
        let mut row = Row { name: scenario.name, what: scenario.what, played: Vec::new() };
        for (allocator, object) in &usable {
            eprintln!("{} on {allocator}", scenario.name);
            let mut command = Command::new(tools.join("scenario"));
            process::clean(&mut command).args([scenario.name, "--scale", &scale.to_string()]);
            command.envs(environment(scenario.name, allocator).iter().copied());
            let played =
                play(&mut command, *object).map_err(|error| format!("{} on {allocator}: {error}", row.name))?;
            row.played.push(((*allocator).clone(), played));
        }
        rows.push(row);
        // What there is so far is there if the rest fails.
        write(&rows, &out, options.quick)?;
    }
    // Fresh programs are compared with others: where there are none, with the C library's own allocator, which is always there.
    let mut fresh_on = usable.clone();
    let glibc = String::from("glibc");
    if usable.len() == 1 && !usable.iter().any(|(name, _)| **name == glibc) {
        fresh_on.push((&glibc, None));
    }
    for it in FRESH.iter().filter(|it| chosen(it.name)) {
        rows.push(fresh(it, &mut shop, &tools, &fresh_on)?);
        write(&rows, &out, options.quick)?;
    }
    if rows.is_empty() {
        return Err("nothing matches; see --help".into());
    }
    write(&rows, &out, options.quick)?;
    print!("{}", table(&rows));
    println!("plots and figures: {}", out.display());
    let subject =
        |row: &Row| row.played.iter().find(|(name, _)| name == SUBJECT).map(|(_, played)| played.figures.clone());
    Ok(rows.iter().filter_map(subject).flatten().all(|figure| figure.value <= figure.limit))
}

/// Runs a scenario and reads what it wrote.
fn play(command: &mut Command, object: Option<&Path>) -> Result<Played, String> {
    if let Some(object) = object {
        command.env("LD_PRELOAD", object);
    }
    let ended = process::run(command, Watch::Nothing)?;
    let played: Played = serde_json::from_str(ended.output.trim()).map_err(|error| error.to_string())?;
    let same = |path: &Path| fs::canonicalize(path).ok();
    if object.is_some_and(|object| same(object) != same(Path::new(&played.provider))) {
        return Err(format!("malloc came from {} instead of the preloaded library", played.provider));
    }
    if played.figures.is_empty() || played.looks.len() < 2 {
        return Err("the scenario gave no figures".into());
    }
    Ok(played)
}

/// A fresh program on each allocator. The figure is its resident memory by that of the leanest other.
fn fresh(
    &Fresh { name, what, ref program, limit }: &Fresh,
    shop: &mut Workshop,
    tools: &Path,
    usable: &[(&String, Option<&Path>)],
) -> Result<Row, String> {
    let mut means = Vec::new();
    let mut looked_at = Vec::new();
    for (allocator, object) in usable {
        eprintln!("{name} on {allocator}");
        let own = match (program, allocator.as_str()) {
            // What a Rust program has that names no allocator is glibc's.
            (Program::Ending(_) | Program::Server, _) | (_, "glibc") => None,
            (_, SUBJECT) => Some(shop.programs(SUBJECT)?),
            (_, rival) => match shop.attempt(|shop| shop.programs(rival)) {
                // One that does not build, or has no Rust face.
                None => continue,
                built => built,
            },
        };
        let look = |_| match program {
            Program::Ending(arguments) => at_exit(arguments, tools, *object),
            Program::Server => idle_server(tools, *object),
            Program::RustServer => idle_server(own.as_deref().unwrap_or(tools), None),
        };
        let runs = if matches!(program, Program::Ending(_)) { FRESH_RUNS } else { IDLE_RUNS };
        let seen = (0..runs).map(look).collect::<Result<Vec<f64>, String>>()?;
        means.push(seen.iter().sum::<f64>() / runs as f64);
        looked_at.push((allocator, object));
    }
    let mut row = Row { name, what, played: Vec::new() };
    for (place, (allocator, object)) in looked_at.into_iter().enumerate() {
        let others = means.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, mib)| *mib);
        let leanest = others.fold(f64::MAX, f64::min);
        let figure = Figure {
            what: format!("resident ({:.0} KiB) / that of the leanest rival", means[place] * 1024.0),
            value: if leanest == f64::MAX { f64::INFINITY } else { means[place] / leanest },
            target: FRESH_TARGET,
            limit,
        };
        let provider = match program {
            // Built of this tree, whatever library is measured beside it.
            Program::RustServer => String::new(),
            _ => object.map_or(String::new(), |object| object.display().to_string()),
        };
        row.played.push(((**allocator).clone(), Played { provider, figures: vec![figure], looks: Vec::new() }));
    }
    Ok(row)
}

/// Resident memory of a program as it exits, in MiB.
fn at_exit(arguments: &[&str], tools: &Path, object: Option<&Path>) -> Result<f64, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let report = folder.path().join("report");
    let mut command = Command::new(tools.join("launch"));
    process::clean(&mut command).arg(&report).args(arguments);
    if let Some(object) = object {
        command.env("LAUNCH_PRELOAD", object);
    }
    process::run(&mut command, Watch::Nothing)?;
    let text = fs::read_to_string(&report).map_err(|error| format!("{}: {error}", report.display()))?;
    let kib = process::parse(&text)?.get("resident_kib").and_then(serde_json::Value::as_f64);
    Ok(kib.ok_or("the launcher reported no resident memory")? / 1024.0)
}

/// Resident memory of the example server in a folder half a second after it began to listen, in MiB.
fn idle_server(folder: &Path, object: Option<&Path>) -> Result<f64, String> {
    let mut command = Command::new(folder.join("http_serve"));
    process::clean(&mut command).args(["--threads", "2"]);
    if let Some(object) = object {
        command.env("LD_PRELOAD", object);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Guarded::start(&mut command)?;
    let output = server.child.stdout.take().ok_or("the server has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
    if !line.starts_with("listening on ") {
        return Err(format!("the server said {line:?}"));
    }
    thread::sleep(Duration::from_millis(500));
    // Dropped, it is killed.
    Ok(resident_mib(server.child.id()))
}

fn write(rows: &[Row], out: &Path, quick: bool) -> Result<(), String> {
    let store = |name: &str, text: String| {
        let path = out.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let figures: BTreeMap<&str, BTreeMap<&str, &[Figure]>> = rows
        .iter()
        .map(|row| (row.name, row.played.iter().map(|(name, it)| (name.as_str(), it.figures.as_slice())).collect()))
        .collect();
    store("figures.json", serde_json::to_string_pretty(&figures).map_err(|error| error.to_string())? + "\n")?;
    let pages = if quick { "Shortened: less memory and work than the targets are about.\n\n" } else { "" };
    store("scenarios.md", format!("{pages}{}", table(rows)))?;
    for row in rows.iter().filter(|row| row.played.iter().any(|(_, played)| !played.looks.is_empty())) {
        store(&format!("{}.svg", row.name), plot(row).ok_or(format!("{}: nothing to draw", row.name))?)?;
    }
    Ok(())
}

/// Points of a line of a plot at most.
const POINTS: usize = 240;

/// As many points as can be seen: of each stretch of time the one with the most memory.
fn thinned(looks: &[[f64; 4]], value: impl Fn(&[f64; 4]) -> f64) -> Vec<(f64, f64)> {
    let stretch = looks.len().div_ceil(POINTS).max(1);
    let most = |part: &[[f64; 4]]| part.iter().map(|look| (look[0], value(look))).max_by(|a, b| a.1.total_cmp(&b.1));
    looks.chunks(stretch).filter_map(most).collect()
}

/// Resident memory over time on all allocators; below, grey, what was live on the first, and what held it.
fn plot(row: &Row) -> Option<String> {
    let line = |name: &str, points| Line { allocator: name.into(), points, intervals: Vec::new() };
    let mut lines: Vec<Line> =
        row.played.iter().map(|(name, played)| line(name, thinned(&played.looks, |look| look[1]))).collect();
    let (_, first) = row.played.first()?;
    lines.push(line(plots::LIVE, thinned(&first.looks, |look| look[2])));
    if first.looks.iter().any(|look| look[3] > 0.0) {
        let pinned: Vec<[f64; 4]> = first.looks.iter().copied().filter(|look| look[3] > 0.0).collect();
        lines.push(line(plots::FLOOR, thinned(&pinned, |look| look[3])));
    }
    let axes = Axes {
        x: "seconds",
        y: "MiB",
        write_x: &|it| format!("{it:.0}"),
        write_y: &|it| format!("{it:.0}"),
        scale: Scale::Linear,
        ticks: 8,
    };
    plots::named_lines(&lines, &axes, (720, 320), row.what)
}

/// The table of verdicts, as Markdown.
fn table(rows: &[Row]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.played) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut text = format!("| scenario | figure | target | {} | Terrace |\n|---|---|---|", names.join(" | "));
    text.push_str(&"---|".repeat(names.len() + 1));
    text.push('\n');
    for row in rows {
        let figures = row.played.first().map_or(&[][..], |(_, played)| &played.figures);
        for (place, figure) in figures.iter().enumerate() {
            let values: Vec<String> = names
                .iter()
                .map(|name| {
                    let played = row.played.iter().find(|(other, _)| other == name);
                    played.map_or("–".into(), |(_, played)| format!("{:.2}", played.figures[place].value))
                })
                .collect();
            let own = row.played.iter().find(|(name, _)| name == SUBJECT).map(|(_, it)| it.figures[place].is_met());
            let verdict = own.map_or("–", |met| if met { "met" } else { "**missed**" });
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} | {} | {verdict} |",
                row.name,
                figure.what,
                figure.target,
                values.join(" | ")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f64) -> Row {
        let played = |value| Played {
            provider: String::new(),
            figures: vec![Figure { what: "resident / live".into(), value, target: 1.25, limit: 1.4 }],
            looks: vec![[0.0, 10.0, 5.0, 0.0], [1.0, 30.0, 15.0, 20.0], [2.0, 20.0, 5.0, 20.0]],
        };
        Row {
            name: "peak",
            what: "a peak",
            played: vec![("terrace".into(), played(value)), ("glibc".into(), played(3.0))],
        }
    }

    #[test]
    fn a_missed_target_stands_in_the_table() {
        assert!(table(&[row(1.2)]).contains("| peak | resident / live | 1.25 | 1.20 | 3.00 | met |"));
        assert!(table(&[row(1.3)]).contains("**missed**"));
    }

    #[test]
    fn every_allocator_the_live_bytes_and_the_floor_are_drawn() {
        let svg = plot(&row(1.0)).expect("a plot");
        for word in ["terrace", "glibc", plots::LIVE, plots::FLOOR, "a peak"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    #[test]
    fn the_peak_of_a_stretch_is_kept() {
        let looks: Vec<[f64; 4]> =
            (0..10_000).map(|it| [f64::from(it), if it == 4321 { 9.0 } else { 1.0 }, 0.0, 0.0]).collect();
        let points = thinned(&looks, |look| look[1]);
        assert!(points.len() <= POINTS && points.contains(&(4321.0, 9.0)), "{}", points.len());
    }
}
