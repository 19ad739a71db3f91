//! A whole program on the global allocator that the package was built with.
//!
//! ```text
//! program list                                                       the programs, as lines of JSON
//! program run NAME [--threads N] [--scale FACTOR] [--rest MS]        one run, as a line of JSON
//! ```
//! With `--rest` the program stays for a while after its threads have ended and everything is dropped, with a little activity
//! every ten milliseconds as an idle server has, and then reads its resident memory again.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use terrace_bench::global::Global;
use terrace_bench::process::{Resident, Usage, mappings, provider};
use terrace_bench::programs::{self, PROGRAMS, Program, Work};

#[global_allocator]
static GLOBAL: Global = Global;

const USAGE: &str = "use: list | run NAME [--threads N] [--scale FACTOR] [--rest MS]";

struct Command {
    program: &'static Program,
    work: Work,
    rest: Duration,
}

fn parse(arguments: &[String]) -> Result<Option<Command>, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, options) = match words[..] {
        ["list"] => return Ok(None),
        ["run", name, ref options @ ..] => (name, options),
        _ => return Err(USAGE.into()),
    };
    let program = programs::find(name).ok_or(format!("there is no program {name}; see `list`"))?;
    let mut command = Command { program, work: Work { threads: 1, scale: 1.0 }, rest: Duration::ZERO };
    for option in options.chunks(2) {
        let [option, value] = option else { return Err(USAGE.into()) };
        let number: f64 = value.parse().map_err(|_| format!("{value} is not a number"))?;
        match *option {
            "--threads" if number >= 1.0 => command.work.threads = number as usize,
            "--scale" if number > 0.0 => command.work.scale = number,
            "--rest" if number >= 0.0 => command.rest = Duration::from_millis(number as u64),
            _ => return Err(format!("{option} {value}: {USAGE}")),
        }
    }
    Ok(Some(command))
}

/// Waits, doing as little with the heap as an idle server.
fn rest(duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
        let blocks: Vec<Box<[u8; 48]>> = (0..20).map(|_| Box::new([1; 48])).collect();
        std::hint::black_box(&blocks);
    }
}

fn run(command: &Command) -> String {
    #[cfg(feature = "timed")]
    let calibration = terrace_bench::latency::begin();
    let before = Usage::now();
    let begin = Instant::now();
    let outcome = (command.program.run)(command.work);
    let wall_ns = begin.elapsed().as_nanos();
    let usage = Usage::now().since(before);
    let after = Resident::of("self").unwrap_or_default();
    let mut text = format!(
        "{{\"provider\": {:?}, \"wall_ns\": {wall_ns}, \"cpu_ns\": {}, \"system_ns\": {}, \"faults\": {}, \"peak_kib\": {}, \
         \"resident_kib\": {}, \"mappings\": {}, \"operations\": {}, \"checksum\": \"{:016x}\"",
        provider(),
        usage.cpu_ns,
        usage.system_ns,
        usage.faults,
        after.peak_kib,
        after.total_kib,
        mappings("self").unwrap_or_default(),
        outcome.operations,
        outcome.checksum,
    );
    #[cfg(feature = "timed")]
    let _ = write!(text, ", \"latency\": {}", terrace_bench::latency::report(&calibration));
    if command.rest > Duration::ZERO {
        rest(command.rest);
        let _ = write!(text, ", \"rested_kib\": {}", Resident::of("self").unwrap_or_default().total_kib);
    }
    text + "}"
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match parse(&arguments) {
        Ok(Some(command)) => println!("{}", run(&command)),
        Ok(None) => {
            for Program { name, what, .. } in PROGRAMS {
                println!("{{\"program\": \"{name}\", \"what\": \"{what}\"}}");
            }
        }
        Err(message) => {
            eprintln!("program: {message}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
