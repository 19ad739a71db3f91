//! `terrace run` as a user meets it, with the real library: `cargo build` of the whole workspace comes first.

mod commands;
mod conversation;
mod history;
mod signals;
mod static_program;
mod statistics;
mod terminal;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `terrace` with these arguments, and nothing of the caller's own use of it in the environment.
fn terrace(arguments: &[&str]) -> Command {
    let command = Path::new(env!("CARGO_BIN_EXE_terrace"));
    let library = command.with_file_name("libterrace.so");
    assert!(
        library.exists(),
        "{} is missing: run `cargo build --workspace` in the same profile first",
        library.display()
    );
    let mut terrace = Command::new(command);
    terrace.args(arguments).env_remove("LD_PRELOAD").env_remove("TERRACE_STATS");
    terrace
}

/// `terrace` started by a caller that ignores a signal.
fn terrace_ignoring(signal: &str, arguments: &[&str]) -> Command {
    let terrace = terrace(arguments);
    let mut env = Command::new("env");
    env.arg(format!("--ignore-signal={signal}")).args(["-u", "LD_PRELOAD", "-u", "TERRACE_STATS"]);
    env.arg(terrace.get_program()).args(terrace.get_args());
    env
}

/// Waits for the end, but not for ever: a signal that was lost must fail the test, not hang it.
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

/// Runs to the end and collects what was written; not meant for much text.
fn output_of(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let status = end_of(&mut child);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    Output { status, stdout, stderr }
}

/// Makes an executable file. Another process writes it: while this one had it open for writing, a command started by
/// another thread would hold it open, too, and the system refuses to run such a file.
fn install(content: impl AsRef<[u8]>, mode: &str, path: &Path) {
    let draft = path.with_extension("draft");
    fs::write(&draft, content).unwrap();
    let status = Command::new("install").args(["-m", mode]).args([&draft, path]).status().unwrap();
    assert!(status.success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
