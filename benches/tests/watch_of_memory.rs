//! The watch beside a scenario. One test in a process of its own: what is resident is the whole process's, and another test that
//! frees its memory meanwhile would be taken for this one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use terrace_bench::scenarios::held::Held;
use terrace_bench::scenarios::stage::{HOUR, Stage};

#[test]
fn what_is_allocated_is_seen_and_a_panic_ends_the_watch() {
    let stage = Stage::new(1.0, HOUR);
    let block = stage.watched(|stage| {
        let block = Held::new(64 << 20);
        stage.set_floor(5);
        let look = stage.look();
        assert!(look.resident >= 60 << 20 && look.live >= 64 << 20 && look.floor == 5, "{look:?}");
        block
    });
    assert!(stage.most(0.0, |look| look.resident as f64) >= f64::from(60 << 20));
    assert!(stage.most(f64::MAX, |look| look.resident as f64) == 0.0);
    drop(block);

    let panicked = catch_unwind(AssertUnwindSafe(|| stage.watched(|_| panic!("as a scenario that fails"))));
    assert!(panicked.is_err());
}
