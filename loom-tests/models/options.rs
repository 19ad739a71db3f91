//! Options (`src/options.rs`) read from the environment by one thread while others ask for them, as happens when the loader
//! allocates before the environment is there.

use super::{Control, Model, join, spawn};
use crate::attended::words;
use crate::options::{OPTIONS, STATS_LEN};
use crate::sync::model::keep;
use crate::tcache::CACHES;
use crate::{arena::Source, c_face, os, statistics};

pub(super) const MODELS: &[fn() -> Model] = &[|| Model {
    name: "options_are_as_the_environment_says_or_as_they_were",
    protocol: "options",
    threads: 3,
    bound: Some(2),
    control: Control::Bug("options are read by everyone who asks"),
    body,
}];

fn body() {
    let variables = [
        ("TERRACE_ARENAS", "2"),
        ("TERRACE_SOURCE", "mmap"),
        ("TERRACE_PURGE_DELAY_MS", "5"),
        ("TERRACE_MMAP_THRESHOLD", "65536"),
        ("TERRACE_BACKGROUND", "1"),
        ("TERRACE_HUGE_PAGES", "1"),
        ("TERRACE_LIMIT", "1G"),
        ("TERRACE_SOFT_LIMIT", "512M"),
        ("TERRACE_THREAD_CACHE_BYTES", "65536"),
        ("TERRACE_TRIM_THRESHOLD", "8192"),
        ("TERRACE_MMAP_MAX", "7"),
        ("TERRACE_PERTURB", "9"),
        ("TERRACE_HISTORY", "3"),
        ("TERRACE_HISTORY_STACKS", "1"),
        ("TERRACE_HISTORY_AT_EXIT", "4"),
        ("TERRACE_STACKS", "unwind"),
        ("TERRACE_CHECK_ACTION", "2"),
        ("TERRACE_CHECK", "quarantine=8,self-check=3"),
        ("TERRACE_STATS", "1"),
    ];
    for (name, value) in variables {
        // SAFETY: the threads of a model are coroutines of one real thread.
        unsafe { std::env::set_var(name, value) };
    }
    let read = keep(core::cell::Cell::new(0));
    let readers = [(); 2].map(|()| {
        spawn(move || {
            if OPTIONS.read_environment() {
                read.set(read.get() + 1);
            }
            assert_eq!(os::page_size(), 4096);
        })
    });
    assert!(matches!(OPTIONS.arenas(), None | Some(2)));
    assert!([1000, 5].contains(&OPTIONS.purge_delay_ms()));
    assert!([1 << 20, 65536].contains(&OPTIONS.mmap_threshold()));
    join(readers);
    assert_eq!(read.get(), 1, "the environment is read once");
    assert!(OPTIONS.source() == Source::Mappings && OPTIONS.arenas() == Some(2));
    assert_eq!(OPTIONS.stats(&mut [0; STATS_LEN]), Some(c"1"));
    assert!(os::page_size() == 4096 && c_face::malloc_usable_size(core::ptr::null_mut()) == 0);
    assert_eq!((OPTIONS.kept_pages(), OPTIONS.mmap_max(), OPTIONS.perturb_byte()), (2, 7, 9));
    assert_eq!((OPTIONS.limit(), OPTIONS.soft_limit()), (1 << 30, 512 << 20));
    assert!(OPTIONS.background() && OPTIONS.huge_pages() && OPTIONS.thread_cache_bytes() == Some(65536));
    assert!(OPTIONS.has_check(words::ALL) && !OPTIONS.stops_for_debugger());
    assert_eq!((OPTIONS.quarantine_bytes(), OPTIONS.self_check_calls()), (8, 3));
    assert_eq!(OPTIONS.check_action(), (false, true));
    assert_eq!((OPTIONS.history_events(), OPTIONS.history_at_exit()), (3, 4));
    assert!(OPTIONS.history_stacks() && OPTIONS.unwinds());
    statistics::register_exit_report();
    OPTIONS.forget_arenas();
    CACHES.set_arena_count();
    assert_eq!(OPTIONS.arenas(), None);
    for (name, _) in variables {
        // SAFETY: as above.
        unsafe { std::env::remove_var(name) };
    }
}
