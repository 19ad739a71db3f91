//! The raw results: a file of JSON lines, to which each sample is appended as soon as it is taken, so that a run that was
//! broken off goes on where it stopped.
//!
//! ```text
//!  {"header": {...}}     once, at the start: machine, versions, settings
//!  {"sample": {...}}     for each sample, failed ones as well
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What kind of measurement a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Whole programs: time and memory.
    Programs,
    /// Single workloads: time an operation.
    Rows,
    /// Resident memory of whole programs over time, and after the load has gone.
    Memory,
    /// How long single calls take.
    Latency,
    /// Resident memory of the smallest programs.
    Fresh,
    /// Instructions an operation, by callgrind.
    Instructions,
}

/// How an allocator is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Face {
    /// `malloc`, preloaded.
    C,
    /// `GlobalAlloc`, linked.
    Rust,
}

/// What is measured, on what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// The kind of measurement.
    pub suite: Suite,
    /// The program or row.
    pub item: String,
    /// Its threads.
    pub threads: u32,
    /// The face.
    pub face: Face,
    /// The allocator.
    pub allocator: String,
}

/// One sample: what one process reported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// What was measured.
    #[serde(flatten)]
    pub cell: Cell,
    /// The number of the run, from zero.
    pub run: u32,
    /// The figures by name; empty if it failed.
    #[serde(default)]
    pub figures: BTreeMap<String, f64>,
    /// A sum over what was computed, to be the same on all allocators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Nanoseconds and how often, by operation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency: BTreeMap<String, Vec<(f64, u64)>>,
    /// Resident memory over time: seconds and MiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<(f64, f64)>,
    /// Why it failed, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What a reader needs to place the figures. Runs with other settings cannot be mixed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// What must be the same to go on: the scale, the library under test.
    pub settings: BTreeMap<String, String>,
    /// The machine, the date, versions.
    pub facts: Vec<(String, String)>,
    /// What could not be had, as sentences.
    pub missing: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Header(Header),
    Sample(Sample),
}

/// All results of a file.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The header.
    pub header: Header,
    /// The samples in the order in which they were taken.
    pub samples: Vec<Sample>,
}

impl Results {
    /// Reads a file. A last line that was cut off, as when the machine stopped, is left out; its length comes second.
    ///
    /// # Errors
    /// A sentence, if the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<(Self, u64), String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut results = Self::default();
        for (number, line) in text[..whole].lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(Line::Header(header)) => results.header = header,
                Ok(Line::Sample(sample)) => results.samples.push(sample),
                Err(error) => return Err(format!("{}, line {}: {error}", path.display(), number + 1)),
            }
        }
        Ok((results, whole as u64))
    }
}

/// The file that is being written.
pub struct Store {
    file: File,
    path: PathBuf,
    taken: HashSet<(Cell, u32)>,
    broken: HashSet<Cell>,
    checksums: BTreeMap<(String, u32), String>,
}

impl Store {
    /// Opens the file, to go on with what it holds, or begins it.
    ///
    /// # Errors
    /// A sentence, if it cannot be opened or was made with other settings.
    pub fn open(path: &Path, header: &Header) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("{}: {error}", path.display());
        let (earlier, length) = if path.exists() { Results::read(path)? } else { (Results::default(), 0) };
        if !earlier.header.settings.is_empty() && earlier.header.settings != header.settings {
            return Err(format!(
                "{} was measured with {:?}, which cannot be mixed with {:?}; give --fresh to begin anew, or another --out",
                path.display(),
                earlier.header.settings,
                header.settings
            ));
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(cannot)?;
        // What was cut off would spoil the next line.
        file.set_len(length).map_err(cannot)?;
        let mut store =
            Self { file, path: path.into(), taken: HashSet::new(), broken: HashSet::new(), checksums: BTreeMap::new() };
        // The last header counts: of what was missing at first, some may have been found.
        store.write(&Line::Header(header.clone()))?;
        for sample in &earlier.samples {
            store.note(sample);
        }
        Ok(store)
    }

    /// Whether a sample was taken, or its cell failed before.
    pub fn has(&self, cell: &Cell, run: u32) -> bool {
        self.broken.contains(cell) || self.taken.contains(&(cell.clone(), run))
    }

    /// Appends a sample. One whose checksum differs from that of the same work on another allocator becomes a failed one.
    ///
    /// # Errors
    /// A sentence, if it cannot be written.
    pub fn append(&mut self, mut sample: Sample) -> Result<Sample, String> {
        let first = self.checksums.get(&(sample.cell.item.clone(), sample.cell.threads));
        if let (Some(first), Some(found)) = (first, &sample.checksum)
            && first != found
        {
            sample.failed = Some(format!("it computed {found}, the first allocator {first}"));
            sample.figures.clear();
        }
        self.write(&Line::Sample(sample.clone()))?;
        self.note(&sample);
        Ok(sample)
    }

    fn note(&mut self, sample: &Sample) {
        if sample.failed.is_some() {
            self.broken.insert(sample.cell.clone());
        } else if let Some(checksum) = &sample.checksum {
            self.checksums.entry((sample.cell.item.clone(), sample.cell.threads)).or_insert_with(|| checksum.clone());
        }
        self.taken.insert((sample.cell.clone(), sample.run));
    }

    fn write(&mut self, line: &Line) -> Result<(), String> {
        let text = serde_json::to_string(line).map_err(|error| error.to_string())? + "\n";
        self.file.write_all(text.as_bytes()).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// The numbers of a report by name; other values are left out.
pub fn numbers(report: &Map<String, Value>) -> BTreeMap<String, f64> {
    report.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(scale: &str) -> Header {
        Header { settings: BTreeMap::from([("scale".into(), scale.into())]), ..Header::default() }
    }

    fn sample(allocator: &str, run: u32, checksum: &str) -> Sample {
        let cell = Cell {
            suite: Suite::Programs,
            item: "server".into(),
            threads: 2,
            face: Face::C,
            allocator: allocator.into(),
        };
        Sample {
            cell,
            run,
            figures: BTreeMap::from([("wall_ns".into(), 5.0)]),
            checksum: Some(checksum.into()),
            latency: BTreeMap::new(),
            memory: vec![(0.5, 1.0)],
            failed: None,
        }
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("results.jsonl");
        (folder, path)
    }

    #[test]
    fn a_run_that_was_broken_off_goes_on_where_it_stopped() {
        let (_folder, path) = file();
        let mut store = Store::open(&path, &header("1")).expect("a new file");
        store.append(sample("a", 0, "x")).expect("a sample");
        drop(store);
        // The machine stopped in the middle of a line.
        let whole = std::fs::read_to_string(&path).expect("the file");
        std::fs::write(&path, format!("{whole}{{\"sample\": {{\"sui")).expect("the cut file");
        let mut store = Store::open(&path, &header("1")).expect("the file again");
        assert!(store.has(&sample("a", 0, "x").cell, 0));
        assert!(!store.has(&sample("a", 0, "x").cell, 1) && !store.has(&sample("b", 0, "x").cell, 0));
        store.append(sample("a", 1, "x")).expect("a sample");
        let (results, _) = Results::read(&path).expect("a whole file");
        assert_eq!(results.samples.len(), 2);
        assert_eq!(results.samples[1].figures["wall_ns"], 5.0);
        assert_eq!(results.samples[1].memory, [(0.5, 1.0)]);
    }

    #[test]
    fn results_of_other_settings_are_not_mixed() {
        let (_folder, path) = file();
        drop(Store::open(&path, &header("1")).expect("a new file"));
        let refused = Store::open(&path, &header("0.5")).err().expect("a refusal");
        assert!(refused.contains("cannot be mixed"), "{refused}");
    }

    #[test]
    fn another_checksum_is_a_failure_and_the_cell_is_not_tried_again() {
        let (_folder, path) = file();
        let mut store = Store::open(&path, &header("1")).expect("a new file");
        store.append(sample("a", 0, "x")).expect("a sample");
        let found = store.append(sample("b", 0, "y")).expect("a sample");
        assert_eq!(found.failed.as_deref(), Some("it computed y, the first allocator x"));
        assert!(store.has(&found.cell, 7), "a cell that failed is left alone");
        drop(store);
        let store = Store::open(&path, &header("1")).expect("the file again");
        assert!(store.has(&found.cell, 7));
    }

    #[test]
    fn what_is_not_a_result_is_refused_with_its_line() {
        let (_folder, path) = file();
        std::fs::write(&path, "{\"header\": {\"settings\": {}, \"facts\": [], \"missing\": []}}\nnonsense\n")
            .expect("a file");
        assert!(Results::read(&path).expect_err("a refusal").contains("line 2"));
    }
}
