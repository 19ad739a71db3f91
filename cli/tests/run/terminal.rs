//! On a terminal: what the terminal sends to the whole group must not be passed on as well.

use crate::conversation::Conversation;
use crate::terrace;
use nix::pty::{OpenptyResult, openpty};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const CONTROL_C: &[u8] = b"\x03";
const CONTROL_BACKSLASH: &[u8] = b"\x1c";

#[test]
fn an_interrupt_from_the_terminal_reaches_the_command_once() {
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let script = "trap 'echo interrupted' INT; trap 'exit 4' QUIT; echo ready; while :; do read line; done";
    let terrace = terrace(&["run", "--stats", "--", "sh", "-c", script]);
    // A session of its own, whose controlling terminal is the one on standard input.
    let child = Command::new("setsid")
        .arg("--ctty")
        .arg(terrace.get_program())
        .args(terrace.get_args())
        .stdin(Stdio::from(slave.try_clone().unwrap()))
        .stdout(Stdio::from(slave.try_clone().unwrap()))
        .stderr(Stdio::from(slave))
        .spawn()
        .unwrap();
    let mut keyboard = File::from(master.try_clone().unwrap());
    let mut screen = Conversation::with(child, File::from(master));

    screen.wait_for("ready", 1);
    // More than once: two signals that arrive together count as one, so a single try could hide a second delivery.
    for press in 1..=20 {
        keyboard.write_all(CONTROL_C).unwrap();
        screen.wait_for("interrupted", press);
        std::thread::sleep(Duration::from_millis(20));
    }
    keyboard.write_all(CONTROL_BACKSLASH).unwrap();
    assert_eq!(screen.end().code(), Some(4));
    assert_eq!(screen.count("terrace:"), 1, "{}", screen.text);
    assert_eq!(screen.count("interrupted"), 20, "{}", screen.text);
}
