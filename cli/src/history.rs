//! `terrace history`: what happened to the blocks of a process lately, read from outside, or from a core file.
//!
//! The process is neither stopped nor asked. Its library has written the events down (`src/history/` of the library), if its
//! history is on: by `TERRACE_HISTORY`, by `terrace run --history`, or by a call of its own. The heap's root says where.

use crate::failure::Failure;
use crate::inspect::address;
use crate::remote::Heap;
use crate::symbols::Symbols;
use crate::target::Target;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;
use terrace_core::history::Event;
use terrace_core::history::outside::{self, OutsideRing};

/// Show what happened to the blocks of a process lately
///
/// The history has to be on in the process: start it by `terrace run --history`, or with TERRACE_HISTORY=1000 in its environment.
#[derive(clap::Args)]
pub struct Arguments {
    /// A process by its number, or a core file
    #[arg(value_name = "PID|CORE")]
    target: Target,

    /// Only the events of blocks in which this address lies, or lay, such as 0x7f0012345678
    #[arg(long, value_parser = address)]
    address: Option<usize>,

    /// Only the last so many events
    #[arg(long, value_name = "EVENTS")]
    last: Option<usize>,

    /// Go on with what happens from now on, until the process ends
    #[arg(long)]
    follow: bool,
}

/// How often a process that is followed is looked at.
const PAUSE: Duration = Duration::from_millis(100);

pub fn history(arguments: &Arguments) -> Result<(), Failure> {
    let heap = Heap::open(&arguments.target)?;
    let follow = arguments.follow && arguments.target.goes_on();
    let mut seen = HashMap::new();
    let mut events = events_since(&heap, &mut seen)?;
    if seen.is_empty() && !follow {
        return Err(Failure::NoHistory(arguments.target.name()));
    }
    let mut stacks = Stacks { symbols: heap.symbols(), texts: HashMap::new() };
    loop {
        events.retain(|event| arguments.address.is_none_or(|address| event.concerns(address)));
        let skip = arguments.last.map_or(0, |last| events.len().saturating_sub(last));
        let mut out = io::stdout().lock();
        // Whoever does not listen any more has seen enough.
        let shown =
            events[skip..].iter().try_for_each(|event| write!(out, "{event}\n{}", stacks.of(&heap, event.stack)));
        if shown.and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        if !follow || !heap.is_there() {
            return Ok(());
        }
        thread::sleep(PAUSE);
        events = events_since(&heap, &mut seen)?;
    }
}

/// The events that came since those that were seen, in the order of time. `seen` says how many there were in each ring.
fn events_since(heap: &Heap, seen: &mut HashMap<usize, u64>) -> Result<Vec<Event>, Failure> {
    let (memory, root) = heap.parts();
    let mut rings: Vec<OutsideRing> = Vec::new();
    let read = outside::rings(memory, root, |ring| rings.push(ring));
    // A process that ends meanwhile leaves nothing to be read.
    if read.is_err() && rings.is_empty() && heap.is_there() {
        return Err(heap.unreadable("the list of the history's rings"));
    }
    let mut events = Vec::new();
    for ring in rings {
        let from = seen.insert(ring.address(), ring.written()).unwrap_or(0);
        ring.events(memory, root, from, |event| events.push(*event));
    }
    events.sort_by_key(|event| event.time_ns);
    Ok(events)
}

/// The texts of call stacks, each made once.
struct Stacks {
    symbols: Symbols,
    texts: HashMap<u32, String>,
}

impl Stacks {
    fn of(&mut self, heap: &Heap, number: u32) -> &str {
        let symbols = &mut self.symbols;
        self.texts.entry(number).or_insert_with(|| {
            let (memory, root) = heap.parts();
            let mut frames = [0; outside::MAX_FRAMES];
            let count = outside::frames(memory, root, number, &mut frames);
            // Frames of the allocator itself tell nothing; and what is no code is no frame: the stack was cut short there.
            let inner = frames[..count].iter().take_while(|&&frame| symbols.is_of_library(frame)).count();
            let places = frames[inner..count].iter().map_while(|&frame| symbols.of(frame)).flatten();
            places.enumerate().fold(String::new(), |mut text, (index, place)| {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "    #{index} {place}");
                text
            })
        })
    }
}
