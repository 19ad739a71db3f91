//! Others move the break too: the program itself, and the C library's malloc. Blocks stay apart all the same.

use std::fs;
use std::process::Command;

use crate::library::{EDITIONS, run, scratch};
use crate::story::*;
use crate::trace::Call::Break;

#[test]
fn the_heap_begins_where_the_break_is() {
    story(|s| {
        let h = s.header;
        s.sbrk(4096).malloc(A, 100).calls(FIRST_USE).at(0).heap([Used(104), Free(K128 - 104 - 2 * h)]);
    });
}

#[test]
fn a_last_block_that_the_break_has_left_does_not_grow() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100_000).sbrk(4096);
        let end = K128 + 4096;
        s.malloc(B, 50_000).calls([Break(end + h + 50_000)]).at(end);
        s.heap([Used(100_000), Free(K128 - 100_000 - 2 * h), Used(50_000)]);
        s.sbrk(8).realloc(B, 60_000).calls([Break(end + 8 + 2 * h + 110_000)]).at(end + 8 + h + 50_000);
    });
}

#[test]
fn blocks_with_a_gap_between_them_are_not_merged() {
    story(|s| {
        let h = s.header;
        s.malloc(A, K128 - h - 8).sbrk(8).malloc(B, 5000).free(A).free(B);
        s.malloc(C, 6000).at(0).heap([Used(6000), Free(K128 - 6000 - 2 * h), Free(5000)]);
        s.realloc(C, K128 - h - 8).no_calls().at(0).heap([Used(K128 - h), Free(5000)]);
    });
}

#[test]
fn blocks_stay_aligned_on_an_odd_break() {
    story(|s| {
        let h = s.header;
        // The driver looks at each block's alignment.
        s.sbrk(3).malloc(A, 100_000).at(0).heap([Used(100_000), Free(K128 - 100_000 - 2 * h)]);
        s.sbrk(1).malloc(B, 100_000).calls([Break(K128 + 8 + h + 100_000)]).at(K128 + 8);
    });
}

#[test]
fn the_c_library_allocates_beside_it() {
    for edition in EDITIONS {
        let program = edition.program("neighbours.c");
        let log = scratch().join(format!("neighbours-{}.trace", edition.header));
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-e", "trace=brk,mmap,munmap,write", "-o"]).arg(&log).arg(program);
        let output = run(&mut strace);
        assert!(output.ends_with("all is well\n"), "{output}");

        // The C library knew the break already; the heap's first use asks all the same.
        let trace = fs::read_to_string(&log).expect("a trace");
        let first = trace.split("\"first\\n\"").nth(1).expect("the first mark");
        let between = first.split("write(1, \"then").next().expect("the second mark");
        let calls: Vec<&str> = between.lines().skip(1).collect();
        assert_eq!(calls.len(), 2, "{calls:?}");
        let (ask, answer) = calls[0].split_once('=').expect("an answer");
        let (_, moved) = calls[1].split_once('=').expect("an answer");
        let address = |text: &str| usize::from_str_radix(text.trim().trim_start_matches("0x"), 16).expect("an address");
        assert_eq!(ask.trim(), "brk(NULL)");
        assert_eq!(address(moved) - address(answer), K128);
    }
}
