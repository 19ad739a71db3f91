//! Runs one process for a sample: with a time limit, and with its resident memory watched if wanted.

use serde_json::{Map, Value};
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a process may take before it counts as failed.
pub const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Between two looks at the resident memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Resident memory over time: seconds since the start, and MiB.
pub type MemoryCurve = Vec<(f64, f64)>;

/// What a process wrote, and how it ended.
pub struct Ended {
    /// Its standard output.
    pub output: String,
    /// Its resident memory, if it was watched.
    pub memory: MemoryCurve,
}

/// Which processes a watcher adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// None.
    Nothing,
    /// The process itself.
    Itself,
    /// Its descendants without itself: it is a launcher.
    Descendants,
}

/// A watcher of resident memory, until it is told to stop.
pub struct Watcher {
    stop: std::sync::mpsc::Sender<()>,
    thread: JoinHandle<MemoryCurve>,
}

impl Watcher {
    /// Begins to watch.
    pub fn start(pid: u32, watch: Watch) -> Self {
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let (begin, mut curve) = (Instant::now(), MemoryCurve::new());
            loop {
                let mib = match watch {
                    Watch::Nothing => return curve,
                    Watch::Itself => resident_mib(pid),
                    Watch::Descendants => descendants(pid).into_iter().map(resident_mib).sum(),
                };
                if mib > 0.0 {
                    let seconds = begin.elapsed().as_secs_f64();
                    curve.push(((seconds * 1000.0).round() / 1000.0, (mib * 100.0).round() / 100.0));
                }
                if stopped.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            curve
        });
        Self { stop, thread }
    }

    /// Stops, and returns the curve.
    pub fn stop(self) -> MemoryCurve {
        // A watcher that watches nothing has ended already.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

/// Resident memory of a process in MiB; zero when it is gone.
pub fn resident_mib(pid: u32) -> f64 {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<f64>().ok()).unwrap_or(0.0);
    // SAFETY: the call takes a number alone.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * page as f64 / f64::from(1 << 20)
}

/// All processes that descend from one.
pub fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    let below: Vec<u32> = children.iter().flat_map(|child| descendants(*child)).collect();
    children.into_iter().chain(below).collect()
}

/// A child that is killed, with all that it started, when it takes too long or is dropped.
pub struct Guarded {
    /// The child.
    pub child: Child,
    limit: Option<(std::sync::mpsc::Sender<()>, JoinHandle<bool>)>,
}

impl Guarded {
    /// Starts a command in a process group of its own, under the time limit.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let child =
            command.process_group(0).spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        let group = child.id() as i32;
        let (done, ended) = channel::<()>();
        let limit = thread::spawn(move || {
            let late = ended.recv_timeout(TIME_LIMIT) == Err(RecvTimeoutError::Timeout);
            if late {
                kill(group);
            }
            late
        });
        Ok(Self { child, limit: Some((done, limit)) })
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// A sentence, if it failed or took too long.
    pub fn finish(mut self, words: &str) -> Result<(), String> {
        let status = self.child.wait().map_err(|error| error.to_string())?;
        let late = self.limit.take().is_some_and(|(done, limit)| {
            drop(done);
            limit.join().unwrap_or(false)
        });
        match (late, status.success()) {
            (true, _) => Err(format!("no result after {} seconds", TIME_LIMIT.as_secs())),
            (false, true) => Ok(()),
            (false, false) => {
                let last = words.trim().lines().last().unwrap_or("no message");
                Err(format!("{status}: {last}"))
            }
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.limit.is_some() && matches!(self.child.try_wait(), Ok(None)) {
            kill(self.child.id() as i32);
            let _ = self.child.wait();
        }
    }
}

/// Kills a process group that this program started.
fn kill(group: i32) {
    // SAFETY: the call takes numbers alone.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}

/// The environment of a sample: nothing is preloaded but what is asked for.
pub fn clean(command: &mut Command) -> &mut Command {
    command.env_remove("LD_PRELOAD").env_remove("GLIBC_TUNABLES").env_remove("MALLOC_ARENA_MAX")
}

/// Runs a command to its end and returns what it wrote.
///
/// # Errors
/// A sentence with its last words.
pub fn run(command: &mut Command, watch: Watch) -> Result<Ended, String> {
    let mut guarded = Guarded::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let watcher = Watcher::start(guarded.child.id(), watch);
    let words = guarded.child.stderr.take().map(|mut stream| {
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stream.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    });
    let mut output = Vec::new();
    if let Some(mut stream) = guarded.child.stdout.take() {
        stream.read_to_end(&mut output).map_err(|error| error.to_string())?;
    }
    let words = words.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let ended = guarded.finish(&words);
    let memory = watcher.stop();
    ended?;
    Ok(Ended { output: String::from_utf8_lossy(&output).into_owned(), memory })
}

/// The lines of JSON in a program's output, as one object.
///
/// # Errors
/// A sentence, if there is none.
pub fn parse(output: &str) -> Result<Map<String, Value>, String> {
    let mut report = Map::new();
    for line in output.lines().filter(|line| line.starts_with('{')) {
        let object: Map<String, Value> = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        report.extend(object);
    }
    if report.is_empty() { Err("the program reported nothing".into()) } else { Ok(report) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_that_fails_is_reported_with_its_last_words() {
        let failure = run(&mut shell("echo early >&2; echo the end >&2; exit 3"), Watch::Nothing).err();
        let failure = failure.expect("a failure");
        assert!(failure.contains("3") && failure.ends_with("the end"), "{failure}");
    }

    #[test]
    fn memory_is_watched_while_the_command_runs() {
        let ended = run(&mut shell("sleep 1; echo '{\"a\": 1}'; echo '{\"b\": 2}'"), Watch::Itself).expect("success");
        assert!(ended.memory.len() >= 2 && ended.memory.iter().any(|(_, mib)| *mib > 0.5), "{:?}", ended.memory);
        assert_eq!(parse(&ended.output).expect("two objects").len(), 2);
    }

    #[test]
    fn descendants_are_found() {
        let mut guarded = Guarded::start(&mut shell("sleep 5 & wait")).expect("a shell");
        let pid = guarded.child.id();
        let patience = Instant::now();
        while descendants(pid).is_empty() && patience.elapsed() < Duration::from_secs(3) {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(descendants(pid).len(), 1);
        assert!(guarded.child.try_wait().expect("a child").is_none());
    }

    #[test]
    fn output_without_a_report_is_an_error() {
        assert!(parse("words\n").is_err());
    }
}
