//! A written case for each rule of realloc, in the order in which they apply.

use crate::story::*;
use crate::trace::Call::Break;

#[test]
fn realloc_to_0_frees() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100).realloc(A, 0).null().no_calls().heap([Free(104), Free(K128 - 104 - 2 * h)]);
        s.malloc(B, K128).realloc(B, 0).null();
    });
}

#[test]
fn realloc_of_a_free_block_gives_null() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100).free(A);
        for size in [1, 104, 5000, K128] {
            s.realloc_to(B, A, size).null().no_calls().heap([Free(104), Free(K128 - 104 - 2 * h)]);
        }
    });
}

#[test]
fn a_mapped_block_always_moves() {
    story(|s| {
        let h = s.header;
        s.malloc(A, K128);
        // To grow, to stay, and to shrink: to a mapping or to the heap, as malloc's limit says.
        s.realloc(A, 2 * K128).realloc(A, 2 * K128).realloc(A, K128 - h).realloc(A, K128 - h - 8).at(0);
        // Not calloc's limit.
        s.calloc(B, 1, 4096).maps(4096 + h);
        s.realloc(B, 8192).at(K128);
    });
}

#[test]
fn a_block_that_reaches_the_limit_moves_to_a_mapping() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100).realloc(A, K128 - h).maps(K128).heap([Free(104), Free(K128 - 104 - 2 * h)]);
        s.malloc(B, 100).at(0).realloc(B, K128 - h - 7).maps(K128);
        s.malloc(C, 100).at(0).realloc(C, K128 - h - 8).no_calls().at(0).heap([Used(K128 - h)]);
    });
}

#[test]
fn the_limit_counts_before_the_room_that_a_block_has() {
    // A block of more than 128 KiB, by growing over a hole it leaves: even to "shrink" to the limit it is mapped.
    story(|s| {
        let h = s.header;
        s.malloc(A, 100_000).malloc(B, 100_000).free(A).free(B);
        s.malloc(C, 8).at(0).free(C);
        s.malloc(D, K128 - h - 8).no_calls().at(0);
        s.realloc(D, K128 - h).maps(K128);
    });
}

#[test]
fn shrinking_splits_in_place() {
    story(|s| {
        let h = s.header;
        let rest = K128 - 208 - 3 * h;
        s.malloc(A, 200).malloc(B, 8);
        s.realloc(A, 200 - h - 7).same_as(2).no_calls().heap([Used(200), Used(8), Free(rest)]);
        s.realloc(A, 200).same_as(1).no_calls().heap([Used(200), Used(8), Free(rest)]);
        s.realloc(A, 200 - h - 8).same_as(1).no_calls();
        s.heap([Used(200 - h - 8), Free(8), Used(8), Free(rest)]);
    });
}

#[test]
fn what_shrinking_splits_off_waits_for_the_next_allocation_to_be_merged() {
    story(|s| {
        let h = s.header;
        let rest = K128 - 1000 - 2 * h;
        s.malloc(A, 1000).realloc(A, 500).heap([Used(504), Free(496 - h), Free(rest)]);
        s.malloc(B, 8).at(504 + h).heap([Used(504), Used(8), Free(K128 - 512 - 3 * h)]);
    });
}

#[test]
fn the_last_block_grows_with_the_break() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100_000).malloc(B, 100_000).calls([Break(200_000 + 2 * h)]);
        s.realloc(B, 100_001).same_as(1).calls([Break(200_008 + 2 * h)]).heap([Used(100_000), Used(100_008)]);
        s.realloc(B, 130_000).same_as(1).calls([Break(230_000 + 2 * h)]);
    });
}

#[test]
fn the_last_block_takes_no_hole_that_would_suffice() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100_000).malloc(B, 100_000).free(A);
        s.malloc(C, 50_000).at(0);
        s.realloc(B, 100_008).same_as(3).calls([Break(200_008 + 2 * h)]);
    });
}

#[test]
fn growing_absorbs_the_free_block_behind_and_splits() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100).realloc(A, 300).same_as(1).no_calls().heap([Used(304), Free(K128 - 304 - 2 * h)]);
    });
}

#[test]
fn growing_absorbs_no_more_blocks_than_it_needs() {
    story(|s| {
        let h = s.header;
        let rest = K128 - 408 - 6 * h;
        s.malloc(A, 100).malloc(B, 96).malloc(C, 96).malloc(D, 104).malloc(F, 8);
        s.free(B).free(C).free(D);
        s.realloc(A, 200).no_calls().heap([Used(200 + h), Free(96), Free(104), Used(8), Free(rest)]);
        s.realloc(A, 216 + h).no_calls();
        // 200 + h and 96 + h make more than 216 + h: what is left is split off, and 104 waits behind it.
        s.heap([Used(216 + h), Free(80), Free(104), Used(8), Free(rest)]);
    });
}

#[test]
fn growing_into_an_exact_fit_leaves_nothing() {
    story(|s| {
        let h = s.header;
        let rest = K128 - 208 - 4 * h;
        s.malloc(A, 100).malloc(B, 96).malloc(F, 8).free(B);
        s.realloc(A, 200 + h).no_calls().heap([Used(200 + h), Used(8), Free(rest)]);
    });
}

#[test]
fn what_was_absorbed_before_a_move_stays_absorbed() {
    story(|s| {
        let h = s.header;
        let rest = K128 - 208 - 4 * h;
        s.malloc(A, 100).malloc(B, 96).malloc(F, 8).free(B);
        s.realloc(A, 1000).no_calls().at(208 + 3 * h);
        s.heap([Free(200 + h), Used(8), Used(1000), Free(rest - 1000 - h)]);
    });
}

#[test]
fn a_block_that_absorbing_made_the_last_does_not_grow_with_the_break() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 50_000).malloc(B, 50_000);
        let last = K128 - 50_000 - h;
        // It takes in the free last block, which is not enough, and moves; the move starts behind it.
        s.realloc(B, 100_000).calls([Break(K128 + 100_000 + h)]).at(K128);
        s.heap([Used(50_000), Free(last - h), Used(100_000)]);
    });
}

#[test]
fn a_move_does_not_use_the_room_of_the_block_that_moves() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 1000).malloc(B, 1000).malloc(F, 8).free(A);
        // A and B together would suffice.
        s.realloc(B, 1500).at(2008 + 3 * h);
    });
}

#[test]
fn realloc_of_the_same_size_does_nothing() {
    story(|s| {
        let h = s.header;
        let rest = K128 - 104 - 2 * h;
        s.malloc(A, 100).realloc(A, 100).same_as(1).no_calls().heap([Used(104), Free(rest)]);
        s.realloc(A, 104).same_as(1).no_calls().heap([Used(104), Free(rest)]);
        // One byte more is growth: the free block behind is taken in, and split off again 8 bytes further.
        s.realloc(A, 105).same_as(1).no_calls().heap([Used(112), Free(rest - 8)]);
    });
}
