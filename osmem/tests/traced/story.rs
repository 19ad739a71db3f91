//! How a written case is put down: calls, and after each what it must have done, as the rules say it.
//!
//! A story is told for both editions, and is also compared with the model.

use crate::library::{EDITIONS, Edition};
use crate::model::Model;
use crate::trace::{Call, Command, Piece, Slot, Step, as_text, play};

/// What the heap begins with, and the limit for mappings.
pub const K128: usize = 128 * 1024;

pub const A: Slot = 1;
pub const B: Slot = 2;
pub const C: Slot = 3;
pub const D: Slot = 4;
pub const E: Slot = 5;
pub const F: Slot = 6;
/// A slot that always holds NULL.
pub const NULL: Slot = 0;

/// `brk(0)`, and the break up by 128 KiB.
pub const FIRST_USE: [Call; 2] = [Call::AskBreak, Call::Break(K128)];

/// A block of the heap as a story names it: its size, and whether it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    Used(usize),
    Free(usize),
}

pub use Block::{Free, Used};

pub struct Story {
    /// Bytes of a header.
    pub header: usize,
    commands: Vec<Command>,
    checks: Vec<(usize, Check)>,
}

type Check = Box<dyn Fn(&Step, &[Step]) -> Result<(), String>>;

/// Tells a story for each edition.
pub fn story(tell: impl Fn(&mut Story)) {
    for edition in EDITIONS {
        let mut story = Story { header: edition.header, commands: Vec::new(), checks: Vec::new() };
        tell(&mut story);
        story.play(edition);
    }
}

impl Story {
    pub fn malloc(&mut self, to: Slot, size: usize) -> &mut Self {
        self.command(Command::Malloc { to, size })
    }

    pub fn calloc(&mut self, to: Slot, count: usize, size: usize) -> &mut Self {
        self.command(Command::Calloc { to, count, size })
    }

    /// `slot = os_realloc(slot, size)`
    pub fn realloc(&mut self, slot: Slot, size: usize) -> &mut Self {
        self.command(Command::Realloc { to: slot, from: slot, size })
    }

    pub fn realloc_to(&mut self, to: Slot, from: Slot, size: usize) -> &mut Self {
        self.command(Command::Realloc { to, from, size })
    }

    pub fn free(&mut self, slot: Slot) -> &mut Self {
        self.command(Command::Free { slot })
    }

    pub fn sbrk(&mut self, bytes: usize) -> &mut Self {
        self.command(Command::Sbrk { bytes })
    }

    fn command(&mut self, command: Command) -> &mut Self {
        self.commands.push(command);
        self
    }

    /// The last call made exactly these system calls.
    pub fn calls<const N: usize>(&mut self, calls: [Call; N]) -> &mut Self {
        self.check(move |step, _| same("system calls", &step.calls, &calls.to_vec()))
    }

    pub fn no_calls(&mut self) -> &mut Self {
        self.calls([])
    }

    /// The last call mapped exactly `bytes`, and its result lies there.
    pub fn maps(&mut self, bytes: usize) -> &mut Self {
        let header = self.header;
        self.check(move |step, _| {
            same("system calls", &step.calls, &vec![Call::Map(bytes)])?;
            same("the result", &(step.pointer, step.status), &(step.mapped_at + header, 2))
        })
    }

    /// The last call unmapped `bytes`, the mapping of the call so many before it.
    pub fn unmaps(&mut self, calls_before: usize, bytes: usize) -> &mut Self {
        let header = self.header;
        self.check(move |step, earlier| {
            let at = earlier[earlier.len() - calls_before].pointer - header;
            same("system calls", &step.calls, &vec![Call::Unmap { at, bytes }])
        })
    }

    /// The last call's result has its header so far behind the first one.
    pub fn at(&mut self, offset: usize) -> &mut Self {
        let header = self.header;
        self.check(move |step, _| same("the result", &step.pointer, &(step.heap + offset + header)))
    }

    /// The last call gave what the call so many before it gave.
    pub fn same_as(&mut self, calls_before: usize) -> &mut Self {
        self.check(move |step, earlier| {
            same("the result", &step.pointer, &earlier[earlier.len() - calls_before].pointer)
        })
    }

    pub fn null(&mut self) -> &mut Self {
        self.check(|step, _| same("the result", &step.pointer, &0))
    }

    /// After the last call the heap's list is this.
    pub fn heap<const N: usize>(&mut self, blocks: [Block; N]) -> &mut Self {
        let as_block = |piece: &Piece| if piece.free { Free(piece.size) } else { Used(piece.size) };
        self.check(move |step, _| same("the heap", &step.blocks.iter().map(as_block).collect(), &blocks.to_vec()))
    }

    fn check(&mut self, check: impl Fn(&Step, &[Step]) -> Result<(), String> + 'static) -> &mut Self {
        self.checks.push((self.commands.len() - 1, Box::new(check)));
        self
    }

    fn play(self, edition: Edition) {
        let steps = play(edition, std::slice::from_ref(&self.commands)).remove(0);
        let mut model = Model::new(edition);
        for (i, (command, step)) in self.commands.iter().zip(&steps).enumerate() {
            let told = self.checks.iter().filter(|(number, _)| *number == i);
            let told = told.map(|(_, check)| check(step, &steps[..i]));
            for result in told.chain([model.check(command, step)]) {
                if let Err(difference) = result {
                    let script = as_text(&self.commands[..=i]);
                    panic!("header of {} bytes, after\n{script}{difference}", edition.header);
                }
            }
        }
        assert_eq!(steps.len(), self.commands.len());
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should: &T) -> Result<(), String> {
    if is == should { Ok(()) } else { Err(format!("{what}\n   is     {is:?}\n   should {should:?}")) }
}
