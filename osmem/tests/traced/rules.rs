//! A written case for each rule of the heap and of the mappings, and for the boundaries of each.

use crate::story::*;
use crate::trace::Call::Break;

// --- Where blocks go ---

#[test]
fn the_first_block_splits_the_preallocated_heap() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100).calls(FIRST_USE).at(0).heap([Used(104), Free(K128 - 104 - 2 * h)]);
        s.malloc(B, 1).no_calls().at(h + 104).heap([Used(104), Used(8), Free(K128 - 112 - 3 * h)]);
    });
}

#[test]
fn sizes_are_rounded_up_to_8_and_not_to_16() {
    story(|s| {
        let h = s.header;
        for (slot, size) in [(A, 1), (B, 8), (C, 9), (D, 17), (E, 24)] {
            s.malloc(slot, size);
        }
        let used = 8 + 8 + 16 + 24 + 24;
        s.heap([Used(8), Used(8), Used(16), Used(24), Used(24), Free(K128 - used - 6 * h)]);
    });
}

#[test]
fn nothing_is_asked_of_the_kernel_for_nothing() {
    story(|s| {
        s.malloc(A, 0).null().no_calls();
        s.calloc(A, 0, 8).null().no_calls();
        s.calloc(A, 8, 0).null().no_calls();
        s.realloc(NULL, 0).null().no_calls();
        s.free(NULL).no_calls();
        s.malloc(A, 8).calls(FIRST_USE);
    });
}

#[test]
fn sizes_that_no_block_can_have_give_null() {
    story(|s| {
        let h = s.header;
        s.malloc(A, usize::MAX).null().no_calls();
        s.malloc(A, usize::MAX - 7 - h + 1).null().no_calls();
        s.calloc(A, usize::MAX / 2, 3).null().no_calls();
        s.calloc(A, 1 << 32, 1 << 32).null().no_calls();
        s.malloc(A, 8).realloc_to(B, A, usize::MAX).null().no_calls().heap([Used(8), Free(K128 - 8 - 2 * h)]);
    });
}

#[test]
fn malloc_maps_from_128_kib_on_header_included() {
    story(|s| {
        let h = s.header;
        s.malloc(A, K128 - h).maps(K128);
        s.malloc(B, K128 - h - 7).maps(K128);
        s.malloc(C, K128 - h + 1).maps(K128 + 8);
        s.malloc(D, K128 - h - 8).calls(FIRST_USE).at(0).heap([Used(K128 - h)]);
    });
}

#[test]
fn calloc_maps_from_a_page_on_header_included() {
    story(|s| {
        let h = s.header;
        s.calloc(A, 1, 4096 - h).maps(4096);
        s.calloc(B, 4096 - h - 7, 1).maps(4096);
        s.calloc(C, 1, 4096 - h + 1).maps(4096 + 8);
        s.calloc(D, 4096 - h - 8, 1).calls(FIRST_USE).at(0);
        s.malloc(E, 4096).no_calls();
        s.realloc(E, 5000).no_calls();
    });
}

#[test]
fn a_mapping_is_as_long_as_its_block_and_is_unmapped_so() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 200_001).maps(200_008 + h);
        s.free(A).unmaps(1, 200_008 + h);
        s.malloc(B, K128).maps(K128 + h).malloc(C, K128).maps(K128 + h);
        s.free(B).unmaps(2, K128 + h).free(C).unmaps(2, K128 + h);
    });
}

// --- The heap's first use ---

#[test]
fn calloc_can_be_the_first_to_use_the_heap() {
    story(|s| {
        s.calloc(A, 10, 10).calls(FIRST_USE).at(0);
    });
}

#[test]
fn realloc_of_null_is_malloc_and_can_be_the_first_to_use_the_heap() {
    story(|s| {
        let h = s.header;
        s.realloc_to(A, NULL, K128).maps(K128 + h);
        s.realloc_to(B, NULL, 5000).calls(FIRST_USE).at(0);
    });
}

#[test]
fn a_mapped_block_that_shrinks_can_be_the_first_to_use_the_heap() {
    story(|s| {
        let h = s.header;
        s.malloc(A, K128).maps(K128 + h);
        // brk(0), brk, munmap: the allocation comes first. The model knows the address.
        s.realloc(A, 100).at(0).heap([Used(104), Free(K128 - 104 - 2 * h)]);
    });
}

#[test]
fn mappings_leave_the_heap_alone() {
    story(|s| {
        let h = s.header;
        s.malloc(A, K128).maps(K128 + h).heap([]);
        s.calloc(B, 1, 4096).maps(4096 + h).heap([]);
        s.malloc(C, 8).calls(FIRST_USE);
    });
}

// --- Splitting ---

#[test]
fn a_remainder_of_a_header_and_8_is_split_off() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 200).malloc(B, 8).free(A);
        s.malloc(C, 200 - h - 8).at(0).no_calls();
        s.heap([Used(200 - h - 8), Free(8), Used(8), Free(K128 - 208 - 3 * h)]);
    });
}

#[test]
fn a_smaller_remainder_stays_with_the_block() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 200).malloc(B, 8).free(A);
        // Asked for one byte more, the remainder would be H + 7: rounded up, H.
        s.malloc(C, 200 - h - 7).at(0).heap([Used(200), Used(8), Free(K128 - 208 - 3 * h)]);
        s.free(C).malloc(C, 200).at(0).heap([Used(200), Used(8), Free(K128 - 208 - 3 * h)]);
    });
}

#[test]
fn the_last_bytes_of_the_heap_follow_the_same_rule() {
    story(|s| {
        let h = s.header;
        s.malloc(A, K128 - 2 * h - 8).calls(FIRST_USE).heap([Used(K128 - 2 * h - 8), Free(8)]);
        s.malloc(B, 8).no_calls().heap([Used(K128 - 2 * h - 8), Used(8)]);
    });
    story(|s| {
        let h = s.header;
        s.malloc(A, K128 - 2 * h - 7).calls(FIRST_USE).heap([Used(K128 - h)]);
    });
}

// --- Merging ---

#[test]
fn a_free_only_marks_and_the_next_allocation_merges() {
    story(|s| {
        let h = s.header;
        let rest = K128 - 3 * 104 - 8 - 5 * h;
        s.malloc(A, 100).malloc(B, 100).malloc(C, 100).malloc(D, 8);
        s.free(A).free(C).free(B).no_calls();
        s.heap([Free(104), Free(104), Free(104), Used(8), Free(rest)]);
        // Even one that takes another block.
        s.malloc(E, 1000);
        s.heap([Free(3 * 104 + 2 * h), Used(8), Used(1000), Free(rest - 1000 - h)]);
    });
}

#[test]
fn calloc_and_a_moving_realloc_merge_as_well() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 64).malloc(B, 64).malloc(C, 64).malloc(D, 8).free(A).free(B);
        s.calloc(E, 1, 128 + h).at(0);
        s.free(E);
        // The old block is still in use when the move merges; else C would end up in front.
        s.realloc(C, 128 + h + 8);
        s.heap([Free(128 + h), Free(64), Used(8), Used(136 + h), Free(K128 - 336 - 2 * h - 5 * h)]);
    });
}

#[test]
fn a_mapping_does_not_merge() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 64).malloc(B, 64).malloc(C, 8).free(A).free(B);
        s.malloc(D, K128).heap([Free(64), Free(64), Used(8), Free(K128 - 136 - 4 * h)]);
    });
}

// --- Best fit ---

/// Holes of 300, 100, 200, 100 and 150 bytes, rounded up, with blocks in use between them; the rest of the heap is full.
fn holes(s: &mut Story) -> usize {
    let h = s.header;
    for (hole, size) in [(A, 300), (B, 100), (C, 200), (D, 100), (E, 150)] {
        s.malloc(hole, size).malloc(F, 8);
    }
    let used = 304 + 104 + 200 + 104 + 152 + 5 * 8 + 10 * h;
    s.malloc(F, K128 - used - h);
    for hole in [A, B, C, D, E] {
        s.free(hole);
    }
    used
}

#[test]
fn the_smallest_block_that_suffices_is_taken() {
    story(|s| {
        holes(s);
        let h = s.header;
        let e = 304 + 8 + 104 + 8 + 200 + 8 + 104 + 8 + 8 * h;
        s.malloc(A, 150).no_calls().at(e);
        s.malloc(B, 153).no_calls().at(304 + 8 + 104 + 8 + 4 * h);
        s.malloc(C, 201).no_calls().at(0);
    });
}

#[test]
fn of_equal_blocks_the_first_in_address_order_is_taken() {
    story(|s| {
        holes(s);
        let h = s.header;
        s.malloc(A, 90).no_calls().at(304 + 8 + 2 * h);
        s.malloc(B, 90).no_calls().at(304 + 8 + 104 + 8 + 200 + 8 + 6 * h);
        s.malloc(C, 90).no_calls().at(304 + 8 + 104 + 8 + 200 + 8 + 104 + 8 + 8 * h);
    });
}

// --- Growth ---

#[test]
fn without_a_free_last_block_the_break_moves_by_a_whole_block() {
    story(|s| {
        let h = s.header;
        holes(s);
        s.malloc(A, 305).calls([Break(K128 + h + 312)]).at(K128);
        s.malloc(B, 1000).calls([Break(K128 + 2 * h + 1312)]).at(K128 + h + 312);
    });
}

#[test]
fn a_free_last_block_grows_by_what_it_lacks() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100_000);
        s.malloc(B, 50_000).calls([Break(100_000 + 50_000 + 2 * h)]).at(100_000 + h);
        s.heap([Used(100_000), Used(50_000)]);
        s.free(B).malloc(C, 50_001).calls([Break(150_008 + 2 * h)]).at(100_000 + h);
    });
}

#[test]
fn the_last_blocks_are_merged_before_the_heap_grows() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 60_000).malloc(B, 30_000).malloc(C, 30_000).free(B).free(C);
        let last = K128 - 60_000 - 2 * h;
        s.malloc(D, 100_000).calls([Break(K128 + 100_000 - last)]).at(60_000 + h);
        s.heap([Used(60_000), Used(100_000)]);
    });
}

#[test]
fn the_break_is_asked_for_once_and_the_heap_is_preallocated_once() {
    story(|s| {
        let h = s.header;
        s.malloc(A, K128 - h - 8).calls(FIRST_USE);
        let mut end = K128;
        for slot in [B, C, D] {
            end += h + 100_000;
            s.malloc(slot, 100_000).calls([Break(end)]);
        }
        // It never shrinks, and what is free is used again.
        s.free(A).no_calls().free(B).no_calls().free(C).no_calls().free(D).no_calls();
        s.malloc(A, K128 - h - 8).no_calls().at(0);
    });
}

// --- calloc ---

#[test]
fn calloc_zeroes_a_block_that_was_used_before() {
    story(|s| {
        // The driver fills every block, and looks at each byte of what calloc gives.
        s.malloc(A, 1000).malloc(F, 8).free(A);
        s.calloc(B, 10, 100).no_calls().at(0);
        s.free(B).calloc(C, 1, 996).at(0);
    });
}

// --- free ---

#[test]
fn freeing_a_block_of_the_heap_twice_does_nothing() {
    story(|s| {
        let h = s.header;
        s.malloc(A, 100).free(A).free(A).no_calls().heap([Free(104), Free(K128 - 104 - 2 * h)]);
        s.realloc_to(B, A, 0).null().no_calls();
    });
}
