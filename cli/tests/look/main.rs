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
use terrace_core::inspect::VERSION;

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
    /// Where one of its blocks of 100 bytes, of 200,000 bytes and of 3 MiB lie.
    blocks: [usize; 3],
}

impl Target {
    fn start(how: &str) -> Self {
        Self::start_with(how, &[])
    }

    /// With these variables in its environment.
    fn start_with(how: &str, variables: &[(&str, &str)]) -> Self {
        let library = Path::new(env!("CARGO_BIN_EXE_terrace")).with_file_name("libterrace.so");
        assert!(library.exists(), "run `cargo build --workspace` first");
        let mut command = Command::new(program());
        command.arg(how).env("LD_PRELOAD", library).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.envs(variables.iter().copied()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let reported = words[..3].iter().map(|number| number.parse().unwrap()).collect();
        let blocks = [3, 4, 5].map(|place| usize::from_str_radix(words[place].trim_start_matches("0x"), 16).unwrap());
        Self { child, reported, blocks }
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

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terrace"));
    command.args(arguments);
    command
}

fn terrace(target: &str) -> Command {
    command(&["map", "--json", target])
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
            "terrace: {name} cannot be looked into: the heap's root is of version 99; this program reads version {VERSION}"
        )
    );
    write_at(&places, VERSION);
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

/// As the program was told, whether it is there or dead; what was left to the library is not listed.
#[test]
fn the_options_of_a_process_are_seen() {
    let variables = [
        ("TERRACE_PURGE_DELAY_MS", "1234"),
        ("TERRACE_SOURCE", "mmap"),
        ("TERRACE_LIMIT", "4G"),
        ("TERRACE_PERTURB", "7"),
        ("TERRACE_HISTORY", "50"),
        ("TERRACE_CHECK", "red-zones,quarantine=1M"),
        ("TERRACE_STATS", "/dev/null"),
    ];
    let target = Target::start_with("wait", &variables);
    let core = core_file(&target, "options");
    for target in [&*target.pid(), core.to_str().unwrap()] {
        let look = look(target);
        let value = |name: &str| {
            let mut found = items(&look, "options").filter(|setting| setting["name"] == name);
            let setting = found.next().map(|setting| setting["value"].as_str().unwrap().to_owned());
            assert!(found.next().is_none());
            setting
        };
        for (name, wanted) in [
            ("purge_delay_ms", Some("1234")),
            ("source", Some("mmap")),
            ("limit", Some("4294967296")),
            ("soft_limit", Some("0")),
            ("perturb", Some("7")),
            ("history", Some("50")),
            ("history_stacks", Some("0")),
            ("check", Some("red-zones,quarantine=1048576")),
            ("stats", Some("/dev/null")),
            ("check_action", Some("3")),
            ("mmap_max", None),
        ] {
            assert_eq!(value(name).as_deref(), wanted, "{name} of {target}");
        }
    }
    fs::remove_file(core).unwrap();
    let text = String::from_utf8(command(&["stats", &target.pid()]).output().unwrap().stdout).unwrap();
    let line = "options: source=mmap purge_delay_ms=1234 limit=4294967296 perturb=7 history=50 \
                check=red-zones,quarantine=1048576 stats=/dev/null; all others at their defaults";
    // How many arenas there are depends on the machine.
    let options = text.lines().find(|line| line.starts_with("options: ")).unwrap();
    let without = options.split(' ').filter(|word| !word.starts_with("arenas=")).collect::<Vec<_>>().join(" ");
    assert_eq!(without, line, "{text}");
}

/// The rings of the history are the allocator's own, not something beside the heap.
#[test]
fn the_memory_of_the_history_is_counted() {
    let metadata = |events: &str| {
        let look = look(&Target::start_with("wait", &[("TERRACE_HISTORY", events)]).pid());
        assert_eq!(look["notes"], serde_json::json!([]));
        look["metadata"].clone()
    };
    let (small, large) = (metadata("10"), metadata("100000"));
    let more = |account: &str| large[account].as_u64().unwrap() - small[account].as_u64().unwrap();
    assert_eq!(more("bytes"), (100_000 - 10) * 48);
    // About a thousand events were written, and nothing of the rest was touched.
    assert!((40_000..100_000).contains(&more("resident_bytes")), "{small} {large}");
}

/// The bytes around a block say what they are; a block with guard pages is in the map, and in what the process reports.
#[test]
fn what_the_checks_put_around_blocks_is_seen() {
    let target = Target::start_with("wait", &[("TERRACE_CHECK", "red-zones,guards")]);
    let core = core_file(&target, "checked");
    let [small, _, large] = target.blocks;
    assert_eq!(target.reported[1], 10, "blocks with pages of their own: {:?}", target.reported);
    for name in [&*target.pid(), core.to_str().unwrap()] {
        let dump = |address: usize, more: &[&str]| {
            let address = format!("{address:#x}");
            let output = command(&[&["dump", name, &address], more].concat()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let text = dump(small + 50, &[]);
        let head = format!("block of 100 bytes at {small:#x}, live; with what the checks put around it ");
        assert!(text.starts_with(&head), "{text}");
        let states: Vec<&str> = text.lines().filter_map(|line| line.split("|  ").nth(1)).collect();
        assert_eq!((states[0], states[1]), ("rrrrrrrrrrrrrrrr", "LLLLLLLLLLLLLLLL"), "{text}");
        let last = text.lines().find(|line| line.ends_with("LLLLrrrrrrrrrrrr")).expect(&text);
        assert!(last.contains("01 01 01 01 bd bd bd bd  bd bd"), "{text}");
        let text = dump(small, &["--zone"]);
        assert!(text.starts_with("slab at 0x") && text.contains("LLLLrrrrrrrrrrrr"), "{text}");
        let text = dump(large + 1, &["--zone"]);
        assert!(text.contains("|  gggggggggggggggg\n") && text.contains("|  LLLLLLLLLLLLLLLL\n"), "{text}");
        assert!(dump(large + 1, &[]).starts_with(&format!("block of 3145728 bytes at {large:#x}, live; ")));
        let look = look(name);
        assert_eq!(look["notes"], serde_json::json!([]));
        let guarded: Vec<u64> = items(&look, "large").map(|large| large["bytes"].as_u64().unwrap()).collect();
        assert!(items(&look, "large").all(|large| large["is_guarded"] == true && large["is_live"] == true));
        let checked = &look["checked"];
        assert!(checked["live"].as_u64() >= Some(1010) && checked["quarantined"] == 0, "{checked}");
        // Two guard pages belong to each.
        assert_eq!(guarded.len(), 10);
        assert_eq!(guarded.iter().sum::<u64>(), target.reported[2] + 10 * 8192);
    }
    fs::remove_file(core).unwrap();
}

/// A record that was overwritten is left out and said; nothing grows with what it says.
#[test]
fn a_corrupt_record_of_a_large_block_is_left_out() {
    use std::os::unix::fs::FileExt;
    let target = Target::start("wait");
    let core = core_file(&target, "corrupt");
    let bytes = fs::read(&core).unwrap();
    let record = [target.blocks[2].to_ne_bytes(), (3_usize << 20).to_ne_bytes()].concat();
    let places: Vec<usize> = (0..bytes.len() - 16).step_by(8).filter(|&at| bytes[at..].starts_with(&record)).collect();
    assert!(!places.is_empty());
    let file = OpenOptions::new().write(true).open(&core).unwrap();
    for (length, words) in [
        (1_usize << 56, "the record of a mapping at 0x"),
        (1 << 47, " bytes for a large block at 0x"),
        (1 << 40, "1099511627776 bytes for a large block at 0x"),
        (4096 * 3 + 1, "the record of a mapping at 0x"),
    ] {
        for &at in &places {
            file.write_all_at(&length.to_ne_bytes(), at as u64 + 8).unwrap();
        }
        let look = look(core.to_str().unwrap());
        assert_eq!(items(&look, "large").filter(|large| large["is_live"] == true).count(), 2);
        let notes = look["notes"].as_array().unwrap();
        assert!(notes.len() == 1 && notes[0].as_str().unwrap().contains(words), "{length:#x}: {notes:?}");
        let picture = folder().join("corrupt.svg");
        let output = command(&["map", core.to_str().unwrap(), "--svg", picture.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::metadata(&picture).unwrap().len() < 1 << 20);
        fs::remove_file(picture).unwrap();
    }
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
