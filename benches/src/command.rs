//! The command line that both benchmark programs share.
//!
//! ```text
//! PROGRAM list                                       the rows, as lines of JSON
//! PROGRAM run HEAP ROW [--scale FACTOR]              one timed run, as a line of JSON
//! PROGRAM latency HEAP ROW [--scale FACTOR]          one run with every call timed, as a line of JSON
//! PROGRAM count HEAP ROW OPERATIONS                  exactly the operations and nothing else, for counting instructions
//! ```

use crate::catalogue::{Row, rows};
use crate::heaps::{Heap, Timed};
use crate::latency;
use crate::measure::Plan;

/// A parsed command.
#[derive(Debug)]
pub enum Command {
    /// Print the rows.
    List,
    /// Run one row on one heap.
    Run {
        /// The heap's name.
        heap: String,
        /// The row's name.
        row: String,
        /// How much of the row.
        amount: Amount,
    },
}

/// How long a run is to be.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// A multiple of the row's operations, timed in slices after a warm-up.
    Scale(f64),
    /// The same with every call timed.
    Timed(f64),
    /// This many operations, in one go.
    Operations(u64),
}

impl Command {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// A sentence that says what was wrong.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (heap, row, amount) = match words[..] {
            ["list"] => return Ok(Self::List),
            ["run", heap, row] => (heap, row, Amount::Scale(1.0)),
            ["run", heap, row, "--scale", factor] => match factor.parse() {
                Ok(factor) if factor > 0.0 => (heap, row, Amount::Scale(factor)),
                _ => return Err(format!("{factor} is not a factor above zero")),
            },
            ["latency", heap, row] => (heap, row, Amount::Timed(1.0)),
            ["latency", heap, row, "--scale", factor] => match factor.parse() {
                Ok(factor) if factor > 0.0 => (heap, row, Amount::Timed(factor)),
                _ => return Err(format!("{factor} is not a factor above zero")),
            },
            ["count", heap, row, operations] => match operations.parse() {
                Ok(operations) => (heap, row, Amount::Operations(operations)),
                Err(_) => return Err(format!("{operations} is not a number of operations")),
            },
            _ => return Err("use: list | run|latency HEAP ROW [--scale FACTOR] | count HEAP ROW OPERATIONS".into()),
        };
        Ok(Self::Run { heap: heap.into(), row: row.into(), amount })
    }
}

/// Prints the rows as lines of JSON.
pub fn list<H: Heap>() {
    for Row { name, group, threads, operations, what, .. } in rows::<H>() {
        println!(
            "{{\"row\": \"{name}\", \"group\": \"{group}\", \"threads\": {threads}, \"operations\": {operations}, \
             \"what\": \"{what}\"}}"
        );
    }
}

/// Runs the row on `H`, and prints the report as a line of JSON; `label` is the name that the line gives to the heap.
///
/// # Errors
/// If there is no such row.
pub fn run<H: Heap>(label: &str, row: &str, amount: Amount) -> Result<(), String> {
    if let Amount::Timed(factor) = amount {
        return timed::<H>(label, row, factor);
    }
    let rows = rows::<H>();
    let row =
        rows.iter().find(|candidate| candidate.name == row).ok_or(format!("there is no row {row}; see `list`"))?;
    let plan = match amount {
        Amount::Scale(factor) | Amount::Timed(factor) => {
            Plan { operations: (row.operations as f64 * factor).ceil() as u64, timed: true }
        }
        Amount::Operations(operations) => Plan { operations, timed: false },
    };
    println!("{{\"heap\": \"{label}\", \"row\": \"{}\", {}}}", row.name, row.run(plan));
    Ok(())
}

/// Runs the row on `H` with every call timed. A first run, of a tenth, warms the heap and is forgotten: so the page faults of
/// fresh memory are not among the times.
fn timed<H: Heap>(label: &str, row: &str, factor: f64) -> Result<(), String> {
    let rows = rows::<Timed<H>>();
    let row =
        rows.iter().find(|candidate| candidate.name == row).ok_or(format!("there is no row {row}; see `list`"))?;
    let operations = (row.operations as f64 * factor).ceil() as u64;
    let mut timer = row.start();
    timer(operations.div_ceil(10));
    let calibration = latency::begin();
    let wall_ns = timer(operations).as_nanos();
    println!(
        "{{\"heap\": \"{label}\", \"row\": \"{}\", \"operations\": {operations}, \"wall_ns\": {wall_ns}, \"latency\": {}}}",
        row.name,
        latency::report(&calibration)
    );
    Ok(())
}
