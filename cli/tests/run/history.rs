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

#[test]
fn the_last_events_are_printed_at_the_end() {
    let output = output_of(&mut terrace(&["run", "--history", "--", "bash", "-c", "echo done; x=$(echo 1)"]));
    let said = text(&output.stderr);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("done\n", Some(0)), "{said}");
    let events: Vec<&str> = said.lines().map(|line| line.strip_prefix("terrace: history: ").expect(line)).collect();
    assert!(events.len() >= 30 && events.len().is_multiple_of(30), "30 of each process that exits: {said}");
    assert!(events.iter().all(|event| event.contains("  thread ")), "{said}");
}

#[test]
fn who_has_no_history_is_told_why() {
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let output = output_of(&mut terrace(&["history", &other.id().to_string()]));
    other.kill().unwrap();
    other.wait().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("there is no history of process") && said.contains("does not run on Terrace"), "{said}");

    let mut child =
        terrace(&["run", "--", "bash", "-c", TALKER]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let said = text(&output_of(&mut terrace(&["history", &child.id().to_string()])).stderr);
    drop(child.stdin.take());
    end_of(&mut child);
    assert!(said.contains("its history was never on"), "{said}");

    let said = text(&output_of(&mut terrace(&["history", "2147483000"])).stderr);
    assert!(said.contains("there is no process 2147483000"), "{said}");
}
