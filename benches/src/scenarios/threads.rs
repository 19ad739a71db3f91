//! Memory that passes between threads, and stays with them.

use super::held::{Held, bytes_of_pages};
use super::peak::a_little_activity;
use super::stage::{Figure, Stage};
use super::{mib, ratio, size};
use crate::rng::Rng;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

/// Bytes that are live.
const LIVE: usize = 192 << 20;

/// Three threads allocate and replace; whatever they replace is freed by a fourth, which allocates nothing.
pub(super) fn free_only(stage: &Stage) -> Vec<Figure> {
    const PRODUCERS: usize = 3;
    const TURNOVERS: usize = 20;
    let live = stage.scaled(2 * LIVE / PRODUCERS);
    let produce = |seed: usize, out: SyncSender<Held>| {
        let mut rng = Rng::new(seed as u64);
        let mut blocks: Vec<Held> = Vec::with_capacity(live / 64);
        let (mut held, mut replaced) = (0, 0);
        while replaced < live * TURNOVERS {
            let block = Held::new(size(&mut rng, 16, 16 << 10));
            held += block.size();
            blocks.push(block);
            while held > live {
                let gone = blocks.swap_remove(rng.below(blocks.len() as u32));
                held -= gone.size();
                replaced += gone.size();
                out.send(gone).expect("the other thread frees to the end");
            }
        }
        blocks.into_iter().for_each(|block| out.send(block).expect("the other thread frees to the end"));
    };
    let (send, receive) = sync_channel(1024);
    thread::scope(|scope| {
        (0..PRODUCERS).for_each(|seed| {
            let send = send.clone();
            scope.spawn(move || produce(seed, send));
        });
        drop(send);
        receive.iter().for_each(drop);
    });
    let peak = stage.most(0.0, |look| look.live as f64);
    vec![Figure::limited("most resident / live peak", stage.most(0.0, |look| look.resident as f64) / peak, 1.2, 1.35)]
}

/// What a generation of producers makes, and leaves behind when it falls idle.
fn generation(window: (usize, usize), seed: u64, go: &Receiver<usize>, out: &SyncSender<Vec<Held>>) {
    let mut rng = Rng::new(seed);
    for bytes in go {
        let (mut made, mut blocks) = (0, Vec::with_capacity(2 * bytes / window.0.max(48)));
        while made < bytes {
            let block = Held::new(size(&mut rng, window.0, window.1));
            made += block.size();
            blocks.push(block);
        }
        out.send(blocks).expect("somebody takes the blocks");
    }
}

/// Generations of producers, each with other sizes. As a mebibyte of the last generation's is freed, the next gets to make one.
/// None of a generation's threads ever calls the allocator again when all is made.
pub(super) fn handover(stage: &Stage) -> Vec<Figure> {
    const WINDOWS: [(usize, usize); 5] = [(64, 1024), (1024, 16 << 10), (16, 256), (4 << 10, 64 << 10), (128, 2048)];
    const PRODUCERS: usize = 2;
    const PORTION: usize = 1 << 20;
    let portions = stage.scaled(LIVE / PORTION).max(4);
    let over = Barrier::new(WINDOWS.len() * PRODUCERS + 1);
    let mut filled = 0.0;
    thread::scope(|scope| {
        let mut older: Vec<Vec<Held>> = Vec::new();
        for (number, window) in WINDOWS.into_iter().enumerate() {
            let producers: Vec<_> = (0..PRODUCERS)
                .map(|index| {
                    let (go, gone) = sync_channel::<usize>(1);
                    let (send, receive) = sync_channel(1);
                    let over = &over;
                    scope.spawn(move || {
                        generation(window, (number * PRODUCERS + index) as u64, &gone, &send);
                        over.wait();
                    });
                    (go, receive)
                })
                .collect();
            let mut newer = Vec::new();
            for portion in 0..portions {
                // Whatever is freed, is freed by this thread.
                let held = older.len();
                drop(older.drain(held - held.min(held / (portions - portion)).max(usize::from(held > 0))..));
                let (go, receive) = &producers[portion % PRODUCERS];
                go.send(PORTION).expect("the producer waits");
                newer.push(receive.recv().expect("the producer makes blocks"));
            }
            older = newer;
            if number == 0 {
                filled = stage.look().seconds;
            }
        }
        drop(older);
        over.wait();
    });
    let peak = stage.most(0.0, |look| look.live as f64);
    let last = stage.looks().iter().map(|look| look.seconds).fold(0.0, f64::max);
    let most = stage.most(filled.min(last), |look| look.resident as f64);
    // Met at full scale; in the short form what a thread has at hand weighs more.
    vec![Figure::limited("most resident / live peak", most / peak, 1.25, 1.4)]
}

/// A size of every class that an allocator with eight classes to a doubling has.
fn every_class() -> impl Iterator<Item = usize> {
    let fine = (1..=8).map(|sixteenths| sixteenths * 16);
    fine.chain((7..15).flat_map(|power| (1..=8).map(move |eighths| (1 << power) + (eighths << (power - 3)))))
}

/// Threads that each touch every class once and sleep; then one that needs memory.
pub(super) fn thousand(stage: &Stage) -> Vec<Figure> {
    const NEEDED: usize = 512 << 20;
    /// What the default of `thread_cache_bytes` allows on up to 16 processors: 64 MiB, and 64 KiB for each thread.
    const CAP_MIB: f64 = 126.5;
    let count = stage.scaled(1000);
    let needed = stage.scaled(NEEDED);
    let (started, begun) = (Barrier::new(count + 1), Barrier::new(count + 1));
    let (touched, over) = (Barrier::new(count + 1), Barrier::new(count + 1));
    thread::scope(|scope| {
        for _ in 0..count {
            thread::Builder::new()
                .stack_size(64 << 10)
                .spawn_scoped(scope, || {
                    started.wait();
                    begun.wait();
                    every_class().for_each(|size| drop(Held::new(size)));
                    touched.wait();
                    over.wait();
                })
                .expect("a thread starts");
        }
        started.wait();
        // Stacks and what the system knows of the threads are not the heap's.
        stage.begin_anew();
        begun.wait();
        touched.wait();
        // Half a second until they count as idle, some until the housekeeping has been to all of them, and the purge delay.
        a_little_activity(Duration::from_secs(5));
        let asleep = stage.look();
        let mut rng = Rng::new(8);
        let (mut bytes, mut blocks) = (0, Vec::with_capacity(needed / 256));
        while bytes < needed {
            let block = Held::new(size(&mut rng, 16, 32 << 10));
            bytes += block.size();
            blocks.push(block);
        }
        a_little_activity(Duration::from_secs(2));
        let full = stage.look();
        drop(blocks);
        over.wait();
        vec![
            Figure::new("MiB that sleeping threads keep from all others", mib(asleep.resident), CAP_MIB),
            Figure::new("resident / live, when another needs memory", ratio(full.resident, full.live), 1.25),
        ]
    })
}

/// Short-lived threads. Each leaves two blocks to the others, and frees two that it finds.
pub(super) fn churn(stage: &Stage) -> Vec<Figure> {
    const SURVIVORS: usize = 100_000;
    const AT_ONCE: usize = 4;
    let threads = stage.scaled(100_000);
    let slots = stage.scaled(SURVIVORS);
    let store: Mutex<Vec<Held>> = Mutex::new(Vec::with_capacity(slots + 8));
    let live = |number: usize| {
        let mut rng = Rng::new(number as u64);
        let mut blocks: Vec<Held> = (0..200).map(|_| Held::new(size(&mut rng, 16, 1024))).collect();
        let kept = [blocks.swap_remove(rng.below(200)), blocks.swap_remove(rng.below(199))];
        let mut found = [const { None }; 2];
        {
            let mut store = store.lock().expect("nobody panicked with the lock");
            for (block, found) in kept.into_iter().zip(&mut found) {
                store.push(block);
                if store.len() > slots {
                    let place = rng.below(store.len() as u32);
                    *found = Some(store.swap_remove(place));
                }
            }
        }
    };
    let mut marks = Vec::new();
    let rounds = threads.div_ceil(AT_ONCE);
    for round in 0..rounds {
        thread::scope(|scope| {
            for index in 0..AT_ONCE {
                let live = &live;
                thread::Builder::new()
                    .stack_size(64 << 10)
                    .spawn_scoped(scope, move || live(round * AT_ONCE + index))
                    .expect("a thread starts");
            }
        });
        if round * 4 / rounds != (round + 1) * 4 / rounds {
            marks.push(stage.look().seconds);
        }
    }
    let end = stage.look();
    let floor = bytes_of_pages(store.lock().expect("nobody panicked with the lock").iter());
    let third = stage.most(marks[1], |look| if look.seconds < marks[2] { look.resident as f64 } else { 0.0 });
    let last = stage.most(marks[2], |look| look.resident as f64);
    vec![
        Figure::new("resident / pages that hold a survivor, at the end", ratio(end.resident, floor), 1.25),
        Figure::limited("most resident of the last quarter, by that of the third", last / third, 1.05, 1.15),
    ]
}
