//! The C face: C and C++ programs, run on `libterrace.so` by preloading it, that hold it to the manual pages and to the rules
//! for bad calls, for memory that runs out, for dying threads, for `fork`, and for the time before `main`.
//!
//! The programs lie in `tests/c/`; each case of them bears the name of its test here.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{PAGE, TIME_LIMIT, assert_fine, assert_reported, compile, folder, preloaded, run_within};
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

            pub(super) fn program() -> &'static PathBuf {
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

program!(interface, "interface.c", [common::library().to_str().unwrap()], {
    m_mmap_threshold_says_which_blocks_get_mappings;
    m_mmap_max_limits_how_many_blocks_get_mappings;
    m_perturb_fills_new_and_freed_blocks;
    m_trim_threshold_says_how_much_free_memory_is_kept;
    mallinfo2_counts_what_is_in_use;
    mallinfo_gives_the_same_in_ints;
    malloc_stats_writes_to_standard_error_past_stdio;
    malloc_info_fails_as_the_manual_says;
    malloc_trim_says_whether_memory_was_released;
    the_private_names_of_the_c_library_are_the_same_heap;
    sized_frees_free;
    the_size_of_a_block_can_be_known_before;
    mallocx_aligns_and_zeroes;
    rallocx_keeps_contents_and_alignment;
    xallocx_resizes_in_place;
    options_are_set_by_name;
    terrace_purge_returns_memory;
});

program!(operators, "operators.cpp", [], {
    every_form_allocates_and_every_form_frees;
    every_form_is_the_library_s;
    without_memory_a_form_throws_or_gives_null;
    the_new_handler_is_called_until_it_gives_up;
    a_new_handler_that_makes_room_has_the_call_succeed;
    a_new_handler_may_throw;
    storage_of_objects_that_cannot_be_made_is_freed;
});

program!(replacing, "replacing.cpp", [], {
    what_is_left_is_done_by_what_was_replaced;
    what_a_replaced_one_throws_is_caught_by_those_that_give_null;
});

program!(replacing_arrays, "replacing_arrays.cpp", [], {
    what_is_left_is_done_by_what_was_replaced;
    what_a_replaced_one_throws_is_caught_by_those_that_give_null;
});

/// `operator new` in programs that are not in C++ themselves.
mod operators_of_guests {
    use super::*;

    fn host() -> &'static PathBuf {
        static HOST: OnceLock<PathBuf> = OnceLock::new();
        HOST.get_or_init(|| compile("hosts_cpp.c", &[]))
    }

    #[test]
    fn a_plugin_of_a_program_in_c_catches_what_its_operator_new_throws() {
        let plugin = compile("thrower.cpp", &["-shared", "-fPIC"]);
        assert_fine(&run_within(preloaded(host()).arg(plugin), TIME_LIMIT));
    }

    #[test]
    fn without_a_library_that_can_throw_the_process_ends_with_a_sentence() {
        let sentence = assert_reported(&run_within(&mut preloaded(host()), TIME_LIMIT));
        assert!(sentence.starts_with("operator new: there is no memory"), "{sentence}");
    }
}

/// Cases of the interface's program that are run with an environment, or print what is to be looked at.
mod interface_in_words {
    use super::*;
    use std::process::Command;

    fn command(case: &str) -> Command {
        let mut command = preloaded(interface::program());
        command.args([case, "alone"]);
        command
    }

    #[test]
    fn m_arena_max_limits_the_arenas() {
        for (limit, later, arenas) in [("1", "", 1), ("3", "", 3), ("100", "", 16), ("3", "2", 2), ("3", "0", 0)] {
            let mut command = command("m_arena_max_limits_the_arenas");
            command.env("ARENA_MAX", limit).env("TERRACE_STATS", "1").env("TERRACE_ARENAS", "5");
            if !later.is_empty() {
                command.env("ARENA_MAX_LATER", later);
            }
            let output = run_within(&mut command, TIME_LIMIT);
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{said}");
            // 0 leaves it to the processors.
            let processors = std::thread::available_parallelism().unwrap().get().min(16);
            let arenas = if arenas == 0 { processors } else { arenas };
            assert!(said.contains(&format!("\narenas     {arenas}, ")), "{limit}, {later}: {said}");
        }
    }

    #[test]
    fn m_check_action_says_what_a_bad_pointer_leads_to() {
        use std::os::unix::process::ExitStatusExt;
        for action in 0..8 {
            let mut command = command("m_check_action_says_what_a_bad_pointer_leads_to");
            let output = run_within(command.env("CHECK_ACTION", action.to_string()), TIME_LIMIT);
            let said = String::from_utf8(output.stderr).unwrap();
            let went_on = output.stdout == b"went on\n";
            let lines = match action & 3 {
                0 => 0,
                1 => 7,
                2 => 0,
                _ => 1,
            };
            assert_eq!(said.lines().filter(|line| line.starts_with("terrace: ")).count(), lines, "{action}: {said}");
            assert_eq!(said.lines().count(), lines, "{action}: {said}");
            assert_eq!(went_on, action & 2 == 0, "{action}: {said}");
            assert_eq!(output.status.signal(), (action & 2 != 0).then_some(libc::SIGABRT), "{action}: {said}");
        }
    }

    #[test]
    fn mallopt_answers_the_rest_as_the_c_library_does() {
        let program = compile("mallopt.c", &[]);
        let ours = run_within(&mut preloaded(&program), TIME_LIMIT);
        let theirs = run_within(common::program(&program).env("ANY_MALLOC", "1"), TIME_LIMIT);
        assert_fine(&ours);
        assert_fine(&theirs);
        assert!(ours.stdout.starts_with(b"mallopt(1, 0) = 1\n"));
        assert_eq!(String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&theirs.stdout));
    }

    #[test]
    fn malloc_info_prints_xml_to_a_stream_that_allocates() {
        let output = run_within(&mut command("malloc_info_prints_xml_to_a_stream_that_allocates"), TIME_LIMIT);
        assert_fine(&output);
        let file = folder().join(format!("malloc-info-{}.xml", std::process::id()));
        std::fs::write(&file, &output.stdout).unwrap();
        let checked =
            Command::new("python3").args(["-c", CHECK_XML]).arg(&file).output().expect("python3 can be started");
        std::fs::remove_file(&file).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(checked.status.success(), "{}\n{text}", String::from_utf8_lossy(&checked.stderr));
    }

    /// A parser of XML reads the document; its figures have to fit what the program holds, and each other.
    const CHECK_XML: &str = r#"
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == "malloc" and root.get("version") == "1", root.tag
heaps = root.findall("heap")
assert [int(heap.get("nr")) for heap in heaps] == sorted({int(heap.get("nr")) for heap in heaps}) and heaps
totals = {total.get("type"): total for total in root.findall("total")}
number = lambda element, name: int(element.get(name))
assert number(totals["mmap"], "count") == 1 and number(totals["mmap"], "size") == 5 << 20
assert number(totals["medium"], "count") >= 1 and number(totals["medium"], "size") >= 300 << 10
assert number(totals["live"], "size") >= (5 << 20) + (300 << 10) + 500 * 1000
assert number(totals["rest"], "size") == sum(number(heap.find("total"), "size") for heap in heaps)
mapped = number(root.find("system"), "size")
assert mapped >= sum(number(heap.find("system"), "size") for heap in heaps) + (5 << 20)
sizes = root.find("sizes").findall("size")
last = 0
for size in sizes:
    assert last < number(size, "from") <= number(size, "to")
    last = number(size, "to")
    assert number(size, "total") == number(size, "count") * last
assert sum(number(size, "count") for size in sizes) == number(totals["fast"], "count") > 0
assert any(number(size, "live") >= 500 and number(size, "from") <= 1000 <= number(size, "to") for size in sizes)
"#;
}

program!(inspecting, "inspecting.c", [common::library().to_str().unwrap()], {
    zones_and_blocks_are_shown_with_totals;
    the_history_follows_the_blocks;
    red_zones_are_drawn;
    a_block_is_dumped_and_what_is_none_is_refused;
    statistics_are_written_in_both_forms;
});

program!(refusals, "refusals.c", ["-rdynamic"], {
    free_keeps_errno_when_the_kernel_takes_nothing_back;
    realloc_goes_on_without_mremap_and_fails_whole_without_memory;
    a_large_block_is_whole_when_pages_cannot_be_moved;
    a_refused_break_is_replaced_by_mappings;
    memory_that_the_program_takes_by_sbrk_stays_its_own;
    any_refusal_leaves_the_heap_whole;
});

program!(denied, "denied.c", [], {
    each_optional_call_may_be_denied;
    files_may_be_denied_before_there_are_threads;
});

/// A group with 64 MiB of blocks: half as much again is enough, since what is kept for later does not add to what is new.
#[test]
fn a_nearly_full_group_is_enough_for_one_size_after_the_other() {
    for delay in ["0", "1000"] {
        let mut command = preloaded(denied::program());
        command.args(["a_nearly_full_group_is_enough_for_one_size_after_the_other", "alone"]);
        assert_fine(&run_within(command.env("GROUP_MIB", "96").env("TERRACE_PURGE_DELAY_MS", delay), TIME_LIMIT));
    }
}

program!(exhaustion, "exhaustion.c", [], {
    blocks_freed_under_a_limit_of_addresses_can_be_had_again_in_any_size;
    blocks_freed_under_a_limit_of_data_can_be_had_again_in_any_size;
    threads_that_run_out_of_memory_together_keep_their_blocks;
    a_process_without_mappings_goes_on_or_is_told;
    large_blocks_leave_half_of_the_mappings_to_the_program;
});

program!(dying_threads, "dying_threads.c", [], {
    destructors_of_keys_allocate_and_free_in_every_round;
    detached_threads_leave_their_blocks_to_others;
    detached_threads_leave_no_memory_behind;
    what_a_thread_that_only_frees_frees_is_used_again;
    cancelled_threads_leave_their_blocks_to_others;
    thousands_of_short_threads_take_no_more_memory_than_their_blocks;
});

program!(dying_threads_in_cpp, "dying_threads.cpp", [], {
    destructors_of_thread_local_objects_allocate_and_free;
    destructors_of_thread_local_objects_run_after_the_cache_is_gone;
});

program!(forks, "forks.c", [], {
    children_of_a_busy_process_have_a_whole_heap;
    several_threads_can_fork_at_once;
    fork_handlers_of_the_program_can_allocate;
    fork_handlers_registered_before_the_library_can_allocate;
    a_fork_handler_can_wait_for_a_thread_that_allocates;
    children_free_what_resting_threads_of_the_parent_hold;
    medium_blocks_that_a_resting_thread_had_at_hand_are_free_in_the_child;
});

program!(processes, "processes.c", [], {
    programs_are_started_by_posix_spawn;
    programs_are_started_by_vfork;
    a_daemon_uses_what_it_inherited;
    nobody_takes_the_library_for_jemalloc;
    a_child_uses_all_sizes;
});

#[test]
fn a_program_with_a_malloc_of_its_own_keeps_it() {
    assert_fine(&run_within(&mut preloaded(&compile("own_malloc.c", &["-rdynamic"])), TIME_LIMIT));
}

#[test]
fn a_program_with_an_operator_new_of_its_own_and_no_cpp_library_gets_its_own_blocks() {
    assert_fine(&run_within(&mut preloaded(&compile("own_new.c", &["-rdynamic"])), TIME_LIMIT));
}

#[test]
fn a_program_whose_malloc_hands_on_to_the_next_is_served() {
    for (name, by) in [("by-dlsym", &[][..]), ("by-private-names", &["-DBY_PRIVATE_NAMES"])] {
        let program = compile("wrapping_malloc.c", &[by, &["-rdynamic"]].concat());
        let kept = folder().join(format!("wrapping-malloc-{name}"));
        std::fs::rename(program, &kept).unwrap();
        assert_fine(&run_within(&mut preloaded(&kept), TIME_LIMIT));
    }
}

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
    fn an_object_that_is_bound_deeply_has_the_same_heap() {
        assert_fine(&run("an_object_that_is_bound_deeply_has_the_same_heap", &[]));
    }

    #[test]
    fn an_object_is_found_where_the_one_that_opens_it_says() {
        let search_path = format!("-Wl,-rpath,{}", plugin().parent().unwrap().display());
        let opener = compile("opener.c", &["-shared", "-fPIC", &search_path]);
        let mut command = preloaded(program());
        command.arg("an_object_is_found_where_the_one_that_opens_it_says").args([plugin(), &opener]);
        assert_fine(&run_within(&mut command, TIME_LIMIT));
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
            ("TERRACE_TRIM_THRESHOLD", "-1"),
            ("TERRACE_MMAP_MAX", "none"),
            ("TERRACE_PERTURB", "256"),
            ("TERRACE_CHECK_ACTION", "8"),
            ("TERRACE_ARENAS", "\n\u{fe}"),
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
    fn an_unknown_option_is_reported_once_with_the_nearest_and_ignored() {
        let long = format!("TERRACE_{}", "X".repeat(3000));
        for (name, nearest) in [
            ("TERRACE_ARENA", "TERRACE_ARENAS"),
            ("TERRACE_PURGE_DELAY", "TERRACE_PURGE_DELAY_MS"),
            ("TERRACE_MMAP_TRESHOLD", "TERRACE_MMAP_THRESHOLD"),
            ("TERRACE_STATISTICS", "TERRACE_STATS"),
            ("TERRACE_", "TERRACE_"),
            (&long, "TERRACE_"),
        ] {
            let output = run("options_are_read", &[(name, "1")]);
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{name}: {said}");
            assert_eq!(said.lines().count(), 1, "{name}: {said}");
            assert!(said.starts_with(&format!("terrace: {}", &name[..name.len().min(60)])), "{name}: {said}");
            assert!(said.contains("is no option and is ignored; the nearest is "), "{name}: {said}");
            let named = said.trim_end().rsplit(' ').next().unwrap();
            assert!(named == nearest || nearest == "TERRACE_" && named.starts_with(nearest), "{name}: {said}");
        }
        // Other names are none of the library's business.
        assert_fine(&run("options_are_read", &[("TERRACES", "1"), ("TERRACE", "1"), ("terrace_arenas", "z")]));
    }

    #[test]
    fn options_that_mallopt_has_too_are_read() {
        assert_fine(&run("new_blocks_are_perturbed", &[("TERRACE_PERTURB", "90")]));
        let output = run("a_bad_pointer_is_freed", &[("TERRACE_CHECK_ACTION", "1")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.lines().count() == 1 && said.contains("never given out"), "{said}");
        assert_reported(&run("a_bad_pointer_is_freed", &[]));
        let found = statistics("options_are_read", &[("TERRACE_MMAP_THRESHOLD", "65536"), ("TERRACE_MMAP_MAX", "4")]);
        assert!(found["large"].ends_with("in 4 blocks"), "{}", found["large"]);
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
    const FREE: &str = "free memory of the heap";
    const MEDIUM: [(usize, usize); 2] = [(100_000, 102_400), (1_000_000, 1_003_520)];
    const LARGE: [(usize, usize); 2] =
        [(3_000_000, 3_000_000_usize.next_multiple_of(PAGE)), (80_000_000, 80_000_000_usize.next_multiple_of(PAGE))];

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
                let unit = if offset == 1 { "byte" } else { "bytes" };
                let facts = [format!("{offset} {unit} inside"), format!("block of {size} bytes")];
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
    fn a_block_that_a_thread_keeps_of_another_is_reported_whenever_it_is_freed_twice_in_a_row() {
        // One free in 64 takes another way than the others.
        for turns in (0..=70).map(|turns: u32| turns.to_string()) {
            assert_says(&["twice-after-turns", "free", "1000", &turns], &["block of 1024 bytes", "double free"]);
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
        for (asked, size) in MEDIUM {
            // The thread that freed it has a smaller one at hand.
            let freed = if asked < 200_000 { format!("block of {size} bytes was freed") } else { FREE.to_owned() };
            let asked = asked.to_string();
            for call in CALLS {
                assert_says(&["twice", call, &asked], &[&freed]);
            }
            assert_says(&["twice-by-two-threads", "free", &asked], &[&freed]);
            // A thread that never took a block has no shelf.
            for case in ["twice-in-thread", "twice-by-a-thread-that-ended"] {
                assert_says(&[case, "free", &asked], &[FREE]);
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
