//! What a subcommand looks at: a process, a core file, or a look that was saved with `terrace map --json`.

use crate::failure::Failure;
use crate::snapshot::{FORM, Snapshot};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A process by its number.
    Process(u32),
    /// A core file, or a saved look.
    File(PathBuf),
}

impl FromStr for Target {
    type Err = std::convert::Infallible;

    /// A number is a process; a file whose name is a number is named as `./123`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::File(text.into()), Self::Process))
    }
}

impl Target {
    /// Looks once.
    pub fn look(&self) -> Result<Snapshot, Failure> {
        match self {
            Self::Process(pid) => crate::remote::look(*pid),
            Self::File(path) => {
                let unreadable = |error| Failure::Unreadable(path.display().to_string(), error);
                let mut file = File::open(path).map_err(unreadable)?;
                let mut first = [0; 1];
                let is_saved = file.read(&mut first).map_err(unreadable)? == 1 && first == *b"{";
                if !is_saved {
                    return crate::remote::look_at_core(path);
                }
                let text = std::fs::read_to_string(path).map_err(unreadable)?;
                let refused = |error: String| Failure::NotASnapshot(path.clone(), error);
                let snapshot: Snapshot = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
                if snapshot.form != FORM {
                    return Err(refused(format!("it has form {}, and this command reads form {FORM}", snapshot.form)));
                }
                Ok(snapshot)
            }
        }
    }

    /// What it is called in a sentence.
    pub fn name(&self) -> String {
        match self {
            Self::Process(pid) => format!("process {pid}"),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Whether a second look can differ from the first.
    pub fn goes_on(&self) -> bool {
        matches!(self, Self::Process(_))
    }
}
