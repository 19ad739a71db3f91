//! A cache with a bound on its bytes, in shards: threads look keys up, insert what is missing, and so evict what was used
//! least recently, mostly blocks of other threads.

use super::{Outcome, Work, digest, length, open, stamped};
use crate::rng::Rng;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::thread;

const SHARDS: usize = 16;
const BYTES_PER_SHARD: usize = 2 << 20;
const KEYS: u32 = 60_000;

#[derive(Default)]
struct Shard {
    entries: HashMap<String, Entry>,
    /// Keys by the time of their last use.
    uses: BTreeMap<u64, String>,
    clock: u64,
    bytes: usize,
}

struct Entry {
    value: Vec<u8>,
    used: u64,
}

impl Shard {
    /// The value's reading if the key is there, which becomes the most recent.
    fn get(&mut self, key: &str) -> Option<u64> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        let name = self.uses.remove(&entry.used)?;
        entry.used = self.clock;
        self.uses.insert(self.clock, name);
        Some(open(&entry.value))
    }

    fn insert(&mut self, key: &str, value: Vec<u8>) {
        self.bytes += value.len();
        self.uses.insert(self.clock, key.to_owned());
        self.entries.insert(key.to_owned(), Entry { value, used: self.clock });
        while self.bytes > BYTES_PER_SHARD {
            let Some((_, oldest)) = self.uses.pop_first() else { break };
            if let Some(entry) = self.entries.remove(&oldest) {
                open(&entry.value);
                self.bytes -= entry.value.len();
            }
        }
    }
}

/// A value that follows from its key alone.
fn value_of(number: usize) -> Vec<u8> {
    let mut rng = Rng::new(number as u64);
    let size = length(&mut rng, if number.is_multiple_of(50) { 32_768 } else { 2_048 });
    stamped(size, number as u8)
}

fn look_up(shards: &[Mutex<Shard>], seed: u64, requests: u64) -> u64 {
    let mut rng = Rng::new(seed);
    (0..requests).fold(1_u64, |checksum, _| {
        // Some keys are asked for more often than others.
        let bound = 1 + rng.below(KEYS) as u32;
        let number = rng.below(bound);
        let key = format!("document/{number:06}");
        let shard = &shards[number % SHARDS];
        let found = shard.lock().expect("no thread panics").get(&key);
        let reading = found.unwrap_or_else(|| {
            let value = value_of(number);
            let reading = open(&value);
            let mut shard = shard.lock().expect("no thread panics");
            // Another thread may have been faster.
            if !shard.entries.contains_key(&key) {
                shard.insert(&key, value);
            }
            reading
        });
        checksum.wrapping_add(digest(&(key, reading)))
    })
}

pub fn run(work: Work) -> Outcome {
    let requests = work.amount(1_000_000);
    let shards: Vec<_> = (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect();
    let checksum = thread::scope(|scope| {
        let threads: Vec<_> = (0..work.threads)
            .map(|index| {
                let (shards, share) = (&shards, work.share(requests, index));
                scope.spawn(move || look_up(shards, index as u64, share))
            })
            .collect();
        threads.into_iter().fold(0_u64, |sum, thread| sum.wrapping_add(thread.join().expect("a thread ends well")))
    });
    Outcome { operations: requests, checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_goes_first() {
        let mut shard = Shard::default();
        let third = BYTES_PER_SHARD / 3;
        for key in ["a", "b", "c"] {
            assert_eq!(shard.get(key), None);
            shard.insert(key, stamped(third, 1));
        }
        assert!(shard.get("a").is_some());
        assert_eq!(shard.get("d"), None);
        shard.insert("d", stamped(third, 1));
        assert!(shard.get("a").is_some() && shard.get("b").is_none() && shard.bytes <= BYTES_PER_SHARD);
    }
}
