//! The feature `override`: C code inside a Rust program, and the C library under it, on the program's own Terrace.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{TIME_LIMIT, assert_fine, folder, run_within};
use std::path::PathBuf;
use std::process::Command;

/// Builds `examples/c-inside` with its C part, by the profile of this name.
fn build(profile: &str) -> PathBuf {
    let target = folder().parent().expect("the folder lies in the target folder");
    let object = folder().join(format!("c-part-{profile}-{}.o", std::process::id()));
    let compiled = Command::new("gcc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-c", "examples/c-inside/c_part.c", "-o"])
        .arg(&object)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("gcc can be started");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let built = Command::new(env!("CARGO"))
        .args(["rustc", "--package", "c-inside", "--features", "override", "--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .arg("--")
        .arg(format!("-Clink-arg={}", object.display()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::remove_file(&object).unwrap();
    target.join(if profile == "dev" { "debug" } else { profile }).join("c-inside")
}

#[test]
fn c_code_in_a_rust_program_allocates_from_the_same_heap() {
    // With and without optimisation at link time, which may drop what nobody in Rust calls.
    for profile in ["dev", "release"] {
        let program = build(profile);
        let output = run_within(&mut Command::new(&program), TIME_LIMIT);
        assert_fine(&output);
        assert_eq!(output.stdout, b"one heap\n");
        let reported = run_within(Command::new(&program).env("TERRACE_STATS", "1"), TIME_LIMIT);
        let said = String::from_utf8_lossy(&reported.stderr).into_owned();
        // The program's own options, and a report at exit, which the feature brings.
        assert!(reported.status.success() && said.contains("\narenas     2, "), "{profile}: {said}");
        // The environment goes before.
        let refused = run_within(Command::new(&program).env("TERRACE_MMAP_THRESHOLD", "1048576"), TIME_LIMIT);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("the block has no mapping of its own"), "{profile}: {said}");
    }
}
