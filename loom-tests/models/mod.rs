//! The models: one file a protocol. Compiled as a part of the allocator's crate under `cfg(loom)`, so that they call the very
//! functions that ship; run by the program in `loom-tests/`.

mod arenas;
mod blocks;
mod composed;
#[cfg(shuttle)]
pub mod crowds;
mod fork;
mod history;
mod inboxes;
mod initialisation;
mod large;
mod limit;
mod lives;
mod locks;
mod options;
mod purger;
mod slabs;

use crate::arena::{ARENAS, Arenas};
use crate::large::{LARGE, Large};
use crate::metadata;
use crate::os::kernel;
use crate::sync::model::{self, thread::mpsc};
use crate::tcache::{self, CACHES, Caches, PURGER, Purger};
use core::ptr;
use std::vec::Vec;

/// A model: a small program of a few threads whose schedules are explored.
pub struct Model {
    /// What is proved, as the name of a rule.
    pub name: &'static str,
    /// The file that has it, which is the protocol's name.
    pub protocol: &'static str,
    /// The threads, the first included.
    pub threads: usize,
    /// Preemptions a schedule may have in CI; none: every schedule is explored. For the deep set see `loom-tests/src/deep.rs`.
    pub bound: Option<usize>,
    /// What must make it fail.
    pub control: Control,
    /// The first thread.
    pub body: fn(),
}

/// A change of the code under which a model must fail.
#[derive(Clone, Copy, Debug)]
pub enum Control {
    /// An ordering is replaced by `Relaxed`: the file, a part of the line that it stands in, the number of the argument.
    Relaxed(&'static str, &'static str, usize),
    /// One of the seeded bugs, by its name.
    Bug(&'static str),
}

/// All models.
pub fn all() -> Vec<Model> {
    [
        locks::MODELS,
        initialisation::MODELS,
        options::MODELS,
        inboxes::MODELS,
        lives::MODELS,
        arenas::MODELS,
        large::MODELS,
        limit::MODELS,
        fork::MODELS,
        history::MODELS,
        purger::MODELS,
        slabs::MODELS,
        composed::MODELS,
    ]
    .into_iter()
    .flatten()
    .map(|model| model())
    .collect()
}

/// Explores nothing by itself: runs one execution of a model, inside a check of loom's or shuttle's.
pub fn execute(body: fn()) {
    kernel::begin();
    model::begin();
    // SAFETY: no thread of a model runs yet, and none of the last execution's is left.
    unsafe { ptr::from_ref(&ARENAS).cast_mut().write(Arenas::new()) };
    // SAFETY: as above.
    unsafe { ptr::from_ref(&CACHES).cast_mut().write(Caches::new()) };
    // SAFETY: as above.
    unsafe { ptr::from_ref(&LARGE).cast_mut().write(Large::new()) };
    // SAFETY: as above.
    unsafe { ptr::from_ref(&PURGER).cast_mut().write(Purger::new()) };
    metadata::begin_model();
    blocks::begin();
    body();
    model::end();
}

/// The body of a thread. The threads of a model are coroutines of one real thread, so whatever it holds may go along.
struct Body<F>(F);

// SAFETY: as above.
unsafe impl<F> Send for Body<F> {}

impl<F: FnOnce()> Body<F> {
    fn run(self) {
        (self.0)();
    }
}

/// A thread of the program, with the C library's end of a thread.
struct Thread {
    thread: model::thread::JoinHandle<()>,
    /// Lets it end, where threads begin and end one at a time.
    may_end: Option<mpsc::Sender<()>>,
}

impl Thread {
    fn join(self) -> std::thread::Result<()> {
        if let Some(may_end) = self.may_end {
            may_end.send(()).unwrap();
        }
        self.thread.join()
    }
}

/// Begins a thread. In phases it has its cache when this returns, and ends when it is joined, so that what runs side by side is its
/// body alone.
fn spawn<R>(body: impl FnOnce() -> R + 'static) -> Thread {
    let body = Body(|| drop(body()));
    if !model::is_in_phases() {
        let thread = model::thread::spawn(move || {
            body.run();
            kernel::thread_ends();
        });
        return Thread { thread, may_end: None };
    }
    let (say, is_ready) = mpsc::channel();
    let (may_end, end) = mpsc::channel();
    let whole = Body(move || {
        assert!(tcache::start());
        say.send(()).unwrap();
        body.run();
        end.recv().unwrap();
        kernel::thread_ends();
    });
    let thread = model::thread::spawn(move || whole.run());
    is_ready.recv().unwrap();
    Thread { thread, may_end: Some(may_end) }
}

fn join<const N: usize>(threads: [Thread; N]) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Runs the bodies in threads of their own and waits for them.
fn together<const N: usize>(bodies: [fn(); N]) {
    join(bodies.map(spawn));
}
