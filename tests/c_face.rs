//! The C face: C and C++ programs, run on `libterrace.so` by preloading it, that hold it to the manual pages and to the rules
//! for bad calls, for memory that runs out, for dying threads, for `fork`, and for the time before `main`.
//!
//! The programs lie in `tests/c/`; each case of them bears the name of its test here.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{TIME_LIMIT, assert_fine, assert_reported, compile, folder, preloaded, run_within};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Output;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A test for each case of a program, and one that the program has no other cases.
macro_rules! program {
    ($module:ident, $source:literal, $arguments:expr, { $($(#[$attribute:meta])* $name:ident;)* }) => {
        mod $module {
            use super::*;

            fn program() -> &'static PathBuf {
                static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
                PROGRAM.get_or_init(|| compile($source, &$arguments))
            }

            $(
                #[test]
                $(#[$attribute])*
                fn $name() {
                    let output = run_within(preloaded(program()).arg(stringify!($name)), TIME_LIMIT);
                    assert_fine(&output);
                }
            )*

            #[test]
            fn every_case_is_run() {
                let listed = common::program(program()).output().expect("the program can be started");
                let listed = String::from_utf8(listed.stdout).unwrap();
                assert_eq!(listed.lines().collect::<Vec<_>>(), [$(stringify!($name)),*]);
            }
        }
    };
}

program!(conformance, "conformance.c", [], {
    a_request_of_no_bytes_gives_a_pointer_of_its_own;
    a_request_of_no_bytes_gives_a_pointer_of_its_own_at_every_alignment;
    every_block_is_aligned_to_16;
    sizes_above_ptrdiff_max_give_enomem;
    products_that_overflow_give_enomem;
    posix_memalign_refuses_other_alignments_and_touches_nothing;
    posix_memalign_without_memory_touches_nothing;
    aligned_alloc_and_memalign_refuse_what_is_no_power_of_two;
    every_power_of_two_up_to_64_mib_is_kept_as_an_alignment;
    free_keeps_errno;
    free_in_another_thread_keeps_errno;
    realloc_keeps_the_contents_across_all_regimes;
    realloc_keeps_the_contents_step_by_step;
    realloc_of_null_allocates;
    realloc_to_no_bytes_frees;
    realloc_that_fails_leaves_the_block_alone;
    calloc_zeroes_recycled_memory;
    calloc_zeroes_recycled_memory_that_is_locked;
    all_of_the_usable_size_can_be_used;
    valloc_and_pvalloc_keep_to_pages;
    reallocarray_resizes_by_the_product;
    cfree_frees;
    live_blocks_are_disjoint;
});

program!(refusals, "refusals.c", ["-rdynamic"], {
    free_keeps_errno_when_the_kernel_takes_nothing_back;
    realloc_goes_on_without_mremap_and_fails_whole_without_memory;
    a_large_block_is_whole_when_pages_cannot_be_moved;
    a_refused_break_is_replaced_by_mappings;
    memory_that_the_program_takes_by_sbrk_stays_its_own;
    any_refusal_leaves_the_heap_whole;
});

program!(exhaustion, "exhaustion.c", [], {
    blocks_freed_under_a_limit_of_addresses_can_be_had_again_in_any_size;
    blocks_freed_under_a_limit_of_data_can_be_had_again_in_any_size;
    threads_that_run_out_of_memory_together_keep_their_blocks;
    a_process_without_mappings_goes_on_or_is_told;
});

program!(dying_threads, "dying_threads.c", [], {
    destructors_of_keys_allocate_and_free_in_every_round;
    detached_threads_leave_their_blocks_to_others;
    what_a_thread_that_only_frees_frees_is_used_again;
    thousands_of_short_threads_take_no_more_memory_than_their_blocks;
});

program!(dying_threads_in_cpp, "dying_threads.cpp", [], {
    destructors_of_thread_local_objects_allocate_and_free;
});

program!(forks, "forks.c", [], {
    children_of_a_busy_process_have_a_whole_heap;
    several_threads_can_fork_at_once;
    fork_handlers_of_the_program_can_allocate;
    fork_handlers_registered_before_the_library_can_allocate;
    children_free_what_resting_threads_of_the_parent_hold;
});

/// Allocation before `main` and after it, in `dlopen` and `dlsym`, and the options.
mod start {
    use super::*;

    fn program() -> &'static PathBuf {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        PROGRAM.get_or_init(|| compile("early.c", &[]))
    }

    fn plugin() -> &'static PathBuf {
        static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
        PLUGIN.get_or_init(|| compile("plugin.c", &["-shared", "-fPIC"]))
    }

    fn run(case: &str, environment: &[(&str, &str)]) -> Output {
        let mut command = preloaded(program());
        run_within(command.arg(case).arg(plugin()).envs(environment.iter().copied()), TIME_LIMIT)
    }

    #[test]
    fn blocks_from_before_main_are_blocks_like_others() {
        assert_fine(&run("blocks_from_before_main_are_blocks_like_others", &[]));
    }

    #[test]
    fn objects_are_loaded_and_unloaded_while_threads_allocate() {
        assert_fine(&run("objects_are_loaded_and_unloaded_while_threads_allocate", &[]));
    }

    #[test]
    fn the_next_malloc_is_found_by_dlsym() {
        assert_fine(&run("the_next_malloc_is_found_by_dlsym", &[]));
    }

    #[test]
    fn an_object_preloaded_before_or_after_the_library_can_allocate_in_its_constructor() {
        let (library, plugin) = (common::library().display(), plugin().display());
        for preload in [format!("{library}:{plugin}"), format!("{plugin}:{library}")] {
            assert_fine(&run("blocks_from_before_main_are_blocks_like_others", &[("LD_PRELOAD", &preload)]));
        }
    }

    /// What the statistics say after a run with these options: a line's first word, and the rest of the line.
    fn statistics(case: &str, options: &[(&str, &str)]) -> HashMap<String, String> {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let run_number = RUNS.fetch_add(1, Ordering::Relaxed);
        let file = folder().join(format!("statistics-{}-{run_number}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let mut environment = options.to_vec();
        environment.push(("TERRACE_STATS", file.to_str().unwrap()));
        assert_fine(&run(case, &environment));
        let text = std::fs::read_to_string(&file).expect("the statistics were written");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(text.matches("terrace: process").count(), 1, "{text}");
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(word, rest)| (word.to_owned(), rest.trim().to_owned())).collect()
    }

    #[test]
    fn the_option_source_keeps_the_heap_off_the_break() {
        assert!(!statistics("options_are_read", &[])["system"].ends_with(", 0 brk"));
        let mapped = &statistics("options_are_read", &[("TERRACE_SOURCE", "mmap")])["system"];
        assert!(mapped.ends_with(", 0 brk"), "{mapped}");
    }

    #[test]
    fn the_option_arenas_sets_their_number() {
        for count in ["1", "3"] {
            let arenas = &statistics("options_are_read", &[("TERRACE_ARENAS", count)])["arenas"];
            assert!(arenas.starts_with(&format!("{count},")), "{arenas}");
        }
    }

    #[test]
    fn the_option_mmap_threshold_says_which_blocks_get_mappings_of_their_own() {
        // The program holds ten blocks of 200 KiB at its end.
        for (threshold, of_their_own) in [("1048576", 0), ("65536", 10)] {
            let found = statistics("options_are_read", &[("TERRACE_MMAP_THRESHOLD", threshold)]);
            assert!(found["large"].ends_with(&format!("in {of_their_own} blocks")), "{threshold}: {}", found["large"]);
            assert!(found["medium"].ends_with(&format!("in {} blocks", 10 - of_their_own)), "{}", found["medium"]);
        }
    }

    #[test]
    fn the_option_stats_prints_to_standard_error_or_appends_to_a_file() {
        let output = run("options_are_read", &[("TERRACE_STATS", "1")]);
        assert!(output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("terrace: process ") && text.contains("\nlive "), "{text}");

        let file = folder().join(format!("statistics-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        for _ in 0..2 {
            assert_fine(&run("options_are_read", &[("TERRACE_STATS", file.to_str().unwrap())]));
        }
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(text.matches("terrace: process ").count(), 2, "{text}");

        for off in ["", "0"] {
            assert_fine(&run("options_are_read", &[("TERRACE_STATS", off)]));
        }
    }

    #[test]
    fn a_malformed_option_is_reported_once_and_ignored() {
        for (name, value) in [
            ("TERRACE_ARENAS", "many"),
            ("TERRACE_ARENAS", "0"),
            ("TERRACE_ARENAS", "17"),
            ("TERRACE_ARENAS", "-1"),
            ("TERRACE_ARENAS", ""),
            ("TERRACE_ARENAS", "99999999999999999999999"),
            ("TERRACE_MMAP_THRESHOLD", "1M"),
            ("TERRACE_MMAP_THRESHOLD", "1"),
            ("TERRACE_PURGE_DELAY_MS", "soon"),
            ("TERRACE_SOURCE", "disk"),
            ("TERRACE_SOURCE", "mmap "),
        ] {
            let output = run("options_are_read", &[(name, value)]);
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{name}={value}: {said}");
            assert_eq!(said.lines().count(), 1, "{name}={value}: {said}");
            assert!(said.starts_with(&format!("terrace: {name} must be ")), "{name}={value}: {said}");
            assert!(said.contains("ignored"), "{name}={value}: {said}");
        }
    }

    #[test]
    fn options_are_read_when_something_allocates_before_the_c_library_is_ready() {
        let case = "options_are_read_when_something_allocates_before_the_c_library_is_ready";
        let found = statistics(case, &[("TERRACE_ARENAS", "1")]);
        assert!(found["arenas"].starts_with("1,"), "{}", found["arenas"]);
    }
}

/// Calls with pointers that are no live block's: one sentence on standard error, with the call, the address and what is known,
/// and the end of the process.
mod bad_calls {
    use super::*;

    const CALLS: [&str; 3] = ["free", "realloc", "malloc_usable_size"];
    /// Sizes of blocks, asked for and real.
    const SMALL: [(usize, usize); 7] =
        [(16, 16), (24, 32), (100, 112), (1000, 1024), (5000, 5120), (20000, 20480), (32768, 32768)];
    const MEDIUM: [(usize, usize); 2] = [(100_000, 102_400), (1_000_000, 1_003_520)];
    const LARGE: [(usize, usize); 2] =
        [(3_000_000, 3_000_000_usize.next_multiple_of(PAGE)), (80_000_000, 80_000_000_usize.next_multiple_of(PAGE))];
    /// The kernel's page, simulated or not, in bytes.
    const PAGE: usize = match () {
        () if cfg!(simulated_page = "65536") => 65_536,
        () if cfg!(simulated_page = "16384") => 16_384,
        () => 4096,
    };

    fn program() -> &'static PathBuf {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        PROGRAM.get_or_init(|| compile("bad_calls.c", &[]))
    }

    /// Runs a case; what was reported has to name the call and the address that the program announced.
    #[track_caller]
    fn report(arguments: &[&str]) -> String {
        let output = run_within(preloaded(program()).args(arguments), Duration::from_secs(120));
        let announced = String::from_utf8(output.stdout.clone()).unwrap();
        let sentence = assert_reported(&output);
        let (call, address) = announced.trim_end().split_once(' ').expect("the program announces the call");
        // A block that realloc moves is found to be freed by the free that ends the move.
        let names_call = sentence.starts_with(&format!("{call}({address}): "));
        let names_free = call == "realloc" && sentence.starts_with(&format!("free({address}): "));
        assert!(names_call || names_free, "{arguments:?} announced {announced:?} and was reported as {sentence:?}");
        sentence
    }

    #[track_caller]
    fn assert_says(arguments: &[&str], facts: &[&str]) {
        let sentence = report(arguments);
        for fact in facts {
            assert!(sentence.contains(fact), "{arguments:?} should be told {fact:?}: {sentence}");
        }
    }

    #[test]
    fn an_address_that_was_never_given_out_is_reported_as_that() {
        for kind in ["stack", "static", "constant", "function", "mapping", "inaccessible", "break"] {
            for call in CALLS {
                assert_says(&["foreign", call, kind], &["never given out"]);
            }
            assert_says(&["foreign-in-thread", "free", kind], &["never given out"]);
        }
    }

    #[test]
    fn numbers_that_are_no_addresses_are_reported() {
        // Near NULL, not canonical, in the kernel's half, at the ends.
        for number in [
            "1",
            "8",
            "0xfff",
            "0x400000",
            "0x7ffffffffff8",
            "0x800000000000",
            "0xdeadbeefdeadbeef",
            "0x4141414141414141",
            "0x8000000000000000",
            "0xffff800000000000",
            "0xfffffffffffffff8",
            "0xffffffffffffffff",
        ] {
            for call in CALLS {
                assert_says(&["foreign", call, number], &["never given out"]);
            }
        }
    }

    #[test]
    fn a_pointer_into_a_block_is_reported_with_the_offset_and_the_size() {
        for (asked, size) in [&SMALL[..], &MEDIUM, &LARGE].concat() {
            // At 32 KiB slabs have several slices: the middle of a block may begin one.
            for offset in [1, 8, 15, size / 2, size / 2 + 3, size - 16, size - 1] {
                if offset == 0 {
                    continue;
                }
                let facts = [format!("{offset} bytes inside"), format!("block of {size} bytes")];
                let facts = facts.each_ref().map(String::as_str);
                let (asked, offset) = (asked.to_string(), offset.to_string());
                assert_says(&["inside", "free", &asked, &offset], &facts);
                if offset == "8" {
                    assert_says(&["inside", "realloc", &asked, &offset], &facts);
                    assert_says(&["inside", "malloc_usable_size", &asked, &offset], &facts);
                    assert_says(&["inside-in-thread", "free", &asked, &offset], &facts);
                }
            }
        }
    }

    #[test]
    fn a_small_block_freed_twice_in_a_row_is_reported_with_its_size() {
        for (asked, size) in SMALL {
            let (asked, size) = (asked.to_string(), format!("block of {size} bytes"));
            assert_says(&["twice", "free", &asked], &[&size, "double free"]);
        }
    }

    #[test]
    fn a_small_block_of_another_thread_freed_twice_in_a_row_is_reported_with_its_size() {
        for (asked, size) in SMALL {
            let (asked, size) = (asked.to_string(), format!("block of {size} bytes"));
            assert_says(&["twice-in-thread", "free", &asked], &[&size, "double free"]);
        }
    }

    #[test]
    fn realloc_of_a_small_block_that_was_just_freed_is_reported() {
        for (asked, size) in SMALL {
            let (asked, size) = (asked.to_string(), format!("block of {size} bytes"));
            assert_says(&["twice", "realloc", &asked], &[&size, "double free"]);
        }
    }

    #[test]
    fn a_medium_block_freed_already_is_reported_whoever_calls() {
        for (asked, _) in MEDIUM {
            let asked = asked.to_string();
            for call in CALLS {
                assert_says(&["twice", call, &asked], &["free memory of the heap"]);
            }
            for case in ["twice-in-thread", "twice-by-two-threads", "twice-by-a-thread-that-ended"] {
                assert_says(&[case, "free", &asked], &["free memory of the heap"]);
            }
            report(&["after-trim", "free", &asked]);
        }
    }

    #[test]
    fn a_large_block_freed_already_is_reported_whoever_calls() {
        for (asked, _) in LARGE {
            let asked = asked.to_string();
            let mut cases: Vec<[&str; 3]> = CALLS.iter().map(|call| ["twice", call, &asked]).collect();
            for case in ["twice-in-thread", "twice-by-two-threads", "twice-by-a-thread-that-ended", "after-trim"] {
                cases.push([case, "free", &asked]);
            }
            for case in cases {
                let sentence = report(&case);
                // It is no news that the address is foreign: it was the program's until a moment ago.
                assert!(sentence.contains("freed"), "{case:?}: {sentence}");
            }
        }
    }
}
