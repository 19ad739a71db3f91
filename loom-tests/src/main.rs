//! Runs the models of the allocator: every schedule that their bounds allow, with loads in three ways, each with a control that
//! must fail; weakens each ordering of the sources in turn; and writes down what was explored.

mod bugs;
mod check;
#[cfg(shuttle)]
mod crowds;
mod deep;
mod mutation;
mod sources;
mod table;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The models' names.
    List,
    /// All models, or those whose name contains a word, and their controls.
    Run {
        words: Vec<String>,
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
        /// Fill the tables of docs/verification.md.
        #[arg(long)]
        write: bool,
    },
    /// The deep set: all models, or those whose name contains a word, further than in CI.
    Deep {
        words: Vec<String>,
        /// Exploring one model ends after so many minutes, and has then failed.
        #[arg(long, default_value = "30")]
        minutes: f64,
        /// Fill the table of docs/verification.md.
        #[arg(long)]
        write: bool,
    },
    /// Build a copy of the sources with the seeded bugs in it; each must be noticed by the model that is named for it.
    Bugs,
    /// Random schedules of larger scenarios, each for so many executions, and again with the bug that it must notice.
    #[cfg(shuttle)]
    Crowds {
        #[arg(default_value = "5000")]
        executions: usize,
    },
    /// One scenario in this process; for the command above.
    #[cfg(shuttle)]
    #[command(hide = true)]
    Crowd { name: String, executions: usize, bug: String },
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
        Command::Run { words, write } => table::run(&words, write).0,
        Command::Mutate { file } => {
            let (fine, proofs) = table::run(&[], false);
            fine && mutation::run(&proofs, &file)
        }
        Command::All { write } => {
            let (fine, proofs) = table::run(&[], write);
            [fine, mutation::run(&proofs, ""), bugs::run()].iter().all(|&fine| fine)
        }
        Command::Deep { words, minutes, write } => deep::run(&words, minutes, write),
        Command::Bugs => bugs::run(),
        #[cfg(shuttle)]
        Command::Crowds { executions } => crowds::run(executions),
        #[cfg(shuttle)]
        Command::Crowd { name, executions, bug } => return crowds::in_this_process(&name, executions, bug),
        Command::One(check) => return check::in_this_process(check),
    };
    println!("{} in {:.0} s", if fine { "all well" } else { "FAILED" }, begun.elapsed().as_secs_f64());
    ExitCode::from(u8::from(!fine))
}
