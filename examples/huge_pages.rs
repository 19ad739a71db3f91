//! What huge pages are worth: twice half a gibibyte of small blocks, each of which says where the next one is, is read in random order,
//! by turns. The option `huge_pages` has had the first half put into huge pages, and was off for the second.
//!
//! ```text
//! cargo run --release --example huge_pages
//! ```

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};
use terrace::Terrace;

#[global_allocator]
static GLOBAL: Terrace = Terrace;

const BLOCKS: usize = 4 << 20;
const BYTES: usize = BLOCKS * size_of::<Place>();
const TURNS: usize = 11;
const WINDOW: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(120);

/// A block of two cache lines, on a round through all of them.
struct Place {
    next: Cell<Option<&'static Place>>,
    _rest: [u64; 15],
}

/// A random permutation of one cycle: who follows whom.
fn round(places: usize) -> Vec<u32> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut order: Vec<u32> = (0..places as u32).collect();
    for last in (1..places).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(last, (state % last as u64) as usize);
    }
    order
}

fn build() -> &'static Place {
    let place = || &*Box::leak(Box::new(Place { next: Cell::new(None), _rest: [0; 15] }));
    let places: Vec<&'static Place> = (0..BLOCKS).map(|_| place()).collect();
    for (place, next) in places.iter().zip(round(BLOCKS)) {
        place.next.set(Some(places[next as usize]));
    }
    places[0]
}

/// Goes round for a while; says how many nanoseconds a step took, and where it ended.
fn walk(mut place: &'static Place) -> (f64, &'static Place) {
    const STEPS: u32 = 100_000;
    let (start, mut steps) = (Instant::now(), 0);
    while start.elapsed() < WINDOW {
        for _ in 0..STEPS {
            place = place.next.get().expect("a round has no end");
        }
        steps += STEPS;
    }
    (start.elapsed().as_nanos() as f64 / f64::from(steps), place)
}

/// Bytes of this process's memory in huge pages.
fn huge_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("the kernel counts");
    let line = text.lines().find_map(|line| line.strip_prefix("AnonHugePages:")).expect("the field is there");
    line.trim().strip_suffix(" kB").expect("in KiB").parse::<usize>().expect("a number") << 10
}

/// Some medium blocks come and go, by which housekeeping gets its turns.
fn stay_active() {
    for _ in 0..1000 {
        drop(black_box(Vec::<u8>::with_capacity(40_000)));
    }
    std::thread::sleep(Duration::from_millis(10));
}

fn main() -> Result<(), String> {
    let set = |name, value| terrace::set_option(name, value).map_err(|error| error.to_string());
    set("purge_delay_ms", "100")?;
    set("huge_pages", "1")?;
    let mut huge = build();
    let start = Instant::now();
    while huge_bytes() < BYTES / 10 * 9 {
        stay_active();
        if start.elapsed() > PATIENCE {
            return Err(format!("after {PATIENCE:?} only {} MiB are in huge pages", huge_bytes() >> 20));
        }
    }
    set("huge_pages", "0")?;
    let mut plain = build();
    println!("{} of {} MiB are in huge pages", huge_bytes() >> 20, (2 * BYTES) >> 20);
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        let (plain_ns, huge_ns);
        (plain_ns, plain) = walk(plain);
        (huge_ns, huge) = walk(huge);
        println!("small pages {plain_ns:.0} ns a read, huge pages {huge_ns:.0} ns");
        ratios.push(huge_ns / plain_ns);
    }
    ratios.sort_by(f64::total_cmp);
    println!("ratio {:.2} in the median, {:.2} to {:.2}", ratios[TURNS / 2], ratios[0], ratios[TURNS - 1]);
    Ok(())
}
