//! What a thread had at hand when it ended (decision 30). In a process of its own, where no other thread takes up its cache.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use terrace::Terrace;

#[path = "common/alone.rs"]
mod alone;
use alone::alone;

const LAYOUT: Layout = Layout::new::<[u8; 1000]>();

fn allocate() -> usize {
    // SAFETY: the size is not zero.
    unsafe { Terrace.alloc(LAYOUT) }.expose_provenance()
}

fn free(block: usize) {
    // SAFETY: the block is of this layout and given up.
    unsafe { Terrace.dealloc(std::ptr::with_exposed_provenance_mut(block), LAYOUT) }
}

fn cached() -> usize {
    terrace::statistics().cached_bytes
}

/// Threads that are there at the same time, each of which frees so many blocks and ends.
fn leave_at_hand(threads: usize, blocks: usize) {
    let all_there = Arc::new(Barrier::new(threads));
    let life = |_| {
        let all_there = Arc::clone(&all_there);
        std::thread::spawn(move || {
            let blocks: Vec<usize> = (0..blocks).map(|_| allocate()).collect();
            all_there.wait();
            blocks.into_iter().for_each(free);
        })
    };
    let threads: Vec<_> = (0..threads).map(life).collect();
    // The end of a scope would not wait for what a thread does after its function.
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn the_next_thread_hands_out_what_the_last_one_freed_last() {
    alone(|| {
        let freed = std::thread::spawn(|| {
            let blocks: Vec<usize> = (0..8).map(|_| allocate()).collect();
            let freed = [5, 0, 7, 2].map(|index| blocks[index]);
            freed.into_iter().for_each(free);
            freed
        });
        let freed = freed.join().unwrap();
        let taken = std::thread::spawn(|| [(); 4].map(|()| allocate()));
        let mut taken = taken.join().unwrap();
        taken.reverse();
        assert_eq!(taken, freed);
    });
}

#[test]
fn an_explicit_purge_returns_what_ended_threads_had_at_hand() {
    alone(|| {
        let before = cached();
        leave_at_hand(16, 20);
        let left = cached() - before;
        assert!(left >= 16 * 10 * 1000, "{left} bytes were left at hand");
        let live = terrace::statistics().live_bytes;
        terrace::purge();
        assert_eq!((cached(), terrace::statistics().live_bytes), (0, live));
    });
}

#[test]
fn a_thread_that_goes_on_returns_what_ended_threads_had_at_hand() {
    alone(|| {
        let before = cached();
        // With this thread's, twice as many caches as one turn looks at.
        leave_at_hand(63, 20);
        let (left, begun) = (cached() - before, Instant::now());
        assert!(left >= 16 * 10 * 1000, "{left} bytes were left at hand");
        while cached() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} of {left} bytes are still at hand", cached());
            let large = Layout::new::<[u8; 2 << 20]>();
            // SAFETY: the size is not zero.
            let block = unsafe { Terrace.alloc(large) };
            // SAFETY: the block was just allocated.
            unsafe { Terrace.dealloc(block, large) };
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_child_of_fork_has_what_ended_threads_had_at_hand() {
    alone(|| {
        leave_at_hand(16, 20);
        let live = terrace::statistics().live_bytes;
        // SAFETY: the child only asks the allocator, which is made for that, and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let lost = terrace::statistics().live_bytes != live;
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(lost)) };
        }
        let mut status = 0;
        // SAFETY: the status is a local variable.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "blocks that ended threads had at hand are lost in the child");
    });
}
