//! From samples to tables: medians, ratios to the best of each row within a run, intervals.

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
pub struct Figure {
    suite: Suite,
    figure: &'static str,
    unit: Unit,
    title: &'static str,
    note: &'static str,
    /// Below this the figures of a row are shown, but not compared.
    pub floor: f64,
}

/// The programs' figure of that name.
pub fn program_figure(figure: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|it| it.suite == Suite::Programs && it.figure == figure)
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

/// The table of a figure, if there are samples for it.
pub fn table(samples: &Samples, face: Face, wanted: &Figure) -> Option<Table> {
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

/// The name of a face in sentences.
pub fn face_name(face: Face) -> &'static str {
    if face == Face::C { "C" } else { "Rust" }
}

/// How many samples of rows with one thread stayed disturbed, and how many there are.
pub fn disturbed(results: &Results) -> (usize, usize) {
    let single = results.samples.iter().filter(|it| it.cell.suite == Suite::Rows && it.cell.threads == 1);
    let figures: Vec<_> =
        single.filter_map(|sample| Some(sample.figures.get("cpu_ns")? / sample.figures.get("wall_ns")?)).collect();
    (figures.iter().filter(|share| **share < crate::sample::QUIET).count(), figures.len())
}

#[cfg(test)]
pub(crate) mod tests {
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
    pub(crate) fn results() -> Results {
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
