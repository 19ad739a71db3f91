//! Blocks that one thread allocates and another frees. Each function runs its threads to the end and returns the time from
//! their common start; an operation is one block, allocated and freed.

use crate::block::{Block, Sealed};
use crate::heaps::Heap;
use crate::ring::{Patience, Receiver, Ring, Sender};
use crate::rng::Rng;
use crate::sizes::{BlockSize, SizeTable};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A producer sends blocks of 16 to 526 bytes, one by one, through a ring of 1,024 pointers to a consumer that frees them.
pub fn ring<H: Heap>(operations: u64) -> Duration {
    let mut ring = Ring::<Sealed<H>>::new(1024);
    let (mut sender, mut receiver) = ring.split();
    let start = Barrier::new(3);
    thread::scope(|scope| {
        let start = &start;
        scope.spawn(move || {
            let (mut rng, sizes) = (Rng::new(1), SizeTable::uniform(16, 526));
            start.wait();
            for _ in 0..operations {
                sender.send(Block::take(sizes.pick(rng.draw())).seal());
            }
        });
        scope.spawn(move || {
            start.wait();
            for _ in 0..operations {
                receiver.receive().open().give_back();
            }
        });
        time_from(start)
    })
    .elapsed()
}

/// One producer sends blocks to three consumers in turn, each through a ring of its own.
pub fn fan_out<H: Heap>(operations: u64) -> Duration {
    const CONSUMERS: usize = 3;
    let each = operations.div_ceil(CONSUMERS as u64);
    let mut rings: [Ring<Sealed<H>>; CONSUMERS] = std::array::from_fn(|_| Ring::new(1024));
    let (mut senders, receivers): (Vec<_>, Vec<_>) = rings.iter_mut().map(Ring::split).unzip();
    let start = Barrier::new(CONSUMERS + 2);
    thread::scope(|scope| {
        let start = &start;
        scope.spawn(move || {
            let (mut rng, sizes) = (Rng::new(1), SizeTable::uniform(16, 526));
            start.wait();
            for _ in 0..each {
                senders.iter_mut().for_each(|sender| sender.send(Block::take(sizes.pick(rng.draw())).seal()));
            }
        });
        for mut receiver in receivers {
            scope.spawn(move || {
                start.wait();
                (0..each).for_each(|_| receiver.receive().open().give_back());
            });
        }
        time_from(start)
    })
    .elapsed()
}

/// Three producers send blocks to one consumer, which looks into their rings in turn.
pub fn fan_in<H: Heap>(operations: u64) -> Duration {
    const PRODUCERS: usize = 3;
    let each = operations.div_ceil(PRODUCERS as u64);
    let mut rings: [Ring<Sealed<H>>; PRODUCERS] = std::array::from_fn(|_| Ring::new(1024));
    let (senders, mut receivers): (Vec<_>, Vec<_>) = rings.iter_mut().map(Ring::split).unzip();
    let start = Barrier::new(PRODUCERS + 2);
    thread::scope(|scope| {
        let start = &start;
        for (index, mut sender) in senders.into_iter().enumerate() {
            scope.spawn(move || {
                let (mut rng, sizes) = (Rng::new(index as u64), SizeTable::uniform(16, 526));
                start.wait();
                (0..each).for_each(|_| sender.send(Block::take(sizes.pick(rng.draw())).seal()));
            });
        }
        scope.spawn(move || {
            start.wait();
            let (mut left, mut patience) = (each * PRODUCERS as u64, Patience::default());
            while left > 0 {
                let before = left;
                for receiver in &mut receivers {
                    while let Some(block) = receiver.try_receive() {
                        block.open().give_back();
                        left -= 1;
                    }
                }
                if left == before {
                    patience.wait();
                } else {
                    patience = Patience::default();
                }
            }
        });
        time_from(start)
    })
    .elapsed()
}

/// Two threads take turns and never run at once: one allocates 1,000 blocks, the other frees them. So the instructions of
/// the way home can be counted: nobody spins.
pub fn handover<H: Heap>(operations: u64) -> Duration {
    const BATCH: usize = 1000;
    let rounds = operations.div_ceil(BATCH as u64);
    let batch = Mutex::new(Vec::<Block<H>>::with_capacity(BATCH));
    let (start, turn) = (Barrier::new(3), Barrier::new(2));
    thread::scope(|scope| {
        let (batch, start, turn) = (&batch, &start, &turn);
        scope.spawn(move || {
            let (mut rng, sizes) = (Rng::new(1), SizeTable::pareto());
            start.wait();
            for _ in 0..rounds {
                let mut blocks = batch.lock().expect("no thread panics");
                blocks.extend((0..BATCH).map(|_| Block::take(sizes.pick(rng.draw()))));
                drop(blocks);
                turn.wait();
                turn.wait();
            }
        });
        scope.spawn(move || {
            start.wait();
            for _ in 0..rounds {
                turn.wait();
                batch.lock().expect("no thread panics").drain(..).for_each(Block::give_back);
                turn.wait();
            }
        });
        time_from(start)
    })
    .elapsed()
}

/// A thread's birth and death: each of `operations` threads takes 100 blocks, frees half of them, and leaves the rest to the
/// next, which frees them first.
pub fn thread_lives<H: Heap>(operations: u64) -> Duration {
    const BLOCKS: usize = 100;
    let begin = Instant::now();
    let mut legacy: Vec<Block<H>> = Vec::with_capacity(BLOCKS);
    for life in 0..operations {
        let heritage = std::mem::take(&mut legacy);
        let heir = thread::spawn(move || {
            let mut blocks = heritage;
            blocks.drain(..).for_each(Block::give_back);
            let mut rng = Rng::new(life);
            blocks.extend((0..BLOCKS).map(|_| Block::take(BlockSize::new(16 + rng.below(500)))));
            blocks.drain(BLOCKS / 2..).for_each(Block::give_back);
            blocks
        });
        legacy = heir.join().expect("a thread ends well");
    }
    legacy.into_iter().for_each(Block::give_back);
    begin.elapsed()
}

/// One thread allocates batches of 1,000 blocks, another frees whole batches and allocates nothing. Four batches go round.
pub fn remote_frees<H: Heap>(operations: u64) -> Duration {
    const BATCH: usize = 1000;
    const BATCHES: usize = 4;
    let batches = operations.div_ceil(BATCH as u64);
    let mut full = Ring::<Vec<Block<H>>>::new(BATCHES);
    let mut empty = Ring::<Vec<Block<H>>>::new(BATCHES);
    let (mut send_full, mut receive_full) = full.split();
    let (mut send_empty, mut receive_empty) = empty.split();
    for _ in 0..BATCHES {
        send_empty.send(Vec::with_capacity(BATCH));
    }
    let start = Barrier::new(3);
    thread::scope(|scope| {
        let start = &start;
        scope.spawn(move || {
            let (mut rng, sizes) = (Rng::new(1), SizeTable::pareto());
            start.wait();
            for _ in 0..batches {
                let mut batch = receive_empty.receive();
                batch.extend((0..BATCH).map(|_| Block::take(sizes.pick(rng.draw()))));
                send_full.send(batch);
            }
        });
        scope.spawn(move || {
            start.wait();
            for _ in 0..batches {
                let mut batch = receive_full.receive();
                batch.drain(..).for_each(Block::give_back);
                send_empty.send(batch);
            }
        });
        time_from(start)
    })
    .elapsed()
}

/// Four threads that each allocate blocks and send every one to a random other, and free what the others send.
pub fn mailboxes<H: Heap>(operations: u64) -> Duration {
    const THREADS: usize = 4;
    let each = operations.div_ceil(THREADS as u64);
    let mut rings: Vec<Ring<Sealed<H>>> = (0..THREADS * THREADS).map(|_| Ring::new(256)).collect();
    let mut senders: [Vec<_>; THREADS] = Default::default();
    let mut receivers: [Vec<_>; THREADS] = Default::default();
    for (index, ring) in rings.iter_mut().enumerate() {
        let (from, to) = (index / THREADS, index % THREADS);
        if from != to {
            let (sender, receiver) = ring.split();
            senders[from].push(sender);
            receivers[to].push(receiver);
        }
    }
    let start = Barrier::new(THREADS + 1);
    let finished = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (index, (senders, receivers)) in senders.into_iter().zip(receivers).enumerate() {
            let (start, finished) = (&start, &finished);
            scope.spawn(move || {
                let mut postman =
                    Postman { senders, receivers, rng: Rng::new(index as u64), sizes: SizeTable::uniform(16, 526) };
                start.wait();
                (0..each).for_each(|_| postman.post());
                // What this thread posted stands in the others' boxes before it counts as finished.
                finished.fetch_add(1, Ordering::Release);
                let mut patience = Patience::default();
                while finished.load(Ordering::Acquire) < THREADS {
                    postman.empty_boxes();
                    patience.wait();
                }
                postman.empty_boxes();
            });
        }
        time_from(&start)
    })
    .elapsed()
}

/// One thread of [`mailboxes`].
struct Postman<'a, H> {
    senders: Vec<Sender<'a, Sealed<H>>>,
    receivers: Vec<Receiver<'a, Sealed<H>>>,
    rng: Rng,
    sizes: SizeTable,
}

impl<H: Heap> Postman<'_, H> {
    fn post(&mut self) {
        let draw = self.rng.draw();
        let size: BlockSize = self.sizes.pick(draw);
        let receiver = draw.below(self.senders.len() as u32);
        let mut letter = Block::take(size).seal();
        let mut patience = Patience::default();
        while let Err(refused) = self.senders[receiver].try_send(letter) {
            letter = refused;
            self.empty_boxes();
            patience.wait();
        }
        // Two letters out, on average two letters in.
        if draw.twelve_bits().is_multiple_of(2) {
            let sender = self.rng.below(self.receivers.len() as u32);
            for _ in 0..2 {
                if let Some(letter) = self.receivers[sender].try_receive() {
                    letter.open().give_back();
                }
            }
        }
    }

    fn empty_boxes(&mut self) {
        for receiver in &mut self.receivers {
            while let Some(letter) = receiver.try_receive() {
                letter.open().give_back();
            }
        }
    }
}

/// Lets all threads start, and returns the time at which they did.
fn time_from(start: &Barrier) -> Instant {
    start.wait();
    Instant::now()
}
