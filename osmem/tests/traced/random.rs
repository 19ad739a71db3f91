//! Thousands of random sequences, in both editions, each compared with the model call by call.

use crate::library::{EDITIONS, Edition};
use crate::model::{Model, Place};
use crate::story::K128;
use crate::trace::{Command, as_text, play};

/// For each edition, unless OSMEM_SEQUENCES says otherwise.
const SEQUENCES: u64 = 1000;
const SLOTS: usize = 24;
/// The driver keeps a second copy of the heap; longer sequences would outgrow it.
const LARGEST_HEAP: usize = 8 << 20;

/// A small random number generator (xorshift), for sequences that can be played again.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// What a slot's pointer is good for.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Empty,
    Live,
    /// Freed to the heap, and nothing was allocated since: it may be freed again.
    JustFreed,
}

/// A sequence of calls that keeps to the header's rules.
pub fn sequence(edition: Edition, random: &mut Random) -> Vec<Command> {
    let mut model = Model::new(edition);
    let mut states = [State::Empty; SLOTS];
    let mut script = Vec::new();
    let length = random.one_of(&[5, 20, 60, 120]);
    // Some sequences are of small blocks, some of any.
    let largest = random.one_of(&[300, 3000, 40_000, K128]);
    let foreign = random.below(5) == 0;

    while script.len() < length && model.end < LARGEST_HEAP {
        let slot = random.below(SLOTS);
        let command = match random.below(100) {
            0..45 if states[slot] != State::Live => {
                let size = some_size(edition, random, largest, K128);
                if random.below(3) == 0 {
                    let size = if random.below(2) == 0 { some_size(edition, random, largest, 4096) } else { size };
                    let count = random.one_of(&[1, 1, 2, 7]);
                    Command::Calloc { to: slot, count, size: size / count }
                } else {
                    Command::Malloc { to: slot, size }
                }
            }
            45..72 => Command::Realloc { to: slot, from: slot, size: some_size(edition, random, largest, K128) },
            72..97 if states[slot] != State::Empty => Command::Free { slot },
            97..100 if foreign => Command::Sbrk { bytes: random.one_of(&[8, 4096, 4096, 100, 3]) },
            _ => continue,
        };
        if matches!(command, Command::Realloc { .. }) && states[slot] == State::Empty {
            continue;
        }
        // Any address will do for what is mapped here.
        let expected = model.step(&command, K128 << 20);
        match command {
            Command::Free { .. } => states[slot] = after_free(&model, slot),
            Command::Realloc { size: 0, .. } => states[slot] = after_free(&model, slot),
            Command::Sbrk { .. } => {}
            _ => {
                for state in &mut states {
                    if *state == State::JustFreed {
                        *state = State::Empty;
                    }
                }
                if expected.result.is_some() {
                    states[slot] = State::Live;
                }
            }
        }
        script.push(command);
    }
    script
}

fn after_free(model: &Model, slot: usize) -> State {
    match model.place(slot) {
        Some(Place::Heap(_)) => State::JustFreed,
        _ => State::Empty,
    }
}

/// Sizes of every kind, and more often those next to the limit.
fn some_size(edition: Edition, random: &mut Random, largest: usize, limit: usize) -> usize {
    match random.below(20) {
        0 => limit - edition.header - 16 + random.below(32),
        1 => random.below(largest) + 1,
        2..6 => random.one_of(&[0, 1, 7, 8, 9, 24, 32, 40, 48, 64, 100, 1000, 4096]),
        6..12 => random.below(300) + 1,
        _ => random.below(largest / 4) + 1,
    }
}

fn play_random_sequences(edition: Edition) {
    let sequences = std::env::var("OSMEM_SEQUENCES").map_or(SEQUENCES, |count| count.parse().expect("a number"));
    let scripts: Vec<_> = (0..sequences).map(|seed| sequence(edition, &mut Random::new(seed))).collect();
    let played = play(edition, &scripts);
    assert_eq!(played.len(), scripts.len());
    for (seed, (script, steps)) in scripts.iter().zip(&played).enumerate() {
        assert_eq!(steps.len(), script.len(), "sequence {seed}");
        let mut model = Model::new(edition);
        for (i, (command, step)) in script.iter().zip(steps).enumerate() {
            if let Err(difference) = model.check(command, step) {
                let script = as_text(&script[..=i]);
                panic!("sequence {seed}, header of {} bytes, after\n{script}{difference}", edition.header);
            }
        }
    }
}

#[test]
fn random_sequences_with_a_header_of_24_bytes() {
    play_random_sequences(EDITIONS[0]);
}

#[test]
fn random_sequences_with_a_header_of_32_bytes() {
    play_random_sequences(EDITIONS[1]);
}
