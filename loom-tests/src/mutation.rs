//! Weakens each ordering of the sources, one step at a time, and runs the models that reach it, until one of them fails. An
//! ordering whose weakening no model notices survives: it is not needed, or a model is missing.

use super::check::{Check, Outcome, elsewhere, side_by_side};
use super::sources;
use std::collections::BTreeMap;

/// The orderings one step below this one, for an operation of this name.
fn weaker(ordering: &str, operation: &str, failed: bool) -> &'static [&'static str] {
    match (ordering, operation) {
        ("SeqCst", "load") => &["Acquire"],
        ("SeqCst", "store") => &["Release"],
        // A failed exchange loads.
        ("SeqCst", _) => {
            if failed {
                &["Acquire"]
            } else {
                &["AcqRel"]
            }
        }
        ("AcqRel", _) => &["Acquire", "Release"],
        ("Acquire" | "Release", _) => &["Relaxed"],
        _ => &[],
    }
}

/// What the models did as the sources are: each check with its outcome.
pub fn run(proofs: &[(Check, Outcome)], only: &str) -> bool {
    let mut reached: BTreeMap<String, Vec<(f64, Check)>> = BTreeMap::new();
    for (check, outcome) in proofs {
        for site in &outcome.sites {
            let place = site.rsplit_once(':').unwrap().0.to_owned();
            reached.entry(place).or_default().push((outcome.seconds, check.clone()));
        }
    }
    let mut mutants = Vec::new();
    for operation in sources::operations().into_iter().filter(|operation| operation.file.contains(only)) {
        for (argument, ordering) in operation.orderings.iter().enumerate() {
            for weakened in weaker(ordering, &operation.name, argument == 1) {
                mutants.push((operation.clone(), argument, ordering.clone(), *weakened));
            }
        }
    }
    let verdicts = side_by_side(mutants, |(operation, argument, ordering, weakened)| {
        let place = format!("{}:{}:{argument}", operation.file, operation.line);
        let mut checks = reached.get(&place).cloned().unwrap_or_default();
        checks.sort_by(|a, b| a.0.total_cmp(&b.0));
        let caught = checks.into_iter().find(|(_, check)| {
            let check = Check { weaken: Some(format!("{place}:{weakened}")), ..check.clone() };
            elsewhere(&check, None).noticed()
        });
        let verdict = match &caught {
            Some((_, check)) => format!("caught by {}", check.name),
            None => "SURVIVES".into(),
        };
        println!("{place} {ordering} -> {weakened}: {verdict}\n    {}", operation.place);
        caught.is_some()
    });
    let caught = verdicts.iter().filter(|caught| **caught).count();
    println!("{caught} of {} weakened orderings are noticed", verdicts.len());
    caught == verdicts.len()
}
