//! One check: a model, explored in a process of its own, so that a failure ends that process and no other.

use clap::{Args, ValueEnum};
use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use terrace::models::Model;
use terrace::sync::model::{self, Behaviour, Loads, Ordering, Site, Weakened};

/// What is checked, and how.
#[derive(Args, Clone, Debug, Default)]
pub struct Check {
    /// The model's name.
    pub name: String,
    /// How loads are made.
    #[arg(long, value_enum, default_value = "plain")]
    pub mode: Mode,
    /// Preemptions that a schedule may have.
    #[arg(long)]
    pub bound: Option<usize>,
    /// `FILE:LINE:ARGUMENT:ORDERING`.
    #[arg(long)]
    pub weaken: Option<String>,
    /// A seeded bug.
    #[arg(long, default_value = "")]
    pub bug: String,
    /// Whether locks are wholes; see `src/sync/whole_locks.rs`.
    #[arg(long)]
    pub whole_locks: bool,
    /// Whether the model's threads begin and end one at a time.
    #[arg(long)]
    pub in_phases: bool,
    /// Exploring ends after so many seconds; what is left is then unexplored.
    #[arg(long, default_value = "3600")]
    pub seconds: u64,
    /// How often the pools of loom's objects are doubled.
    #[arg(long, default_value = "0")]
    pub pools: u32,
}

/// How loads are made; see `Loads` in `src/sync/model.rs`.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Plain,
    Exchanges,
    Led,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Plain, Self::Exchanges, Self::Led];

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Exchanges => "exchanges",
            Self::Led => "led",
        }
    }

    /// The bound that counts in this mode in CI: led accesses have more places for a switch.
    pub fn bound(self, model: &Model) -> Option<usize> {
        let led = || Some(model.bound.map_or(3, |bound| bound.saturating_sub(1).max(1)));
        if self == Self::Led { led() } else { model.bound }
    }

    fn loads(self) -> Loads {
        match self {
            Self::Plain => Loads::Plain,
            Self::Exchanges => Loads::Exchanges,
            Self::Led => Loads::Led,
        }
    }
}

/// What became of a check.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub passed: bool,
    /// Every schedule within the bound was explored.
    pub complete: bool,
    pub executions: usize,
    pub seconds: f64,
    /// `FILE:LINE:ARGUMENT:ORDERING` of each operation that was reached.
    pub sites: Vec<String>,
    /// The last lines that a failed check wrote.
    pub words: String,
}

impl Outcome {
    /// The model failed, and not for want of room: by an assertion, a race, a deadlock, or a schedule that does not end.
    pub fn noticed(&self) -> bool {
        !self.passed && !self.words.contains("is too small for this model")
    }
}

pub fn model_named(name: &str) -> Model {
    terrace::models::all().into_iter().find(|model| model.name == name).unwrap_or_else(|| panic!("no model {name}"))
}

/// What stands in for something while a model runs.
const STAND_INS: [&str; 5] = [
    "src/sync/model.rs",
    "src/sync/model/atomics.rs",
    "src/sync/orders.rs",
    "src/sync/whole_locks.rs",
    "src/os/kernel.rs",
];

/// The path of a source as it is known from the repository's root; `None` for what is no part of what ships.
pub fn shipped(file: &str) -> Option<&str> {
    let inside = &file[file.rfind("src/").filter(|_| !file.contains("loom-tests/"))?..];
    (!STAND_INS.contains(&inside)).then_some(inside)
}

fn parse(weaken: &str) -> Weakened {
    let parts: Vec<&str> = weaken.split(':').collect();
    let ordering = match parts[3] {
        "Relaxed" => Ordering::Relaxed,
        "Acquire" => Ordering::Acquire,
        "Release" => Ordering::Release,
        _ => Ordering::AcqRel,
    };
    Weakened { file: parts[0].into(), line: parts[1].parse().unwrap(), argument: parts[2].parse().unwrap(), ordering }
}

pub fn in_this_process(check: Check) -> ExitCode {
    let model = model_named(&check.name);
    model::set_behaviour(Behaviour {
        loads: check.mode.loads(),
        whole_locks: check.whole_locks,
        in_phases: check.in_phases,
        weakened: check.weaken.as_deref().map(parse),
        bug: check.bug,
    });
    model::enlarge_pools(check.pools);
    let complete = explore(
        model.body,
        check.mode != Mode::Plain || check.whole_locks,
        check.bound,
        Duration::from_secs(check.seconds),
    );
    println!("executions {} {complete}", model::executions());
    for ((file, line, argument, ordering), _) in model::sites() as Vec<(Site, u64)> {
        if let Some(file) = shipped(file) {
            println!("site {file}:{line}:{argument}:{ordering}");
        }
    }
    ExitCode::SUCCESS
}

#[cfg(shuttle)]
fn explore(_: fn(), _: bool, _: Option<usize>, _: Duration) -> bool {
    panic!("built for random schedules: only `crowds` runs");
}

/// Whether every schedule was explored within the time. The first rounds, of one preemption, show which words are contested.
#[cfg(not(shuttle))]
fn explore(body: fn(), in_rounds: bool, bound: Option<usize>, limit: Duration) -> bool {
    let begun = Instant::now();
    let round = |bound, most| {
        let limit = limit.saturating_sub(begun.elapsed()).min(most);
        let begun = Instant::now();
        let mut builder = loom::model::Builder::new();
        builder.max_branches = 50_000;
        builder.preemption_bound = bound;
        builder.max_duration = Some(limit);
        // How often the limit is looked at, in executions.
        builder.checkpoint_interval = 64;
        builder.check(move || terrace::models::execute(body));
        begun.elapsed() < limit
    };
    if in_rounds {
        // Short ones until they find nothing more, so that the long one is seldom made again.
        for _ in 0..6 {
            round(Some(1), Duration::from_secs(1));
            if !model::next_round() {
                break;
            }
        }
    }
    let mut complete = round(bound, limit);
    while model::next_round() && in_rounds {
        complete = round(bound, limit);
    }
    complete
}

/// Makes the check in another process, with a program of its own (this one, unless said otherwise); again with larger pools if
/// they were used up.
pub fn elsewhere(check: &Check, program: Option<&Path>) -> Outcome {
    let mut check = check.clone();
    loop {
        let outcome = once_elsewhere(&check, program);
        if outcome.passed || check.pools == 6 || !outcome.words.contains("is too small for this model") {
            return outcome;
        }
        check.pools += 1;
    }
}

fn once_elsewhere(check: &Check, program: Option<&Path>) -> Outcome {
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new(program.unwrap_or(&own));
    command.args(["one", &check.name, "--seconds", &check.seconds.to_string(), "--pools", &check.pools.to_string()]);
    command.env("TERRACE_ARENAS", "2").env("TERRACE_PURGE_DELAY_MS", "0").env("RUST_BACKTRACE", "0");
    command.args(["--mode", check.mode.name()]);
    if let Some(bound) = check.bound {
        command.args(["--bound", &bound.to_string()]);
    }
    if check.whole_locks {
        command.arg("--whole-locks");
    }
    if check.in_phases {
        command.arg("--in-phases");
    }
    if let Some(weaken) = &check.weaken {
        command.args(["--weaken", weaken]);
    }
    if !check.bug.is_empty() {
        command.args(["--bug", &check.bug]);
    }
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut outcome = Outcome {
        passed: output.status.success(),
        complete: false,
        executions: 0,
        seconds,
        sites: Vec::new(),
        words: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["executions", count, complete] => {
                outcome.executions = count.parse().unwrap();
                outcome.complete = complete == "true";
            }
            ["site", site] => outcome.sites.push(site.into()),
            _ => {}
        }
    }
    outcome
}

/// Does the work of each item, as many at a time as there are processors; results in the order of the items.
pub fn side_by_side<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let count = items.len();
    let queue = Mutex::new(items.into_iter().enumerate().collect::<VecDeque<_>>());
    let results = Mutex::new((0..count).map(|_| None).collect::<Vec<Option<R>>>());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some((number, item)) = next else { return };
                    let result = work(item);
                    results.lock().unwrap()[number] = Some(result);
                }
            });
        }
    });
    results.into_inner().unwrap().into_iter().map(Option::unwrap).collect()
}
