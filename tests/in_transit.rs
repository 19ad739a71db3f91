//! Blocks on their way home to a thread that sleeps. In a process of its own: where hundreds of threads have been, a thread takes a few
//! slabs before it comes round to the one that has something.

#[path = "common/alone.rs"]
mod alone;
use alone::alone;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use terrace::Terrace;

#[test]
fn what_was_sent_to_an_owner_that_sleeps_serves_whoever_needs_it() {
    alone(send_to_a_sleeping_owner);
}

fn send_to_a_sleeping_owner() {
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

/// A block that another sleeping thread has allocated, freed by one that uses such blocks itself, as its next ones tell.
fn comes_back_to_whoever_frees_it(size: usize) -> bool {
    let layout = Layout::from_size_align(size, 8).unwrap();
    // SAFETY: the size is not zero.
    let allocate = move || unsafe { Terrace.alloc(layout) }.expose_provenance();
    // SAFETY: the blocks are of this layout and given up.
    let free = move |block| unsafe { Terrace.dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
    let ((give, take), (end, ends)) = (channel(), channel::<()>());
    let owner = std::thread::spawn(move || {
        give.send([(); 3].map(|()| allocate())).unwrap();
        ends.recv().unwrap_err();
    });
    let user = std::thread::spawn(move || {
        let own = allocate();
        let others = take.recv().unwrap();
        others.into_iter().for_each(free);
        let again = [(); 3].map(|()| allocate());
        [own].into_iter().chain(again).for_each(free);
        // One in 64 goes home all the same.
        let count = again.iter().filter(|block| others.contains(block)).count();
        assert!(count != 1, "of {others:?} came back {again:?}");
        count > 0
    });
    let came_back = user.join();
    drop(end);
    owner.join().unwrap();
    came_back.unwrap()
}

#[test]
fn who_takes_blocks_of_a_class_keeps_those_that_it_frees_of_others_if_they_share_no_cache_line() {
    // Alone: a list that is nearly full, as one may find that takes up what another thread left, keeps no more.
    alone(|| {
        let came_back = [16, 112, 128, 1024, 32 << 10].map(comes_back_to_whoever_frees_it);
        assert_eq!(came_back, [false, false, true, true, true]);
    });
}

/// How often a block comes back to a thread that frees it again and again, while the thread whose it is sleeps.
fn rounds_until_it_goes_home(layout: Layout) -> usize {
    // SAFETY: the size is not zero.
    let allocate = move || unsafe { Terrace.alloc(layout) }.expose_provenance();
    // SAFETY: the blocks are of this layout and given up.
    let free = move |block| unsafe { Terrace.dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
    let ((give, take), (end, ends)) = (channel(), channel::<()>());
    let owner = std::thread::spawn(move || {
        give.send(allocate()).unwrap();
        ends.recv().unwrap_err();
    });
    let user = std::thread::spawn(move || {
        let own = [(); 3].map(|()| allocate());
        let others = take.recv().unwrap();
        own.into_iter().for_each(free);
        free(others);
        let mut rounds = 0;
        loop {
            let block = allocate();
            free(block);
            if block != others || rounds == 1000 {
                return rounds;
            }
            rounds += 1;
        }
    });
    let rounds = user.join();
    drop(end);
    owner.join().unwrap();
    rounds.unwrap()
}

#[test]
fn a_block_that_another_thread_keeps_goes_home_after_a_while() {
    alone(|| {
        let rounds = [128, 1024].map(|size| rounds_until_it_goes_home(Layout::from_size_align(size, 8).unwrap()));
        // The threads' own blocks count as well.
        assert!(rounds.iter().all(|&rounds| rounds <= 130) && rounds.iter().sum::<usize>() >= 60, "{rounds:?}");
    });
}
