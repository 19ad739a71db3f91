//! The deep set: two threads in all schedules, more with up to three preemptions. Accesses are led, which tries all orders and lets
//! loads see what is stale; except in the models of the lock, and of the history, which needs none, locks are wholes
//! (`src/sync/whole_locks.rs`).
//!
//! Where all schedules of two whole lives are out of reach, a model is explored in two ways: in all schedules of what its threads do
//! between their beginnings and their ends, which come one at a time; and, with lives and all, up to a bound.

use super::check::{Check, Mode, Outcome, elsewhere, side_by_side};
use super::sources::root;
use super::table::{put, short};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use terrace::models::Model;

/// What is explored of a model: schedules with so many preemptions, or all of them.
#[derive(Clone, Copy)]
enum Part {
    Whole(Option<usize>),
    /// Only what the threads do between their beginnings and their ends.
    InPhases(Option<usize>),
}
use Part::{InPhases, Whole};

/// The models that are not explored as the rest are: all schedules of two threads, and three preemptions of more.
const OTHERS: &[(&str, &[Part])] = &[
    ("a_block_freed_by_another_is_handed_out_again_by_its_owner", &[InPhases(None), Whole(Some(2))]),
    ("a_cache_is_claimed_as_its_thread_left_it", &[InPhases(None), Whole(Some(2))]),
    ("a_dormant_cache_is_claimed_while_its_slab_goes_to_another", &[InPhases(None), Whole(Some(2))]),
    ("a_fork_takes_all_locks_while_another_thread_is_on_a_slow_path", &[InPhases(None), Whole(Some(2))]),
    ("a_full_magazine_is_settled_while_blocks_come_home", &[InPhases(Some(3)), Whole(Some(2))]),
    ("a_slab_is_taken_from_an_idle_cache_while_its_blocks_come_home", &[InPhases(None), Whole(Some(2))]),
    ("a_thread_without_a_cache_still_allocates_and_frees", &[InPhases(Some(3)), Whole(Some(2))]),
    ("blocks_that_wait_for_their_owner_go_to_whichever_thread_needs_them", &[InPhases(None), Whole(Some(2))]),
    ("blocks_come_home_one_by_one_while_calls_are_attended", &[InPhases(Some(3)), Whole(Some(2))]),
    ("chains_of_three_owners_that_want_one_place_of_an_outbox_all_come_home", &[InPhases(Some(3)), Whole(Some(2))]),
    ("housekeeping_purges_while_the_other_thread_allocates", &[InPhases(Some(3)), Whole(Some(2))]),
    ("pages_are_given_back_while_blocks_of_their_slab_come_home", &[InPhases(None), Whole(Some(2))]),
    ("statistics_asked_for_meanwhile_are_never_torn_and_exact_at_rest", &[InPhases(Some(3)), Whole(Some(2))]),
    ("a_kernel_that_refuses_to_move_pages_is_asked_once", &[Whole(Some(4))]),
    ("two_arenas_grow_and_give_back_at_once", &[InPhases(Some(3)), Whole(Some(3))]),
    ("what_is_put_while_the_purger_falls_asleep_is_returned_all_the_same", &[Whole(Some(3))]),
    ("a_chain_that_is_sent_while_the_purger_falls_asleep_is_settled_all_the_same", &[Whole(Some(3))]),
    ("three_threads_pass_blocks_round_and_exit", &[Whole(Some(1))]),
    ("an_attaching_thread_is_called_back_by_the_c_library", &[Whole(Some(1))]),
    ("the_purger_ends_with_the_last_thread_that_has_a_cache", &[Whole(Some(1))]),
    ("blocks_sent_while_their_owner_exits_reach_whoever_takes_the_slab", &[Whole(Some(2))]),
    ("chains_of_two_senders_that_wait_are_used_one_after_the_other", &[Whole(Some(2))]),
    ("two_forks_and_an_exit_do_not_wait_for_each_other", &[Whole(Some(2))]),
    ("two_threads_get_caches_at_once_and_leave_them", &[Whole(Some(2))]),
    ("of_two_threads_one_claims_the_dormant_cache", &[Whole(Some(2))]),
    ("a_block_freed_to_a_dormant_cache_comes_home", &[Whole(Some(2))]),
    ("a_warm_cache_is_claimed_while_another_empties_it", &[Whole(Some(2))]),
    ("what_a_thread_leaves_that_ends_while_the_purger_falls_asleep_is_settled_all_the_same", &[Whole(Some(3))]),
    ("two_threads_cool_a_cache_at_once", &[Whole(Some(3))]),
    ("the_purger_ends_with_the_last_thread_though_it_has_a_cache_in_hand", &[Whole(Some(3))]),
    ("how_many_caches_are_dormant_never_goes_below_zero", &[Whole(Some(2))]),
];

fn checks(model: &Model, seconds: u64) -> Vec<Check> {
    let other = OTHERS.iter().find(|(name, _)| *name == model.name).map(|(_, parts)| *parts);
    let usual = [Whole(if model.threads == 2 { None } else { Some(3) })];
    let check = |&part: &Part| {
        let (bound, in_phases) = match part {
            Whole(bound) => (bound, false),
            InPhases(bound) => (bound, true),
        };
        // The history takes no lock. Of its words some would be known to be contested a round before the others, and a
        // reader would see a mixture of old and new that no schedule has.
        let whole_locks = !["locks", "history"].contains(&model.protocol);
        Check { name: model.name.into(), mode: Mode::Led, bound, whole_locks, in_phases, seconds, ..Check::default() }
    };
    other.unwrap_or(&usual).iter().map(check).collect()
}

/// The row of a check in the table as it is.
fn row_in(page: &str, check: &Check) -> Option<String> {
    page.lines().find(|line| line.starts_with("| ") && line.contains(&key(check))).map(Into::into)
}

/// The seconds that a row says its check took.
fn seconds_in(row: &str) -> Option<f64> {
    row.trim_end_matches([' ', '|']).rsplit_once('|')?.1.trim().parse().ok()
}

/// What tells the row of a check from the others'.
fn key(check: &Check) -> String {
    let way = if check.in_phases { "between beginnings and ends" } else { "whole lives" };
    format!("| {} | {way} |", check.name.replace('_', " "))
}

/// Whether every check was complete and passed.
pub fn run(words: &[String], minutes: f64, write: bool) -> bool {
    let path = root().join("docs/verification.md");
    let mut page = std::fs::read_to_string(&path).unwrap();
    let wanted = |model: &Model| {
        words.is_empty() || words.iter().any(|word| model.name.contains(&**word) || model.protocol == word)
    };
    let models = terrace::models::all().into_iter().filter(wanted);
    let mut work: Vec<_> = models
        .flat_map(|model| {
            checks(&model, (minutes * 60.0) as u64).into_iter().map(move |check| (model.protocol, model.threads, check))
        })
        .enumerate()
        .map(|(number, (protocol, threads, check))| {
            let seconds = row_in(&page, &check).and_then(|row| seconds_in(&row));
            (number, protocol, threads, seconds, check)
        })
        .collect();
    let count = work.len();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let known: f64 = work.iter().filter_map(|(.., seconds, _)| *seconds).sum();
    let unknown = work.iter().filter(|(.., seconds, _)| seconds.is_none()).count();
    println!(
        "{count} checks, {workers} at a time: some {:.0} minutes, as measured when the table was filled, without {unknown} that are \
         not in it",
        (known / 60.0 / workers as f64).abs()
    );
    // The longest first, so that none is left over in the end.
    work.sort_by(|a, b| b.3.unwrap_or(f64::MAX).total_cmp(&a.3.unwrap_or(f64::MAX)));
    let (begun, done) = (Instant::now(), AtomicUsize::new(0));
    let mut outcomes = side_by_side(work, |(number, protocol, threads, _, check)| {
        let outcome = elsewhere(&check, None);
        let fine = outcome.passed && outcome.complete;
        println!(
            "{} {:>3} of {count}, after {:.0} s: {:>3} {:>8} {:>7.1} s {}{}",
            if fine { "ok  " } else { "FAIL" },
            done.fetch_add(1, Ordering::Relaxed) + 1,
            begun.elapsed().as_secs_f64(),
            short(check.bound),
            outcome.executions,
            outcome.seconds,
            check.name,
            if check.in_phases { " (between beginnings and ends)" } else { "" },
        );
        if !fine {
            println!("     complete: {}\n{}", outcome.complete, outcome.words);
        }
        (number, protocol, threads, check, outcome, fine)
    });
    outcomes.sort_by_key(|outcome| outcome.0);
    if write {
        let made: BTreeMap<_, _> = outcomes
            .iter()
            .map(|(_, protocol, threads, check, outcome, _)| (key(check), row(protocol, *threads, check, outcome)))
            .collect();
        // Of models that were not asked for, what the table had.
        let rows = terrace::models::all().into_iter().flat_map(|model| checks(&model, 0));
        let rows = rows.filter_map(|check| made.get(&key(&check)).cloned().or_else(|| row_in(&page, &check)));
        let rows = rows.collect::<Vec<_>>();
        put(&mut page, "deep", &table(&rows));
        std::fs::write(path, page).unwrap();
    }
    outcomes.iter().all(|outcome| outcome.5)
}

fn table(rows: &[String]) -> String {
    let seconds: f64 = rows.iter().filter_map(|row| seconds_in(row)).sum();
    format!(
        "{} checks, which took one processor {:.0} minutes in all, on a machine that had other work.\n\n\
         | protocol | threads | what is proved | what is explored | bound | executions | seconds |\n|---|---:|---|---|---|---:|---:|\n\
         {}\n",
        rows.len(),
        seconds / 60.0,
        rows.join("\n")
    )
}

fn row(protocol: &str, threads: usize, check: &Check, outcome: &Outcome) -> String {
    let bound = check.bound.map_or("all schedules".into(), |bound| format!("{bound} preemptions"));
    let left = if outcome.complete { "" } else { ", not complete" };
    let (executions, seconds) = (outcome.executions, outcome.seconds);
    format!("| {protocol} | {threads} {} {bound}{left} | {executions} | {seconds:.1} |", key(check))
}
