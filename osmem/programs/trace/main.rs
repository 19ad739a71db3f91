//! `osmem-trace PROGRAM`: the list of blocks after every call of a program that uses libosmem, as coloured boxes.
//!
//! The program runs with `libosmem_watch.so` (the folder `watch`) before libosmem; `record` reads what that tells, `picture`
//! puts it into words and boxes, `terminal` and `strip` draw them.

mod picture;
mod record;
mod recording;
mod strip;
#[path = "../svg.rs"]
mod svg;
mod terminal;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, PipeReader, Write, pipe, stdout};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

use picture::Story;
use record::Record;

const USAGE: &str = "\
Usage: osmem-trace [options] PROGRAM [ARGUMENTS]

Runs a program that uses libosmem, and shows the heap's blocks after each of its calls:
  [p1 104]   in use; p1 is the pointer that the call on the left gave
  (130920)   free
  {p2 200000}   a mapping of its own

Options:
  --svg FILE      also draws the same as a picture
  --record FILE   also writes the calls down, for osmem-strategies
  --watcher FILE  libosmem_watch.so, if it is not beside this program
  --color, --plain   with colours, or without; else as the terminal has it
  --help          this text
";

/// What the command line asks for.
#[derive(Default)]
struct Options {
    svg: Option<PathBuf>,
    record: Option<PathBuf>,
    watcher: Option<PathBuf>,
    color: Option<bool>,
    program: Vec<String>,
}

fn main() -> ExitCode {
    match parse(env::args().skip(1)).and_then(|options| trace(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("osmem-trace: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let mut file = || arguments.next().map(PathBuf::from).ok_or(format!("{argument} needs a file's name"));
        match argument.as_str() {
            "--svg" => options.svg = Some(file()?),
            "--record" => options.record = Some(file()?),
            "--watcher" => options.watcher = Some(file()?),
            "--color" => options.color = Some(true),
            "--plain" => options.color = Some(false),
            "--help" => {
                print!("{USAGE}");
                std::process::exit(0);
            }
            _ if argument.starts_with('-') => return Err(format!("{argument} is no option; --help names them")),
            _ => {
                options.program = [argument].into_iter().chain(arguments).collect();
                break;
            }
        }
    }
    if options.program.is_empty() {
        return Err("it needs a program to run; --help says more".to_string());
    }
    Ok(options)
}

fn trace(options: &Options) -> Result<(), String> {
    let (reader, mut child) = start(options)?;
    let color = options.color.unwrap_or_else(|| stdout().is_terminal() && env::var_os("NO_COLOR").is_none());

    let mut story = Story::default();
    let mut output = stdout().lock();
    for line in BufReader::new(reader).lines() {
        let line = line.map_err(|error| format!("the program's record cannot be read: {error}"))?;
        let record = Record::parse(&line).ok_or(format!("the record is damaged: {line}"))?;
        let scene = story.add(&record);
        let _ = writeln!(output, "{}", terminal::line(scene, color));
    }
    let status = child.wait().map_err(|error| format!("the program cannot be waited for: {error}"))?;

    if story.scenes.is_empty() {
        return Err(format!("{} made no call of libosmem; is it linked with -losmem?", options.program[0]));
    }
    let _ = writeln!(output, "{}", story.summary());
    save(options.svg.as_ref(), || strip::draw(&story))?;
    save(options.record.as_ref(), || recording::write(&story))?;
    if status.success() { Ok(()) } else { Err(format!("the program ended with {status}")) }
}

fn save(file: Option<&PathBuf>, content: impl FnOnce() -> String) -> Result<(), String> {
    match file {
        Some(file) => {
            fs::write(file, content()).map_err(|error| format!("{} cannot be written: {error}", file.display()))
        }
        None => Ok(()),
    }
}

/// Starts the program with the watcher before its libraries, and gives the end of the pipe that it tells into.
fn start(options: &Options) -> Result<(PipeReader, Child), String> {
    let watcher = match &options.watcher {
        Some(file) => file.clone(),
        None => env::current_exe().unwrap_or_default().with_file_name("libosmem_watch.so"),
    };
    if !watcher.exists() {
        return Err(format!("there is no {}; `cargo build --release --workspace` makes it", watcher.display()));
    }
    let (reader, writer) = pipe().map_err(|error| format!("no pipe to be had: {error}"))?;
    // SAFETY: the descriptor is open; without the flag, the program inherits it.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFD, 0) };
    let name = &options.program[0];
    let mut command = Command::new(name);
    command.args(&options.program[1..]).env("LD_PRELOAD", watcher);
    command.env("OSMEM_WATCH", writer.as_raw_fd().to_string());
    let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
    // `writer` is closed here: the pipe ends with the program.
    Ok((reader, child))
}
