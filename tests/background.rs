//! The purger: programs with a thread of the allocator's in the background. Their cases lie in `tests/c/background.c`, each under
//! the name of its test.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{assert_fine, compile, library, preloaded, program, run_within};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

fn source() -> &'static Path {
    static PROGRAM: OnceLock<std::path::PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile("background.c", &[library().to_str().expect("a path of plain letters")]))
}

macro_rules! cases {
    ($($name:ident;)*) => {
        $(
            #[test]
            fn $name() {
                let mut command = preloaded(source());
                command.env("TERRACE_BACKGROUND", "1").env("TERRACE_PURGE_DELAY_MS", "200").arg(stringify!($name));
                assert_fine(&run_within(&mut command, Duration::from_secs(60)));
            }
        )*

        #[test]
        fn every_case_is_run() {
            let listed = program(source()).output().expect("the program can be started");
            let listed = String::from_utf8(listed.stdout).unwrap();
            assert_eq!(listed.lines().collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

cases! {
    it_is_there_when_there_is_something_to_return_and_not_before;
    an_idle_process_returns_what_is_free;
    medium_blocks_go_back_though_nobody_calls_again;
    it_uses_no_time_while_there_is_nothing_to_do;
    a_child_has_one_of_its_own;
    so_has_a_child_of_a_process_without_a_block;
    a_child_that_shares_its_parent_s_memory_has_none;
    the_process_ends_when_the_program_s_threads_have;
    it_has_ended_when_the_program_s_last_functions_run;
    it_goes_when_the_option_is_switched_off_and_comes_again;
}
