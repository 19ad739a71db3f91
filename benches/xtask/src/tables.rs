//! From samples to tables: medians, ratios to the best of each row within a run, intervals, targets.

use crate::results::{Face, Results, Sample, Suite};
use crate::stats::{Estimate, Series, estimate, geometric_means, median, ratios, values};
use crate::workshop::{C_ALLOCATORS, RUST_ALLOCATORS};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use terrace_bench::catalogue::rows;
use terrace_bench::heaps::Preloaded;

/// The allocator that is set against the best rival of each row.
pub const SUBJECT: &str = "terrace";

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Figures are nanoseconds, shown as seconds, milliseconds or less.
    Time,
    /// Figures are KiB, shown as MiB.
    Memory,
    /// Plain numbers.
    Count,
}

impl Unit {
    /// The figure with its unit.
    pub fn show(self, figure: f64) -> String {
        let (scaled, name) = match self {
            Self::Time if figure >= 1e9 => (figure / 1e9, " s"),
            Self::Time if figure >= 1e6 => (figure / 1e6, " ms"),
            Self::Time if figure >= 1e4 => (figure / 1e3, " µs"),
            Self::Time => (figure, " ns"),
            Self::Memory => (figure / 1024.0, " MiB"),
            Self::Count => (figure, ""),
        };
        let text = match scaled {
            _ if self == Self::Count && figure.fract() == 0.0 => thousands(scaled),
            scaled if scaled >= 1000.0 => thousands(scaled),
            scaled if scaled >= 100.0 => format!("{scaled:.0}"),
            scaled if scaled >= 10.0 => format!("{scaled:.1}"),
            scaled => format!("{scaled:.2}"),
        };
        text + name
    }
}

/// A whole number with commas between the thousands.
fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let first = digits.len() % 3;
    let mut groups = Vec::new();
    if first > 0 {
        groups.push(&digits[..first]);
    }
    groups.extend((first..digits.len()).step_by(3).map(|start| &digits[start..start + 3]));
    groups.join(",")
}

/// One figure of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The median, in the table's unit; of a row of means nothing.
    pub figure: Option<f64>,
    /// The ratio to the row's best, within a run; nothing where the row's figures are too small to compare.
    pub ratio: Option<Estimate>,
}

/// How the subject stands in a row against the best rival.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The ratio, within a run.
    pub ratio: Estimate,
    /// The best rival; of a row of means nothing.
    pub rival: Option<String>,
}

/// What a standing amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is below one.
    Win,
    /// The interval holds one.
    Tie,
    /// The whole interval is above one.
    Loss,
}

impl Standing {
    /// Win, tie or loss.
    pub fn verdict(&self) -> Verdict {
        match self.ratio {
            Estimate { high, .. } if high < 1.0 => Verdict::Win,
            Estimate { low, .. } if low > 1.0 => Verdict::Loss,
            _ => Verdict::Tie,
        }
    }
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Whether it sums up others.
    pub mean: bool,
    /// One entry for each column; nothing where there is no sample.
    pub entries: Vec<Option<Entry>>,
    /// The subject against the best rival.
    pub standing: Option<Standing>,
}

/// A table of one figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// What a reader has to know.
    pub note: String,
    /// How figures are written.
    pub unit: Unit,
    /// The allocators.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Table {
    /// The last row that sums all up, if there is one.
    pub fn mean(&self) -> Option<&Row> {
        self.rows.last().filter(|row| row.mean)
    }
}

/// What is measured in a row of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The suite.
    pub suite: Suite,
    /// The program or row.
    pub item: String,
    /// Its threads.
    pub threads: u32,
    /// The face.
    pub face: Face,
}

/// The samples, to be asked.
pub struct Samples<'a> {
    by_cell: BTreeMap<(Subject, String), Vec<&'a Sample>>,
}

impl<'a> Samples<'a> {
    /// Sorts the samples that succeeded.
    pub fn new(results: &'a Results) -> Self {
        let mut by_cell: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for sample in results.samples.iter().filter(|sample| sample.failed.is_none()) {
            let cell = &sample.cell;
            let subject =
                Subject { suite: cell.suite, item: cell.item.clone(), threads: cell.threads, face: cell.face };
            by_cell.entry((subject, cell.allocator.clone())).or_default().push(sample);
        }
        Self { by_cell }
    }

    /// The samples of an allocator. The C library's allocator is measured once for both faces in whole programs.
    pub fn of(&self, subject: &Subject, allocator: &str) -> &[&'a Sample] {
        let mut key = (subject.clone(), allocator.to_owned());
        if allocator == "glibc" && subject.suite == Suite::Programs {
            key.0.face = Face::C;
        }
        self.by_cell.get(&key).map_or(&[], Vec::as_slice)
    }

    /// One figure by run.
    pub fn series(&self, subject: &Subject, allocator: &str, figure: &str) -> Series {
        let samples = self.of(subject, allocator).iter();
        samples.filter_map(|sample| Some((sample.run, *sample.figures.get(figure)?))).collect()
    }

    /// What was measured on a face in a suite, each once, in the order of the catalogue.
    pub fn subjects(&self, suite: Suite, face: Face) -> Vec<Subject> {
        let known: Vec<&str> = rows::<Preloaded>().iter().map(|row| row.name).collect();
        let place = |item: &str| known.iter().position(|name| *name == item).unwrap_or(0);
        let mut found: Vec<Subject> = self.by_cell.keys().map(|(subject, _)| subject.clone()).collect();
        found.retain(|subject| subject.suite == suite && subject.face == face);
        found.dedup();
        found.sort_by_key(|subject| (place(&subject.item), subject.item.clone(), subject.threads));
        found
    }

    /// The allocators of a face that have any sample in a suite.
    pub fn allocators(&self, suite: Suite, face: Face) -> Vec<String> {
        let all: &[&str] = if face == Face::C { &C_ALLOCATORS } else { &RUST_ALLOCATORS };
        let subjects = self.subjects(suite, face);
        let there = |name: &&&str| subjects.iter().any(|subject| !self.of(subject, name).is_empty());
        all.iter().filter(there).map(|name| (*name).to_owned()).collect()
    }
}

/// A row of one figure. Below `floor` figures are too small to be compared as ratios.
fn row(samples: &Samples, subject: &Subject, columns: &[String], figure: &str, floor: f64) -> Row {
    let series: Vec<Series> = columns.iter().map(|name| samples.series(subject, name, figure)).collect();
    let medians: Vec<Option<f64>> = series.iter().map(|series| median(&values(series))).collect();
    let least = |wanted: &dyn Fn(usize) -> bool| {
        let candidates = medians.iter().enumerate().filter(|(place, _)| wanted(*place));
        candidates.filter_map(|(place, median)| Some((place, (*median)?))).min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let ratio = |place: usize, against: usize| {
        let comparable = medians[place].unwrap_or(0.0).max(medians[against].unwrap_or(0.0)) >= floor;
        if comparable { estimate(&values(&ratios(&series[place], &series[against]))) } else { None }
    };
    let best = least(&|_| true);
    let entries = (0..columns.len())
        .map(|place| Some(Entry { figure: Some(medians[place]?), ratio: ratio(place, best?.0) }))
        .collect();
    let own = columns.iter().position(|name| name == SUBJECT);
    let rival = own.and_then(|own| least(&|place| place != own));
    let standing = own.zip(rival).and_then(|(own, (rival, _))| {
        Some(Standing { ratio: ratio(own, rival)?, rival: Some(columns[rival].clone()) })
    });
    Row { name: name_of(subject), mean: false, entries, standing }
}

/// The name of a row: the program, and its threads where it has a choice.
fn name_of(subject: &Subject) -> String {
    match subject.suite {
        Suite::Programs => format!("{}, {}", subject.item, subject.threads),
        _ => subject.item.clone(),
    }
}

/// The geometric mean over some rows, of the ratios to each row's best; and of the subject's to each row's best rival.
fn mean_row(samples: &Samples, name: &str, subjects: &[Subject], columns: &[String], figure: &str, floor: f64) -> Row {
    let tables: Vec<Row> = subjects.iter().map(|subject| row(samples, subject, columns, figure, floor)).collect();
    let comparable: Vec<(&Subject, &Row)> = subjects
        .iter()
        .zip(&tables)
        .filter(|(_, row)| row.entries.iter().flatten().any(|entry| entry.ratio.is_some()))
        .collect();
    let best_of = |row: &Row| {
        let figures =
            row.entries.iter().enumerate().filter_map(|(place, entry)| Some((place, entry.as_ref()?.figure?)));
        figures.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| columns[place].clone())
    };
    let mean = |of: &str, against: &dyn Fn(&Row) -> Option<String>| {
        let rows: Option<Vec<Series>> = comparable
            .iter()
            .map(|(subject, row)| {
                let other = samples.series(subject, &against(row)?, figure);
                let ratios = ratios(&samples.series(subject, of, figure), &other);
                (!ratios.is_empty()).then_some(ratios)
            })
            .collect();
        estimate(&values(&geometric_means(&rows?)))
    };
    let entries = columns
        .iter()
        .map(|name| mean(name, &best_of).map(|ratio| Entry { figure: None, ratio: Some(ratio) }))
        .collect();
    let rival_of = |row: &Row| row.standing.as_ref()?.rival.clone();
    let standing = if columns.iter().any(|name| name == SUBJECT) { mean(SUBJECT, &rival_of) } else { None };
    Row { name: name.into(), mean: true, entries, standing: standing.map(|ratio| Standing { ratio, rival: None }) }
}

/// A figure that gets a table of its own.
struct Figure {
    suite: Suite,
    figure: &'static str,
    unit: Unit,
    title: &'static str,
    note: &'static str,
    /// Below this the figures of a row are shown, but not compared.
    floor: f64,
}

const FIGURES: [Figure; 12] = [
    Figure {
        suite: Suite::Programs,
        figure: "wall_ns",
        unit: Unit::Time,
        title: "Whole programs: time",
        note: "Wall time, by program and number of threads.",
        floor: 0.0,
    },
    Figure {
        suite: Suite::Programs,
        figure: "cpu_ns",
        unit: Unit::Time,
        title: "Whole programs: processor time",
        note: "User and system time of all threads; of the servers alone, not of their load.",
        floor: 0.0,
    },
    Figure {
        suite: Suite::Programs,
        figure: "peak_kib",
        unit: Unit::Memory,
        title: "Whole programs: peak memory",
        note: "The highest resident memory of the process; of several, that of the largest.",
        floor: 0.0,
    },
    Figure {
        suite: Suite::Programs,
        figure: "system_ns",
        unit: Unit::Time,
        title: "Whole programs: system time",
        note: "Time in the kernel. Rows in which nobody spends 10 ms are not compared.",
        floor: 10e6,
    },
    Figure {
        suite: Suite::Programs,
        figure: "faults",
        unit: Unit::Count,
        title: "Whole programs: page faults",
        note: "Faults that needed no input. Rows in which nobody has 1,000 are not compared.",
        floor: 1000.0,
    },
    Figure {
        suite: Suite::Programs,
        figure: "mappings",
        unit: Unit::Count,
        title: "Whole programs: mappings",
        note: "Mappings of the process at the end of its load.",
        floor: 0.0,
    },
    Figure {
        suite: Suite::Memory,
        figure: "rested_kib",
        unit: Unit::Memory,
        title: "Memory after the load has gone",
        note: "Resident memory 2.5 seconds after everything was dropped (0.3 in a run of less than a tenth of the \
               work). The program allocates a little now and then, as an \
               idle server does; redis was told to forget all keys.",
        floor: 0.0,
    },
    Figure {
        suite: Suite::Rows,
        figure: "ns",
        unit: Unit::Time,
        title: "Rows: time an operation",
        note: "Single workloads; benches/src/catalogue.rs says what each does.",
        floor: 0.0,
    },
    Figure {
        suite: Suite::Rows,
        figure: "peak_kib",
        unit: Unit::Memory,
        title: "Rows: peak memory",
        note: "The highest resident memory of the process.",
        floor: 0.0,
    },
    Figure {
        suite: Suite::Fresh,
        figure: "resident_kib",
        unit: Unit::Memory,
        title: "The smallest programs: resident memory",
        note: "As they exit: what an allocator costs before it has done anything.",
        floor: 0.0,
    },
    Figure {
        suite: Suite::Fresh,
        figure: "anonymous_kib",
        unit: Unit::Memory,
        title: "The smallest programs: anonymous memory",
        note: "Without the pages of files.",
        floor: 0.0,
    },
    Figure {
        suite: Suite::Instructions,
        figure: "instructions",
        unit: Unit::Count,
        title: "Instructions an operation",
        note: "Counted by callgrind. Where a name says so in limits.toml, the harness's own are taken off.",
        floor: 0.0,
    },
];

/// The tables of a face.
pub fn tables(samples: &Samples, face: Face) -> Vec<Table> {
    FIGURES.iter().filter_map(|figure| table(samples, face, figure)).collect()
}

fn table(samples: &Samples, face: Face, wanted: &Figure) -> Option<Table> {
    let subjects = samples.subjects(wanted.suite, face);
    let columns = samples.allocators(wanted.suite, face);
    if subjects.is_empty() {
        return None;
    }
    let mut rows = Vec::new();
    for (group, members) in grouped(&subjects) {
        rows.extend(members.iter().map(|subject| row(samples, subject, &columns, wanted.figure, wanted.floor)));
        if members.len() > 1 && wanted.suite == Suite::Rows {
            rows.push(mean_row(samples, &group, &members, &columns, wanted.figure, wanted.floor));
        }
    }
    rows.push(mean_row(samples, "geometric mean", &subjects, &columns, wanted.figure, wanted.floor));
    Some(Table { title: wanted.title.into(), note: wanted.note.into(), unit: wanted.unit, columns, rows })
}

/// The subjects by the group of their row, in their order.
fn grouped(subjects: &[Subject]) -> Vec<(String, Vec<Subject>)> {
    let known = rows::<Preloaded>();
    let mut groups: Vec<(String, Vec<Subject>)> = Vec::new();
    for subject in subjects {
        let group = known.iter().find(|row| row.name == subject.item).map_or("", |row| row.group);
        match groups.last_mut() {
            Some((name, members)) if name == group => members.push(subject.clone()),
            _ => groups.push((group.to_owned(), vec![subject.clone()])),
        }
    }
    groups
}

/// The quantiles that are shown.
pub const QUANTILES: [(f64, &str); 5] =
    [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"), (1.0, "max")];

/// The times of one operation in one program or row.
pub struct Times {
    /// The program or row.
    pub item: String,
    /// The operation.
    pub operation: String,
    /// By allocator: the histogram of all runs in tenths of a nanosecond, and p99.9 of each run in nanoseconds.
    pub allocators: Vec<(String, Histogram<u64>, Series)>,
}

/// A histogram of pairs of nanoseconds and how often; it counts tenths of a nanosecond.
fn histogram<'a>(pairs: impl Iterator<Item = &'a (f64, u64)>) -> Option<Histogram<u64>> {
    let mut histogram = Histogram::new(3).ok()?;
    for (nanoseconds, count) in pairs {
        histogram.record_n(((nanoseconds * 10.0).round() as u64).max(1), *count).ok()?;
    }
    (!histogram.is_empty()).then_some(histogram)
}

/// A quantile in nanoseconds.
pub fn quantile(histogram: &Histogram<u64>, share: f64) -> f64 {
    histogram.value_at_quantile(share) as f64 / 10.0
}

/// The times of single calls on a face.
pub fn times(samples: &Samples, face: Face) -> Vec<Times> {
    let columns = samples.allocators(Suite::Latency, face);
    let mut found = Vec::new();
    for subject in samples.subjects(Suite::Latency, face) {
        for operation in ["alloc", "free", "realloc", "request"] {
            let allocators: Vec<_> = columns
                .iter()
                .filter_map(|name| {
                    let runs = samples.of(&subject, name);
                    let all = histogram(runs.iter().filter_map(|run| run.latency.get(operation)).flatten())?;
                    let each = runs.iter().filter_map(|run| {
                        Some((run.run, quantile(&histogram(run.latency.get(operation)?.iter())?, 0.999)))
                    });
                    Some((name.clone(), all, each.collect()))
                })
                .collect();
            if !allocators.is_empty() {
                found.push(Times { item: subject.item.clone(), operation: operation.into(), allocators });
            }
        }
    }
    found
}

/// The group of the goals for the rarest times.
pub const TAILS: &str = "Single calls";

/// A goal of the project, and what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What it belongs to.
    pub group: &'static str,
    /// What is measured.
    pub what: String,
    /// The goal.
    pub goal: String,
    /// What was found, and where.
    pub found: String,
    /// Whether it is reached.
    pub met: bool,
}

/// The geometric mean of the subject's ratio to the least of some rivals in each of some rows of the Rows suite.
fn against(samples: &Samples, face: Face, items: &[&str], rivals: &[&str]) -> Option<Estimate> {
    let known = rows::<Preloaded>();
    let series: Option<Vec<Series>> = items
        .iter()
        .map(|item| {
            let row = known.iter().find(|row| row.name == *item)?;
            let subject = Subject { suite: Suite::Rows, item: (*item).into(), threads: row.threads, face };
            let of = |name: &str| samples.series(&subject, name, "ns");
            let best = rivals.iter().map(|name| of(name)).filter(|series| !series.is_empty());
            let best =
                best.min_by(|a, b| median(&values(a)).unwrap_or(0.0).total_cmp(&median(&values(b)).unwrap_or(0.0)))?;
            let ratios = ratios(&of(SUBJECT), &best);
            (!ratios.is_empty()).then_some(ratios)
        })
        .collect();
    estimate(&values(&geometric_means(&series?)))
}

fn show(estimate: &Estimate) -> String {
    format!("{:.2} [{:.2}, {:.2}]", estimate.median, estimate.low, estimate.high)
}

/// The goals that the samples can judge.
pub fn targets(samples: &Samples) -> Vec<Target> {
    let mut found = Vec::new();
    row_targets(samples, &mut found);
    program_targets(samples, &mut found);
    latency_targets(samples, &mut found);
    found
}

fn row_targets(samples: &Samples, found: &mut Vec<Target>) {
    let mut compare = |what: &str, face, items: &[&str], rivals: &[&str], limit: f64, against_whom: &str| {
        if let Some(ratio) = against(samples, face, items, rivals) {
            found.push(Target {
                group: if items.len() == 1 { "Between threads" } else { "Rows" },
                what: what.into(),
                goal: format!("at most {limit} of {against_whom}"),
                found: show(&ratio),
                met: ratio.median <= limit,
            });
        }
    };
    let short = ["pairs-64", "pairs-mixed", "pairs-random", "burst-1", "burst-10", "burst-100", "burst-1000"];
    let constant = ["pairs-64", "pairs-mixed", "burst-1", "burst-10", "burst-100", "burst-1000"];
    let (sets, typed) = (["set-1k", "set-10k", "set-100k"], ["typed-1k", "typed-10k", "typed-100k"]);
    let rivals =
        |all: &[&'static str]| -> Vec<&'static str> { all.iter().copied().filter(|it| *it != SUBJECT).collect() };
    let (c, rust) = (rivals(&C_ALLOCATORS), rivals(&RUST_ALLOCATORS));
    compare("pairs and bursts, C face", Face::C, &short, &["mimalloc-v3"], 0.8, "mimalloc v3");
    compare("pairs and bursts, C face", Face::C, &short, &c, 1.0, "the best rival of each row");
    compare(
        "pairs and bursts, Rust face, constant layout",
        Face::Rust,
        &constant,
        &["mimalloc-v3"],
        0.4,
        "the mimalloc crate",
    );
    compare(
        "pairs and bursts, Rust face, constant layout",
        Face::Rust,
        &constant,
        &rust,
        1.0,
        "the best rival of each row",
    );
    compare("random sets, C face", Face::C, &sets, &["mimalloc-v3", "mimalloc-v2"], 0.88, "the better mimalloc");
    compare("random sets, C face", Face::C, &sets, &c, 1.0, "the best rival of each row");
    compare("random sets, Rust face", Face::Rust, &sets, &["mimalloc-v3"], 0.55, "the mimalloc crate");
    compare(
        "random sets, Rust face, constant layouts",
        Face::Rust,
        &typed,
        &["mimalloc-v3"],
        0.55,
        "the mimalloc crate",
    );
    for face in [Face::C, Face::Rust] {
        let rivals = if face == Face::C { &c } else { &rust };
        for item in ["ring", "fan-out", "fan-in", "remote-frees", "mailboxes"] {
            let what = format!("{item}, {} face", face_name(face));
            compare(&what, face, &[item], rivals, 1.0, "the best rival");
        }
    }
}

/// The name of a face in sentences.
pub fn face_name(face: Face) -> &'static str {
    if face == Face::C { "C" } else { "Rust" }
}

/// The rows of a table that are above a limit against the best rival, worst first.
fn above(table: &Table, limit: f64) -> Vec<String> {
    let mut rows: Vec<(&str, f64)> = table
        .rows
        .iter()
        .filter(|row| !row.mean)
        .filter_map(|row| Some((row.name.as_str(), row.standing.as_ref()?.ratio.median)))
        .filter(|(_, ratio)| *ratio > limit)
        .collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    rows.into_iter().map(|(name, ratio)| format!("{name} {ratio:.2}")).collect()
}

fn worst(names: &[String]) -> String {
    match names {
        [] => "none above".into(),
        names if names.len() <= 5 => format!("above: {}", names.join("; ")),
        names => format!("{} rows above, the worst: {}", names.len(), names[..5].join("; ")),
    }
}

fn program_targets(samples: &Samples, found: &mut Vec<Target>) {
    for face in [Face::C, Face::Rust] {
        let of = |figure: &str| {
            let figure = FIGURES.iter().find(|it| it.suite == Suite::Programs && it.figure == figure)?;
            table(samples, face, figure)
        };
        for (figure, what, each, mean) in [("wall_ns", "time", 1.05, 0.97), ("peak_kib", "peak memory", 1.3, 1.05)] {
            let Some(table) = of(figure) else { continue };
            let Some(total) = table.mean().and_then(|row| row.standing.clone()) else { continue };
            let names = above(&table, each);
            found.push(Target {
                group: "Whole programs",
                what: format!("each whole program, {} face: {what}", face_name(face)),
                goal: format!("at most {each} of the row's best rival"),
                found: worst(&names),
                met: names.is_empty(),
            });
            found.push(Target {
                group: "Whole programs",
                what: format!("all whole programs, {} face: {what}", face_name(face)),
                goal: format!("geometric mean at most {mean}"),
                found: show(&total.ratio),
                met: total.ratio.median <= mean,
            });
        }
        for (figure, what) in [("faults", "page faults"), ("system_ns", "system time")] {
            kernel_target(samples, face, figure, what, found);
        }
        scaling_target(samples, face, found);
    }
}

/// The geometric mean of a figure against mimalloc v3's, over the rows where that is above the floor.
fn kernel_target(samples: &Samples, face: Face, figure: &str, what: &str, found: &mut Vec<Target>) {
    let Some(known) = FIGURES.iter().find(|it| it.suite == Suite::Programs && it.figure == figure) else { return };
    let series: Vec<Series> = samples
        .subjects(Suite::Programs, face)
        .iter()
        .filter_map(|subject| {
            let rival = samples.series(subject, "mimalloc-v3", figure);
            if median(&values(&rival))? < known.floor {
                return None;
            }
            // A count of zero would make the mean zero: one fault, one microsecond.
            let own =
                samples.series(subject, SUBJECT, figure).into_iter().map(|(run, it)| (run, it.max(1.0))).collect();
            Some(ratios(&own, &rival))
        })
        .filter(|ratios| !ratios.is_empty())
        .collect();
    if let Some(ratio) = estimate(&values(&geometric_means(&series))) {
        found.push(Target {
            group: "Whole programs",
            what: format!("{what} of whole programs, {} face", face_name(face)),
            goal: "at most half of mimalloc v3's, geometric mean over the rows where it has any to speak of".into(),
            found: format!("{} over {} rows", show(&ratio), series.len()),
            met: ratio.median <= 0.5,
        });
    }
}

/// The throughput with 64 threads against that with two.
fn scaling_target(samples: &Samples, face: Face, found: &mut Vec<Target>) {
    let mut slower = Vec::new();
    let mut any = false;
    for subject in samples.subjects(Suite::Programs, face).iter().filter(|subject| subject.threads == 64) {
        let two = samples.series(&Subject { threads: 2, ..subject.clone() }, SUBJECT, "wall_ns");
        let ratio = estimate(&values(&ratios(&two, &samples.series(subject, SUBJECT, "wall_ns"))));
        let Some(ratio) = ratio else { continue };
        any = true;
        if ratio.median < 0.9 {
            slower.push(format!("{} {:.2}", subject.item, ratio.median));
        }
    }
    if any {
        found.push(Target {
            group: "Whole programs",
            what: format!("64 threads, {} face", face_name(face)),
            goal: "at least 0.9 of the throughput of two".into(),
            found: if slower.is_empty() { "all".into() } else { format!("below: {}", slower.join("; ")) },
            met: slower.is_empty(),
        });
    }
}

fn latency_targets(samples: &Samples, found: &mut Vec<Target>) {
    for face in [Face::C, Face::Rust] {
        let known = rows::<Preloaded>();
        let times = times(samples, face);
        let of_rows = times.iter().filter(|times| known.iter().any(|row| row.name == times.item));
        for times in of_rows.filter(|times| times.operation != "realloc") {
            let each: Vec<_> = times
                .allocators
                .iter()
                .filter_map(|(name, all, runs)| Some((name, quantile(all, 0.999), estimate(&values(runs))?)))
                .collect();
            let own = each.iter().find(|(name, ..)| *name == SUBJECT);
            let rival = each.iter().filter(|(name, ..)| *name != SUBJECT).min_by(|a, b| a.1.total_cmp(&b.1));
            if let (Some(own), Some(rival)) = (own, rival) {
                found.push(Target {
                    group: TAILS,
                    what: format!("p99.9 of {} in {}, {} face", times.operation, times.item, face_name(face)),
                    goal: "below every rival's; overlapping ranges are a tie".into(),
                    found: format!("{:.0} ns, best rival {} {:.0} ns", own.1, rival.0, rival.1),
                    met: own.2.low <= rival.2.high,
                });
            }
        }
    }
}

/// How many samples of rows with one thread stayed disturbed, and how many there are.
pub fn disturbed(results: &Results) -> (usize, usize) {
    let single = results.samples.iter().filter(|it| it.cell.suite == Suite::Rows && it.cell.threads == 1);
    let figures: Vec<_> =
        single.filter_map(|sample| Some(sample.figures.get("cpu_ns")? / sample.figures.get("wall_ns")?)).collect();
    (figures.iter().filter(|share| **share < crate::sample::QUIET).count(), figures.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Cell, Header};

    fn sample(item: &str, allocator: &str, run: u32, wall_ns: f64) -> Sample {
        Sample {
            cell: Cell {
                suite: Suite::Programs,
                item: item.into(),
                threads: 2,
                face: Face::C,
                allocator: allocator.into(),
            },
            run,
            figures: BTreeMap::from([("wall_ns".into(), wall_ns), ("faults".into(), 3.0)]),
            checksum: None,
            latency: BTreeMap::from([("alloc".into(), vec![(10.0, 998), (2000.0, 2)])]),
            memory: Vec::new(),
            failed: None,
        }
    }

    /// `jemalloc` takes 2, `terrace` 3, `glibc` 6, in each of three runs that are all different.
    fn results() -> Results {
        let mut samples = Vec::new();
        for run in 0..3 {
            let factor = f64::from(run + 1);
            for (allocator, time) in [("terrace", 3.0), ("jemalloc", 2.0), ("glibc", 6.0)] {
                samples.push(sample("server", allocator, run, time * factor));
            }
        }
        Results { header: Header::default(), samples }
    }

    fn time_table(results: &Results, face: Face) -> Table {
        tables(&Samples::new(results), face).into_iter().next().expect("a table")
    }

    #[test]
    fn ratios_are_to_the_best_of_the_row_within_a_run() {
        let table = time_table(&results(), Face::C);
        assert_eq!(table.columns, ["terrace", "jemalloc", "glibc"]);
        let row = &table.rows[0];
        let ratios: Vec<f64> = row.entries.iter().flatten().filter_map(|entry| Some(entry.ratio?.median)).collect();
        assert_eq!((row.name.as_str(), ratios), ("server, 2", vec![1.5, 1.0, 3.0]));
        assert_eq!(row.entries[0].as_ref().and_then(|entry| entry.figure), Some(6.0));
    }

    #[test]
    fn the_subject_stands_against_the_best_rival_and_a_loss_is_called_one() {
        let table = time_table(&results(), Face::C);
        let standing = table.rows[0].standing.as_ref().expect("a standing");
        assert_eq!((standing.rival.as_deref(), standing.ratio.median), (Some("jemalloc"), 1.5));
        assert_eq!(standing.verdict(), Verdict::Loss);
        let total = table.mean().and_then(|row| row.standing.as_ref()).expect("a mean");
        assert!((total.ratio.median - 1.5).abs() < 1e-9);
    }

    #[test]
    fn figures_below_the_floor_are_shown_and_not_compared() {
        let results = results();
        let tables = tables(&Samples::new(&results), Face::C);
        let faults = tables.iter().find(|table| table.title.ends_with("page faults")).expect("a table");
        let entry = faults.rows[0].entries[0].as_ref().expect("an entry");
        assert_eq!((entry.figure, entry.ratio), (Some(3.0), None));
    }

    #[test]
    fn a_failed_sample_is_no_figure() {
        let mut results = results();
        for sample in results.samples.iter_mut().filter(|sample| sample.cell.allocator == "jemalloc") {
            sample.failed = Some("it broke".into());
        }
        assert_eq!(time_table(&results, Face::C).columns, ["terrace", "glibc"]);
    }

    #[test]
    fn a_target_that_is_missed_names_the_rows() {
        let results = results();
        let targets = targets(&Samples::new(&results));
        let each = targets.iter().find(|target| target.what.starts_with("each whole program")).expect("a target");
        assert!(!each.met && each.found.contains("server, 2 1.50"), "{each:?}");
    }

    #[test]
    fn quantiles_are_those_of_the_pairs() {
        let histogram = histogram([(10.0, 998), (2000.0, 2)].iter()).expect("a histogram");
        assert_eq!((quantile(&histogram, 0.5), quantile(&histogram, 0.99)), (10.0, 10.0));
        let highest = quantile(&histogram, 0.999);
        assert!((1990.0..2010.0).contains(&highest), "{highest}");
    }

    #[test]
    fn figures_are_written_with_their_unit() {
        let cases = [
            (Unit::Time, 12.345, "12.3 ns"),
            (Unit::Time, 1_500_000.0, "1.50 ms"),
            (Unit::Time, 2.5e9, "2.50 s"),
            (Unit::Memory, 2048.0, "2.00 MiB"),
            (Unit::Memory, 4_194_304.0, "4,096 MiB"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::Count, 34.05, "34.0"),
        ];
        for (unit, figure, text) in cases {
            assert_eq!(unit.show(figure), text);
        }
    }
}
