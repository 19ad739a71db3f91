//! Random schedules of larger scenarios, by shuttle: each must pass, and fail with the bug that is its control.

use super::bugs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;
use terrace::models::crowds::{CROWDS, Crowd};
use terrace::sync::model::{self, Behaviour};

/// All scenarios, each in a process of its own.
pub fn run(executions: usize) -> bool {
    let own = std::env::current_exe().unwrap();
    let seeded = bugs::build();
    let mut fine = true;
    for crowd in CROWDS {
        let begun = Instant::now();
        let (passed, words) = elsewhere(&own, crowd, executions, "");
        let (failed_not, control) = elsewhere(&seeded, crowd, executions, crowd.control);
        // A scenario that never ends says nothing about what it checks.
        let noticed = !failed_not && !control.contains("exceeded max_steps");
        println!(
            "{} {executions} executions, {:.0} s: {}\n     {}: {}",
            if passed && noticed { "ok  " } else { "FAIL" },
            begun.elapsed().as_secs_f64(),
            crowd.name,
            if noticed { "fails with" } else { "PASSES with" },
            crowd.control,
        );
        if !passed {
            println!("{words}");
        }
        fine &= passed && noticed;
    }
    fine
}

fn elsewhere(program: &Path, crowd: &Crowd, executions: usize, bug: &str) -> (bool, String) {
    let output = Command::new(program)
        .args(["crowd", crowd.name, &executions.to_string(), bug])
        .env("TERRACE_ARENAS", "2")
        .env("TERRACE_PURGE_DELAY_MS", "0")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

pub fn in_this_process(name: &str, executions: usize, bug: String) -> ExitCode {
    let crowd = CROWDS.iter().find(|crowd| crowd.name == name).expect("no such scenario");
    model::set_behaviour(Behaviour { bug, ..Behaviour::default() });
    let mut config = shuttle::Config::new();
    config.max_steps = shuttle::MaxSteps::FailAfter(10_000_000);
    let scheduler = shuttle::scheduler::RandomScheduler::new(executions);
    let body = crowd.body;
    shuttle::Runner::new(scheduler, config).run(move || terrace::models::execute(body));
    ExitCode::SUCCESS
}
