//! `terrace run`: a command with the library preloaded.
//!
//! Without `--stats` nothing of `terrace` remains: it turns into the command. With `--stats` it stays as the command's
//! parent ([`supervise`]), gives the library a file to report to ([`report`]), and prints what it finds there.

mod obstacle;
mod report;
mod supervise;

use crate::failure::Failure;
use crate::library::Library;
use crate::{say, search_path};
use obstacle::Obstacle;
use report::ReportFile;
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Run a command with Terrace as its memory allocator
///
/// The command's exit status is passed on, and a signal that ends it ends `terrace run`, too. Failures of its own: 125
/// when Terrace cannot be set up, 126 when the command cannot be run, 127 when there is no such command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print to standard error, after the command has ended, what its heap did
    #[arg(long)]
    stats: bool,

    /// Look for bugs of the command: a list of checks with commas between them, or without one all
    #[arg(long, value_name = "CHECKS", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    check: Option<String>,

    /// Keep the last EVENTS events of each thread's heap, for `terrace history PID` while it runs; the last 30 of all are printed at
    /// exit, or as many as TERRACE_HISTORY_AT_EXIT says
    #[arg(long, value_name = "EVENTS", num_args = 0..=1, require_equals = true, default_missing_value = "1000",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    history: Option<u32>,

    /// Keep the call stack of each event as well: as far as the command's code keeps frame pointers, or with TERRACE_STACKS=unwind of
    /// any code
    #[arg(long)]
    history_stacks: bool,

    /// The shared library to use, instead of the one beside this command or in ../lib or ../lib/terrace
    #[arg(long, value_name = "PATH")]
    lib: Option<PathBuf>,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Events that each thread keeps, unless it is said how many.
const EVENTS: u32 = 1000;
/// Events that are printed when a command with a history ends.
const SHOWN_AT_EXIT: u32 = 30;
const AT_EXIT: &str = "TERRACE_HISTORY_AT_EXIT";

/// Runs the command; returns only when that was not possible.
pub fn run(arguments: Arguments) -> Result<Infallible, Failure> {
    let library = Library::find(arguments.lib.as_deref())?;
    let name = &arguments.command[0];
    let program = search_path::resolve(name, std::env::var_os("PATH").as_deref())?;

    let obstacle = Obstacle::between(&program, &library);
    if let Some(obstacle) = &obstacle {
        say(format_args!("terrace: warning: {} runs without Terrace: {obstacle}\n", program.display()));
    }
    let mut command = Command::new(&program);
    command
        .arg0(name)
        .args(&arguments.command[1..])
        .env("LD_PRELOAD", library.before(std::env::var_os("LD_PRELOAD").as_deref()));

    if let Some(checks) = arguments.check {
        command.env("TERRACE_CHECK", checks);
    }
    if arguments.history_stacks {
        command.env("TERRACE_HISTORY_STACKS", "1");
    }
    if let Some(events) = arguments.history.or(arguments.history_stacks.then_some(EVENTS)) {
        command.env("TERRACE_HISTORY", events.to_string());
        // The caller may have said how many are wanted.
        if std::env::var_os(AT_EXIT).is_none() {
            command.env(AT_EXIT, SHOWN_AT_EXIT.to_string());
        }
    }

    if !arguments.stats {
        let error = command.exec();
        return Err(Failure::of_running(&program, error));
    }
    let file = ReportFile::new().map_err(|error| Failure::System("no temporary directory could be made", error))?;
    command.env("TERRACE_STATS", file.path());
    let ended = supervise::run(command).map_err(|error| Failure::of_running(&program, error))?;
    let reports = file.take();
    say(format_args!("{}", report::story(&reports, &ended, obstacle.as_ref())));
    supervise::end_alike(ended.status)
}
