//! Looking from outside, compared with what the process itself reports: one that waits, one that is stopped in the midst of its
//! work, one that ends, and core files, whole and broken. `cargo build` of the whole workspace comes first.

use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The program to look into, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = folder().join("look-target");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/look/target.c");
        let done = Command::new("gcc").args(["-O1", "-pthread", "-o"]).args([&program, &source]).status().unwrap();
        assert!(done.success());
        program
    })
}

/// A process on Terrace, ended with this value.
struct Target {
    child: Child,
    /// What it says: bytes of blocks but for large ones, large blocks, and their bytes.
    reported: Vec<u64>,
}

impl Target {
    fn start(how: &str) -> Self {
        let library = Path::new(env!("CARGO_BIN_EXE_terrace")).with_file_name("libterrace.so");
        assert!(library.exists(), "run `cargo build --workspace` first");
        let mut command = Command::new(program());
        command.arg(how).env("LD_PRELOAD", library).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, reported: line.split_whitespace().map(|number| number.parse().unwrap()).collect() }
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.pid()]).status().unwrap().success());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn terrace(target: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terrace"));
    command.args(["map", "--json", target]);
    command
}

fn look(target: &str) -> Value {
    let output = terrace(target).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The sentence that a look is refused with.
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

fn items<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().unwrap().iter()
}

fn zones(look: &Value) -> impl Iterator<Item = &Value> {
    items(look, "arenas").flat_map(|arena| items(arena, "segments")).flat_map(|segment| items(segment, "zones"))
}

/// The figures that the process reports itself, from a look.
fn figures(look: &Value) -> Vec<u64> {
    let number = |value: &Value| value.as_u64().unwrap();
    let small: u64 = items(look, "classes").map(|class| number(&class["live"]) * number(&class["block_bytes"])).sum();
    let medium = zones(look).filter(|zone| zone["kind"] == "medium").map(|zone| number(&zone["bytes"]));
    let large: Vec<u64> =
        items(look, "large").filter(|large| large["is_live"] == true).map(|large| number(&large["bytes"])).collect();
    vec![small + medium.sum::<u64>(), large.len() as u64, large.iter().sum()]
}

#[test]
fn a_process_that_waits_is_seen_as_it_reports_itself() {
    let target = Target::start("wait");
    let look = look(&target.pid());
    assert_eq!(figures(&look), target.reported);
    assert_eq!(look["notes"], serde_json::json!([]));
    assert_eq!((&look["process"]["source"], &look["process"]["name"]), (&"live".into(), &"look-target".into()));
    assert_eq!(look["process"]["command"][1], "wait");
    assert_eq!(look["process"]["library"], env!("CARGO_PKG_VERSION"));
    assert_eq!(look["caches"][0]["thread"], target.child.id());
    assert!(look["counters"]["mmap"].as_u64() > Some(0) && look["counters"]["refills"].as_u64() > Some(0));
    let hundred = items(&look, "classes").find(|class| class["block_bytes"] == 112).unwrap();
    assert!(hundred["live"].as_u64() >= Some(1000), "{hundred}");
    assert_eq!(zones(&look).filter(|zone| zone["kind"] == "medium" && zone["bytes"] == 200_704).count(), 7);
    // All of them were written.
    assert!(items(&look, "large").all(|large| large["resident_bytes"] == large["bytes"]));
    // Looking gives the process no memory.
    let resident = |look: &Value| look["process"]["resident_bytes"].as_u64().unwrap();
    let again = self::look(&target.pid());
    assert!(resident(&again) <= resident(&look) + 8192, "{} after {}", resident(&again), resident(&look));
}

#[test]
fn a_process_stopped_in_the_midst_of_its_work_is_seen_whole() {
    let target = Target::start("churn");
    for round in 0..15 {
        sleep(Duration::from_millis(7 * round));
        target.signal("-STOP");
        let looked = loop {
            let looked = look(&target.pid());
            if looked["process"]["source"] == "stopped" {
                break looked;
            }
        };
        for segment in items(&looked, "arenas").flat_map(|arena| items(arena, "segments")) {
            let bytes: u64 = items(segment, "zones").map(|zone| zone["bytes"].as_u64().unwrap()).sum();
            assert_eq!(Some(bytes), segment["bytes"].as_u64());
        }
        // A thread may stand in the middle of a change: then something makes no sense, and is said to, but not much.
        assert!(looked["notes"].as_array().unwrap().len() <= 3, "{}", looked["notes"]);
        assert!(figures(&looked)[0] > 1_500_000);
        assert_eq!(figures(&looked)[1..], target.reported[1..]);
        // As many as threads have begun to allocate.
        let caches = items(&looked, "caches").filter(|cache| cache["state"] == "attached").count();
        assert!(if round < 8 { (1..=4).contains(&caches) } else { caches == 4 }, "{caches}");
        target.signal("-CONT");
    }
    // And one that goes on.
    assert!(figures(&look(&target.pid()))[0] > 1_500_000);
}

/// A core file of a process that waits.
fn core_file(target: &Target, name: &str) -> PathBuf {
    let prefix = folder().join(name);
    let done = Command::new("gcore").arg("-o").arg(&prefix).arg(target.pid()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    PathBuf::from(format!("{}.{}", prefix.display(), target.pid()))
}

#[test]
fn a_core_file_shows_what_the_process_would() {
    let target = Target::start("wait");
    let core = core_file(&target, "whole");
    let (live, dead) = (look(&target.pid()), look(core.to_str().unwrap()));
    assert_eq!(figures(&dead), target.reported);
    assert_eq!(dead["notes"], serde_json::json!([]));
    assert_eq!((&dead["process"]["source"], &dead["process"]["pid"]), (&"core".into(), &target.child.id().into()));
    assert_eq!(dead["classes"].as_array().unwrap().len(), live["classes"].as_array().unwrap().len());
    let places = |look: &Value| zones(look).map(|zone| zone["start"].as_u64()).collect::<Vec<_>>();
    assert_eq!(places(&dead), places(&live));
    fs::remove_file(core).unwrap();
}

#[test]
fn broken_core_files_are_refused_in_a_sentence() {
    let target = Target::start("wait");
    let core = core_file(&target, "broken");
    let name = core.to_str().unwrap();
    let whole = look(name);
    // Where the root lies in the file: it begins with the magic, and its own address follows.
    let bytes = fs::read(&core).unwrap();
    let magic = b"terrace heap\r\n\x1a\0";
    let version = bytes.windows(16).enumerate().filter(|(_, window)| window == magic).map(|(at, _)| at + 16);
    let write_at = |places: &[usize], value: u32| {
        use std::os::unix::fs::FileExt;
        let file = OpenOptions::new().write(true).open(&core).unwrap();
        places.iter().for_each(|&at| file.write_all_at(&value.to_ne_bytes(), at as u64).unwrap());
    };
    let places: Vec<usize> = version.collect();
    write_at(&places, 99);
    assert_eq!(
        refusal(&mut terrace(name)),
        format!(
            "terrace: {name} cannot be looked into: the heap's root is of version 99; this program reads version 1"
        )
    );
    write_at(&places, 1);
    assert_eq!(figures(&look(name)), figures(&whole));
    write_at(&places.iter().map(|at| at + 4).collect::<Vec<_>>(), 7);
    let text = refusal(&mut terrace(name));
    assert!(text.contains("the length of the root, at 0x") && text.ends_with("is corrupt"), "{text}");
    // Without its magic there is no root.
    write_at(&places.iter().map(|at| at - 16).collect::<Vec<_>>(), 0);
    let text = refusal(&mut terrace(name));
    assert!(text.contains("it does not run on Terrace"), "{text}");
    OpenOptions::new().write(true).open(&core).unwrap().set_len(bytes.len() as u64 - 5000).unwrap();
    let text = refusal(&mut terrace(name));
    assert!(text.contains("the core file is cut off; ") && text.contains("bytes are missing"), "{text}");
    fs::write(&core, &bytes[..100]).unwrap();
    assert!(refusal(&mut terrace(name)).contains("cut off"));
    fs::write(&core, "no such thing").unwrap();
    assert!(refusal(&mut terrace(name)).contains("it is no core file"));
    fs::remove_file(core).unwrap();
}

#[test]
fn what_cannot_be_looked_into_is_said() {
    let mut plain = Command::new("sleep").arg("60").env_remove("LD_PRELOAD").spawn().unwrap();
    let text = refusal(&mut terrace(&plain.id().to_string()));
    assert!(text.contains("it does not run on Terrace"), "{text}");
    plain.kill().unwrap();
    // Killed and not waited for: it ends, and is still in the list.
    sleep(Duration::from_millis(100));
    let text = refusal(&mut terrace(&plain.id().to_string()));
    assert!(text.ends_with("cannot be looked into: it ended meanwhile"), "{text}");
    plain.wait().unwrap();
    let text = refusal(&mut terrace(&plain.id().to_string()));
    assert_eq!(text, format!("terrace: process {} cannot be looked into: there is no such process", plain.id()));
    // Only root can take on another user to try this.
    if nix::unistd::Uid::effective().is_root() {
        let target = Target::start("wait");
        let command = folder().join("terrace-for-all");
        fs::copy(env!("CARGO_BIN_EXE_terrace"), &command).unwrap();
        let reachable =
            Command::new(&command).uid(65534).arg("--version").output().is_ok_and(|run| run.status.success());
        if reachable {
            let text = refusal(Command::new(&command).uid(65534).args(["map", &target.pid()]));
            assert!(text.contains("the system does not permit it"), "{text}");
        }
    }
}

#[test]
fn a_process_that_ends_while_it_is_looked_at_is_no_matter() {
    for delay in 0..12 {
        let target = Target::start("churn");
        let pid = target.pid();
        let killer = std::thread::spawn(move || {
            sleep(Duration::from_millis(delay * 2));
            drop(target);
        });
        let output = terrace(&pid).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let said = text.contains("it ended meanwhile") || text.contains("there is no such process");
        assert!(output.status.success() || said, "{text}");
        killer.join().unwrap();
    }
}
