//! A running `terrace` whose output is read while it runs, with a limit to every wait and nothing left running.

use crate::end_of;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Read;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// A child that leads a process group of its own.
pub struct Conversation {
    child: Child,
    pieces: Receiver<String>,
    /// What it has written so far, as far as it was waited for.
    pub text: String,
}

impl Conversation {
    /// Begins to listen to what the child writes.
    pub fn with(child: Child, mut output: impl Read + Send + 'static) -> Self {
        let (sender, pieces) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading from a terminal fails when nobody has it open any more; elsewhere there is nothing left to read.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { child, pieces, text: String::new() }
    }

    pub fn process(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub fn count(&self, word: &str) -> usize {
        self.text.matches(word).count()
    }

    /// Waits until a word was written so many times.
    pub fn wait_for(&mut self, word: &str, times: usize) {
        let limit = Instant::now() + Duration::from_secs(20);
        while self.count(word) < times {
            match self.pieces.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.text.push_str(&piece),
                Err(_) => panic!("{word:?} did not appear {times} times in:\n{}", self.text),
            }
        }
    }

    /// Waits for the end of the child and of its output.
    pub fn end(&mut self) -> ExitStatus {
        let status = end_of(&mut self.child);
        while let Ok(piece) = self.pieces.recv_timeout(Duration::from_secs(20)) {
            self.text.push_str(&piece);
        }
        status
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // Where all went well, nobody is left in the group.
        let _ = killpg(self.process(), Signal::SIGKILL);
    }
}
