//! `terrace history`, and `terrace run --history`: the last events of a process, from outside and at its end.

use super::{end_of, output_of, terrace};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// A shell that allocates, tells that it has, and goes on until its input ends.
const TALKER: &str =
    "for i in $(seq 50); do x=\"$x $i\"; done; echo ready; read line; y=\"$x$x\"; echo again; read line";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The times of lines of events.
fn times(lines: &[&str]) -> Vec<f64> {
    lines.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[test]
fn the_events_of_a_running_process_are_shown_in_the_order_of_time() {
    let mut child = terrace(&["run", "--history=500", "--", "bash", "-c", TALKER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = child.id().to_string();

    let shown = output_of(&mut terrace(&["history", &pid]));
    let all = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 500, "the shell does far more: {all}");
    assert!(times(&lines).is_sorted(), "{all}");
    let thread = format!("  thread {pid}  ");
    assert!(lines.iter().all(|line| line.contains(&thread)), "{all}");
    assert!(all.contains("  allocation   0x") && all.contains("  free         0x"), "{all}");

    // The block of the last event, by an address in its middle.
    let address = lines[499].split_ascii_whitespace().find(|word| word.starts_with("0x")).unwrap();
    let inside = format!("{:#x}", usize::from_str_radix(&address[2..], 16).unwrap() + 1);
    let of_block = text(&output_of(&mut terrace(&["history", &pid, "--address", &inside])).stdout);
    assert!(of_block.lines().count() < 500 && of_block.lines().last() == Some(lines[499]), "{of_block}");
    assert_eq!(text(&output_of(&mut terrace(&["history", &pid, "--last", "3"])).stdout).lines().count(), 3);

    drop(child.stdin.take());
    assert!(end_of(&mut child).code().is_some());
}

#[test]
fn a_process_is_followed_to_its_end() {
    let mut child = terrace(&["run", "--history", "--", "bash", "-c", TALKER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let mut follower =
        terrace(&["history", &child.id().to_string(), "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    let last_known: Vec<String> = events.by_ref().take(1).collect();
    assert_eq!(last_known.len(), 1);
    drop(child.stdin.take());
    assert!(end_of(&mut child).code().is_some());
    let rest: Vec<String> = events.collect();
    assert!(end_of(&mut follower).success());
    assert!(times(&rest.iter().map(String::as_str).collect::<Vec<_>>()).is_sorted());
}

/// A program whose code keeps frame pointers; it names each function by itself.
const NESTED: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((noinline)) void *innermost(void) { char *block = malloc(1234); block[0] = 1; return block; }
__attribute__((noinline)) void *between(void) { void **block = innermost(); *block = block; return block; }
int main(void) {
    void *block = between();
    printf("%p\n", block), fflush(stdout);
    getchar();
    free(block);
    return 0;
}
"#;

#[test]
fn each_event_has_its_call_stack_on_demand() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (folder.join("nested.c"), folder.join("nested"));
    std::fs::write(&source, NESTED).unwrap();
    let mut compiler = Command::new("gcc");
    compiler.args(["-O1", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-w", "-o"]);
    assert!(compiler.args([&program, &source]).status().unwrap().success());
    let mut child = terrace(&["run", "--history-stacks", "--", program.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let core = Command::new("gcore").arg("-o").arg(folder.join("nested-core")).arg(child.id().to_string()).output();
    assert!(core.unwrap().status.success());
    let core = folder.join(format!("nested-core.{}", child.id()));
    for target in [child.id().to_string(), core.to_str().unwrap().to_owned()] {
        let output = output_of(&mut terrace(&["history", &target, "--address", line.trim()]));
        let shown = text(&output.stdout);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(output.status.success() && lines[0].ends_with("  1234 bytes"), "{shown}{}", text(&output.stderr));
        // Between the program's call and the allocator's slow path lie frames of the library if that was not optimised; then the
        // function that called is not known.
        let functions = [("innermost", 5), ("between", 6), ("main", 8)];
        for (frame, (function, number)) in functions.iter().skip(usize::from(cfg!(debug_assertions))).enumerate() {
            let (line, wanted) = (lines[1 + frame], format!("    #{frame} {function} at "));
            assert!(line.starts_with(&wanted) && line.ends_with(&format!("nested.c:{number}")), "{shown}");
        }
    }
    std::fs::remove_file(core).unwrap();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    // The report at exit names no functions, but modules and offsets.
    let said = text(&output.stderr);
    let mut stack = said.lines().skip_while(|line| !line.ends_with("  1234 bytes")).skip(1);
    assert!(stack.any(|frame| frame.starts_with("terrace:     #") && frame.contains("/nested+0x")), "{said}");
    // Without being asked for there are none.
    let output = output_of(&mut terrace(&["run", "--history", "--", program.to_str().unwrap()]));
    assert!(!text(&output.stderr).contains("#0"), "{}", text(&output.stderr));
}

#[test]
fn the_last_events_are_printed_at_the_end() {
    let output = output_of(&mut terrace(&["run", "--history", "--", "bash", "-c", "echo done; x=$(echo 1)"]));
    let said = text(&output.stderr);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("done\n", Some(0)), "{said}");
    let (events, headings): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| line.starts_with("terrace: history: "));
    for heading in &headings {
        assert!(
            heading.starts_with("terrace: history of process ") && heading.contains(" (bash), the last 30 of "),
            "{said}"
        );
    }
    assert_eq!(events.len(), 30 * headings.len(), "{said}");
    assert!(events.len() >= 30 && events.len().is_multiple_of(30), "30 of each process that exits: {said}");
    assert!(events.iter().all(|event| event.contains("  thread ")), "{said}");
    let mut fewer = terrace(&["run", "--history", "--", "bash", "-c", "exit"]);
    let said = text(&output_of(fewer.env("TERRACE_HISTORY_AT_EXIT", "3")).stderr);
    assert!(said.lines().count() == 4 && said.contains(" (bash), the last 3 of "), "{said}");
}

#[test]
fn who_has_no_history_is_told_why() {
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let output = output_of(&mut terrace(&["history", &other.id().to_string()]));
    other.kill().unwrap();
    other.wait().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125));
    assert!(said.contains("cannot be looked into: it does not run on Terrace"), "{said}");

    let mut child =
        terrace(&["run", "--", "bash", "-c", TALKER]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let said = text(&output_of(&mut terrace(&["history", &child.id().to_string()])).stderr);
    drop(child.stdin.take());
    end_of(&mut child);
    assert!(said.contains("it was never on"), "{said}");

    let said = text(&output_of(&mut terrace(&["history", "2147483000"])).stderr);
    assert!(said.contains("process 2147483000 cannot be looked into: there is no such process"), "{said}");
}
