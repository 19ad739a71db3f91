//! `terrace`, the command: runs programs on the allocator, and shows what a heap is doing.
//!
//! Each subcommand is a module of its own; what several of them need lies beside them: where the library is
//! ([`library`]), which file a command's name stands for ([`search_path`]), what kind of program that is ([`image`]).

mod failure;
mod history;
mod image;
mod inspect;
mod install;
mod ledger;
mod library;
mod remote;
mod run;
mod search_path;
mod snapshot;
#[cfg(test)]
#[path = "../tests/run/static_program.rs"]
mod static_program;
mod symbols;
mod target;
mod units;
mod views;

use clap::{Parser, Subcommand};
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Runs programs on the Terrace memory allocator, and shows what their heaps do.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    Run(run::Arguments),
    Install(install::Arguments),
    Why(inspect::WhyArguments),
    Map(inspect::MapArguments),
    Stats(inspect::StatsArguments),
    Top(inspect::TopArguments),
    Dump(inspect::DumpArguments),
    History(history::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().subcommand {
        Subcommands::Run(arguments) => run::run(arguments).map(|never| match never {}),
        Subcommands::Install(arguments) => install::install(&arguments),
        Subcommands::Why(arguments) => inspect::why(&arguments),
        Subcommands::Map(arguments) => inspect::map(&arguments),
        Subcommands::Stats(arguments) => inspect::stats(&arguments),
        Subcommands::Top(arguments) => inspect::top(&arguments),
        Subcommands::Dump(arguments) => inspect::dump(&arguments),
        Subcommands::History(arguments) => history::history(&arguments),
    };
    let Err(failure) = result else { return ExitCode::SUCCESS };
    say(format_args!("terrace: {failure}\n"));
    ExitCode::from(failure.exit_status())
}

/// Writes to standard error. `eprintln!` would panic where nobody listens, and take the command's exit status with it.
fn say(what: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(what);
}
