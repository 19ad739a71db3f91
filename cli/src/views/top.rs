//! `terrace top`: all processes on Terrace, a line each.

use crate::ledger::{Ledger, live_bytes};
use crate::snapshot::{CacheState, Snapshot};
use crate::units::{Share, Size};
use clap::ValueEnum;
use std::cmp::Reverse;
use std::fmt::Write;

/// What the processes are sorted by, the largest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Order {
    /// Memory of the whole process.
    #[default]
    Resident,
    /// Blocks that the program holds.
    Live,
    /// What the allocator holds beyond that.
    Held,
}

/// One process.
struct Row {
    pid: u32,
    name: String,
    threads: usize,
    live: u64,
    ledger: Ledger,
}

/// The table; `forbidden` processes could not be looked at.
pub fn table(snapshots: &[Snapshot], forbidden: usize, order: Order) -> String {
    let mut rows: Vec<Row> = snapshots.iter().map(Row::of).collect();
    rows.sort_by_key(|row| {
        let key = match order {
            Order::Resident => row.ledger.resident,
            Order::Live => row.live,
            Order::Held => row.ledger.held(),
        };
        (Reverse(key), row.pid)
    });
    let mut text = format!(
        "{:>8} {:>11} {:>11} {:>11} {:>6} {:>11} {:>11} {:>11} {:>7}  {}\n",
        "PID", "resident", "live", "held", "held", "caches", "fragments", "decaying", "threads", "name"
    );
    for Row { pid, name, threads, live, ledger } in &rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{pid:>8} {:>11} {:>11} {:>11} {:>6} {:>11} {:>11} {:>11} {threads:>7}  {name}",
            Size(ledger.resident),
            Size(*live),
            Size(ledger.held()),
            Share(ledger.held(), ledger.resident),
            Size(ledger.caches()),
            Size(ledger.fragmentation()),
            Size(ledger.decaying()),
        );
    }
    if rows.is_empty() {
        text.push_str("No process on Terrace was found.\n");
    }
    if forbidden > 0 {
        let _ = match forbidden {
            1 => writeln!(text, "One more process could not be looked at: it belongs to another user."),
            _ => writeln!(text, "{forbidden} more processes could not be looked at: they belong to others."),
        };
    }
    text
}

impl Row {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            pid: snapshot.process.pid,
            name: snapshot.process.name.clone(),
            threads: snapshot.caches.iter().filter(|cache| cache.state == CacheState::Attached).count(),
            live: live_bytes(snapshot),
            ledger: Ledger::of(snapshot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;

    #[test]
    fn processes_are_sorted_by_what_is_asked_for() {
        let (mut small, large) = (sample(), sample());
        small.process.pid = 12;
        small.process.resident_bytes -= 2 << 20;
        small.classes[0].live += 1 << 20;
        let pids = |order| {
            let text = table(&[small.clone(), large.clone()], 0, order);
            text.lines()
                .skip(1)
                .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
                .collect::<Vec<u32>>()
        };
        assert_eq!(pids(Order::Resident), [4711, 12]);
        assert_eq!(pids(Order::Live), [12, 4711]);
    }

    #[test]
    fn each_process_has_its_accounts() {
        let text = table(&[sample()], 3, Order::Held);
        let line = text.lines().nth(1).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words.join(" "), "4711 21.8 MiB 14.5 MiB 5.6 MiB 26 % 198.0 KiB 1.7 MiB 3.3 MiB 3 shop-server");
        assert!(text.ends_with("3 more processes could not be looked at: they belong to others.\n"));
        assert!(
            table(&[], 1, Order::Live)
                .ends_with("One more process could not be looked at: it belongs to another user.\n")
        );
        assert!(table(&[], 0, Order::Live).contains("No process on Terrace"));
    }
}
