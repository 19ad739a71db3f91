//! Sequences that are made to blow the heap up, and the bounds that `docs/memory.md` derives for them.

use super::held::{Held, PAGE};
use super::peak::a_little_activity;
use super::stage::{Figure, Stage};
use super::{ratio, size};
use crate::rng::Rng;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

/// The most that is live at once, in bytes.
const LIVE: usize = 64 << 20;

/// How often the live peak an adversary can have in memory who leaves a block on every page, and has these sizes, smallest first:
/// the bound of `docs/memory.md`. With all that may still live he takes fresh pages for a size, keeps a block on each (on every
/// second, if blocks lie across the borders of pages), and frees the rest; or he leaves the size out.
pub fn bound_of_pins(sizes: &[usize]) -> f64 {
    sizes.iter().rev().fold(0.0, |below, &size| {
        let pages = if PAGE.is_multiple_of(size) { 1 } else { (size - 2) / PAGE + 2 };
        let kept = size as f64 / (pages * PAGE) as f64;
        f64::max(below, 1.0 + (1.0 - kept) * below)
    })
}

/// For each size in turn: fills up to the peak, keeps a block on each page, and frees all others.
pub(super) fn pins(stage: &Stage) -> Vec<Figure> {
    const SIZES: [usize; 13] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048];
    let limit = stage.scaled(LIVE);
    let mut kept: Vec<Held> = Vec::with_capacity(SIZES.len() * limit / PAGE * 2);
    let mut held = 0;
    for size in SIZES {
        let mut blocks: Vec<Held> = Vec::with_capacity((limit - held) / size);
        blocks.extend((0..(limit - held) / size).map(|_| Held::new(size)));
        // The live peak, which the watch may miss on a busy machine.
        stage.look();
        // The fewest blocks that touch every page: of those that touch the first page without one, the one that ends last.
        blocks.sort_unstable_by_key(Held::pages);
        let mut next = 0;
        let mut stays = vec![false; blocks.len()];
        for index in 0..blocks.len() {
            let (first, last) = blocks[index].pages();
            let better = blocks.get(index + 1).is_some_and(|after| after.pages().0 <= first.max(next));
            if last >= next && !better {
                (stays[index], next) = (true, last + 1);
            }
        }
        let mut stays = stays.iter();
        let parts = blocks.extract_if(.., |_| *stays.next().expect("a verdict for each block"));
        let before = kept.len();
        kept.extend(parts);
        held += kept[before..].iter().map(Held::size).sum::<usize>();
    }
    a_little_activity(Duration::from_millis(1500));
    let end = stage.look();
    let most = stage.most(0.0, |look| look.resident as f64);
    let peak = stage.most(0.0, |look| look.live as f64);
    vec![
        Figure::new("most resident / live peak, bounded for these sizes", most / peak, bound_of_pins(&SIZES)),
        Figure::new(
            "resident at the end / live peak, the same",
            ratio(end.resident, peak as usize),
            bound_of_pins(&SIZES),
        ),
    ]
}

/// Runs of pages: every second one is freed, then come runs a page longer than two of them. Nothing fits where something was.
pub(super) fn holes(stage: &Stage) -> Vec<Figure> {
    const ROUNDS: usize = 3;
    let limit = stage.scaled(LIVE * 4);
    let mut blocks: Vec<Held> = Vec::with_capacity(2 * limit / (9 * PAGE));
    let mut held = 0;
    for _ in 0..ROUNDS {
        let mut pages = 9;
        while pages * PAGE < 1 << 20 {
            let before = blocks.len();
            while held + pages * PAGE <= limit {
                blocks.push(Held::new(pages * PAGE));
                held += pages * PAGE;
            }
            blocks[before..].sort_unstable_by_key(Held::pages);
            let mut index = 0;
            blocks.retain(|_| {
                index += 1;
                index <= before || index % 2 == 0
            });
            // Of the older ones as much goes as makes room again.
            let mut live: usize = blocks.iter().map(Held::size).sum();
            while live > limit / 2 {
                live -= blocks.swap_remove(0).size();
            }
            held = live;
            pages = pages * 2 + 1;
        }
    }
    let most = stage.most(0.0, |look| look.resident as f64);
    let peak = stage.most(0.0, |look| look.live as f64);
    a_little_activity(Duration::from_secs(2));
    let end = stage.look();
    vec![
        Figure::new("most resident / live peak", most / peak, 2.0),
        Figure::new("resident / live, 2 s later", ratio(end.resident, end.live), 1.1),
    ]
}

/// Threads take turns: each allocates the same amount of small and medium blocks, and frees the last one's as it does so.
pub(super) fn ping_pong(stage: &Stage) -> Vec<Figure> {
    const THREADS: usize = 8;
    const ROUNDS: usize = 5;
    let limit = stage.scaled(LIVE * 4);
    let turn = Barrier::new(THREADS);
    let ball = std::sync::Mutex::new(Vec::<Held>::with_capacity(limit / 64));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (turn, ball) = (&turn, &ball);
            scope.spawn(move || {
                let mut rng = Rng::new(number as u64);
                for step in 0..ROUNDS * THREADS {
                    if step % THREADS == number {
                        let mut ball = ball.lock().expect("nobody panicked with the lock");
                        // In odd turns it frees what another made, in even ones what it made itself a moment ago.
                        ball.clear();
                        let mut bytes = 0;
                        while bytes < limit {
                            let block = Held::new(size(&mut rng, 16, 64 << 10));
                            bytes += block.size();
                            ball.push(block);
                        }
                        if step % 2 == 0 {
                            ball.clear();
                        }
                    }
                    turn.wait();
                }
            });
        }
    });
    let peak = stage.most(0.0, |look| look.live as f64);
    let most = stage.most(0.0, |look| look.resident as f64);
    vec![Figure::new("most resident / live peak", most / peak, 2.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_one_size_is_the_peak_and_of_more_grows() {
        assert_eq!(bound_of_pins(&[16]), 1.0);
        assert_eq!(bound_of_pins(&[1024, 2048]), 1.75);
        let many = bound_of_pins(&[16, 32, 64, 128, 256, 512, 1024, 2048]);
        assert!((6.0..8.0).contains(&many), "{many}");
        // 48 does not divide a page: a block can keep two.
        assert_eq!(bound_of_pins(&[48, 4096]), 2.0 - 48.0 / 8192.0);
    }
}
