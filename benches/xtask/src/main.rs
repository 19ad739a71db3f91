//! The harness of the benchmarks.
//!
//! ```text
//! cargo xtask bench          measures programs and rows on all allocators, and writes the report
//! cargo xtask report         writes the report anew from the raw results
//! cargo xtask instructions   fails when an operation of Terrace takes more instructions than limits.toml allows
//! cargo xtask scenarios      plots resident memory over time; fails when Terrace misses a target
//! cargo xtask criterion      criterion's benchmarks, with the rivals' shared objects beside the crates
//!
//!  bench ─ decides and orders      workshop ─ builds, installs       sample, real, process ─ take one sample
//!  results ─ the raw file          stats, tables ─ figures           report, html, markdown, plots ─ what is read
//! ```

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

mod bench;
mod criterion;
mod html;
mod instructions;
mod machine;
mod markdown;
mod plots;
mod process;
mod real;
mod report;
mod results;
mod sample;
mod scenarios;
mod stats;
mod tables;
mod targets;
mod workshop;

/// Terrace's benchmarks
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure programs and rows on all allocators, interleaved, and write the report; goes on where it was broken off
    Bench(bench::Options),
    /// Write report.html and report.md anew from the raw results in a folder
    Report {
        /// The folder that `bench --out` wrote
        folder: PathBuf,
    },
    /// Fail when an operation of Terrace takes more instructions than limits.toml allows
    Instructions(instructions::Options),
    /// Play the scenarios of memory over time, plot them, and fail when Terrace misses a target
    Scenarios(scenarios::Options),
    /// Run criterion's benchmarks on every allocator in one process
    Criterion(criterion::Options),
}

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Bench(options) => bench::run(options),
        Command::Report { folder } => bench::render(&folder).map(|()| true),
        Command::Instructions(options) => instructions::check(&options),
        Command::Scenarios(options) => scenarios::run(&options),
        Command::Criterion(options) => criterion::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
