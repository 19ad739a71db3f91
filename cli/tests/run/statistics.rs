//! `--stats`: who reported what, and why nobody did.

use crate::static_program::static_program;
use crate::{install, output_of, terrace, text};
use std::fs;

#[test]
fn the_report_follows_what_the_command_wrote() {
    let output = output_of(&mut terrace(&["run", "--stats", "--", "ls", "--no-such-option"]));
    let errors = text(&output.stderr);
    let (before, report) = errors.split_once("terrace: the command, process ").expect(&errors);
    assert!(before.contains("--no-such-option"), "{errors}");
    assert!(report.lines().next().is_some_and(|heading| heading.ends_with(" (ls)")), "{errors}");
    for field in [
        "live",
        "cached",
        "metadata",
        "held",
        "resident",
        "mapped",
        "medium",
        "large",
        "remote",
        "slow paths",
        "system",
    ] {
        let line = report.lines().find(|line| line.starts_with(field));
        assert!(line.is_some_and(|line| line.contains(|c: char| c.is_ascii_digit())), "no {field}: {errors}");
    }
    let resident = report.lines().find_map(|line| line.strip_prefix("resident")).expect(&errors);
    assert!(resident.contains("MiB"), "{errors}");
}

#[test]
fn standard_output_is_the_commands_alone() {
    let output = output_of(&mut terrace(&["run", "--stats", "--", "echo", "hello"]));
    assert_eq!(text(&output.stdout), "hello\n");
}

#[test]
fn a_child_of_the_command_reports_under_its_own_name() {
    let command = ["run", "--stats", "--", "find", "/", "-maxdepth", "0", "-exec", "true", ";"];
    let errors = text(&output_of(&mut terrace(&command)).stderr);
    let headings: Vec<_> = errors.lines().filter(|line| line.starts_with("terrace: ")).collect();
    assert_eq!(headings.len(), 2, "{errors}");
    assert!(headings[0].starts_with("terrace: the command, ") && headings[0].ends_with("(find)"), "{errors}");
    assert!(
        headings[1].starts_with("terrace: a child of the command, ") && headings[1].ends_with("(true)"),
        "{errors}"
    );
}

#[test]
fn silence_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let linked = directory.path().join("static");
    install(static_program(0), "755", &linked);

    let killed = ["sh", "-c", "kill -KILL $$"];
    let unset = ["env", "-u", "LD_PRELOAD", "true"];
    let cases: [(&[&str], &str); 3] = [
        (&killed, "killed by signal 9"),
        (&[linked.to_str().unwrap()], "statically linked"),
        (&unset, "dropped LD_PRELOAD"),
    ];
    for (command, why) in cases {
        let errors = text(&output_of(&mut terrace(&[&["run", "--stats", "--"], command].concat())).stderr);
        let told = errors
            .lines()
            .any(|line| line.starts_with("terrace: the command reported nothing: ") && line.contains(why));
        assert!(told, "{errors}");
    }
}

#[test]
fn no_temporary_file_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let output = output_of(terrace(&["run", "--stats", "--", "true"]).env("TMPDIR", directory.path()));
    assert!(text(&output.stderr).contains("(true)"), "{output:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
