//! What a scenario runs on: its scale, its clock, and the watch of memory beside it.

use super::held::live_bytes;
use crate::harness_memory::MappedMemory;
use std::alloc::{GlobalAlloc, Layout};
use std::fs::File;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::held::PAGE;

/// Between two looks of the watch, at least.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Looks that there is room for: ten minutes.
const LOOKS: usize = 30_000;
/// In an hour of a scenario the watch looks so often, at most.
const LOOKS_IN_AN_HOUR: u32 = 3000;
/// Who is less ahead of the pace does not wait.
const LEAST_WAIT: Duration = Duration::from_millis(1);
/// How long an hour of a scenario takes, if nobody says otherwise.
pub const HOUR: Duration = Duration::from_secs(60);

/// Bytes of the program's own tables, all of them in memory. Written by every thread that gets or gives back such memory, read by
/// whoever looks; `Relaxed`, since it is a sum that nothing else hangs on.
static OWN: AtomicUsize = AtomicUsize::new(0);

/// The program's own memory: mapped apart from the heap under test, in memory as a whole, and counted, so that it can be taken
/// off what is resident.
pub struct OwnMemory;

fn whole_pages(layout: Layout) -> usize {
    layout.size().next_multiple_of(PAGE)
}

// SAFETY: every block is one of `MappedMemory`'s.
unsafe impl GlobalAlloc for OwnMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let block = unsafe { MappedMemory.alloc(layout) };
        if !block.is_null() {
            for offset in (0..layout.size()).step_by(PAGE) {
                // SAFETY: the offset lies in the block, and its byte is nobody's yet.
                let byte = unsafe { block.add(offset) };
                // SAFETY: as above; volatile, since it is the page that is wanted.
                unsafe { byte.write_volatile(0) };
            }
            OWN.fetch_add(whole_pages(layout), Ordering::Relaxed);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        OWN.fetch_sub(whole_pages(layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { MappedMemory.dealloc(block, layout) };
    }
}

/// What was seen at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Since the beginning.
    pub seconds: f64,
    /// Resident memory without the program's own, in bytes.
    pub resident: usize,
    /// Bytes that the program asked for and did not free.
    pub live: usize,
    /// What resident memory is to be compared with, where that is not the live bytes: pages that hold a survivor, in bytes.
    pub floor: usize,
}

/// A figure of a scenario, and its target.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it says.
    pub what: &'static str,
    /// The figure.
    pub value: f64,
    /// It is to be at most this.
    pub target: f64,
    /// Where the target is not always reached: what is, so that it does not become worse.
    pub reached: Option<f64>,
}

impl Figure {
    /// A figure that reaches its target.
    pub fn new(what: &'static str, value: f64, target: f64) -> Self {
        Self { what, value, target, reached: None }
    }

    /// A figure that may be as much as this where the machine is busy, or always.
    pub fn limited(what: &'static str, value: f64, target: f64, reached: f64) -> Self {
        Self { reached: Some(reached), ..Self::new(what, value, target) }
    }
}

/// What a scenario has at hand.
pub struct Stage {
    /// Factor on the amounts of memory and work.
    pub scale: f64,
    hour: Duration,
    begin: Instant,
    /// Resident bytes that are not the heap's: the program as it started. Written by the scenario, read by the watch; `Relaxed`,
    /// since nothing hangs on which look is the first with the new value.
    base: AtomicUsize,
    /// As in [`Look`]; written and read as `base`.
    floor: AtomicUsize,
    looks: Mutex<Vec<Look>>,
}

impl Stage {
    /// A stage on which nothing has been allocated yet, and on which an hour takes so long.
    pub fn new(scale: f64, hour: Duration) -> Self {
        let stage = Self {
            scale,
            hour,
            begin: Instant::now(),
            base: AtomicUsize::new(0),
            floor: AtomicUsize::new(0),
            looks: Mutex::new(Vec::with_capacity(LOOKS)),
        };
        stage.begin_anew();
        stage
    }

    /// From now on, what is resident at this moment counts as the program's own.
    pub fn begin_anew(&self) {
        self.base.store(resident().saturating_sub(OWN.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// An amount, scaled; at least one.
    pub fn scaled(&self, amount: usize) -> usize {
        ((amount as f64 * self.scale) as usize).max(1)
    }

    /// Waits, if need be, until about so much of an hour is over that began then.
    pub fn keep_pace(&self, begin: Instant, share: f64) {
        let ahead = self.hour.mul_f64(share).saturating_sub(begin.elapsed());
        if ahead >= LEAST_WAIT {
            thread::sleep(ahead);
        }
    }

    /// Sets what resident memory is to be compared with from now on.
    pub fn set_floor(&self, bytes: usize) {
        self.floor.store(bytes, Ordering::Relaxed);
    }

    /// Looks now.
    pub fn look(&self) -> Look {
        let own = OWN.load(Ordering::Relaxed) + self.base.load(Ordering::Relaxed);
        let look = Look {
            seconds: self.begin.elapsed().as_secs_f64(),
            resident: resident().saturating_sub(own),
            live: live_bytes(),
            floor: self.floor.load(Ordering::Relaxed),
        };
        let mut looks = self.looks.lock().expect("nobody panicked with the lock");
        // Without room the table would grow, and be twice in memory for a moment.
        if looks.len() < LOOKS {
            looks.push(look);
        }
        look
    }

    /// All looks so far.
    pub fn looks(&self) -> Vec<Look> {
        self.looks.lock().expect("nobody panicked with the lock").clone()
    }

    /// The most that `figure` was in the looks from `seconds` on.
    pub fn most(&self, from: f64, figure: impl Fn(&Look) -> f64) -> f64 {
        let looks = self.looks();
        looks.iter().filter(|look| look.seconds >= from).map(figure).fold(0.0, f64::max)
    }

    /// Runs `play` with the watch beside it, which ends with it, also by a panic.
    pub fn watched<T>(&self, play: impl FnOnce(&Self) -> T) -> T {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    self.look();
                    thread::sleep(LOOK_EVERY.max(self.hour / LOOKS_IN_AN_HOUR));
                }
            });
            let _end = EndOfWatch(&over);
            play(self)
        })
    }
}

/// Tells the watch that the scenario is over. Set by the scenario's thread, read by the watch; `Relaxed`, since nothing hangs on
/// how many looks come after.
struct EndOfWatch<'o>(&'o AtomicBool);

impl Drop for EndOfWatch<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Resident bytes of this process.
///
/// # Panics
/// If the kernel does not tell.
fn resident() -> usize {
    let mut text = [0; 128];
    let read = File::open("/proc/self/statm").and_then(|mut file| file.read(&mut text)).expect("statm can be read");
    let text = std::str::from_utf8(&text[..read]).expect("statm is text");
    let pages = text.split(' ').nth(1).and_then(|word| word.parse::<usize>().ok()).expect("statm has a second figure");
    pages * PAGE
}
