//! The programs beside the library: what they print of known sequences.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn strategies(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_osmem-strategies")).args(arguments).output().expect("it starts")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// A row of the table: a strategy's figures.
fn figures(table: &str, strategy: &str) -> Vec<f64> {
    let row = table.lines().find_map(|line| line.strip_prefix(strategy)).expect("a row");
    row.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

#[test]
fn the_classic_example_lands_where_each_strategy_says() {
    let table = text(&strategies(&["--classic"]));
    for line in [
        "best fit   puts the 2 KiB into hole 4, of 2 KiB",
        "first fit  puts the 2 KiB into hole 1, of 16 KiB",
        "next fit   puts the 2 KiB into hole 3, of 30 KiB",
        "worst fit  puts the 2 KiB into hole 3, of 30 KiB",
    ] {
        assert!(table.lines().any(|printed| printed == line), "{line}\n{table}");
    }
    assert_eq!(figures(&table, "best fit")[0], 65536.0);
    assert_eq!(figures(&table, "best fit")[1], 3.0);
}

#[test]
fn worst_fit_needs_the_largest_heap_and_next_fit_examines_least() {
    for seed in ["1", "2", "3"] {
        let table = text(&strategies(&["--seed", seed]));
        let of = |strategy| figures(&table, strategy);
        let (best, first, next, worst) = (of("best fit"), of("first fit"), of("next fit"), of("worst fit"));
        assert!(best[0] < next[0] && first[0] < next[0] && next[0] < worst[0], "heap needed\n{table}");
        assert!(next[4] < first[4] && first[4] < best[4], "holes examined\n{table}");
    }
}

#[test]
fn a_recording_is_played_and_drawn() {
    let (recording, picture) = (scratch().join("recording.txt"), scratch().join("strategies.svg"));
    // A hole of 1000 and one of 104 bytes; 100 go into one or the other. Large blocks are none of the heap's.
    let calls = "malloc a 1000\nmalloc b 8\nmalloc c 100\nmalloc d 8\nmalloc e 500000\nfree a\nfree c\ncalloc f 10 10\n\
                 realloc d 16\nfree e\n";
    fs::write(&recording, calls).expect("a file");
    let (file, svg) = (recording.to_str().expect("text"), picture.to_str().expect("text"));
    let table = text(&strategies(&["--svg", svg, file]));
    assert!(table.starts_with("8 calls"), "{table}");
    assert!(figures(&table, "best fit")[3] >= 1000.0, "{table}");
    assert!(figures(&table, "first fit")[3] < 1000.0, "{table}");
    let drawn = fs::read_to_string(&picture).expect("a picture");
    assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
    assert_eq!(drawn.matches(" bytes needed;").count(), 4);
}

#[test]
fn wrong_recordings_and_options_are_named() {
    let recording = scratch().join("wrong.txt");
    fs::write(&recording, "malloc a 100\nmalloc a\n").expect("a file");
    for (arguments, message) in [
        (vec![recording.to_str().expect("text")], "line 2 is no call: malloc a"),
        (vec!["/nowhere"], "/nowhere: No such file"),
        (vec!["--seed", "many"], "many is no number"),
        (vec!["--fast"], "--fast is no option"),
    ] {
        let output = strategies(&arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(message), "{errors}");
    }
}

/// Builds a library of the workspace, and returns the folder that it is in.
fn build(package: &str, features: &[&str]) -> PathBuf {
    let target = scratch().join(format!("programs-{package}{}", features.concat()));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--lib", "--package", package, "--features", &features.concat()]);
    cargo.arg("--manifest-path").arg(folder().join("Cargo.toml")).arg("--target-dir").arg(&target);
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    assert!(cargo.status().expect("cargo starts").success());
    target.join("debug")
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn watch(arguments: &[&str]) -> Output {
    let mut trace = Command::new(env!("CARGO_BIN_EXE_osmem-trace"));
    trace.arg("--watcher").arg(build("osmem-watch", &[]).join("libosmem_watch.so"));
    trace.args(arguments).output().expect("it starts")
}

/// `demo.c` with the library, in one of its editions.
fn demo(features: &[&str]) -> PathBuf {
    let library = build("osmem", features);
    let program = library.join("demo");
    let mut gcc = Command::new("gcc");
    gcc.arg("-I").arg(folder()).arg(folder().join("examples/demo.c")).arg("-o").arg(&program);
    gcc.arg("-L").arg(&library).arg("-losmem");
    // The old kind of search path, since it comes before LD_LIBRARY_PATH, in which cargo lists other builds.
    gcc.arg(format!("-Wl,--disable-new-dtags,-rpath,{}", library.display()));
    assert!(gcc.status().expect("gcc starts").success());
    program
}

#[test]
fn a_program_is_watched_call_by_call() {
    for (features, rest) in [(&[][..], 130_920), (&["header-32"][..], 130_904)] {
        let (picture, recording) = (scratch().join("trace.svg"), scratch().join("trace.txt"));
        let (svg, txt) = (picture.to_str().expect("text"), recording.to_str().expect("text"));
        let program = demo(features);
        let printed = text(&watch(&["--svg", svg, "--record", txt, program.to_str().expect("text")]));
        let lines: Vec<String> = printed.lines().map(|line| line.replace(' ', "")).collect();
        assert_eq!(lines.len(), 18, "{lines:#?}");
        assert_eq!(lines[0], format!("p1=malloc(100)[p1104]({rest})break+131072"));
        assert!(lines[3].starts_with("free(p1)(104)[p21000][p3504]("), "freed, and still there: {}", lines[3]);
        assert!(lines[5].starts_with("p4=malloc(900)[p4904](200)[p3504]("), "merged and split: {}", lines[5]);
        assert!(lines[7].ends_with("{p5200000}"), "mapped: {}", lines[7]);
        assert!(lines[9].contains("[p750000]{p5200000}break+"), "grown: {}", lines[9]);
        assert!(lines[17].starts_with("17calls;"), "{}", lines[17]);
        assert!(lines[17].ends_with("0blocksinuse,5free,0mapped"), "{}", lines[17]);

        let drawn = fs::read_to_string(&picture).expect("a picture");
        assert!(drawn.contains("p7 = realloc(p7, 120000)") && drawn.contains("class=\"mapped\""));
        let recorded = fs::read_to_string(&recording).expect("a recording");
        assert_eq!(recorded.lines().nth(2), Some("calloc p3 50 10"));
        assert!(text(&strategies(&[txt])).contains("best fit"));
    }
}

#[test]
fn a_program_without_the_library_is_named() {
    let output = watch(&["true"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("made no call of libosmem"), "{errors}");
}

#[test]
fn make_leaves_the_library_in_its_folder() {
    let make = |target: &[&str]| {
        let mut make = Command::new("make");
        make.arg("-C").arg(folder()).args(target).env("CARGO_TARGET_DIR", scratch().join("make"));
        text(&make.env_remove("MAKEFLAGS").output().expect("make starts"));
    };
    let library = folder().join("libosmem.so");
    make(&[]);
    assert!(library.exists());
    let mut nm = Command::new("nm");
    let symbols = text(&nm.args(["-D", "--defined-only", "-j"]).arg(&library).output().expect("nm starts"));
    let mut symbols: Vec<&str> = symbols.lines().collect();
    symbols.sort_unstable();
    assert_eq!(symbols, ["os_calloc", "os_free", "os_malloc", "os_realloc"], "nothing else is exported");
    make(&["clean"]);
    assert!(!library.exists());
}
