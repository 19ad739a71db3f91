//! The four placement strategies, on the library's own list of blocks in a buffer.

use osmem_core::{Block, Buffer, HEADER, Heap, Placement};

const KIB: usize = 1024;

/// The classic heap: 64 KiB, with free holes of 16, 1, 30 and 2 KiB in this order, and blocks in use between them.
///
/// Next fit's search last ended behind `last_placed`, counted in holes.
struct Classic<'a> {
    heap: Heap<Buffer<'a>>,
    holes: Vec<Block>,
}

impl<'a> Classic<'a> {
    fn new(words: &'a mut [u64], placement: Placement, last_placed: usize) -> Self {
        assert_eq!(words.len() * 8, 64 * KIB);
        let mut heap = Heap::new(Buffer::new(words), placement, 64 * KIB);
        let sizes = [16 * KIB, KIB, 30 * KIB, 2 * KIB];
        let (mut holes, mut behind) = (Vec::new(), Vec::new());
        for size in sizes {
            holes.push(heap.allocate(size).expect("there is room"));
            behind.push(heap.allocate(64).expect("there is room"));
        }
        let left = 64 * KIB - sizes.iter().sum::<usize>() - 4 * 64 - 9 * HEADER;
        heap.allocate(left).expect("it fits exactly");

        // The only hole there is, so every strategy takes it, and next fit goes on from there.
        heap.release(behind[last_placed]);
        assert_eq!(heap.allocate(64), Some(behind[last_placed]));
        for &hole in &holes {
            heap.release(hole);
        }
        Self { heap, holes }
    }

    /// Which hole a request is placed in, and how many were examined for it.
    fn place(&mut self, size: usize) -> (Option<usize>, usize) {
        let before = self.heap.examined();
        let block = self.heap.allocate(size);
        let hole = block.and_then(|block| self.holes.iter().position(|&hole| hole == block));
        (hole, self.heap.examined() - before)
    }
}

fn buffer() -> Vec<u64> {
    vec![0; 64 * KIB / 8]
}

#[test]
fn the_classic_request_of_2_kib_lands_where_each_strategy_says() {
    for (placement, hole, examined) in [
        (Placement::FirstFit, 0, 1),
        (Placement::BestFit, 3, 4),
        (Placement::WorstFit, 2, 4),
        // From behind the first hole: 1 KiB is too small, so 30 KiB.
        (Placement::NextFit, 2, 2),
    ] {
        let mut words = buffer();
        let mut classic = Classic::new(&mut words, placement, 0);
        assert_eq!(classic.place(2 * KIB), (Some(hole), examined), "{}", placement.name());
    }
}

#[test]
fn next_fit_goes_on_from_the_last_block_and_wraps_around() {
    for (last_placed, hole, examined) in [(0, 2, 2), (1, 2, 1), (2, 3, 1), (3, 0, 1)] {
        let mut words = buffer();
        let mut classic = Classic::new(&mut words, Placement::NextFit, last_placed);
        assert_eq!(classic.place(2 * KIB), (Some(hole), examined), "from behind hole {last_placed}");
    }
}

#[test]
fn worst_fit_spoils_the_largest_hole() {
    for placement in Placement::ALL {
        let mut words = buffer();
        let mut classic = Classic::new(&mut words, placement, 3);
        classic.place(2 * KIB);
        let expected = if placement == Placement::WorstFit { None } else { Some(2) };
        assert_eq!(classic.place(30 * KIB).0, expected, "{}", placement.name());
    }
}

#[test]
fn of_equal_holes_each_strategy_takes_the_first() {
    for placement in Placement::ALL {
        let mut words = buffer();
        let mut heap = Heap::new(Buffer::new(&mut words), placement, 0);
        let blocks: Vec<Block> = (0..6).map(|_| heap.allocate(104).expect("there is room")).collect();
        for i in [4, 2, 0] {
            heap.release(blocks[i]);
        }
        assert_eq!(heap.allocate(104), Some(blocks[0]), "{}", placement.name());
    }
}

#[test]
fn next_fit_follows_when_its_block_is_merged_away() {
    let mut words = buffer();
    let mut heap = Heap::new(Buffer::new(&mut words), Placement::NextFit, 0);
    let blocks: Vec<Block> = (0..5).map(|_| heap.allocate(104).expect("there is room")).collect();
    heap.release(blocks[2]);
    assert_eq!(heap.allocate(104), Some(blocks[2]));
    // The search would go on at block 3; it and block 2 become one. Block 0 lies behind it.
    for i in [0, 2, 3] {
        heap.release(blocks[i]);
    }
    assert_eq!(heap.allocate(104), Some(blocks[2]));
}

#[test]
fn a_full_buffer_gives_nothing_and_the_heap_stays_whole() {
    let mut words = buffer();
    let mut heap = Heap::new(Buffer::new(&mut words), Placement::BestFit, 0);
    let block = heap.allocate(60 * KIB).expect("there is room");
    assert_eq!(heap.allocate(8 * KIB), None);
    assert!(!heap.resize(block, 64 * KIB));
    assert_eq!(heap.blocks().collect::<Vec<_>>(), [block]);
    assert_eq!(block.size(), 60 * KIB);
    assert_eq!(heap.memory().used(), 60 * KIB + HEADER);
}
