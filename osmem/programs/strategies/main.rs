//! `osmem-strategies`: one sequence of calls with best, first, next and worst fit, side by side.
//!
//! `sequence` makes the calls, `simulation` plays them on the library's own list of blocks, over a buffer instead of the
//! program break, and `picture` draws the four heaps that come of it.

mod picture;
mod sequence;
mod simulation;
#[path = "../svg.rs"]
mod svg;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use osmem_core::Placement;

use sequence::Step;
use simulation::Outcome;

const USAGE: &str = "\
Usage: osmem-strategies [options] [RECORDING]

Plays a sequence of calls with each placement strategy and compares the heaps. A recording has a line for each call,
as `osmem-trace --record` writes it: `malloc NAME SIZE`, `calloc NAME COUNT SIZE`, `realloc NAME SIZE`, `free NAME`.
Without one, the sequence is random.

Options:
  --calls N     length of the random sequence (10000)
  --largest N   its largest block, in bytes (4000)
  --seed N      another random sequence (1)
  --classic     the textbook's: 64 KiB with holes of 16, 1, 30 and 2 KiB, and a request of 2 KiB
  --svg FILE    also draws the four heaps
  --help        this text
";

/// What the command line asks for.
struct Options {
    calls: usize,
    largest: usize,
    seed: u64,
    classic: bool,
    svg: Option<PathBuf>,
    recording: Option<PathBuf>,
}

fn main() -> ExitCode {
    match parse(env::args().skip(1)).and_then(|options| compare(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("osmem-strategies: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { calls: 10_000, largest: 4000, seed: 1, classic: false, svg: None, recording: None };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--calls" => options.calls = number(&value()?)?,
            "--largest" => options.largest = number(&value()?)?,
            "--seed" => options.seed = number(&value()?)?,
            "--classic" => options.classic = true,
            "--svg" => options.svg = Some(value()?.into()),
            "--help" => {
                print!("{USAGE}");
                std::process::exit(0);
            }
            _ if argument.starts_with('-') => return Err(format!("{argument} is no option; --help names them")),
            _ => options.recording = Some(argument.into()),
        }
    }
    if !(1..=sequence::LARGEST).contains(&options.largest) {
        return Err(format!("--largest must be 1 to {}", sequence::LARGEST));
    }
    Ok(options)
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn compare(options: &Options) -> Result<(), String> {
    let steps: Vec<Step> = if options.classic {
        sequence::classic()
    } else if let Some(file) = &options.recording {
        let cannot = |reason: String| format!("{}: {reason}", file.display());
        let text = fs::read_to_string(file).map_err(|error| cannot(error.to_string()))?;
        sequence::recorded(&text).map_err(cannot)?
    } else {
        sequence::random(options.calls, options.largest, options.seed)
    };
    let fixed = options.classic.then_some(sequence::CLASSIC_HEAP);

    let mut outcomes = Vec::new();
    for placement in Placement::ALL {
        outcomes.push(simulation::play(&steps, placement, fixed)?);
    }
    print_table(&steps, &outcomes);
    if options.classic {
        print_classic(&outcomes);
    }
    if let Some(file) = &options.svg {
        fs::write(file, picture::draw(&outcomes))
            .map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    }
    Ok(())
}

fn print_table(steps: &[Step], outcomes: &[Outcome]) {
    println!("{} calls; sizes in bytes; free neighbours count as one block", steps.len());
    println!(
        "{:10} {:>12} {:>12} {:>12} {:>13} {:>15} {:>11}",
        "", "heap needed", "free blocks", "free bytes", "largest free", "holes examined", "per search"
    );
    for outcome in outcomes {
        let holes = outcome.holes();
        println!(
            "{:10} {:>12} {:>12} {:>12} {:>13} {:>15} {:>11.1}",
            outcome.placement.name(),
            outcome.needed,
            holes.len(),
            holes.iter().sum::<usize>(),
            holes.iter().max().unwrap_or(&0),
            outcome.examined,
            outcome.examined as f64 / outcome.searches.max(1) as f64
        );
    }
}

fn print_classic(outcomes: &[Outcome]) {
    println!();
    for outcome in outcomes {
        let (hole, size) = sequence::classic_hole_at(outcome.last).expect("the request fits");
        println!("{:10} puts the 2 KiB into hole {}, of {} KiB", outcome.placement.name(), hole + 1, size / 1024);
    }
}
