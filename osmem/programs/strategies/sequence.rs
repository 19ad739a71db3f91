//! The calls to compare: recorded, random, or the textbook's.

use std::collections::BTreeMap;

use osmem_core::HEADER;

/// A call that concerns the heap. Blocks have numbers.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Allocate { block: usize, size: usize },
    Resize { block: usize, size: usize },
    Free { block: usize },
}

/// The largest payload that libosmem keeps on its heap; larger blocks are mapped, and concern no placement.
pub const LARGEST: usize = 128 * 1024 - HEADER - 8;

/// A heap of this many bytes, and of no more.
pub const CLASSIC_HEAP: usize = 64 * 1024;
const CLASSIC_HOLES: [usize; 4] = [16 * 1024, 1024, 30 * 1024, 2 * 1024];
const BETWEEN: usize = 64;

/// The textbook's heap, and then the request.
///
/// The block behind the first hole is the last that was placed before: there next fit goes on.
pub fn classic() -> Vec<Step> {
    let mut steps = Vec::new();
    for (i, size) in CLASSIC_HOLES.into_iter().enumerate() {
        steps.push(Step::Allocate { block: i, size });
        steps.push(Step::Allocate { block: i + 4, size: BETWEEN });
    }
    let left = CLASSIC_HEAP - CLASSIC_HOLES.iter().sum::<usize>() - 4 * BETWEEN - 9 * HEADER;
    steps.push(Step::Allocate { block: 8, size: left });
    steps.push(Step::Free { block: 4 });
    steps.push(Step::Allocate { block: 4, size: BETWEEN });
    steps.extend((0..4).map(|block| Step::Free { block }));
    steps.push(Step::Allocate { block: 9, size: 2 * 1024 });
    steps
}

/// Which hole of the textbook's heap begins so far behind the heap's start, and its size.
pub fn classic_hole_at(offset: usize) -> Option<(usize, usize)> {
    let mut start = 0;
    for (i, size) in CLASSIC_HOLES.into_iter().enumerate() {
        if start == offset {
            return Some((i, size));
        }
        start += size + BETWEEN + 2 * HEADER;
    }
    None
}

/// A program that allocates until some hundred blocks live, and then keeps about as many: small ones mostly.
pub fn random(calls: usize, largest: usize, seed: u64) -> Vec<Step> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % limit
    };
    let mut live = Vec::new();
    let mut steps = Vec::new();
    for block in 0..calls {
        let size = if below(4) == 0 { below(largest) + 1 } else { below(largest / 10 + 1) + 1 };
        if below(1000) >= live.len() {
            live.push(block);
            steps.push(Step::Allocate { block, size });
        } else {
            let chosen = below(live.len());
            if below(10) == 0 {
                steps.push(Step::Resize { block: live[chosen], size });
            } else {
                steps.push(Step::Free { block: live.swap_remove(chosen) });
            }
        }
    }
    steps
}

/// Reads a recording. Large blocks become nothing, since they are mapped.
pub fn recorded(text: &str) -> Result<Vec<Step>, String> {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let wrong = || format!("line {} is no call: {line}", i + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((&function, rest)) = words.split_first() else { continue };
        let name = rest.first().ok_or_else(wrong)?;
        let numbers: Result<Vec<usize>, _> = rest[1..].iter().map(|word| word.parse()).collect();
        let size = match (function, &numbers.map_err(|_| wrong())?[..]) {
            ("malloc" | "realloc", &[size]) => size,
            ("calloc", &[count, size]) => count.checked_mul(size).ok_or_else(wrong)?,
            ("free", []) => 0,
            _ => return Err(wrong()),
        };
        let known = names.get(name).copied();
        match (known, size) {
            (None, 1..=LARGEST) => {
                names.insert(name, i);
                steps.push(Step::Allocate { block: i, size });
            }
            (Some(block), 1..=LARGEST) if function == "realloc" => steps.push(Step::Resize { block, size }),
            (Some(_), 1..=LARGEST) => return Err(format!("line {}: {name} is in use", i + 1)),
            (Some(block), _) => {
                names.remove(name);
                steps.push(Step::Free { block });
            }
            (None, _) => {}
        }
    }
    Ok(steps)
}
