//! Signals sent to `terrace run --stats` act on the command as if `terrace` were not there.

use crate::conversation::Conversation;
use crate::{output_of, terrace, terrace_ignoring, text};
use nix::sys::signal::{Signal, kill};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

#[test]
fn each_signal_reaches_the_command_once() {
    let signals = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM];
    // The shell must wait in a builtin to act on a signal at once; its standard input stays open and empty.
    let script = "for s in HUP INT QUIT USR1 USR2 ALRM; do trap \"echo SIG$s\" $s; done
                  trap 'echo SIGTERM; exit 3' TERM
                  echo ready; while :; do read line; done";
    let mut command = terrace(&["run", "--stats", "--", "sh", "-c", script]);
    let mut child = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let mut command = Conversation::with(child, output);

    command.wait_for("ready", 1);
    for signal in signals {
        kill(command.process(), signal).unwrap();
        command.wait_for(signal.as_str(), 1);
    }
    kill(command.process(), Signal::SIGTERM).unwrap();
    assert_eq!(command.end().code(), Some(3));
    let heard: Vec<_> = signals.iter().map(|signal| signal.as_str()).collect();
    assert_eq!(command.text.lines().collect::<Vec<_>>(), [&["ready"], &heard[..], &["SIGTERM"]].concat());
}

#[test]
fn the_command_starts_with_the_callers_signals() {
    // Fields of proc(5): blocked, ignored, caught.
    let show = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"];
    let plain = output_of(Command::new(show[0]).args(&show[1..]));
    let under_terrace = output_of(&mut terrace(&[&["run", "--stats", "--"], &show[..]].concat()));
    assert_eq!(text(&under_terrace.stdout), text(&plain.stdout));
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    let command = ["run", "--stats", "--", "sh", "-c", "kill -HUP $$; echo alive"];
    let output = output_of(&mut terrace_ignoring("HUP", &command));
    assert_eq!(text(&output.stdout), "alive\n", "{output:?}");
}

#[test]
fn a_caller_that_ignores_the_end_of_children_gets_the_exit_status() {
    let output = output_of(&mut terrace_ignoring("CHLD", &["run", "--stats", "--", "sh", "-c", "exit 5"]));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}
