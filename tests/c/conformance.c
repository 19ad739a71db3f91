// What the manual pages malloc(3), posix_memalign(3), malloc_usable_size(3) and the C standard promise, a case a clause.

#include "check.h"

_Static_assert(_Alignof(max_align_t) <= 16, "the standard asks for no more");

static const size_t TOO_LARGE[] = {(size_t)PTRDIFF_MAX + 1, (size_t)PTRDIFF_MAX + 4096, SIZE_MAX - 4096, SIZE_MAX - 15, SIZE_MAX};

static void expect_no_memory(const void *result, size_t size, const char *call) {
    CHECK(result == NULL, "%s of %zu bytes gave %p", call, size, result);
    CHECK(errno == ENOMEM, "%s of %zu bytes left errno at %d", call, size, errno);
    errno = 0;
}

// malloc(3): "If size is 0, then malloc() returns a unique pointer value that can later be successfully passed to free()";
// likewise calloc(), and posix_memalign(3): "If size is 0, then the value placed in *memptr is either NULL or a unique
// pointer value"; here it is never NULL.
static void a_request_of_no_bytes_gives_a_pointer_of_its_own(void) {
    enum { MANY = 400 };
    static void *blocks[6 * MANY];
    size_t count = 0;
    for (size_t i = 0; i < MANY; i++) {
        blocks[count++] = malloc(hidden(0));
        blocks[count++] = calloc(hidden(0), 5);
        blocks[count++] = calloc(5, hidden(0));
        blocks[count++] = realloc(NULL, hidden(0));
        blocks[count++] = malloc(1);
        blocks[count++] = i % 2 ? valloc(hidden(0)) : pvalloc(hidden(0));
    }
    for (size_t i = 0; i < count; i++) {
        CHECK(blocks[i], "pointer %zu is NULL", i);
        *(char *)blocks[i] = 0;
        for (size_t j = 0; j < i; j++) CHECK(blocks[i] != blocks[j], "%p was given twice", blocks[i]);
    }
    for (size_t i = 0; i < count; i++) free(blocks[i]);
}

static void a_request_of_no_bytes_gives_a_pointer_of_its_own_at_every_alignment(void) {
    static void *blocks[4 * 24];
    size_t count = 0;
    for (size_t alignment = 8; alignment <= 64 * MIB; alignment *= 2) {
        for (int i = 0; i < 4; i++) {
            CHECK(posix_memalign(&blocks[count], alignment, hidden(0)) == 0, "alignment %zu", alignment);
            CHECK(blocks[count] && is_aligned(blocks[count], alignment), "alignment %zu gave %p", alignment, blocks[count]);
            count++;
        }
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) CHECK(blocks[i] != blocks[j], "%p was given twice", blocks[i]);
        // The address is the process's: no mapping that is made now may come to lie there.
        unsigned char core;
        void *page = (void *)((uintptr_t)blocks[i] & ~(uintptr_t)4095);
        CHECK(mincore(page, 1, &core) == 0, "%p is not mapped", blocks[i]);
    }
    for (size_t i = 0; i < count; i++) free(blocks[i]);
}

// C17 7.22.3: "suitably aligned so that it may be assigned to a pointer to any type of object with a fundamental alignment
// requirement"; on 64-bit Linux that is 16, for every size.
static void every_block_is_aligned_to_16(void) {
    for (size_t size = 0; size < 70000; size = size < 9000 ? size + 1 : size + 97) {
        void *a = malloc(size), *b = calloc(1, size), *c = realloc(malloc(1), size + 1);
        CHECK(is_aligned(a, 16) && is_aligned(b, 16) && is_aligned(c, 16), "size %zu: %p %p %p", size, a, b, c);
        free(a), free(b), free(c);
    }
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        void *block = malloc(SIZES[i]);
        CHECK(block && is_aligned(block, 16), "size %zu: %p", SIZES[i], block);
        free(block);
    }
}

// malloc(3): "ENOMEM ... if a size larger than PTRDIFF_MAX is requested".
static void sizes_above_ptrdiff_max_give_enomem(void) {
    char *block = malloc(100);
    fill(block, 100, 1);
    for (size_t i = 0; i < COUNT(TOO_LARGE); i++) {
        size_t size = hidden(TOO_LARGE[i]);
        errno = 0;
        expect_no_memory(malloc(size), size, "malloc");
        expect_no_memory(calloc(1, size), size, "calloc");
        expect_no_memory(calloc(size, 1), size, "calloc");
        expect_no_memory(realloc(NULL, size), size, "realloc of NULL");
        expect_no_memory(realloc(block, size), size, "realloc");
        expect_no_memory(reallocarray(block, 1, size), size, "reallocarray");
        expect_no_memory(memalign(16, size), size, "memalign");
        expect_no_memory(aligned_alloc(4096, size), size, "aligned_alloc");
        expect_no_memory(aligned_alloc(64 * MIB, size), size, "aligned_alloc");
        expect_no_memory(valloc(size), size, "valloc");
        expect_no_memory(pvalloc(size), size, "pvalloc");
        void *place = &place;
        CHECK(posix_memalign(&place, 64, size) == ENOMEM && place == &place && errno == 0, "posix_memalign of %zu", size);
    }
    expect_no_memory(malloc(hidden(PTRDIFF_MAX)), PTRDIFF_MAX, "malloc");
    expect_no_memory(malloc(hidden((size_t)1 << 48)), (size_t)1 << 48, "malloc");
    verify(block, 100, 1);
    free(block);
}

// malloc(3), calloc() and reallocarray(): "If the multiplication of nmemb and size would result in integer overflow, then
// calloc() returns an error"; reallocarray() "fails safely in the case where the multiplication would overflow".
static void products_that_overflow_give_enomem(void) {
    static const size_t factors[][2] = {
        {SIZE_MAX, 2}, {2, SIZE_MAX}, {(size_t)1 << 32, (size_t)1 << 32}, {((size_t)1 << 63) + 1, 2}, {SIZE_MAX / 2 + 1, 2},
        {SIZE_MAX, SIZE_MAX}, {SIZE_MAX / 15, 17}, {((size_t)1 << 32) + 1, (size_t)1 << 32}, {6, SIZE_MAX / 6 + 3},
    };
    for (size_t i = 0; i < COUNT(factors); i++) {
        size_t count = hidden(factors[i][0]), size = hidden(factors[i][1]);
        char *block = malloc(1000);
        fill(block, 1000, 3);
        errno = 0;
        expect_no_memory(calloc(count, size), count, "calloc");
        expect_no_memory(reallocarray(NULL, count, size), count, "reallocarray of NULL");
        expect_no_memory(reallocarray(block, count, size), count, "reallocarray");
        verify(block, 1000, 3);
        free(block);
    }
}

// posix_memalign(3): "EINVAL The alignment argument was not a power of two, or was not a multiple of sizeof(void *)"; "the
// value of errno is not set"; "on Linux, posix_memalign() does not modify memptr on failure".
static void posix_memalign_refuses_other_alignments_and_touches_nothing(void) {
    static const size_t wrong[] = {0, 1, 2, 4, 3, 6, 7, 9, 12, 24, 40, 48, 100, 4095, 4097, 12288, SIZE_MAX, SIZE_MAX - 7};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        void *place = &place;
        errno = 4321;
        int result = posix_memalign(&place, hidden(wrong[i]), 100);
        CHECK(result == EINVAL, "alignment %zu gave %d", wrong[i], result);
        CHECK(place == &place, "alignment %zu changed the pointer", wrong[i]);
        CHECK(errno == 4321, "alignment %zu changed errno to %d", wrong[i], errno);
    }
}

// The same clause, for ENOMEM: by the size, and by the alignment.
static void posix_memalign_without_memory_touches_nothing(void) {
    static const size_t requests[][2] = {
        {16, SIZE_MAX},         {4096, PTRDIFF_MAX},           {(size_t)1 << 62, 1},           {(size_t)1 << 63, 1},
        {(size_t)1 << 63, 0},   {(size_t)1 << 63, SIZE_MAX},   {8, (size_t)1 << 50},           {(size_t)1 << 47, (size_t)1 << 47},
    };
    for (size_t i = 0; i < COUNT(requests); i++) {
        void *place = &place;
        errno = 4321;
        int result = posix_memalign(&place, hidden(requests[i][0]), hidden(requests[i][1]));
        CHECK(result == ENOMEM, "%zu bytes at %zu gave %d", requests[i][1], requests[i][0], result);
        CHECK(place == &place && errno == 4321, "%zu bytes at %zu: %p, %d", requests[i][1], requests[i][0], place, errno);
    }
    void *place = NULL;
    errno = 4321;
    CHECK(posix_memalign(&place, 64, 100) == 0 && errno == 4321, "success left errno at %d", errno);
    free(place);
}

// posix_memalign(3), aligned_alloc() and memalign(): "EINVAL The alignment argument was not a power of two".
static void aligned_alloc_and_memalign_refuse_what_is_no_power_of_two(void) {
    static const size_t wrong[] = {0, 3, 5, 6, 7, 9, 12, 24, 48, 100, 4095, 4097, 12288, 3 * MIB, SIZE_MAX, SIZE_MAX - 1};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        errno = 0;
        CHECK(aligned_alloc(hidden(wrong[i]), 100) == NULL && errno == EINVAL, "alignment %zu: %d", wrong[i], errno);
        errno = 0;
        CHECK(memalign(hidden(wrong[i]), 100) == NULL && errno == EINVAL, "alignment %zu: %d", wrong[i], errno);
    }
}

// posix_memalign(3): "The address of the allocated memory will be a multiple of alignment".
static void every_power_of_two_up_to_64_mib_is_kept_as_an_alignment(void) {
    static const size_t sizes[] = {1, 24, 100, 4096, 20000, 40000, 300 * KIB, MIB + 1, 5 * MIB};
    for (size_t alignment = 1; alignment <= 64 * MIB; alignment *= 2) {
        void *blocks[3 * COUNT(sizes)];
        size_t count = 0;
        for (size_t i = 0; i < COUNT(sizes); i++) {
            blocks[count] = aligned_alloc(alignment, sizes[i]);
            CHECK(blocks[count], "%zu bytes at %zu", sizes[i], alignment);
            blocks[count + 1] = memalign(alignment, sizes[i]);
            CHECK(blocks[count + 1], "%zu bytes at %zu", sizes[i], alignment);
            CHECK(posix_memalign(&blocks[count + 2], alignment < 8 ? 8 : alignment, sizes[i]) == 0, "%zu", alignment);
            for (int j = 0; j < 3; j++, count++) {
                CHECK(is_aligned(blocks[count], alignment), "%p is not aligned to %zu", blocks[count], alignment);
                CHECK(is_aligned(blocks[count], 16), "%p is not aligned to 16", blocks[count]);
                fill(blocks[count], sizes[i], (unsigned)count);
            }
        }
        for (size_t i = 0; i < count; i++) {
            size_t size = sizes[i / 3], larger = 2 * size + 40000;
            verify(blocks[i], size, (unsigned)i);
            CHECK(malloc_usable_size(blocks[i]) >= size, "%zu bytes at %zu", size, alignment);
            // realloc takes blocks of any origin; it need not keep the alignment.
            if (i % 3 == 0) {
                blocks[i] = realloc(blocks[i], larger);
                verify_part(blocks[i], size, size, (unsigned)i);
            }
            free(blocks[i]);
        }
    }
}

// malloc(3): "The free() function ... preserves errno" (POSIX.1-2024 asks for the same).
static void free_keeps_errno(void) {
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            enum { MANY = 40 };
            void *blocks[MANY];
            size_t many = SIZES[i] > MIB ? 4 : MANY;
            for (size_t j = 0; j < many; j++) blocks[j] = malloc(SIZES[i]);
            for (size_t j = 0; j < many; j++) {
                errno = 1000 + (int)j;
                free(blocks[j]);
                CHECK(errno == 1000 + (int)j, "freeing %zu bytes set errno to %d", SIZES[i], errno);
            }
        }
        errno = 77;
        free(NULL);
        CHECK(errno == 77, "freeing NULL set errno to %d", errno);
        malloc_trim(0);
    }
    // More than the cache of freed mappings keeps: this is unmapped at once.
    void *huge = malloc(1024 * MIB);
    CHECK(huge, "no gigabyte");
    errno = 78;
    free(huge);
    CHECK(errno == 78, "freeing a huge block set errno to %d", errno);
}

static void *free_all_and_check_errno(void *argument) {
    void **blocks = argument;
    for (size_t i = 0; blocks[i]; i++) {
        errno = 99;
        free(blocks[i]);
        CHECK(errno == 99, "errno is %d after block %zu", errno, i);
    }
    return NULL;
}

static void free_in_another_thread_keeps_errno(void) {
    static void *blocks[3000 + COUNT(SIZES) + 1];
    size_t count = 0;
    for (; count < 3000; count++) blocks[count] = malloc(16 + count % 500);
    for (size_t i = 0; i < COUNT(SIZES); i++) blocks[count++] = malloc(SIZES[i]);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_all_and_check_errno, blocks) == 0, "no thread");
    pthread_join(thread, NULL);
}

// malloc(3), realloc(): "The contents of the memory will be unchanged in the range from the start of the region up to the
// minimum of the old and new sizes."
static void realloc_keeps_the_contents_across_all_regimes(void) {
    for (size_t from = 0; from < COUNT(SIZES); from++) {
        for (size_t to = 0; to < COUNT(SIZES); to++) {
            size_t old = SIZES[from], new = SIZES[to];
            char *block = malloc(old);
            fill(block, old, (unsigned)(from + to));
            char *moved = realloc(block, new);
            CHECK(moved && is_aligned(moved, 16), "%zu to %zu gave %p", old, new, (void *)moved);
            verify_part(moved, old < new ? old : new, old, (unsigned)(from + to));
            CHECK(malloc_usable_size(moved) >= new, "%zu to %zu", old, new);
            fill(moved, new, 7);
            verify(moved, new, 7);
            free(moved);
        }
    }
}

// The same, in small steps up and down, with neighbours in the way and without.
static void realloc_keeps_the_contents_step_by_step(void) {
    uint64_t random = 88172645463325252u;
    enum { MANY = 24 };
    struct {
        char *start;
        size_t size;
    } blocks[MANY] = {0};
    for (int step = 0; step < 6000; step++) {
        size_t i = next_random(&random) % MANY;
        size_t shift = next_random(&random) % 23;
        size_t size = 1 + next_random(&random) % ((size_t)1 << shift);
        if (step % 3 == 0) size = blocks[i].size + 1 + blocks[i].size / 8;
        if (size > 24 * MIB) size = 1;
        char *moved = realloc(blocks[i].start, size);
        CHECK(moved, "no %zu bytes", size);
        size_t kept = size < blocks[i].size ? size : blocks[i].size;
        verify_part(moved, kept, blocks[i].size, (unsigned)i);
        fill(moved, size, (unsigned)i);
        blocks[i].start = moved;
        blocks[i].size = size;
    }
    for (size_t i = 0; i < MANY; i++) {
        verify(blocks[i].start, blocks[i].size, (unsigned)i);
        free(blocks[i].start);
    }
}

// malloc(3): "If ptr is NULL, then the call is equivalent to malloc(size), for all values of size".
static void realloc_of_null_allocates(void) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        char *block = realloc(hidden_pointer(NULL), SIZES[i]);
        CHECK(block, "%zu bytes", SIZES[i]);
        fill(block, SIZES[i], 1);
        verify(block, SIZES[i], 1);
        free(block);
        block = reallocarray(hidden_pointer(NULL), SIZES[i], 3);
        CHECK(block && malloc_usable_size(block) >= 3 * SIZES[i], "three times %zu bytes", SIZES[i]);
        free(block);
    }
}

// malloc(3): "If size is equal to zero, and ptr is not NULL, then the call is equivalent to free(ptr)"; glibc gives NULL and
// leaves errno alone.
static void realloc_to_no_bytes_frees(void) {
    size_t before = address_space();
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            char *block = malloc(SIZES[i]);
            errno = 5;
            void *result = realloc(block, hidden(0));
            CHECK(result == NULL && errno == 5, "%zu bytes gave %p and errno %d", SIZES[i], result, errno);
        }
    }
    // Had the blocks not been freed, they would be ten gigabytes by now.
    size_t grown = address_space() - before;
    CHECK(grown < 400 * MIB, "the process has grown by %zu MiB", grown / MIB);
}

// malloc(3): "If realloc() fails, the original block is left untouched; it is not freed or moved."
static void realloc_that_fails_leaves_the_block_alone(void) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        char *block = malloc(SIZES[i]);
        fill(block, SIZES[i], 9);
        size_t usable = malloc_usable_size(block);
        static const size_t sizes[] = {SIZE_MAX, PTRDIFF_MAX, (size_t)1 << 50, (size_t)1 << 47};
        for (size_t j = 0; j < COUNT(sizes); j++) {
            errno = 0;
            expect_no_memory(realloc(block, hidden(sizes[j])), sizes[j], "realloc");
            CHECK(malloc_usable_size(block) == usable, "%zu bytes became %zu", usable, malloc_usable_size(block));
            verify(block, SIZES[i], 9);
        }
        fill(block, SIZES[i], 10);
        verify(block, SIZES[i], 10);
        free(block);
    }
}

static void expect_zero(const unsigned char *block, size_t size) {
    CHECK(block, "no %zu bytes", size);
    for (size_t i = 0; i < size; i++) CHECK(block[i] == 0, "byte %zu of %zu is %d", i, size, block[i]);
}

// malloc(3), calloc(): "The memory is set to zero" - also when it was in use before, in every regime.
static void calloc_zeroes_recycled_memory(void) {
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            enum { MANY = 12 };
            unsigned char *blocks[MANY];
            size_t many = SIZES[i] > 4 * MIB ? 2 : MANY;
            for (size_t j = 0; j < many; j++) {
                blocks[j] = malloc(SIZES[i]);
                memset(blocks[j], 0xee, malloc_usable_size(blocks[j]));
            }
            for (size_t j = 0; j < many; j++) free(blocks[j]);
            // Returned to the kernel, memory comes back by another way.
            if (round % 2 == 1) malloc_trim(0);
            for (size_t j = 0; j < many; j++) {
                size_t size = SIZES[i] - (j % 2 ? SIZES[i] / 3 : 0);
                blocks[j] = j % 3 ? calloc(1, size) : calloc(size, 1);
                expect_zero(blocks[j], size);
                memset(blocks[j], 0xdd, size);
            }
            for (size_t j = 0; j < many; j++) free(blocks[j]);
        }
    }
}

// The same when the kernel does not take memory back, since the process has locked it (mlockall(2)).
static void calloc_zeroes_recycled_memory_that_is_locked(void) {
    enum { MANY = 40, SIZE = 500 * 1024 };
    static unsigned char *blocks[MANY];
    for (size_t i = 0; i < MANY; i++) {
        blocks[i] = malloc(SIZE);
        memset(blocks[i], 0xee, SIZE);
    }
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        // Not allowed here: nothing to be seen.
        return;
    }
    // All but the last: what lies below it cannot leave the break.
    for (size_t i = 0; i + 1 < MANY; i++) free(blocks[i]);
    malloc_trim(0);
    for (size_t i = 0; i + 1 < MANY; i++) {
        blocks[i] = calloc(1, SIZE);
        expect_zero(blocks[i], SIZE);
    }
}

// malloc_usable_size(3): "the number of bytes available in the dynamically allocated memory block"; at least what was asked
// for, and all of it can be used; 0 for NULL.
static void all_of_the_usable_size_can_be_used(void) {
    CHECK(malloc_usable_size(NULL) == 0, "%zu bytes at NULL", malloc_usable_size(NULL));
    enum { MANY = COUNT(SIZES) * 4 };
    static char *blocks[MANY];
    static size_t usable[MANY];
    for (size_t i = 0; i < MANY; i++) {
        size_t size = SIZES[i / 4];
        blocks[i] = i % 4 == 3 ? aligned_alloc(64, size) : malloc(size);
        usable[i] = malloc_usable_size(blocks[i]);
        CHECK(usable[i] >= size, "%zu bytes became %zu", size, usable[i]);
        fill(blocks[i], usable[i], (unsigned)i);
    }
    for (size_t i = 0; i < MANY; i++) {
        CHECK(malloc_usable_size(blocks[i]) == usable[i], "%zu bytes became %zu", usable[i], malloc_usable_size(blocks[i]));
        verify(blocks[i], usable[i], (unsigned)i);
    }
    for (size_t i = 0; i < MANY; i++) {
        // What is usable now need not be copied away by realloc, but must be kept by it.
        blocks[i] = realloc(blocks[i], usable[i] + 1);
        verify_part(blocks[i], usable[i], usable[i], (unsigned)i);
        free(blocks[i]);
    }
}

// posix_memalign(3): valloc() gives "a multiple of the page size"; pvalloc() also "rounds the size of the allocation up to the
// next multiple of the system page size".
static void valloc_and_pvalloc_keep_to_pages(void) {
    // Of each size several at a time: the first block of a slab, or a whole one, lies at a page by itself.
    enum { MANY = 5 };
    size_t page = page_size();
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        size_t whole = (SIZES[i] + page - 1) / page * page;
        char *blocks[2 * MANY];
        for (unsigned j = 0; j < COUNT(blocks); j++) {
            bool rounds = j % 2;
            blocks[j] = rounds ? pvalloc(SIZES[i]) : valloc(SIZES[i]);
            CHECK(blocks[j] && is_aligned(blocks[j], page), "%zu bytes: %p", SIZES[i], (void *)blocks[j]);
            if (rounds) CHECK(malloc_usable_size(blocks[j]) >= whole, "%zu bytes of %zu", malloc_usable_size(blocks[j]), whole);
            fill(blocks[j], rounds ? whole : SIZES[i], j);
        }
        for (unsigned j = 0; j < COUNT(blocks); j++) {
            verify(blocks[j], j % 2 ? whole : SIZES[i], j);
            free(blocks[j]);
        }
    }
}

// reallocarray(3): "equivalent to the call realloc(ptr, nmemb * size)".
static void reallocarray_resizes_by_the_product(void) {
    char *block = reallocarray(NULL, 10, 10);
    fill(block, 100, 1);
    block = reallocarray(block, 300, 700);
    verify_part(block, 100, 100, 1);
    CHECK(malloc_usable_size(block) >= 210000, "%zu bytes", malloc_usable_size(block));
    fill(block, 210000, 2);
    block = reallocarray(block, 5, 1);
    verify_part(block, 5, 210000, 2);
    CHECK(reallocarray(block, hidden(0), 8) == NULL, "a product of 0 frees");
}

// The SunOS name of free, in glibc until 2.26: programs that were linked before still call it.
static void cfree_frees(void) {
    void (*cfree)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
    CHECK(cfree, "there is no cfree");
    cfree(NULL);
    for (int round = 0; round < 300; round++) {
        void *block = malloc(10 * MIB);
        memset(block, 1, 10 * MIB);
        cfree(block);
        cfree(malloc(10));
    }
    CHECK(resident() < 200 * MIB, "%zu MiB are resident", resident() / MIB);
}

// C17 7.22.3: "Each such allocation shall yield a pointer to an object disjoint from any other object."
static void live_blocks_are_disjoint(void) {
    enum { MANY = 3000 };
    static struct {
        char *start;
        size_t size;
    } blocks[MANY];
    uint64_t random = 1234567;
    for (int step = 0; step < 60000; step++) {
        size_t i = next_random(&random) % MANY;
        if (blocks[i].start) {
            verify(blocks[i].start, blocks[i].size, (unsigned)i);
            free(blocks[i].start);
            blocks[i].start = NULL;
            continue;
        }
        size_t size = 1 + next_random(&random) % (step % 200 ? 2000 : 300000);
        blocks[i].start = malloc(size);
        blocks[i].size = size;
        fill(blocks[i].start, size, (unsigned)i);
    }
    for (size_t i = 0; i < MANY; i++) {
        if (blocks[i].start) verify(blocks[i].start, blocks[i].size, (unsigned)i);
        free(blocks[i].start);
    }
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(a_request_of_no_bytes_gives_a_pointer_of_its_own),
    CASE(a_request_of_no_bytes_gives_a_pointer_of_its_own_at_every_alignment),
    CASE(every_block_is_aligned_to_16),
    CASE(sizes_above_ptrdiff_max_give_enomem),
    CASE(products_that_overflow_give_enomem),
    CASE(posix_memalign_refuses_other_alignments_and_touches_nothing),
    CASE(posix_memalign_without_memory_touches_nothing),
    CASE(aligned_alloc_and_memalign_refuse_what_is_no_power_of_two),
    CASE(every_power_of_two_up_to_64_mib_is_kept_as_an_alignment),
    CASE(free_keeps_errno),
    CASE(free_in_another_thread_keeps_errno),
    CASE(realloc_keeps_the_contents_across_all_regimes),
    CASE(realloc_keeps_the_contents_step_by_step),
    CASE(realloc_of_null_allocates),
    CASE(realloc_to_no_bytes_frees),
    CASE(realloc_that_fails_leaves_the_block_alone),
    CASE(calloc_zeroes_recycled_memory),
    CASE(calloc_zeroes_recycled_memory_that_is_locked),
    CASE(all_of_the_usable_size_can_be_used),
    CASE(valloc_and_pvalloc_keep_to_pages),
    CASE(reallocarray_resizes_by_the_product),
    CASE(cfree_frees),
    CASE(live_blocks_are_disjoint),
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
