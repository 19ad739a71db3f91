//! The subcommands that look at processes, as a user meets them.

#[path = "../run/conversation.rs"]
#[expect(dead_code, reason = "a driver is not waited for")]
mod conversation;
mod page;
mod running;
mod saved;
mod terminal;

use std::process::{Child, Command, ExitStatus, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A look at a small server, as `terrace map --json` writes it.
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inspect/server.json");

/// `terrace` with these arguments.
fn terrace(arguments: &[&str]) -> Command {
    let mut terrace = Command::new(env!("CARGO_BIN_EXE_terrace"));
    terrace.args(arguments).env_remove("LD_PRELOAD").env_remove("TERRACE_STATS");
    terrace
}

/// Runs it to its end.
fn run(arguments: &[&str]) -> Output {
    terrace(arguments).output().expect("it starts")
}

/// Waits for the end, but not for ever.
fn end_of(child: &mut Child) -> ExitStatus {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > limit {
            child.kill().unwrap();
            panic!("it did not end");
        }
        sleep(Duration::from_millis(5));
    }
}
