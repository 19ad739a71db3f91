//! Plays a sequence of calls on a heap in a buffer.

use std::collections::BTreeMap;

use osmem_core::block::payload_for;
use osmem_core::{Block, Buffer, HEADER, Heap, Placement};

use crate::sequence::Step;

/// The most that a heap may need here.
const LARGEST_HEAP: usize = 256 << 20;

/// A stretch of the heap that is in use or free as a whole, headers included.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub bytes: usize,
    pub free: bool,
}

/// What a strategy made of a sequence.
pub struct Outcome {
    pub placement: Placement,
    /// How far the heap's end moved: bytes.
    pub needed: usize,
    pub stretches: Vec<Stretch>,
    pub examined: usize,
    pub searches: usize,
    /// Where the last allocated block lies, counted from the heap's start.
    pub last: usize,
}

impl Outcome {
    /// The payloads that the free stretches could have.
    pub fn holes(&self) -> Vec<usize> {
        self.stretches.iter().filter(|stretch| stretch.free).map(|stretch| stretch.bytes - HEADER).collect()
    }
}

/// Plays `steps`, on a heap that grows from nothing, or on one of `fixed` bytes.
pub fn play(steps: &[Step], placement: Placement, fixed: Option<usize>) -> Result<Outcome, String> {
    // Zeroed memory that is not touched costs nothing.
    let mut words = vec![0u64; fixed.unwrap_or(LARGEST_HEAP) / 8];
    let mut heap = Heap::new(Buffer::new(&mut words), placement, fixed.unwrap_or(0));
    let mut blocks: BTreeMap<usize, Block> = BTreeMap::new();
    let (mut searches, mut last) = (0, None);
    for step in steps {
        match *step {
            Step::Allocate { block, size } => {
                let placed = allocate(&mut heap, size, placement)?;
                searches += 1;
                last = Some(placed);
                blocks.insert(block, placed);
            }
            Step::Free { block } => {
                let old = blocks.remove(&block).expect("only live blocks are freed");
                heap.release(old);
            }
            Step::Resize { block, size } => {
                let old = blocks[&block];
                if !heap.resize(old, payload_for(size).expect("sizes are small")) {
                    // As the library does it: allocate, copy (nothing here), free.
                    let moved = allocate(&mut heap, size, placement)?;
                    searches += 1;
                    heap.release(old);
                    blocks.insert(block, moved);
                }
            }
        }
    }
    let start = heap.blocks().next().map_or(0, |block| block.start().addr().get());
    Ok(Outcome {
        placement,
        needed: heap.memory().used(),
        stretches: stretches(&heap),
        examined: heap.examined(),
        searches,
        last: last.map_or(0, |block| block.start().addr().get() - start),
    })
}

fn allocate(heap: &mut Heap<Buffer>, size: usize, placement: Placement) -> Result<Block, String> {
    let payload = payload_for(size).expect("sizes are neither 0 nor huge");
    heap.allocate(payload).ok_or_else(|| format!("{} needs more than {} bytes", placement.name(), LARGEST_HEAP))
}

fn stretches(heap: &Heap<Buffer>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for block in heap.blocks() {
        let bytes = HEADER + block.size();
        match stretches.last_mut() {
            Some(last) if last.free == block.is_free() => last.bytes += bytes,
            _ => stretches.push(Stretch { bytes, free: block.is_free() }),
        }
    }
    stretches
}
