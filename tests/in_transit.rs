//! Blocks on their way home to a thread that sleeps. In a process of its own: where hundreds of threads have been, a thread takes a few
//! slabs before it comes round to the one that has something.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;
use terrace::Terrace;

#[test]
fn what_was_sent_to_an_owner_that_sleeps_serves_whoever_needs_it() {
    const BLOCKS: usize = 1000;
    let layout = Layout::from_size_align(1024, 8).unwrap();
    // SAFETY: the size is not zero.
    let allocate =
        |count| (0..count).map(|_| unsafe { Terrace.alloc(layout) }.expose_provenance()).collect::<Vec<usize>>();
    // SAFETY: the blocks are of this layout and given up.
    let free = |block| unsafe { Terrace.dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
    let (sent, asleep) = (Mutex::new(Vec::new()), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            *sent.lock().unwrap() = allocate(BLOCKS);
            asleep.wait();
            asleep.wait();
        });
        asleep.wait();
        // In a thread without a slab of the class. The statistics would have the owner's blocks settled.
        let user = scope.spawn(|| {
            let sent = std::mem::take(&mut *sent.lock().unwrap());
            sent.iter().copied().for_each(free);
            let again = allocate(BLOCKS / 2);
            let recycled = again.iter().filter(|block| sent.contains(block)).count();
            again.into_iter().for_each(free);
            recycled
        });
        let recycled = user.join();
        asleep.wait();
        let recycled = recycled.unwrap();
        assert!(recycled >= BLOCKS / 2 * 9 / 10, "{recycled} blocks were used again, of {}", BLOCKS / 2);
    });
}
