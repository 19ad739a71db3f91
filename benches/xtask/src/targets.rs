//! The goals of the project beside what was found.

use crate::results::{Face, Suite};
use crate::stats::{Estimate, Series, estimate, geometric_means, median, ratios, values};
use crate::tables::{SUBJECT, Samples, Subject, Table, face_name, program_figure, quantile, table, times};
use crate::workshop::{C_ALLOCATORS, RUST_ALLOCATORS};
use terrace_bench::catalogue::rows;
use terrace_bench::heaps::Preloaded;

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
        let of = |figure: &str| table(samples, face, program_figure(figure)?);
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
    let Some(known) = program_figure(figure) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::results;

    #[test]
    fn a_target_that_is_missed_names_the_rows() {
        let results = results();
        let targets = targets(&Samples::new(&results));
        let each = targets.iter().find(|target| target.what.starts_with("each whole program")).expect("a target");
        assert!(!each.met && each.found.contains("server, 2 1.50"), "{each:?}");
    }
}
