//! A process that runs on Terrace. `cargo build` of the whole workspace comes first.

use crate::{end_of, run, terrace};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A shell on Terrace that waits, and holds a variable of a pattern that each row of a dump would show.
struct Shell(Child);

impl Shell {
    fn start() -> Self {
        let library = Path::new(env!("CARGO_BIN_EXE_terrace")).with_file_name("libterrace.so");
        assert!(library.exists(), "{} is missing: run `cargo build --workspace` first", library.display());
        let mut child = Command::new("sh")
            .args(["-c", "held=terrace-terrace-terrace-terrace-terrace-terrace; echo ready; read line; echo $held"])
            .env("LD_PRELOAD", library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.stdin.take().map(|mut input| input.write_all(b"\n"));
        let _ = self.0.wait();
    }
}

/// What the command writes when all is well.
fn said(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn one_command_says_where_the_memory_of_a_running_process_is() {
    let shell = Shell::start();
    let text = said(&["why", &shell.pid(), "--interval", "0.1"]);
    assert!(text.starts_with(&format!("sh (process {}) has ", shell.0.id())), "{text}");
    assert!(text.contains("What the program holds stays: +0 B in "), "{text}");
    assert!(text.contains("resident memory, the sum"), "{text}");
    // Nothing moved meanwhile, so nothing is left over.
    assert!(!text.contains("changed while looking"), "{text}");
    assert!(text.contains("What to do\n  - "), "{text}");
}

#[test]
fn a_look_at_a_running_process_passes_the_schema_and_adds_up() {
    let shell = Shell::start();
    let look: Value = serde_json::from_str(&said(&["map", &shell.pid(), "--json"])).unwrap();
    let schema = include_str!("../../../docs/snapshot.schema.json");
    let validator = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    assert_eq!(validator.validate(&look).map_err(|error| error.to_string()), Ok(()));

    let sum = |items: &Value, key: &str| {
        items.as_array().unwrap().iter().map(|item| item[key].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sum(&look["mappings"], "resident_bytes"), look["process"]["resident_bytes"].as_u64().unwrap());
    let segments = look["arenas"].as_array().unwrap().iter().flat_map(|arena| arena["segments"].as_array().unwrap());
    let zones: u64 = segments.map(|segment| sum(&segment["zones"], "resident_bytes")).sum();
    let heap = zones + sum(&look["large"], "resident_bytes") + look["metadata"]["resident_bytes"].as_u64().unwrap();
    assert_eq!(heap, sum(&look["mappings"], "heap_resident_bytes"));
    assert!(zones > 0);
}

#[test]
fn a_watch_that_goes_to_a_pipe_is_plain_text() {
    let shell = Shell::start();
    let mut watch = terrace(&["stats", &shell.pid(), "--watch=0.1"]).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(watch.stdout.take().unwrap());
    let (send, lines) = mpsc::channel();
    thread::spawn(move || stdout.lines().map(Result::unwrap).try_for_each(|line| send.send(line)));
    let head = format!("process {} (sh), ", shell.0.id());
    let mut heads = 0;
    while heads < 3 {
        let line = lines.recv_timeout(Duration::from_secs(20)).expect("the watch writes on");
        assert!(!line.contains('\x1b'), "{line:?}");
        heads += usize::from(line.starts_with(&head));
    }
    drop(lines);
    // Nobody reads any more.
    assert!(end_of(&mut watch).success());
    assert_eq!(heads, 3);
}

#[test]
fn top_lists_the_processes_on_terrace() {
    let (one, two) = (Shell::start(), Shell::start());
    let text = said(&["top"]);
    for shell in [one, two] {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(&shell.pid()));
        assert!(line.is_some_and(|line| line.ends_with("  sh")), "{text}");
    }
    let own = std::process::id().to_string();
    assert!(text.lines().all(|line| line.split_whitespace().next() != Some(&own)), "this test is not on Terrace");
}

#[test]
fn a_dump_shows_the_bytes_and_their_states() {
    let shell = Shell::start();
    let look: Value = serde_json::from_str(&said(&["map", &shell.pid(), "--json"])).unwrap();
    let zones = || look["arenas"][0]["segments"][0]["zones"].as_array().unwrap().iter();
    let dump =
        |zone: &Value| said(&["dump", &shell.pid(), &format!("{:#x}", zone["start"].as_u64().unwrap()), "--zone"]);
    let slabs = zones().filter(|zone| zone["kind"] == "slab");
    assert!(slabs.map(dump).any(|text| text.contains("terrace-") && text.contains("LLLLLLLLLLLLLLLL")));
    assert!(dump(zones().next().unwrap()).contains("mmmmmmmm"), "the segment's tables");

    let output = run(&["dump", &shell.pid(), "0x10"]);
    assert_eq!(output.status.code(), Some(125));
    let refusal = String::from_utf8(output.stderr).unwrap();
    assert!(
        refusal.starts_with(&format!("terrace: process {}", shell.0.id())) && refusal.contains("0x10"),
        "{refusal}"
    );
    assert_eq!(run(&["dump", &shell.pid(), "lower"]).status.code(), Some(2));
}
