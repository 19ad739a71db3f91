//! The subcommands that look at a process from outside: `why`, `map`, `stats`, `top` and `dump`.
//!
//! The process does not co-operate and is not disturbed: [`remote`] reads its memory.

use crate::failure::Failure;
use crate::remote::{self, Obstacle};
use crate::snapshot::Snapshot;
use crate::target::Target;
use crate::views::{self, picture::Colouring, top::Order};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use terrace_core::inspect::Extent;

/// Say where a process's memory is, whether it grows, and what to do about it
///
/// Looks twice at a process, once at a core file. All accounts add up to the resident memory that the kernel counts.
#[derive(clap::Args)]
pub struct WhyArguments {
    /// A process by its number, a core file, or what `terrace map --json` wrote
    #[arg(value_name = "PID|FILE")]
    target: Target,

    /// Seconds between the two looks; 0 looks once
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
}

/// Show every arena, segment and zone of a process's heap
///
/// As text on standard output, unless one of the options asks for another form.
#[derive(clap::Args)]
pub struct MapArguments {
    /// A process by its number, a core file, or what `terrace map --json` wrote
    #[arg(value_name = "PID|FILE")]
    target: Target,

    /// Write everything as JSON to standard output; docs/snapshot.schema.json describes it
    #[arg(long, conflicts_with_all = ["html", "svg", "live"])]
    json: bool,

    /// Write a page to look at in a browser; it needs no other file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Show it in the terminal, with keys to move about; ? lists them
    #[arg(long, conflicts_with_all = ["html", "svg"])]
    live: bool,

    /// What the colours of --svg and --live tell
    #[arg(long, value_enum, default_value_t)]
    colour: Colouring,
}

/// Show the totals of a process's heap
#[derive(clap::Args)]
pub struct StatsArguments {
    /// A process by its number, a core file, or what `terrace map --json` wrote
    #[arg(value_name = "PID|FILE")]
    target: Target,

    /// Go on, with a new look every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    watch: Option<f64>,
}

/// Show all processes on Terrace, the largest first
///
/// On a terminal it goes on, with a new look every two seconds, until interrupted.
#[derive(clap::Args)]
pub struct TopArguments {
    /// What to sort by
    #[arg(long, value_enum, default_value_t)]
    sort: Order,

    /// Look once, also on a terminal
    #[arg(long)]
    once: bool,
}

/// Show the bytes at an address of a process's heap, with the state of each
///
/// Shows the block that the address lies in, or what else is there.
#[derive(clap::Args)]
pub struct DumpArguments {
    /// A process by its number, or a core file
    #[arg(value_name = "PID|CORE")]
    target: Target,

    /// The address, as 0x7f0012345678
    #[arg(value_name = "ADDRESS", value_parser = address)]
    address: usize,

    /// Show the whole slab, run of pages or mapping
    #[arg(long)]
    zone: bool,
}

/// An address as programs print it, in hexadecimal digits with or without the prefix.
pub fn address(text: &str) -> Result<usize, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    usize::from_str_radix(digits, 16)
        .map_err(|_| "it must be a number in hexadecimal digits, as 0x7f0012345678".to_owned())
}

/// As much as a person may want to wait, and no negative time.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("it must be a number of seconds from 0 to 86400".to_owned()),
    }
}

/// `terrace why`.
pub fn why(arguments: &WhyArguments) -> Result<(), Failure> {
    let first = arguments.target.look()?;
    let second = if arguments.interval > 0.0 && arguments.target.goes_on() {
        sleep(Duration::from_secs_f64(arguments.interval));
        Some(arguments.target.look()?)
    } else {
        None
    };
    print(&views::why::verdict(&first, second.as_ref()))
}

/// `terrace map`.
pub fn map(arguments: &MapArguments) -> Result<(), Failure> {
    let snapshot = arguments.target.look()?;
    if arguments.json {
        return print(&(views::json(&snapshot) + "\n"));
    }
    if arguments.live {
        return views::live::run(&arguments.target, snapshot, arguments.colour);
    }
    if arguments.html.is_none() && arguments.svg.is_none() {
        return print(&views::text::map(&snapshot));
    }
    if let Some(path) = &arguments.html {
        write_file(path, &views::html::page(&snapshot))?;
    }
    if let Some(path) = &arguments.svg {
        write_file(path, &views::svg::picture(&snapshot, arguments.colour))?;
    }
    Ok(())
}

/// `terrace stats`.
pub fn stats(arguments: &StatsArguments) -> Result<(), Failure> {
    loop {
        let text = views::text::statistics(&arguments.target.look()?);
        let Some(interval) = arguments.watch.filter(|_| arguments.target.goes_on()) else { return print(&text) };
        print_over(&text)?;
        sleep(Duration::from_secs_f64(interval.max(0.1)));
    }
}

/// `terrace top`.
pub fn top(arguments: &TopArguments) -> Result<(), Failure> {
    loop {
        let (snapshots, forbidden) = all_processes()?;
        let text = views::top::table(&snapshots, forbidden, arguments.sort);
        if arguments.once || !io::stdout().is_terminal() {
            return print(&text);
        }
        print_over(&text)?;
        sleep(Duration::from_secs(2));
    }
}

/// `terrace dump`.
pub fn dump(arguments: &DumpArguments) -> Result<(), Failure> {
    let extent = if arguments.zone { Extent::Zone } else { Extent::Block };
    print(&match &arguments.target {
        Target::Process(pid) => remote::dump(*pid, arguments.address, extent)?,
        Target::File(path) => remote::dump_core(path, arguments.address, extent)?,
    })
}

/// Looks at every process on Terrace, and says how many others this user may not look at.
fn all_processes() -> Result<(Vec<Snapshot>, usize), Failure> {
    let unreadable = |error| Failure::Unreadable("/proc".to_owned(), error);
    let (mut snapshots, mut forbidden) = (Vec::new(), 0);
    for entry in std::fs::read_dir("/proc").map_err(unreadable)? {
        let Some(pid) = entry.map_err(unreadable)?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        match remote::look(pid) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(Failure::CannotLook(_, Obstacle::Forbidden)) => forbidden += 1,
            // Not on Terrace, or no longer there.
            Err(_) => {}
        }
    }
    Ok((snapshots, forbidden))
}

/// Writes a text over the one before: home, each line, and nothing of what stood there. Where there is no terminal the texts follow
/// each other.
fn print_over(text: &str) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return print(&format!("{text}\n"));
    }
    print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::Unwritable(path.display().to_string(), error))
}

/// Writes to standard output. A reader who has seen enough is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Unwritable("standard output".to_owned(), error))
        }
        Err(_) => std::process::exit(0),
        Ok(()) => Ok(()),
    }
}
