// What memcheck is to report of a program on libterrace, and what it is not: run under valgrind, case by case. Each size is one
// that another layer of the allocator serves.

#include "check.h"

// With the option that the tests set, `mmap_threshold=36864`, one of these has a mapping of its own. Blocks are not larger than they
// need be: the loader leaves the cycles that it took in a word of its own, some 80 million under valgrind, and memcheck takes that
// for a pointer into whatever block lies there.
enum { MEDIUM = 36000, LARGE = 40000 };

static const size_t ASKED[] = {0, 1, 16, 24, 100, 1000, 1024, 32 * KIB, MEDIUM, LARGE};

static volatile unsigned char sink;
static void *volatile lost;

// So that no register and no word of the stack still has the address of a block.
static void __attribute__((noinline)) forget(void) {
    volatile char stack[4096];
    memset((void *)stack, 0, sizeof stack);
}

static void __attribute__((noinline)) lose(size_t size) {
    lost = malloc(size);
    lost = NULL;
}

// The first mappings may lie right behind a library, or behind memory of the loader's own: it knows where these end, which is to
// memcheck a pointer to the block. Where that is so hangs on the size of the loader's cache.
static void *behind_others[8];

static void take_what_is_behind_others(void) {
    for (size_t i = 0; i < COUNT(behind_others); i++) behind_others[i] = malloc(LARGE);
}

static void free_what_is_behind_others(void) {
    for (size_t i = 0; i < COUNT(behind_others); i++) free(behind_others[i]);
}

static void leaks_a_block_of_every_layer(void) {
    take_what_is_behind_others();
    for (size_t i = 1; i < COUNT(ASKED); i++) {
        lose(ASKED[i]);
    }
    free_what_is_behind_others();
    forget();
}

static void leaks_a_large_block_in_memory_that_was_used_before(void) {
    take_what_is_behind_others();
    free(malloc(LARGE));
    lose(LARGE);
    free_what_is_behind_others();
    forget();
}

static void reads_a_byte_behind_each_block(void) {
    for (size_t i = 0; i < COUNT(ASKED); i++) {
        volatile unsigned char *block = malloc(ASKED[i]);
        sink = block[ASKED[i]];
        free((void *)block);
    }
}

static void writes_a_byte_before_each_block(void) {
    for (size_t i = 0; i < COUNT(ASKED); i++) {
        unsigned char *block = malloc(ASKED[i]);
        if (ASKED[i] < MEDIUM) {
            ((volatile unsigned char *)block)[-1] = 1;
        }
        free(block);
    }
}

static void reads_blocks_that_were_freed(void) {
    for (size_t i = 1; i < COUNT(ASKED); i++) {
        volatile unsigned char *block = malloc(ASKED[i]);
        free((void *)block);
        sink = block[0];
        sink = block[ASKED[i] - 1];
    }
}

static void reads_a_block_after_many_others_came_and_went(void) {
    volatile unsigned char *block = malloc(100);
    free((void *)block);
    for (int i = 0; i < 10000; i++) {
        free(malloc(100));
    }
    sink = block[0];
}

static void reads_blocks_that_were_moved(void) {
    for (size_t i = 1; i < COUNT(ASKED); i++) {
        volatile unsigned char *block = malloc(ASKED[i]);
        void *moved = realloc((void *)block, 2 * ASKED[i]);
        sink = block[0];
        free(moved);
    }
}

static void frees_blocks_twice(void) {
    for (size_t i = 0; i < COUNT(ASKED); i++) {
        void *block = malloc(ASKED[i]);
        free(block);
        free(block);
    }
}

static void frees_what_is_no_block(void) {
    char *block = malloc(100);
    int local;
    free(block + 16);
    free(&local);
    free(block);
}

static void looks_at_what_nobody_wrote(void) {
    for (size_t i = 1; i < COUNT(ASKED); i++) {
        unsigned char *block = malloc(ASKED[i]);
        if (block[ASKED[i] - 1] == 77) {
            sink = 1;
        }
        free(block);
    }
}

static void *crowd(void *others) {
    void **blocks = others;
    for (int i = 0; i < 100; i++) {
        free(blocks[i]);
        blocks[i] = memset(malloc(i * 37), i, i * 37);
    }
    return NULL;
}

static void does_nothing_wrong(void) {
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(ASKED); i++) {
            unsigned char *block = memset(malloc(ASKED[i]), 1, ASKED[i]);
            CHECK(malloc_usable_size(block) >= ASKED[i], "it does not hold");
            memset(block, 2, malloc_usable_size(block));
            block = realloc(block, 2 * ASKED[i] + 1);
            for (size_t at = 0; at < ASKED[i]; at++) {
                CHECK(block[at] == 2, "it does not hold");
            }
            block[2 * ASKED[i]] = 3;
            block = realloc(block, ASKED[i] / 2 + 1);
            free(block);
            unsigned char *zeroes = calloc(1, ASKED[i]);
            for (size_t at = 0; at < ASKED[i]; at++) {
                CHECK(zeroes[at] == 0, "it does not hold");
            }
            free(zeroes);
            void *aligned = NULL;
            CHECK(posix_memalign(&aligned, 4096, ASKED[i]) == 0 && (uintptr_t)aligned % 4096 == 0, "it does not hold");
            memset(aligned, 3, ASKED[i]);
            free(aligned);
            void *several = reallocarray(malloc(10), 2, ASKED[i]);
            free(several);
        }
        void *blocks[100] = {NULL};
        for (int thread = 0; thread < 3; thread++) {
            pthread_t id;
            CHECK(pthread_create(&id, NULL, crowd, blocks) == 0, "it does not hold");
            CHECK(pthread_join(id, NULL) == 0, "it does not hold");
        }
        for (int i = 0; i < 100; i++) {
            free(blocks[i]);
        }
        malloc_trim(0);
        /* With memcheck's own malloc in place both are 0. */
        struct mallinfo2 held = mallinfo2();
        CHECK(held.arena >= held.uordblks, "%zu of %zu bytes in use", held.uordblks, held.arena);
    }
}

static const struct test_case CASES[] = {
    {"leaks_a_block_of_every_layer", leaks_a_block_of_every_layer},
    {"leaks_a_large_block_in_memory_that_was_used_before", leaks_a_large_block_in_memory_that_was_used_before},
    {"reads_a_byte_behind_each_block", reads_a_byte_behind_each_block},
    {"writes_a_byte_before_each_block", writes_a_byte_before_each_block},
    {"reads_blocks_that_were_freed", reads_blocks_that_were_freed},
    {"reads_a_block_after_many_others_came_and_went", reads_a_block_after_many_others_came_and_went},
    {"reads_blocks_that_were_moved", reads_blocks_that_were_moved},
    {"frees_blocks_twice", frees_blocks_twice},
    {"frees_what_is_no_block", frees_what_is_no_block},
    {"looks_at_what_nobody_wrote", looks_at_what_nobody_wrote},
    {"does_nothing_wrong", does_nothing_wrong},
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
