//! Looks that were saved, and files that are none.

use crate::{SERVER, run};
use std::fs;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_look_that_was_saved_is_shown_like_a_process() {
    let directory = tempfile::tempdir().unwrap();
    let again = directory.path().join("again.json");
    let written = run(&["map", SERVER, "--json"]);
    assert!(written.status.success());
    fs::write(&again, &written.stdout).unwrap();
    let again = again.to_str().unwrap();
    for (arguments, golden) in [
        (&["map"][..], "map.txt"),
        (&["stats"], "stats.txt"),
        (&["stats", "--watch"], "stats.txt"),
        (&["why"], "why-once.txt"),
    ] {
        let output = run(&[arguments[0], again].iter().chain(&arguments[1..]).copied().collect::<Vec<_>>());
        let wanted = fs::read_to_string(format!("{}/tests/inspect/{golden}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(text(output.stdout), wanted);
    }
}

#[test]
fn a_page_and_a_picture_are_written_where_they_are_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let [page, picture] = ["map.html", "map.svg"].map(|name| directory.path().join(name));
    let output = run(&[
        "map",
        SERVER,
        "--html",
        page.to_str().unwrap(),
        "--svg",
        picture.to_str().unwrap(),
        "--colour",
        "class",
    ]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(fs::read_to_string(page).unwrap().starts_with("<!doctype html>"));
    assert!(fs::read_to_string(picture).unwrap().contains("colour by class"));

    let output = run(&["map", SERVER, "--svg", "/no/such/folder/map.svg"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(output.stderr).starts_with("terrace: /no/such/folder/map.svg could not be written: "));
}

#[test]
fn what_is_no_look_gives_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("look.json");
    let whole = fs::read_to_string(SERVER).unwrap();
    let newer = whole.replacen("\"form\": 1", "\"form\": 2", 1);
    for (content, reason) in [
        (&whole[..whole.len() / 2], "EOF while parsing"),
        ("{}", "missing field `form`"),
        (&newer, "it has form 2, and this command reads form 1"),
    ] {
        fs::write(&file, content).unwrap();
        let output = run(&["why", file.to_str().unwrap()]);
        let said = text(output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("is not what `terrace map --json` writes: ") && said.contains(reason), "{said}");
    }
    let output = run(&["why", "/no/such/file"]);
    assert!(text(output.stderr).starts_with("terrace: /no/such/file could not be read: No such file"));
    assert_eq!(output.status.code(), Some(125));
}
