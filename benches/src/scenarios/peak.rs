//! Memory that was needed once: a peak of which little survives, and a heap whose sizes drift.

use super::held::{Held, bytes_of_pages};
use super::stage::{Figure, Stage};
use super::{ratio, size};
use crate::rng::Rng;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// The peak, in bytes.
const PEAK: usize = 1 << 30;
/// Threads that build it up.
const THREADS: usize = 4;
/// How long memory may take to come back.
const PATIENCE: Duration = Duration::from_secs(2);

const OF_SURVIVORS: &str = "resident / pages that hold a survivor, 2 s later";

/// Waits, allocating and freeing as little as an idle server: some 20,000 pairs a second.
pub(super) fn a_little_activity(duration: Duration) {
    let (end, mut rng) = (Instant::now() + duration, Rng::new(3));
    while Instant::now() < end {
        let blocks: Vec<Held> = (0..40).map(|_| Held::new(size(&mut rng, 16, 512))).collect();
        drop(blocks);
        thread::sleep(Duration::from_millis(2));
    }
}

/// Builds up the peak with several threads, which stay, and leaves a tenth of it; then `afterwards`.
fn peak(stage: &Stage, afterwards: impl FnOnce()) -> Vec<Figure> {
    let share = stage.scaled(PEAK / THREADS);
    let (built, over) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let build = |seed: u64| {
        let mut rng = Rng::new(seed);
        let mut blocks = Vec::with_capacity(share / 1000);
        let mut bytes = 0;
        while bytes < share {
            let size = size(&mut rng, 16, 8 << 10);
            blocks.push(Held::new(size));
            bytes += size;
        }
        blocks.retain(|_| rng.below(10) == 0);
        blocks
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS as u64)
            .map(|seed| {
                let (built, over) = (&built, &over);
                let (send, receive) = std::sync::mpsc::sync_channel(1);
                scope.spawn(move || {
                    send.send(build(seed)).expect("somebody waits for the survivors");
                    built.wait();
                    over.wait();
                });
                receive
            })
            .collect();
        let survivors: Vec<Vec<Held>> = threads.iter().map(|it| it.recv().expect("a thread builds")).collect();
        built.wait();
        stage.set_floor(bytes_of_pages(survivors.iter().flatten()));
        afterwards();
        let look = stage.look();
        over.wait();
        vec![Figure::new(OF_SURVIVORS, ratio(look.resident, look.floor), 1.25)]
    })
}

pub(super) fn busy(stage: &Stage) -> Vec<Figure> {
    peak(stage, || a_little_activity(PATIENCE))
}

pub(super) fn idle(stage: &Stage) -> Vec<Figure> {
    peak(stage, || thread::sleep(PATIENCE))
}

pub(super) fn trimmed(stage: &Stage) -> Vec<Figure> {
    peak(stage, || {
        thread::sleep(PATIENCE / 2);
        super::purge::all();
        thread::sleep(PATIENCE / 2);
    })
}

/// Replaces blocks of a heap at random for so long that each is replaced some fifty times, while the sizes drift from one
/// distribution to the other and back, twice: an hour's churn. The drift is slow beside the turnover: else the pages that old
/// sizes still hold are most of what is resident, whoever allocates. Where the hour is compressed, so is what allocators are told
/// of times.
pub(super) fn drift(stage: &Stage) -> Vec<Figure> {
    const LIVE: usize = 256 << 20;
    const TURNOVERS: usize = 50;
    let (live, mut rng) = (stage.scaled(LIVE), Rng::new(5));
    // The window of sizes at a share of the way: up and down, twice.
    let window = |share: f64| {
        let up = 1.0 - (share * 4.0 % 2.0 - 1.0).abs();
        let low = 32.0 * (up * 2.0).exp2();
        (low as usize, (low * 256.0) as usize)
    };
    let mut blocks: Vec<Held> = Vec::with_capacity(live / 64);
    let (mut held, mut replaced) = (0, 0);
    let total = live * TURNOVERS;
    let mut settled = None;
    let mut begin = Instant::now();
    while replaced < total {
        let (low, high) = window(replaced as f64 / total as f64);
        let block = Held::new(size(&mut rng, low, high));
        held += block.size();
        blocks.push(block);
        if replaced == 0 {
            begin = Instant::now();
        }
        stage.keep_pace(begin, replaced as f64 / total as f64);
        while held > live {
            let gone = blocks.swap_remove(rng.below(blocks.len() as u32));
            held -= gone.size();
            replaced += gone.size();
        }
        if settled.is_none() && replaced > total / 50 {
            settled = Some(stage.look().seconds);
        }
    }
    let (start, end) = (settled.unwrap_or(0.0), stage.look().seconds);
    let over = |from: f64, to: f64| {
        let looks = stage.looks();
        let parts: Vec<f64> = looks
            .iter()
            .filter(|it| it.seconds >= from && it.seconds < to)
            .map(|it| ratio(it.resident, it.live))
            .collect();
        parts.iter().sum::<f64>() / parts.len().max(1) as f64
    };
    let middle = f64::midpoint(start, end);
    vec![
        Figure::limited("most resident / live", stage.most(start, |look| ratio(look.resident, look.live)), 1.2, 1.25),
        Figure::new(
            "mean resident / live of the second round, by that of the first",
            over(middle, end) / over(start, middle),
            1.05,
        ),
    ]
}
