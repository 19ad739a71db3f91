//! `terrace map --live` in a pseudo-terminal, as a person sees it.

use crate::{SERVER, end_of, run, terrace};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const ROWS: NonZeroU16 = NonZeroU16::new(24).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(120).unwrap();

/// A terminal with the command in it.
struct Screen {
    keyboard: File,
    written: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    child: Child,
}

impl Screen {
    fn open() -> Self {
        let size = Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let child = terrace(&["map", SERVER, "--live"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave))
            .spawn()
            .unwrap();
        let mut output = File::from(master.try_clone().unwrap());
        let (sender, written) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keyboard: File::from(master), written, screen: vt100::Parser::new(ROWS, COLUMNS, 0), child }
    }

    fn text(&self) -> String {
        self.screen.screen().contents()
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads on until the screen is as wanted.
    fn wait_until(&mut self, what: &str, is_so: impl Fn(&vt100::Screen) -> bool) {
        let limit = Instant::now() + Duration::from_secs(20);
        while !is_so(self.screen.screen()) {
            match self.written.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.screen.process(&bytes),
                Err(_) => panic!("{what} did not come; the screen is\n{}", self.text()),
            }
        }
    }

    fn wait_for(&mut self, words: &str) {
        self.wait_until(words, |screen| screen.contents().contains(words));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
    }
}

#[test]
fn the_keys_that_people_expect_move_about_in_the_map() {
    let mut screen = Screen::open();
    screen.wait_for("0x55d2b4400000: the segment's tables");
    screen.wait_for("shop-server (process 4711): 21.8 MiB resident");
    screen.press("\x1b[C");
    screen.wait_for("slab of 112 bytes, 40 of 585 blocks out (7 %)");
    screen.press("\x1b[B");
    screen.wait_for("0x55d2b4810000: ");
    screen.press("++");
    screen.wait_for("zoom: 4");
    screen.press("-");
    screen.wait_for("zoom: 2");
    screen.press("c");
    screen.wait_for("colour: class");
    screen.press("?");
    screen.wait_for("the next colouring");
    screen.press("?");
    screen.wait_until("the map without the help", |screen| !screen.contents().contains("the next colouring"));
    screen.press("q");
    assert!(end_of(&mut screen.child).success());
    screen.wait_until("the terminal as it was", |screen| !screen.alternate_screen() && !screen.hide_cursor());
}

#[test]
fn a_signal_that_ends_it_finds_the_terminal_put_back() {
    let mut screen = Screen::open();
    screen.wait_for("0x55d2b4400000: the segment's tables");
    kill(Pid::from_raw(screen.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(end_of(&mut screen.child).signal(), Some(Signal::SIGTERM as i32));
    screen.wait_until("the terminal as it was", |screen| !screen.alternate_screen() && !screen.hide_cursor());
}

#[test]
fn zones_have_their_colours() {
    let mut screen = Screen::open();
    screen.wait_for("0x55d2b4400000: the segment's tables");
    // The last line is a mapping that is kept, red; the first column after the address.
    let row = 3 + 6;
    screen.wait_until("the last line", |screen| screen.contents().contains("0x7f6a0cc00000"));
    let cell = screen.screen.screen().cell(row, 20).unwrap();
    assert_eq!(cell.bgcolor(), vt100::Color::Rgb(0xd9, 0x53, 0x4f), "{}", screen.text());
    screen.press("q");
    assert!(end_of(&mut screen.child).success());
}

#[test]
fn without_a_terminal_there_is_a_sentence() {
    let output = run(&["map", SERVER, "--live"]);
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--live needs one on standard input and output"), "{said}");
}
