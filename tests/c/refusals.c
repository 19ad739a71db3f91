// What becomes of the heap when the kernel refuses. The program defines the functions by which the library asks it for
// memory, so that it can refuse at will; built with -rdynamic, so that the library finds these instead of the C library's.

#include "check.h"
#include <stdarg.h>
#include <sys/syscall.h>

enum { MMAP = 1, MUNMAP = 2, MREMAP = 4, MADVISE = 8, SBRK = 16, EVERYTHING = 31 };

// Which calls are refused, from which call on (counted over all of them), and for how many.
// Volatile: the compiler believes that malloc and free call nothing of this file back.
static volatile int refused;
static volatile long calls, first_refused, last_refused = -1;
static volatile long refusals;

static void refuse(int which) {
    refused = which;
    first_refused = 0;
    last_refused = __LONG_MAX__;
    calls = 0;
    refusals = 0;
}

static void refuse_between(int which, long first, long last) {
    refuse(which);
    first_refused = first;
    last_refused = last;
}

static bool refuses(int call, int error) {
    if (!(refused & call)) return false;
    long number = calls++;
    if (number < first_refused || number > last_refused) return false;
    refusals++;
    errno = error;
    return true;
}

void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset) {
    if (refuses(MMAP, ENOMEM)) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}

int munmap(void *address, size_t length) {
    if (refuses(MUNMAP, ENOMEM)) return -1;
    return (int)syscall(SYS_munmap, address, length);
}

int madvise(void *address, size_t length, int advice) {
    if (refuses(MADVISE, EINVAL)) return -1;
    return (int)syscall(SYS_madvise, address, length, advice);
}

void *mremap(void *address, size_t old_length, size_t new_length, int flags, ...) {
    void *new_address = NULL;
    if (flags & MREMAP_FIXED) {
        va_list more;
        va_start(more, flags);
        new_address = va_arg(more, void *);
        va_end(more);
    }
    if (refuses(MREMAP, EFAULT)) {
        // Before Linux 6.17 the kernel had unmapped what lay there when it found that it could not move the old range, say
        // because that is of more than one mapping. Nobody else maps anything in this program meanwhile.
        if (flags & MREMAP_FIXED) syscall(SYS_munmap, new_address, new_length);
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mremap, address, old_length, new_length, flags, new_address);
}

void *sbrk(intptr_t increment) {
    static void *(*real)(intptr_t);
    if (!real) real = (void *(*)(intptr_t))dlsym(RTLD_NEXT, "sbrk");
    if (refuses(SBRK, ENOMEM)) return (void *)-1;
    return real(increment);
}

// POSIX.1-2024, free(): "shall not modify errno if ptr is a null pointer or a pointer previously returned ... and not yet
// deallocated" - also when returning the memory to the kernel fails.
static void free_keeps_errno_when_the_kernel_takes_nothing_back(void) {
    void *blocks[COUNT(SIZES)], *huge = malloc(1024 * MIB);
    CHECK(huge, "no gigabyte");
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            blocks[i] = malloc(SIZES[i]);
            fill(blocks[i], SIZES[i], 1);
        }
        refuse(MUNMAP | MADVISE);
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            errno = 1234;
            free(blocks[i]);
            CHECK(errno == 1234, "freeing %zu bytes set errno to %d", SIZES[i], errno);
        }
        malloc_trim(0);
        refuse(0);
    }
    // More than is kept for later: this one is unmapped at once.
    refuse(MUNMAP | MADVISE);
    errno = 1234;
    free(huge);
    CHECK(errno == 1234, "freeing a huge block set errno to %d", errno);
    CHECK(refusals > 0, "the kernel was asked nothing");
    refuse(0);
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        unsigned char *block = calloc(1, SIZES[i]);
        for (size_t j = 0; j < SIZES[i]; j++) CHECK(block[j] == 0, "byte %zu of %zu", j, SIZES[i]);
        free(block);
    }
}

// malloc(3): "If realloc() fails, the original block is left untouched".
static void realloc_goes_on_without_mremap_and_fails_whole_without_memory(void) {
    char *block = malloc(5 * MIB);
    fill(block, 5 * MIB, 4);
    refuse(MREMAP);
    block = realloc(block, 9 * MIB);
    CHECK(block, "a refused mremap is no reason to fail");
    verify_part(block, 5 * MIB, 5 * MIB, 4);
    fill(block, 9 * MIB, 5);
    refuse(MREMAP | MMAP | SBRK);
    errno = 0;
    CHECK(realloc(block, 50 * MIB) == NULL && errno == ENOMEM, "errno %d", errno);
    CHECK(malloc_usable_size(block) >= 9 * MIB, "%zu", malloc_usable_size(block));
    verify(block, 9 * MIB, 5);
    refuse(0);
    block = realloc(block, 50 * MIB);
    verify_part(block, 9 * MIB, 9 * MIB, 5);
    free(block);
}

// Large blocks may be put together from pages of others that were freed. When the kernel will not move those, the block is
// whole all the same.
static void a_large_block_is_whole_when_pages_cannot_be_moved(void) {
    enum { MANY = 8 };
    for (int round = 0; round < 4; round++) {
        char *freed[MANY], *kept[MANY], *grown = malloc(3 * MIB);
        fill(grown, 3 * MIB, 50);
        for (int i = 0; i < MANY; i++) {
            freed[i] = malloc(2 * MIB);
            kept[i] = malloc(2 * MIB);
            fill(freed[i], 2 * MIB, 1);
            fill(kept[i], 2 * MIB, (unsigned)i);
        }
        for (int i = 0; i < MANY; i++) free(freed[i]);
        // All are refused, or only the second, or the third.
        refuse_between(MREMAP, round, round ? round : __LONG_MAX__);
        char *block = malloc(7 * MIB);
        CHECK(block, "a refused mremap is no reason to fail");
        fill(block, 7 * MIB, 60);
        grown = realloc(grown, 8 * MIB);
        CHECK(grown, "a refused mremap is no reason to fail");
        verify_part(grown, 3 * MIB, 3 * MIB, 50);
        fill(grown, 8 * MIB, 51);
        verify(block, 7 * MIB, 60);
        for (int i = 0; i < MANY; i++) {
            verify(kept[i], 2 * MIB, (unsigned)i);
            free(kept[i]);
        }
        free(grown);
        free(block);
        refuse(0);
        malloc_trim(0);
    }
}

static void a_refused_break_is_replaced_by_mappings(void) {
    refuse(SBRK);
    enum { MANY = 300 };
    static void *blocks[MANY];
    for (int i = 0; i < MANY; i++) {
        blocks[i] = malloc(100 * KIB);
        CHECK(blocks[i], "block %d after %ld refusals", i, refusals);
        fill(blocks[i], 100 * KIB, (unsigned)i);
    }
    CHECK(refusals > 0, "the break was never asked");
    for (int i = 0; i < MANY; i++) {
        verify(blocks[i], 100 * KIB, (unsigned)i);
        free(blocks[i]);
    }
    long asked = refusals;
    free(malloc(100 * KIB));
    CHECK(refusals == asked, "the break is asked again after it failed for good");
}

// sbrk(2) belongs to the program too: what it takes between the library's own steps stays its own.
static void memory_that_the_program_takes_by_sbrk_stays_its_own(void) {
    enum { MANY = 60 };
    static char *blocks[MANY], *foreign[MANY];
    for (int i = 0; i < MANY; i++) {
        foreign[i] = sbrk(1000 + 16 * i);
        fill(foreign[i], 1000, (unsigned)i + 100);
        blocks[i] = malloc(900 * KIB);
        fill(blocks[i], 900 * KIB, (unsigned)i);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            verify(foreign[i], 1000, (unsigned)i + 100);
            if (round == 0) verify(blocks[i], 900 * KIB, (unsigned)i);
            if (round == 0) free(blocks[i]);
        }
        malloc_trim(0);
    }
    // The break has not been moved below the program's last piece.
    CHECK((char *)sbrk(0) >= foreign[MANY - 1] + 1000, "the break was moved to %p", sbrk(0));
}

enum { BLOCKS = 120 };
static struct {
    char *start;
    size_t size;
} blocks[BLOCKS];

static void take_some(uint64_t *random, bool all) {
    for (int i = 0; i < BLOCKS; i++) {
        if (blocks[i].start && !all && next_random(random) % 3) continue;
        size_t size = SIZES[next_random(random) % COUNT(SIZES)];
        if (size > 5 * MIB) size = 500;
        char *start;
        errno = 0;
        switch (next_random(random) % 4) {
        case 0:
            start = aligned_alloc((size_t)16 << next_random(random) % 19, size);
            break;
        case 1:
            start = calloc(size, 1);
            if (start) CHECK(start[0] == 0 && start[size / 2] == 0 && start[size - 1] == 0, "not zero");
            break;
        case 2:
            start = realloc(blocks[i].start, size);
            if (start && blocks[i].start) {
                size_t kept = size < blocks[i].size ? size : blocks[i].size;
                verify_part(start, kept, blocks[i].size, (unsigned)i);
                blocks[i].start = NULL;
            }
            break;
        default:
            start = malloc(size);
        }
        if (!start) {
            CHECK(errno == ENOMEM, "no %zu bytes, but errno %d", size, errno);
            CHECK(refusals > 0, "no %zu bytes, though nothing was refused", size);
            continue;
        }
        if (blocks[i].start) {
            verify(blocks[i].start, blocks[i].size, (unsigned)i);
            free(blocks[i].start);
        }
        blocks[i].start = start;
        blocks[i].size = size;
        fill(start, size, (unsigned)i);
    }
}

static void give_back(uint64_t *random, unsigned one_in) {
    for (int i = 0; i < BLOCKS; i++) {
        if (!blocks[i].start || next_random(random) % one_in) continue;
        verify(blocks[i].start, blocks[i].size, (unsigned)i);
        free(blocks[i].start);
        blocks[i].start = NULL;
    }
}

// malloc(3): "ENOMEM Out of memory". Whichever call the kernel refuses, once or for good: live blocks keep their contents,
// what cannot be had is NULL, and as soon as the kernel gives again, so does the heap.
static void any_refusal_leaves_the_heap_whole(void) {
    uint64_t random = 42;
    static const int kinds[] = {MMAP | SBRK, EVERYTHING, MUNMAP | MADVISE, MMAP, SBRK, MREMAP, MADVISE, MUNMAP};
    for (int round = 0; round < 80; round++) {
        long first = round / (int)COUNT(kinds) * 2;
        long last = round % 3 == 0 ? first : round % 3 == 1 ? first + 5 : __LONG_MAX__;
        refuse_between(kinds[(size_t)round % COUNT(kinds)], first, last);
        take_some(&random, false);
        give_back(&random, 2);
        take_some(&random, false);
        if (round % 2) malloc_trim(0);
        give_back(&random, round % 5 ? 3 : 1);
        refuse(0);
        if (round % 4 == 0) {
            take_some(&random, true);
            for (int i = 0; i < BLOCKS; i++) CHECK(blocks[i].start, "block %d is not to be had again", i);
            give_back(&random, 1);
            malloc_trim(0);
        }
    }
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(free_keeps_errno_when_the_kernel_takes_nothing_back),
    CASE(realloc_goes_on_without_mremap_and_fails_whole_without_memory),
    CASE(a_large_block_is_whole_when_pages_cannot_be_moved),
    CASE(a_refused_break_is_replaced_by_mappings),
    CASE(memory_that_the_program_takes_by_sbrk_stays_its_own),
    CASE(any_refusal_leaves_the_heap_whole),
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
