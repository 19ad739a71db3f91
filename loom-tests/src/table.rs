//! Runs the models with their controls, and fills the table of `docs/verification.md`.

use super::check::{Check, Mode, Outcome, elsewhere, side_by_side};
use super::{bugs, sources};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use terrace::models::{Control, Model};

/// Operations that no model reaches, and why not.
const UNREACHED: &[(&str, &str)] = &[
    ("src/tcache/slot.rs", "compiled only for targets without a slot of their own"),
    ("src/os/valgrind.rs", "no model runs under valgrind"),
];

struct Row {
    model: Model,
    /// What CI explores, one for each mode.
    outcomes: Vec<Outcome>,
    checks: Vec<Check>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Proof,
    Control,
}

/// The check under which a model must fail, if this program can make it.
fn control(model: &Model, bound: Option<usize>, seconds: u64) -> Option<Check> {
    let Control::Relaxed(file, part, argument) = model.control else { return None };
    let lines: Vec<_> =
        sources::operations().into_iter().filter(|op| op.file == file && op.place.contains(part)).collect();
    assert_eq!(lines.len(), 1, "the control of {} does not name one operation: {part}", model.name);
    let weaken = Some(format!("{file}:{}:{argument}:Relaxed", lines[0].line));
    Some(Check { name: model.name.into(), mode: Mode::Led, bound, weaken, seconds, ..Check::default() })
}

/// Whether all is well, and what was checked.
pub fn run(words: &[String], write: bool) -> (bool, Vec<(Check, Outcome)>) {
    assert!(!write || words.is_empty(), "only all models fill the tables");
    let seconds = 300;
    let models: Vec<Model> = terrace::models::all()
        .into_iter()
        .filter(|model| {
            words.is_empty() || words.iter().any(|word| model.name.contains(&**word) || model.protocol == word)
        })
        .collect();
    let mut work = Vec::new();
    for (number, model) in models.iter().enumerate() {
        for mode in Mode::ALL {
            let bound = mode.bound(model);
            work.push((
                number,
                Part::Proof,
                Check { name: model.name.into(), mode, bound, seconds, ..Check::default() },
            ));
        }
        work.extend(control(model, Mode::Led.bound(model), seconds).map(|check| (number, Part::Control, check)));
    }
    let outcomes = side_by_side(work, |(number, part, check)| {
        let outcome = elsewhere(&check, None);
        let say = |expected: bool, what: &str, outcome: &Outcome, check: &Check| {
            let (verdict, bound) = (if expected { "ok  " } else { "FAIL" }, short(check.bound));
            println!(
                "{verdict} {what:<9} {bound:>3} {:>8} {:>6.1} s {}",
                outcome.executions, outcome.seconds, check.name
            );
            if !expected {
                println!("     complete: {}\n{}", outcome.complete, outcome.words);
            }
            expected
        };
        let (expected, what) = match part {
            Part::Proof => (outcome.passed && outcome.complete, check.mode.name()),
            Part::Control => (outcome.noticed(), "control"),
        };
        let expected = say(expected, what, &outcome, &check);
        (number, part, check, outcome, expected)
    });
    let fine = outcomes.iter().all(|&(.., expected)| expected);
    let mut rows: Vec<Row> =
        models.into_iter().map(|model| Row { model, outcomes: Vec::new(), checks: Vec::new() }).collect();
    for (number, part, check, outcome, _) in outcomes {
        if part == Part::Proof {
            rows[number].checks.push(check);
            rows[number].outcomes.push(outcome);
        }
    }
    let covered = !words.is_empty() || everything_is_reached(&rows);
    if write {
        fill(&rows);
    }
    (fine && covered, rows.into_iter().flat_map(|row| row.checks.into_iter().zip(row.outcomes)).collect())
}

/// Whether each operation in the sources was reached by some model.
fn everything_is_reached(rows: &[Row]) -> bool {
    let reached: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.outcomes.iter().flat_map(|outcome| &outcome.sites))
        .map(|site| site.rsplitn(3, ':').last().unwrap())
        .collect();
    let missing: Vec<_> = sources::operations()
        .into_iter()
        .filter(|op| !reached.contains(&*format!("{}:{}", op.file, op.line)))
        .filter(|op| UNREACHED.iter().all(|(file, _)| op.file != *file))
        .collect();
    for op in &missing {
        println!("no model reaches {}:{}: {}", op.file, op.line, op.place);
    }
    missing.is_empty()
}

/// Puts a text between two marks of the page.
pub fn put(page: &mut String, mark: &str, text: &str) {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let from = page.find(&begin).unwrap_or_else(|| panic!("the page has no mark {mark}")) + begin.len();
    let to = page.find(&end).unwrap();
    page.replace_range(from..to, text);
}

fn bound(bound: Option<usize>) -> String {
    bound.map_or("all schedules".into(), |bound| format!("{bound} preemptions"))
}

/// A bound in a few letters.
pub fn short(bound: Option<usize>) -> String {
    bound.map_or("all".into(), |bound| bound.to_string())
}

fn fill(rows: &[Row]) {
    let path = sources::root().join("docs/verification.md");
    let mut page = std::fs::read_to_string(&path).unwrap();
    let mut text = String::from(
        "| protocol | what is proved | threads | bound | executions: plain | exchanges | led | control |\n|---|---|---:|---|---:|---:|---:|---|\n",
    );
    for row in rows {
        let control = match row.model.control {
            Control::Relaxed(file, part, _) => {
                format!("`{}` in `{file}` made `Relaxed`", part.trim_end_matches([',', '(']))
            }
            Control::Bug(name) => format!("seeded bug: {name}"),
        };
        let _ = writeln!(
            text,
            "| [{}](../loom-tests/models/{}.rs) | {} | {} | {} | {} | {control} |",
            row.model.protocol,
            row.model.protocol,
            row.model.name.replace('_', " "),
            row.model.threads,
            bound(row.model.bound),
            row.outcomes.iter().map(|outcome| outcome.executions.to_string()).collect::<Vec<_>>().join(" | "),
        );
    }
    put(&mut page, "models", &text);
    put(&mut page, "atomics", &atomics(rows));
    put(&mut page, "bugs", &bugs::table());
    std::fs::write(path, page).unwrap();
}

/// For each operation of the sources the models that hold it.
fn atomics(rows: &[Row]) -> String {
    let mut text = String::from("| operation | as written | models |\n|---|---|---|\n");
    let mut by_place: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for row in rows {
        for site in row.outcomes.iter().flat_map(|outcome| &outcome.sites) {
            let place = site.rsplitn(3, ':').last().unwrap().to_owned();
            by_place.entry(place).or_default().insert(row.model.protocol);
        }
    }
    for op in sources::operations() {
        let models = by_place.get(&format!("{}:{}", op.file, op.line));
        let excuse = UNREACHED.iter().find(|(file, _)| op.file == *file).map_or("none", |(_, why)| why);
        let models = models.map_or(excuse.into(), |models| models.iter().copied().collect::<Vec<_>>().join(", "));
        let (file, place) = (op.file.trim_start_matches("src/"), op.place.replace('|', "\\|"));
        let _ = writeln!(text, "| `{file}` | `{place}` | {models} |");
    }
    text
}
