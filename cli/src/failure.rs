//! Why `terrace` itself could not do what it was asked: one sentence, and the exit status that goes with it.

use crate::remote::Obstacle;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The exit statuses are those of `env`, `timeout` and the shells, so that scripts need not know `terrace`.
#[derive(Debug)]
pub enum Failure {
    /// The shared library is in none of the places that were looked at.
    LibraryNotFound(Vec<PathBuf>),
    /// The library cannot be preloaded, for the reason given.
    UnusableLibrary(PathBuf, &'static str),
    /// No file has the command's name.
    CommandNotFound(PathBuf),
    /// There is a file, but the system refuses to run it.
    CannotRun(PathBuf, io::Error),
    /// The process or core file, as named, has no history to be shown.
    NoHistory(String),
    /// A file could not be put in its place.
    NotInstalled(PathBuf, io::Error),
    /// A file could not be read.
    Unreadable(String, io::Error),
    /// A file could not be written.
    Unwritable(String, io::Error),
    /// A saved look at a process is not in the form that this command reads.
    NotASnapshot(PathBuf, String),
    /// A process or a core file, as named, could not be looked into.
    CannotLook(String, Obstacle),
    /// The system refused something that does not depend on the command.
    System(&'static str, io::Error),
}

impl Failure {
    /// Tells a refusal to run `program` from its absence.
    pub fn of_running(program: &Path, error: io::Error) -> Self {
        // A file that exists and yet "is not found" names an interpreter or a loader that is missing.
        if error.kind() == io::ErrorKind::NotFound && !program.exists() {
            return Self::CommandNotFound(program.to_owned());
        }
        Self::CannotRun(program.to_owned(), error)
    }

    /// 125 for a failure of `terrace`, 126 for a command that cannot be run, 127 for one that does not exist.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::LibraryNotFound(_)
            | Self::UnusableLibrary(..)
            | Self::NotInstalled(..)
            | Self::Unreadable(..)
            | Self::Unwritable(..)
            | Self::NotASnapshot(..)
            | Self::CannotLook(..)
            | Self::System(..) => 125,
            Self::NoHistory(_) => 1,
            Self::CannotRun(..) => 126,
            Self::CommandNotFound(_) => 127,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LibraryNotFound(places) => {
                let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
                write!(
                    f,
                    "the library was not found as {}; build it with `cargo build --release` or name it with --lib",
                    places.join(" or ")
                )
            }
            Self::UnusableLibrary(path, why) => write!(f, "{} cannot be preloaded: {why}", path.display()),
            Self::NoHistory(what) => {
                write!(f, "there is no history of {what}: it was never on; TERRACE_HISTORY=1000 switches it on")
            }
            Self::NotInstalled(place, error) => write!(f, "{} could not be installed: {error}", place.display()),
            Self::Unreadable(name, error) => write!(f, "{name} could not be read: {error}"),
            Self::Unwritable(name, error) => write!(f, "{name} could not be written: {error}"),
            Self::NotASnapshot(path, why) => {
                write!(f, "{} is not what `terrace map --json` writes: {why}", path.display())
            }
            Self::CommandNotFound(name) => write!(f, "the command {} was not found", name.display()),
            Self::CannotRun(program, error) if error.kind() == io::ErrorKind::NotFound => write!(
                f,
                "the command {} cannot be run: the interpreter or loader that it names does not exist",
                program.display()
            ),
            Self::CannotRun(program, error) => {
                write!(f, "the command {} cannot be run: {error}", program.display())
            }
            Self::CannotLook(what, why) => write!(f, "{what} cannot be looked into: {why}"),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_command_gives_127_and_an_unrunnable_one_126() {
        let status =
            |program: &str, kind: io::ErrorKind| Failure::of_running(Path::new(program), kind.into()).exit_status();
        assert_eq!(status("/no/such/program", io::ErrorKind::NotFound), 127);
        assert_eq!(status("/etc/passwd", io::ErrorKind::PermissionDenied), 126);
        assert_eq!(status("/etc/passwd", io::ErrorKind::NotFound), 126, "a script whose interpreter is missing");
    }

    #[test]
    fn a_missing_library_names_every_place_that_was_looked_at() {
        let failure = Failure::LibraryNotFound(vec!["/a/libterrace.so".into(), "/b/libterrace.so".into()]);
        assert_eq!(failure.exit_status(), 125);
        let text = failure.to_string();
        assert!(text.contains("/a/libterrace.so") && text.contains("/b/libterrace.so"), "{text}");
    }
}
