//! The debug walker: checks that the structures of the heap are whole.
//!
//! Slabs are looked at one cache after the other, each with that cache's lock held, and runs with their arena's. A cache's
//! lock ranks above the arenas', so both can be held here. Magazines are looked at for the calling thread alone: those of
//! others are nobody else's to touch. Meant for tests, after each step of an oracle, and for a suspicion in the field.

use crate::arena::ARENAS;
use crate::tcache::{self, CACHES};

/// Checks every structure that can be checked while other threads go on. Panics, with a sentence, where one is not whole.
pub fn verify() {
    tcache::check_own();
    for cache in CACHES.iter() {
        cache.with_slabs_at_rest(|| {
            ARENAS.check(|slab| {
                if cache.owns(slab) {
                    slab.check();
                }
            });
        });
    }
}
