//! Blocks that one thread allocates and another frees. Each function runs its threads to the end and returns the time from
//! their common start; an operation is one block, allocated and freed.

use crate::block::{Block, Sealed};
use crate::heaps::Heap;
use crate::ring::{Patience, Receiver, Ring, Sender};
use crate::rng::Rng;
use crate::sizes::{BlockSize, SizeTable};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A producer sends blocks of 16 to 526 bytes, one by one, through a ring of 1,024 pointers to a consumer that frees them.
pub fn ring<H: Heap>(operations: u64) -> Duration {
    let mut ring = Ring::<Sealed<H>>::new(1024);
    let (mut sender, mut receiver) = ring.split();
    let start = Barrier::new(3);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut rng, sizes) = (Rng::new(1), SizeTable::uniform(16, 526));
            start.wait();
            for _ in 0..operations {
                sender.send(Block::take(sizes.pick(rng.draw())).seal());
            }
        });
        scope.spawn(|| {
            start.wait();
            for _ in 0..operations {
                receiver.receive().open().give_back();
            }
        });
        time_from(&start)
    })
    .elapsed()
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
        scope.spawn(|| {
            let (mut rng, sizes) = (Rng::new(1), SizeTable::pareto());
            start.wait();
            for _ in 0..batches {
                let mut batch = receive_empty.receive();
                batch.extend((0..BATCH).map(|_| Block::take(sizes.pick(rng.draw()))));
                send_full.send(batch);
            }
        });
        scope.spawn(|| {
            start.wait();
            for _ in 0..batches {
                let mut batch = receive_full.receive();
                batch.drain(..).for_each(Block::give_back);
                send_empty.send(batch);
            }
        });
        time_from(&start)
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
