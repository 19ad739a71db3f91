//! Runs the models of the allocator: every schedule that its bounds allow, twice (loads as they are, and as exchanges), with a
//! control that must fail; weakens each ordering of the sources in turn; and writes down what was explored.

mod bugs;
mod check;
mod mutation;
mod sources;
mod table;

use clap::{Parser, Subcommand, ValueEnum};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Which bounds count.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Set {
    /// Some minutes.
    Ci,
    /// As long as it takes.
    Deep,
}

#[derive(Subcommand)]
enum Command {
    /// The models' names.
    List,
    /// All models, or those whose name contains a word, and their controls.
    Run {
        words: Vec<String>,
        #[arg(long, value_enum, default_value = "ci")]
        set: Set,
        /// Fill the table of docs/verification.md.
        #[arg(long)]
        write: bool,
    },
    /// Weaken each ordering in the sources in turn; each must be noticed by a model.
    Mutate {
        /// Only in files whose name contains the word.
        #[arg(default_value = "")]
        file: String,
    },
    /// All of it: the models, the orderings, the seeded bugs.
    All {
        #[arg(long, value_enum, default_value = "ci")]
        set: Set,
        /// Fill the tables of docs/verification.md.
        #[arg(long)]
        write: bool,
    },
    /// Build a copy of the sources with the seeded bugs in it; each must be noticed by the model that is named for it.
    Bugs,
    /// Random schedules of larger scenarios, each for so many executions.
    #[cfg(shuttle)]
    Crowds {
        #[arg(default_value = "5000")]
        executions: usize,
    },
    /// One check in this process; for the other commands.
    #[command(hide = true)]
    One(check::Check),
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let fine = match Arguments::parse().command {
        Command::List => {
            for model in terrace::models::all() {
                println!("{:<16} {}", model.protocol, model.name);
            }
            true
        }
        Command::Run { words, set, write } => table::run(&words, set, write).0,
        Command::Mutate { file } => {
            let (fine, proofs) = table::run(&[], Set::Ci, false);
            fine && mutation::run(&proofs, &file)
        }
        Command::All { set, write } => {
            let (fine, proofs) = table::run(&[], set, write);
            [fine, mutation::run(&proofs, ""), bugs::run()].iter().all(|&fine| fine)
        }
        Command::Bugs => bugs::run(),
        #[cfg(shuttle)]
        Command::Crowds { executions } => {
            for &(name, body) in terrace::models::crowds::CROWDS {
                let begun = Instant::now();
                let mut config = shuttle::Config::new();
                config.max_steps = shuttle::MaxSteps::FailAfter(10_000_000);
                let scheduler = shuttle::scheduler::RandomScheduler::new(executions);
                shuttle::Runner::new(scheduler, config).run(move || terrace::models::execute(body));
                println!("{executions} executions, {:.0} s: {name}", begun.elapsed().as_secs_f64());
            }
            true
        }
        Command::One(check) => return check::in_this_process(check),
    };
    println!("{} in {:.0} s", if fine { "all well" } else { "FAILED" }, begun.elapsed().as_secs_f64());
    ExitCode::from(u8::from(!fine))
}
