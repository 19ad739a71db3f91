//! What the library reported at the end of each process, and how it is told.
//!
//! The library appends to one file for the command and all its children, a process at a time, under a heading.

use super::obstacle::Obstacle;
use super::supervise::Ended;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A place for the library's reports. It is a directory, so that a process that outlives it finds nowhere to write
/// and leaves nothing behind.
pub struct ReportFile {
    directory: TempDir,
    path: PathBuf,
}

impl ReportFile {
    /// Makes the place, in the directory for temporary files.
    pub fn new() -> io::Result<Self> {
        // Absolute, since a process may report from another directory.
        let directory =
            tempfile::Builder::new().prefix("terrace-").tempdir_in(fs::canonicalize(std::env::temp_dir())?)?;
        let path = directory.path().join("statistics");
        Ok(Self { directory, path })
    }

    /// The file that the library is to append to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what was reported and removes the place.
    pub fn take(self) -> Vec<Report> {
        let text = fs::read(&self.path).unwrap_or_default();
        // A directory that cannot be removed is no reason to withhold the reports.
        let _ = self.directory.close();
        parse(&String::from_utf8_lossy(&text))
    }
}

/// What one process reported.
#[derive(Debug, PartialEq)]
pub struct Report {
    process: u32,
    name: String,
    text: String,
}

/// Splits the file at the headings, `terrace: process PID (NAME)`.
fn parse(file: &str) -> Vec<Report> {
    let mut reports: Vec<Report> = Vec::new();
    for line in file.lines() {
        if let Some((process, name)) = heading(line) {
            reports.push(Report { process, name: name.to_owned(), text: String::new() });
        } else if let Some(report) = reports.last_mut() {
            report.text.push_str(line);
            report.text.push('\n');
        }
    }
    reports
}

fn heading(line: &str) -> Option<(u32, &str)> {
    let (process, name) = line.strip_prefix("terrace: process ")?.split_once(' ')?;
    Some((process.parse().ok()?, name.strip_prefix('(')?.strip_suffix(')')?))
}

/// What is printed: the command's own report first, or why there is none; then those of its children, as they ended.
pub fn story(reports: &[Report], ended: &Ended, obstacle: Option<&Obstacle>) -> String {
    let (own, children): (Vec<_>, Vec<_>) = reports.iter().partition(|report| report.process == ended.process);
    let mut story = String::new();
    for report in &own {
        tell(&mut story, report, "the command");
    }
    if own.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(story, "terrace: the command reported nothing: {}", why_silent(ended, obstacle));
    }
    for report in children {
        tell(&mut story, report, "a child of the command");
    }
    story
}

fn tell(story: &mut String, report: &Report, what: &str) {
    let Report { process, name, text } = report;
    let _ = writeln!(story, "terrace: {what}, process {process} ({name})\n{}", text.trim_end());
}

fn why_silent(ended: &Ended, obstacle: Option<&Obstacle>) -> String {
    if let Some(obstacle) = obstacle {
        obstacle.to_string()
    } else if let Some(signal) = ended.status.signal() {
        format!("it was killed by signal {signal} before it could")
    } else {
        "it may have ended by _exit, changed its user, dropped LD_PRELOAD or TERRACE_STATS from its \
         environment, or run with file capabilities, for which the dynamic loader ignores LD_PRELOAD"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    fn ended(wait_status: i32) -> Ended {
        Ended { process: 7, status: ExitStatus::from_raw(wait_status) }
    }

    fn report(process: u32, name: &str, text: &str) -> Report {
        Report { process, name: name.into(), text: text.into() }
    }

    #[test]
    fn the_file_is_split_by_process() {
        let file = "terrace: process 8 (a) b)\nlive 1\n  more\nterrace: process 7 (sh)\nlive 2\n";
        assert_eq!(parse(file), [report(8, "a) b", "live 1\n  more\n"), report(7, "sh", "live 2\n")]);
    }

    #[test]
    fn a_line_that_only_resembles_a_heading_belongs_to_the_report() {
        let file = "terrace: process 8 (a)\nterrace: process x (b)\nterrace: process 9\n";
        assert_eq!(parse(file), [report(8, "a", "terrace: process x (b)\nterrace: process 9\n")]);
    }

    #[test]
    fn the_command_comes_first_and_its_children_are_labelled() {
        let story = story(&[report(8, "cc1", "live 1\n"), report(7, "gcc", "live 2\n")], &ended(0), None);
        let expected = "terrace: the command, process 7 (gcc)\nlive 2\n\
                        terrace: a child of the command, process 8 (cc1)\nlive 1\n";
        assert_eq!(story, expected);
    }

    #[test]
    fn silence_is_explained_by_what_is_known() {
        let explained = |ended: &Ended, obstacle: Option<&Obstacle>| story(&[], ended, obstacle);
        let killed = explained(&ended(9), None);
        assert!(killed.contains("killed by signal 9"), "{killed}");
        let exited = explained(&ended(0), None);
        assert!(exited.contains("_exit"), "{exited}");
        let linked = explained(&ended(9), Some(&Obstacle::Static("/bin/x".into())));
        assert!(linked.contains("/bin/x is statically linked"), "{linked}");
    }

    #[test]
    fn a_process_that_outlives_the_command_leaves_nothing_behind() {
        let file = ReportFile::new().unwrap();
        let path = file.path().to_owned();
        fs::write(&path, "terrace: process 8 (a)\nlive 1\n").unwrap();
        assert_eq!(file.take(), [report(8, "a", "live 1\n")]);
        assert_eq!(fs::write(&path, "late").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
