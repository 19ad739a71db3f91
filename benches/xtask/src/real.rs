//! Real programs, as they are installed, each with work that is made here: `gcc`, `python3`, `sqlite3`, `redis-server`, and the
//! smallest programs. The scripts of `tests/programs` serve here as well.

use crate::process::{self, Ended, Guarded, MemoryCurve, Watch, Watcher};
use crate::workshop::Workshop;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The programs whose time is measured, with what they do.
pub const REAL: [(&str, &str); 4] = [
    ("gcc", "a C file of many functions, compiled with -O2"),
    ("python3", "json, re, pickle, big integers, threads, processes, every object by malloc"),
    ("sqlite3", "inserts, indices, joins, JSON, full text, sorting in threads"),
    ("redis", "redis-server with two I/O threads under redis-benchmark"),
];

/// The smallest programs.
pub const FRESH: [&str; 2] = ["true", "hello"];

/// What a real program's run gave.
pub struct Outcome {
    /// The launcher's report; `wall_ns` is that of the load where there was one.
    pub report: serde_json::Map<String, serde_json::Value>,
    /// A digest of what the program wrote.
    pub checksum: Option<String>,
    /// Resident memory over time.
    pub memory: MemoryCurve,
}

/// The commands, found or installed once, and the inputs.
pub struct Real {
    launcher: PathBuf,
    folder: PathBuf,
    scale: f64,
    gcc: Option<PathBuf>,
    python: Option<PathBuf>,
    sqlite: Option<PathBuf>,
    redis: Option<(PathBuf, PathBuf)>,
    hello: Option<PathBuf>,
    inputs: PathBuf,
}

/// A program to launch.
struct Errand<'a> {
    program: &'a Path,
    arguments: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
    input: Option<PathBuf>,
}

impl<'a> Errand<'a> {
    fn new(program: &'a (impl AsRef<Path> + ?Sized), arguments: &'a [&'a str]) -> Self {
        Self { program: program.as_ref(), arguments, environment: &[], input: None }
    }
}

impl Real {
    /// Finds or installs what `wanted` names and writes the inputs.
    ///
    /// # Errors
    /// A sentence, if an input cannot be written.
    pub fn prepare(shop: &mut Workshop, launcher: PathBuf, scale: f64, wanted: &[String]) -> Result<Self, String> {
        let folder = shop.store.join("real");
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let wants = |name: &str| wanted.iter().any(|item| item == name);
        let compiler = if wants("gcc") || wants("hello") { shop.attempt(|shop| shop.tool("gcc", "gcc")) } else { None };
        let python = if wants("python3") { shop.attempt(|shop| shop.tool("python3", "python3")) } else { None };
        let sqlite = if wants("sqlite3") { shop.attempt(|shop| shop.tool("sqlite3", "sqlite3")) } else { None };
        let redis = if wants("redis") {
            shop.attempt(|shop| {
                Ok((shop.tool("redis-server", "redis-server")?, shop.tool("redis-benchmark", "redis-tools")?))
            })
        } else {
            None
        };
        let hello = compiler.as_ref().filter(|_| wants("hello")).and_then(|compiler| {
            let program = folder.join("hello");
            let source = shop.root.join("benches/programs/hello.c");
            let mut command = Command::new(compiler);
            command.arg("-O2").arg(source).arg("-o").arg(&program);
            shop.attempt(|_| crate::workshop::run_checked(&mut command, "the hello program")).map(|_| program)
        });
        let versions = [("gcc", &compiler), ("python3", &python), ("sqlite3", &sqlite)];
        for (name, command) in versions {
            if let Some(command) = command.as_ref().filter(|_| wants(name)) {
                let words = crate::workshop::run_checked(Command::new(command).arg("--version"), name);
                let first = words.ok().and_then(|words| words.lines().next().map(str::to_owned)).unwrap_or_default();
                shop.versions.insert(name.into(), first.chars().take(40).collect());
            }
        }
        let inputs = shop.root.join("tests/programs/smoke/inputs");
        let functions = (400.0 * scale).ceil() as usize;
        write(&folder.join("functions.c"), &c_source(functions))?;
        let script = fs::read_to_string(inputs.join("work.sql")).map_err(|error| format!("work.sql: {error}"))?;
        let rows = ((60_000.0 * scale) as usize).max(100);
        write(&folder.join("work.sql"), &script.replace(":rows:", &rows.to_string()))?;
        Ok(Self { launcher, folder, scale, gcc: compiler, python, sqlite, redis, hello, inputs })
    }

    /// Runs one of the programs with a library preloaded. With `rest`, a server stays that long after its load.
    ///
    /// # Errors
    /// A sentence.
    pub fn run(&self, name: &str, preload: Option<&Path>, rest: Option<Duration>) -> Result<Outcome, String> {
        let missing = || format!("{name} is not to be had");
        let scratch = tempfile::tempdir_in(&self.folder).map_err(|error| error.to_string())?;
        let place = scratch.path();
        match name {
            "true" => self.launch(&Errand::new("true", &[]), preload, place),
            "hello" => self.launch(&Errand::new(self.hello.as_ref().ok_or_else(missing)?, &[]), preload, place),
            "gcc" => {
                let source = self.folder.join("functions.c");
                let arguments = ["-O2", "-c", &source.to_string_lossy(), "-o", "functions.o"];
                let errand = Errand::new(self.gcc.as_ref().ok_or_else(missing)?, &arguments);
                let mut outcome = self.launch(&errand, preload, place)?;
                let made = fs::read(place.join("functions.o")).map_err(|error| format!("gcc's output: {error}"))?;
                outcome.checksum = Some(digest(&made));
                Ok(outcome)
            }
            "python3" => {
                let script = self.inputs.join("work.py");
                let rounds = self.scale.ceil().max(1.0).to_string();
                let arguments = ["-B", &script.to_string_lossy(), &rounds];
                let mut errand = Errand::new(self.python.as_ref().ok_or_else(missing)?, &arguments);
                errand.environment = &[("PYTHONMALLOC", "malloc"), ("PYTHONHASHSEED", "11")];
                self.launch(&errand, preload, place)
            }
            "sqlite3" => {
                let arguments = ["-batch", "-bail", "work.db"];
                let mut errand = Errand::new(self.sqlite.as_ref().ok_or_else(missing)?, &arguments);
                errand.input = Some(self.folder.join("work.sql"));
                self.launch(&errand, preload, place)
            }
            "redis" => {
                let (server, load) = self.redis.as_ref().ok_or_else(missing)?;
                self.redis(server, load, preload, rest, place)
            }
            other => Err(format!("there is no real program {other}")),
        }
    }

    /// The command that launches a program in the folder `place`.
    fn launcher(&self, errand: &Errand, preload: Option<&Path>, place: &Path) -> Result<Command, String> {
        let mut command = Command::new(&self.launcher);
        process::clean(&mut command).current_dir(place).arg("report").arg(errand.program).args(errand.arguments);
        command.envs(errand.environment.iter().copied());
        if let Some(library) = preload {
            command.env("LAUNCH_PRELOAD", library);
        }
        match &errand.input {
            Some(path) => command.stdin(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?),
            None => command.stdin(Stdio::null()),
        };
        Ok(command)
    }

    fn launch(&self, errand: &Errand, preload: Option<&Path>, place: &Path) -> Result<Outcome, String> {
        let mut command = self.launcher(errand, preload, place)?;
        let Ended { output, memory } = process::run(&mut command, Watch::Descendants)?;
        let checksum = (!output.is_empty()).then(|| digest(&output));
        Ok(Outcome { report: report(place)?, checksum, memory })
    }

    fn redis(
        &self,
        server: &Path,
        load: &Path,
        preload: Option<&Path>,
        rest: Option<Duration>,
        place: &Path,
    ) -> Result<Outcome, String> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.map_err(|error| error.to_string())?.port().to_string();
        let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--io-threads", "2"];
        let mut command = self.launcher(&Errand::new(server, &arguments), preload, place)?;
        let running = Guarded::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let patience = Instant::now();
        while ask(&port, "PING").is_err() {
            if patience.elapsed() > Duration::from_secs(20) {
                return Err("redis-server does not answer".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        let watcher = Watcher::start(running.child.id(), Watch::Descendants);
        let begin = Instant::now();
        for (size, pipeline, requests) in [("40", "16", 120_000.0), ("3000", "4", 20_000.0)] {
            let requests = ((requests * self.scale) as u64).max(500).to_string();
            let mut command = Command::new(load);
            process::clean(&mut command).args(["-h", "127.0.0.1", "-p", &port, "-q", "-c", "40", "-r", "20000"]);
            command.args(["-P", pipeline, "-n", &requests, "-d", size]);
            process::run(command.args(["-t", "set,get,lpush,lpop,hset,sadd,zadd"]), Watch::Nothing)?;
        }
        let wall_ns = begin.elapsed().as_nanos() as f64;
        let served: Vec<u32> = process::descendants(running.child.id());
        let resident = |pids: &[u32]| pids.iter().map(|pid| process::resident_mib(*pid)).sum::<f64>() * 1024.0;
        let loaded_kib = resident(&served);
        let mut rested_kib = None;
        if let Some(rest) = rest {
            ask(&port, "FLUSHALL")?;
            thread::sleep(rest);
            rested_kib = Some(resident(&served));
        }
        let memory = watcher.stop();
        // The server closes the connection without an answer.
        let _ = ask(&port, "SHUTDOWN NOSAVE");
        running.finish("redis-server")?;
        let mut report = report(place)?;
        report.insert("wall_ns".into(), wall_ns.into());
        report.insert("resident_kib".into(), loaded_kib.into());
        report.extend(rested_kib.map(|kib| ("rested_kib".to_owned(), kib.into())));
        Ok(Outcome { report, checksum: None, memory })
    }
}

/// Sends one command to redis and returns the first line of its answer.
fn ask(port: &str, command: &str) -> Result<String, String> {
    let told = |error: std::io::Error| format!("redis-server: {error}");
    let mut connection = TcpStream::connect(format!("127.0.0.1:{port}")).map_err(told)?;
    connection.set_read_timeout(Some(Duration::from_secs(60))).map_err(told)?;
    connection.write_all(format!("{command}\r\n").as_bytes()).map_err(told)?;
    let mut answer = [0; 64];
    let length = connection.read(&mut answer).map_err(told)?;
    let answer = String::from_utf8_lossy(&answer[..length]).trim().to_owned();
    if answer.starts_with('+') { Ok(answer) } else { Err(format!("redis-server answered {answer:?}")) }
}

/// The launcher's report in a folder.
fn report(place: &Path) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    let text = fs::read_to_string(place.join("report")).map_err(|error| format!("the launcher's report: {error}"))?;
    process::parse(&text)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A digest of something.
pub fn digest(item: &(impl Hash + ?Sized)) -> String {
    let mut hasher = DefaultHasher::new();
    item.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A C file of many functions with loops, switches and structures, no two alike.
fn c_source(functions: usize) -> String {
    let mut text = String::from("#include <stdint.h>\n");
    for number in 0..functions {
        let (cases, length) = (5 + number % 7, 3 + number % 11);
        let _ = write!(
            text,
            "struct record{number} {{ uint32_t key; double weights[{length}]; struct record{number} *next; }};\n\
             uint32_t function{number}(struct record{number} *list, uint32_t *table, uint32_t seed) {{\n\
             uint32_t sum = seed;\n\
             for (; list; list = list->next) {{\n  switch ((list->key ^ sum) % {cases}) {{\n"
        );
        for case in 0..cases {
            let step = 3 + case * 7 + number;
            let _ = writeln!(
                text,
                "  case {case}: sum = sum * {step} + table[(sum >> {case}) & 63]; list->weights[{}] += sum * 0.{step}; break;",
                case % length
            );
        }
        let _ = writeln!(
            text,
            "  }}\n  for (int i = 0; i < {length}; i++) sum += (uint32_t)list->weights[i] << (i % 5);\n }}"
        );
        let _ = writeln!(text, " return sum ^ table[sum & 63];\n}}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_file_grows_with_the_number_of_functions_and_compiles() {
        let text = c_source(3);
        assert_eq!(text.matches("uint32_t function").count(), 3);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file.c");
        fs::write(&file, text).expect("a file");
        let mut command = Command::new("gcc");
        command.args(["-fsyntax-only", "-Wall", "-Werror"]).arg(&file);
        crate::workshop::run_checked(&mut command, "gcc").expect("valid C");
    }
}
