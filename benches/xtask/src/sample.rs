//! Takes one sample: one process, or a server and its load, on one allocator.

use crate::process::{self, Guarded, Watch, Watcher};
use crate::real::{FRESH, REAL, Real};
use crate::results::{Cell, Face, Sample, Suite, numbers};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use terrace_bench::programs::PROGRAMS;

/// How often a sample of one thread is taken that other programs keep disturbing.
const TRIES: usize = 3;

/// How long a program stays after its load has gone; shorter where the work is hardly any.
fn rest_at(scale: f64) -> Duration {
    Duration::from_millis(if scale < 0.1 { 300 } else { 2500 })
}

/// All that samples are taken with.
pub struct Kit {
    /// The folder of the tools, which are the programs of the C face as well.
    pub tools: PathBuf,
    /// The same programs with every call timed.
    pub timed: Option<PathBuf>,
    /// Objects to preload, by allocator.
    pub preloads: BTreeMap<String, Option<PathBuf>>,
    /// The program of the rows on the Rust face, by allocator.
    pub rows: BTreeMap<String, PathBuf>,
    /// The folder of the whole programs on the Rust face, by allocator.
    pub programs: BTreeMap<String, PathBuf>,
    /// The real programs.
    pub real: Real,
    /// Factor on the amount of work.
    pub scale: f64,
}

impl Kit {
    /// Takes the sample. What goes wrong stands in it.
    pub fn take(&self, cell: &Cell, run: u32) -> Sample {
        let mut sample = Sample {
            cell: cell.clone(),
            run,
            figures: BTreeMap::new(),
            checksum: None,
            latency: BTreeMap::new(),
            memory: Vec::new(),
            failed: None,
        };
        if let Err(reason) = self.fill(cell, &mut sample) {
            sample.figures.clear();
            sample.failed = Some(reason);
        }
        sample
    }

    fn fill(&self, cell: &Cell, sample: &mut Sample) -> Result<(), String> {
        let report = match cell.suite {
            Suite::Programs | Suite::Memory if self.is_real(&cell.item) => return self.fill_real(cell, sample),
            Suite::Fresh => return self.fill_real(cell, sample),
            Suite::Programs | Suite::Memory => self.program(cell, sample)?,
            Suite::Latency if cell.item == "http" || self.is_program(&cell.item) => self.program(cell, sample)?,
            Suite::Rows | Suite::Latency => self.quiet_row(cell)?,
            Suite::Instructions => return Err("instructions are counted, not sampled".into()),
        };
        self.check_provider(cell, &report)?;
        sample.checksum = report.get("checksum").and_then(Value::as_str).map(str::to_owned);
        sample.figures.extend(numbers(&report));
        if let Some(latency) = report.get("latency").and_then(Value::as_object) {
            read_latency(latency, sample)?;
        }
        Ok(())
    }

    fn is_real(&self, item: &str) -> bool {
        REAL.iter().any(|(name, _)| *name == item) || FRESH.contains(&item)
    }

    /// Rows are those that the programs do not know.
    fn is_program(&self, item: &str) -> bool {
        PROGRAMS.iter().any(|program| program.name == item)
    }

    fn preload(&self, cell: &Cell) -> Result<Option<&Path>, String> {
        if cell.face == Face::Rust {
            return Ok(None);
        }
        let object = self.preloads.get(&cell.allocator).ok_or(format!("{} is not to be had", cell.allocator))?;
        Ok(object.as_deref())
    }

    fn command(&self, cell: &Cell, program: &Path) -> Result<Command, String> {
        let mut command = Command::new(program);
        process::clean(&mut command);
        if let Some(object) = self.preload(cell)? {
            command.env("LD_PRELOAD", object);
        }
        Ok(command)
    }

    /// A sample whose library was not in effect is none.
    fn check_provider(&self, cell: &Cell, report: &Map<String, Value>) -> Result<(), String> {
        let Some(wanted) = self.preload(cell)? else { return Ok(()) };
        let provider = report.get("provider").and_then(Value::as_str).unwrap_or("nobody");
        let same = |path: &Path| std::fs::canonicalize(path).ok();
        if same(wanted) == same(Path::new(provider)) {
            return Ok(());
        }
        Err(format!("malloc came from {provider} instead of the preloaded library"))
    }

    fn fill_real(&self, cell: &Cell, sample: &mut Sample) -> Result<(), String> {
        let rest = (cell.suite == Suite::Memory).then(|| rest_at(self.scale));
        let outcome = self.real.run(&cell.item, self.preload(cell)?, rest)?;
        sample.figures.extend(numbers(&outcome.report));
        sample.checksum = outcome.checksum;
        if cell.suite == Suite::Memory {
            sample.memory = outcome.memory;
        }
        Ok(())
    }

    /// The folder of the whole programs for a cell.
    fn programs_of(&self, cell: &Cell) -> Result<&Path, String> {
        let folder = match (cell.face, cell.suite) {
            (Face::C, Suite::Latency) => self.timed.as_ref(),
            (Face::C, _) => Some(&self.tools),
            (Face::Rust, _) => self.programs.get(&cell.allocator),
        };
        folder.map(PathBuf::as_path).ok_or(format!("{} is not to be had", cell.allocator))
    }

    fn program(&self, cell: &Cell, sample: &mut Sample) -> Result<Map<String, Value>, String> {
        let folder = self.programs_of(cell)?;
        if cell.item == "http" {
            return self.http(cell, folder, sample);
        }
        let mut command = self.command(cell, &folder.join("program"))?;
        command.args(["run", &cell.item, "--threads", &cell.threads.to_string(), "--scale", &self.scale.to_string()]);
        let mut watch = Watch::Nothing;
        if cell.suite == Suite::Memory {
            command.arg("--rest").arg(rest_at(self.scale).as_millis().to_string());
            watch = Watch::Itself;
        }
        let ended = process::run(&mut command, watch)?;
        sample.memory = ended.memory;
        process::parse(&ended.output)
    }

    fn http(&self, cell: &Cell, folder: &Path, sample: &mut Sample) -> Result<Map<String, Value>, String> {
        let mut command = self.command(cell, &folder.join("http_serve"))?;
        command.args(["--threads", &cell.threads.to_string()]);
        let mut watch = Watch::Nothing;
        if cell.suite == Suite::Memory {
            command.arg("--rest").arg(rest_at(self.scale).as_millis().to_string());
            watch = Watch::Itself;
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Guarded::start(&mut command)?;
        let (input, output) = (server.child.stdin.take(), server.child.stdout.take());
        let mut output = BufReader::new(output.ok_or("the server has no output")?);
        let mut line = String::new();
        output.read_line(&mut line).map_err(|error| error.to_string())?;
        let address = line.trim().strip_prefix("listening on ").ok_or(format!("the server said {line:?}"))?.to_owned();
        let watcher = Watcher::start(server.child.id(), watch);
        let requests = ((12_000.0 * self.scale) as u64).max(64);
        let mut load = Command::new(self.tools.join("http_load"));
        process::clean(&mut load).args([&address, "--connections", "32", "--requests", &requests.to_string()]);
        let load = process::parse(&process::run(&mut load, Watch::Nothing)?.output)?;
        drop(input);
        let mut rest = String::new();
        output.read_to_string(&mut rest).map_err(|error| error.to_string())?;
        server.finish("the server")?;
        sample.memory = watcher.stop();
        let mut report = process::parse(&rest)?;
        for name in ["wall_ns", "operations"] {
            report.insert(name.into(), load.get(name).cloned().ok_or("the load reported no time")?);
        }
        // The times of the requests join those of the calls.
        if let (Some(Value::Object(calls)), Some(Value::Object(requests))) =
            (report.get_mut("latency"), load.get("latency"))
        {
            calls.extend(requests.get("request").map(|pairs| ("request".to_owned(), pairs.clone())));
        }
        Ok(report)
    }

    fn row(&self, cell: &Cell) -> Result<Map<String, Value>, String> {
        let program = match cell.face {
            Face::C => self.tools.join("c_face"),
            Face::Rust => self.rows.get(&cell.allocator).ok_or(format!("{} is not to be had", cell.allocator))?.clone(),
        };
        let verb = if cell.suite == Suite::Latency { "latency" } else { "run" };
        let mut command = self.command(cell, &program)?;
        command.args([verb, &cell.allocator, &cell.item, "--scale", &self.scale.to_string()]);
        process::parse(&process::run(&mut command, Watch::Nothing)?.output)
    }

    /// Of a row with one thread, the first report that nobody disturbed, or the least disturbed one.
    fn quiet_row(&self, cell: &Cell) -> Result<Map<String, Value>, String> {
        let mut best = self.row(cell)?;
        let mut tries = 1;
        while cell.threads == 1 && cell.suite == Suite::Rows && quiet(&best) < QUIET && tries < TRIES {
            let again = self.row(cell)?;
            if quiet(&again) > quiet(&best) {
                best = again;
            }
            tries += 1;
        }
        Ok(best)
    }
}

/// The share of the time for which a thread had the processor that a quiet sample has at least.
pub const QUIET: f64 = 0.95;

/// The share of the time for which the process had the processor.
fn quiet(report: &Map<String, Value>) -> f64 {
    let figure = |name: &str| report.get(name).and_then(Value::as_f64).unwrap_or(1.0);
    figure("cpu_ns") / figure("wall_ns")
}

/// Takes the pairs of each operation over; the clock's cost becomes a figure.
fn read_latency(latency: &Map<String, Value>, sample: &mut Sample) -> Result<(), String> {
    for (name, value) in latency {
        if let Some(number) = value.as_f64() {
            sample.figures.insert(name.clone(), number);
        } else {
            let pairs = serde_json::from_value(value.clone()).map_err(|error| format!("times of {name}: {error}"))?;
            sample.latency.insert(name.clone(), pairs);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sample_that_lost_the_processor_is_not_quiet() {
        let report = json!({ "cpu_ns": 90, "wall_ns": 100 });
        assert!(quiet(report.as_object().expect("an object")) < QUIET);
    }
}
