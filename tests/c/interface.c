// What lies beside the functions that allocate and free: mallopt(3), mallinfo(3), malloc_stats(3), malloc_info(3),
// malloc_trim(3), the C library's private names, C23's sized frees, and the functions of terrace.h. A case a clause.

#include "../../capi/include/terrace.h"
#include "check.h"


// mallopt(3), M_MMAP_THRESHOLD: "For allocations greater than or equal to the limit specified (in bytes) by M_MMAP_THRESHOLD
// that can't be satisfied from the free list, the memory-allocation functions employ mmap(2)"; the "default maximum ... [is]
// 4*1024*1024*sizeof(long) on 64-bit systems", and "on error, mallopt() returns 0".
static void m_mmap_threshold_says_which_blocks_get_mappings(void) {
    CHECK(mallopt(M_MMAP_THRESHOLD, 64 * (int)KIB) == 1, "refused");
    size_t before = mallinfo2().hblks;
    void *mapped = malloc(200 * KIB);
    CHECK(mallinfo2().hblks == before + 1, "%zu mappings, %zu before", mallinfo2().hblks, before);
    CHECK(mallopt(M_MMAP_THRESHOLD, 2 * (int)MIB) == 1, "refused");
    void *unmapped = malloc(200 * KIB);
    CHECK(mallinfo2().hblks == before + 1, "the threshold was not raised");
    CHECK(mallopt(M_MMAP_THRESHOLD, 33 * (int)MIB) == 0, "above the maximum");
    CHECK(mallopt(M_MMAP_THRESHOLD, -1) == 0, "far above the maximum");
    void *still_unmapped = malloc(MIB + 300 * KIB);
    CHECK(mallinfo2().hblks == before + 1, "a refused value took effect");
    free(mapped), free(unmapped), free(still_unmapped);
}

// mallopt(3), M_MMAP_MAX: "the maximum number of allocation requests that may be simultaneously serviced using mmap(2)"; "a
// value of 0 disables the use of mmap(2) for servicing large allocation requests".
static void m_mmap_max_limits_how_many_blocks_get_mappings(void) {
    enum { MANY = 6 };
    void *blocks[MANY];
    CHECK(mallinfo2().hblks == 0, "%zu mappings already", mallinfo2().hblks);
    CHECK(mallopt(M_MMAP_MAX, 3) == 1, "refused");
    for (int i = 0; i < MANY; i++) fill(blocks[i] = malloc(2 * MIB), 2 * MIB, (unsigned)i);
    CHECK(mallinfo2().hblks == 3, "%zu mappings", mallinfo2().hblks);
    for (int i = 0; i < MANY; i++) verify(blocks[i], 2 * MIB, (unsigned)i), free(blocks[i]);
    CHECK(mallopt(M_MMAP_MAX, 0) == 1, "refused");
    char *block = malloc(3 * MIB);
    CHECK(block && mallinfo2().hblks == 0, "%zu mappings", mallinfo2().hblks);
    // What no arena can hold has no other place to be.
    char *huge = malloc(50 * MIB);
    CHECK(huge, "no 50 MiB");
    free(block), free(huge);
    CHECK(mallopt(M_MMAP_MAX, 65536) == 1, "refused");
    block = malloc(3 * MIB);
    CHECK(mallinfo2().hblks == 1, "%zu mappings", mallinfo2().hblks);
    free(block);
}

static void expect_bytes(const void *block, size_t from, size_t to, int byte, const char *what) {
    const volatile unsigned char *bytes = block;
    for (size_t i = from; i < to; i++) CHECK(bytes[i] == byte, "byte %zu of %zu, %s, is %#x", i, to, what, bytes[i]);
}

static void *allocate_perturbed(void *argument) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        void *block = malloc(SIZES[i]);
        expect_bytes(block, 0, SIZES[i], 0xff ^ 0x5a, "allocated in a thread");
        free(block);
    }
    return argument;
}

static void *free_all(void *argument) {
    for (void **block = argument; *block; block++) free(*block);
    return NULL;
}

// mallopt(3), M_PERTURB: "bytes of allocated memory (other than allocations via calloc(3)) are initialized to the complement of
// the value in the least significant byte of value, and when allocated memory is released using free(3), the freed bytes are
// set to the least significant byte of value".
static void m_perturb_fills_new_and_freed_blocks(void) {
    void *old[40];
    for (int i = 0; i < 40; i++) old[i] = malloc(100);
    for (int i = 0; i < 20; i++) free(old[i]);
    CHECK(mallopt(M_PERTURB, 0x1005a) == 1, "refused");
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            size_t size = SIZES[i];
            unsigned char *block = malloc(size);
            expect_bytes(block, 0, size, 0xff ^ 0x5a, "allocated");
            unsigned char *zeroed = calloc(1, size);
            expect_bytes(zeroed, 0, size, 0, "zeroed");
            unsigned char *aligned = aligned_alloc(64, size);
            expect_bytes(aligned, 0, size, 0xff ^ 0x5a, "aligned");
            memset(block, 1, size);
            free(block);
            // Reading what was freed is wrong; here the memory is still there. The first words may hold a link.
            if (size < 9 * MIB) expect_bytes(block, 16, size, 0x5a, "freed");
            free(zeroed), free(aligned);
        }
    }
    // More than a thread keeps at hand, of one size, through both lists of a magazine and to the slabs; and to another thread.
    enum { MANY = 5000 };
    static unsigned char *blocks[MANY + 1];
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < MANY; i++) {
            blocks[i] = malloc(48);
            expect_bytes(blocks[i], 0, 48, 0xff ^ 0x5a, "one of many");
            memset(blocks[i], i, 48);
        }
        for (int i = 0; i < MANY; i++) expect_bytes(blocks[i], 0, 48, i & 0xff, "still in use");
        if (round % 2) {
            pthread_t thread;
            CHECK(pthread_create(&thread, NULL, free_all, blocks) == 0, "no thread");
            pthread_join(thread, NULL);
            expect_bytes(blocks[7], 16, 48, 0x5a, "freed by another thread");
        } else {
            free_all(blocks);
        }
    }
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, allocate_perturbed, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
    for (int i = 20; i < 40; i++) free(old[i]);
    CHECK(mallopt(M_PERTURB, 0) == 1, "refused");
    // And the fast path is back: what was written stays.
    for (int i = 0; i < 2000; i++) free(malloc(48));
    unsigned char *block = malloc(48);
    memset(block, 7, 48);
    free(block);
    expect_bytes(block, 16, 48, 7, "freed without perturbing");
}

// mallopt(3), M_TRIM_THRESHOLD: "When the amount of contiguous free memory at the top of the heap grows sufficiently large,
// free(3) employs sbrk(2) to release this memory back to the system... Setting M_TRIM_THRESHOLD to -1 disables trimming
// completely". Here: how much free memory an arena keeps, however old it is.
static size_t kept_after_freeing(size_t bytes) {
    enum { MANY = 64 };
    void *blocks[MANY];
    for (int i = 0; i < MANY; i++) {
        blocks[i] = malloc(bytes / MANY);
        memset(blocks[i], 1, bytes / MANY);
    }
    for (int i = 0; i < MANY; i++) free(blocks[i]);
    // The housekeeping comes round on slow calls, by the clock.
    for (int i = 0; i < 60; i++) {
        usleep(10000);
        free(malloc(100 * KIB));
    }
    return mallinfo2().keepcost;
}

static void m_trim_threshold_says_how_much_free_memory_is_kept(void) {
    CHECK(terrace_set_option("purge_delay_ms", "0") == 0, "errno is %d", errno);
    size_t kept = kept_after_freeing(20 * MIB);
    CHECK(kept < MIB, "%zu bytes are kept", kept);
    CHECK(mallopt(M_TRIM_THRESHOLD, 8 * (int)MIB) == 1, "refused");
    kept = kept_after_freeing(20 * MIB);
    CHECK(kept > 3 * MIB && kept < 9 * MIB, "%zu bytes are kept", kept);
    CHECK(mallopt(M_TRIM_THRESHOLD, -1) == 1, "refused");
    kept = kept_after_freeing(20 * MIB);
    CHECK(kept > 19 * MIB, "%zu bytes are kept", kept);
    // An explicit trim is not a matter of thresholds.
    CHECK(malloc_trim(0) == 1 && mallinfo2().keepcost < MIB, "%zu bytes are kept", mallinfo2().keepcost);
}

static pthread_barrier_t together;

static void *attach(void *argument) {
    free(malloc(100));
    pthread_barrier_wait(&together);
    return argument;
}

// mallopt(3), M_ARENA_MAX: "this parameter defines a hard limit on the maximum number of arenas that can be created". How many
// there were is read from the statistics.
static void m_arena_max_limits_the_arenas(void) {
    const char *limit = getenv("ARENA_MAX");
    CHECK(mallopt(M_ARENA_MAX, atoi(limit)) == 1, "refused");
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, attach, NULL) == 0, "no thread");
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    if (getenv("ARENA_MAX_LATER")) CHECK(mallopt(M_ARENA_MAX, atoi(getenv("ARENA_MAX_LATER"))) == 1, "refused");
}

// mallopt(3), M_CHECK_ACTION: "0 Ignore error conditions; continue execution. 1 Print a detailed error message and continue
// execution. 2 Abort the program. 3 Print a detailed error message ... and abort the program."
static void m_check_action_says_what_a_bad_pointer_leads_to(void) {
    CHECK(mallopt(M_CHECK_ACTION, atoi(getenv("CHECK_ACTION"))) == 1, "refused");
    char *small = malloc(100), *medium = malloc(100 * KIB), *large = malloc(3 * MIB);
    fill(small, 100, 1), fill(medium, 100 * KIB, 2), fill(large, 3 * MIB, 3);
    int local;
    free(hidden_pointer(&local));
    free(hidden_pointer(small + 16));
    free(hidden_pointer(medium + 4096));
    free(hidden_pointer(large + 4096));
    errno = 0;
    CHECK(realloc(hidden_pointer(&local), 5) == NULL && errno == EINVAL, "errno is %d", errno);
    CHECK(malloc_usable_size(hidden_pointer(&local)) == 0, "it has a size");
    char *twice = malloc(200);
    free(twice);
    free(hidden_pointer(twice));
    char *a = malloc(200), *b = malloc(200);
    CHECK(a != b, "%p was given twice", a);
    verify(small, 100, 1), verify(medium, 100 * KIB, 2), verify(large, 3 * MIB, 3);
    free(small), free(medium), free(large), free(a), free(b);
    puts("went on");
}

// mallinfo(3): arena "the total amount of memory allocated by means other than mmap(2)", hblks "the number of blocks currently
// allocated using mmap(2)", hblkhd their bytes, usmblks "always 0", uordblks "the total number of bytes used by in-use
// allocations", fordblks "the total number of bytes in free blocks".
static void mallinfo2_counts_what_is_in_use(void) {
    enum { MANY = 1000, SIZE = 1000 };
    static void *blocks[MANY];
    struct mallinfo2 before = mallinfo2();
    CHECK(before.arena == before.uordblks + before.fordblks, "%zu of %zu are in use", before.uordblks, before.arena);
    for (int i = 0; i < MANY; i++) blocks[i] = malloc(SIZE);
    void *medium = malloc(300 * KIB), *large = malloc(5 * MIB);
    struct mallinfo2 during = mallinfo2();
    size_t grown = during.uordblks - before.uordblks, least = MANY * SIZE + 300 * KIB;
    CHECK(grown >= least && grown < least + least / 8, "%zu bytes more are in use", grown);
    CHECK(during.hblks == before.hblks + 1 && during.hblkhd == before.hblkhd + 5 * MIB, "%zu bytes mapped", during.hblkhd);
    CHECK(during.arena == during.uordblks + during.fordblks && during.arena >= 4 * MIB, "%zu", during.arena);
    CHECK(during.usmblks == 0 && during.ordblks > 0, "%zu free runs", during.ordblks);
    for (int i = 0; i < MANY; i++) free(blocks[i]);
    free(medium), free(large);
    struct mallinfo2 after = mallinfo2();
    CHECK(after.uordblks - before.uordblks < 100 * KIB, "%zu bytes are in use", after.uordblks);
    CHECK(after.hblks == before.hblks && after.hblkhd == before.hblkhd, "%zu bytes mapped", after.hblkhd);
    CHECK(after.keepcost >= 300 * KIB && after.keepcost <= after.fordblks, "%zu bytes to trim", after.keepcost);
    CHECK(after.smblks > 0 && after.fsmblks >= after.smblks * 16 && after.fsmblks <= after.fordblks, "%zu", after.fsmblks);
}

// mallinfo(3), BUGS: "Because the fields of the mallinfo structure ... are typed as int, their values may wrap": here they stay at
// the largest.
static void mallinfo_gives_the_same_in_ints(void) {
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    void *small = malloc(1000), *large = malloc(2 * MIB);
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo narrow = mallinfo();
    CHECK((size_t)narrow.arena == wide.arena && (size_t)narrow.hblkhd == wide.hblkhd && narrow.hblks == 1, "%d", narrow.arena);
    CHECK((size_t)narrow.uordblks == wide.uordblks && (size_t)narrow.fordblks == wide.fordblks, "%d", narrow.uordblks);
    CHECK((size_t)narrow.ordblks == wide.ordblks && (size_t)narrow.keepcost == wide.keepcost, "%d", narrow.ordblks);
    CHECK((size_t)narrow.smblks == wide.smblks && (size_t)narrow.fsmblks == wide.fsmblks, "%d", narrow.smblks);
    // Addresses that are never touched.
    void *huge = malloc(5 * 1024 * MIB);
    CHECK(huge, "no 5 GiB of addresses");
    CHECK(mallinfo().hblkhd == INT32_MAX && mallinfo2().hblkhd > 5 * 1024 * MIB, "%d", mallinfo().hblkhd);
    free(small), free(large), free(huge);
}

// malloc_stats(3): "prints (on standard error) statistics about memory allocated by malloc(3) and related functions". Not by
// stdio: what stands in the buffer of stderr stays there.
static void malloc_stats_writes_to_standard_error_past_stdio(void) {
    static char buffer[4096], text[8192];
    int ends[2], saved = dup(2);
    CHECK(pipe(ends) == 0 && saved >= 0, "no pipe");
    setvbuf(stderr, buffer, _IOFBF, sizeof buffer);
    fputs("buffered", stderr);
    errno = 17;
    dup2(ends[1], 2);
    malloc_stats();
    dup2(saved, 2);
    CHECK(errno == 17, "errno is %d", errno);
    close(ends[1]);
    ssize_t length = read(ends[0], text, sizeof text - 1);
    CHECK(length > 0 && strncmp(text, "terrace: process ", 17) == 0, "it wrote %s", text);
    CHECK(strstr(text, "\nlive ") && strstr(text, "\nmapped "), "it wrote %s", text);
    CHECK(!strstr(text, "buffered"), "it flushed stderr");
    // Nobody is to read it.
    dup2(open("/dev/null", O_WRONLY), 2);
}

// malloc_info(3): "EINVAL options was nonzero", "On error, these functions return -1, with errno set"; and it fails when the
// stream does.
static void malloc_info_fails_as_the_manual_says(void) {
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    errno = 0;
    CHECK(malloc_info(1, memory) == -1 && errno == EINVAL, "errno is %d", errno);
    fclose(memory);
    CHECK(length == 0, "it wrote %s", text);
    free(text);
    FILE *full = fopen("/dev/full", "w");
    CHECK(full, "no /dev/full");
    setvbuf(full, NULL, _IONBF, 0);
    errno = 0;
    CHECK(malloc_info(0, full) == -1 && errno == ENOSPC, "errno is %d", errno);
    fclose(full);
}

static ssize_t write_and_allocate(void *cookie, const char *text, size_t length) {
    FILE *out = cookie;
    for (size_t i = 0; i < COUNT(SIZES); i++) free(malloc(SIZES[i]));
    malloc_trim(0);
    struct mallinfo2 found = mallinfo2();
    CHECK(found.arena > 0, "nothing is mapped");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, attach, NULL) == 0, "no thread");
    pthread_barrier_wait(&together);
    pthread_join(thread, NULL);
    return (ssize_t)fwrite(text, 1, length, out);
}

// malloc_info(3): "exports an XML string that describes the current state of the memory-allocation implementation ... The
// string is printed on the file stream". The stream may allocate, and other threads as well: no lock is held. The document
// goes to standard output, where a parser of XML reads it.
static void malloc_info_prints_xml_to_a_stream_that_allocates(void) {
    static void *kept[500];
    for (int i = 0; i < 500; i++) kept[i] = malloc(1000);
    void *medium = malloc(300 * KIB), *large = malloc(5 * MIB);
    for (int i = 0; i < 100; i++) free(malloc((size_t)i * 20));
    pthread_barrier_init(&together, NULL, 2);
    FILE *stream = fopencookie(stdout, "w", (cookie_io_functions_t){.write = write_and_allocate});
    CHECK(stream, "no stream");
    setvbuf(stream, NULL, _IONBF, 0);
    CHECK(malloc_info(0, stream) == 0, "errno is %d", errno);
    fclose(stream);
    free(medium), free(large);
    for (int i = 0; i < 500; i++) free(kept[i]);
}

// malloc_trim(3): "returns 1 if memory was actually released back to the system, or 0 if it was not possible to release any
// memory"; pad "specifies the amount of free space to leave untrimmed".
static void malloc_trim_says_whether_memory_was_released(void) {
    enum { MANY = 100 };
    void *blocks[MANY];
    // The first one also returns what the start of the process left.
    malloc_trim(0);
    CHECK(malloc_trim(0) == 0, "memory was released twice");
    for (int kind = 0; kind < 4; kind++) {
        static const size_t sizes[] = {600, 20000, 200 * KIB, 3 * MIB};
        size_t before = resident();
        for (int i = 0; i < MANY; i++) memset(blocks[i] = malloc(sizes[kind]), 1, sizes[kind]);
        for (int i = 0; i < MANY; i++) free(blocks[i]);
        CHECK(malloc_trim(0) == 1, "blocks of %zu bytes were not released", sizes[kind]);
        CHECK(resident() < before + MIB, "%zu KiB stay", (resident() - before) / KIB);
        CHECK(malloc_trim(0) == 0, "blocks of %zu bytes were released twice", sizes[kind]);
    }
    for (int i = 0; i < MANY; i++) memset(blocks[i] = malloc(200 * KIB), 1, 200 * KIB);
    for (int i = 0; i < MANY; i++) free(blocks[i]);
    CHECK(malloc_trim(10 * MIB) == 1, "nothing was released");
    size_t kept = mallinfo2().keepcost;
    CHECK(kept > 3 * MIB && kept < 11 * MIB, "%zu bytes are kept", kept);
    CHECK(malloc_trim(15 * MIB) == 0 && mallinfo2().keepcost == kept, "there was nothing to release");
}

static void *in_the_library(const char *name) {
    Dl_info found;
    void *function = dlsym(RTLD_DEFAULT, name);
    CHECK(function && dladdr(function, &found) && strstr(found.dli_fname, "libterrace"), "%s is not there", name);
    return function;
}

// glibc exports its functions under private names, too, that some programs bind to: what the one name gives, the other frees.
static void the_private_names_of_the_c_library_are_the_same_heap(void) {
    void *(*my_malloc)(size_t) = (void *(*)(size_t))in_the_library("__libc_malloc");
    void (*my_free)(void *) = (void (*)(void *))in_the_library("__libc_free");
    void *(*my_calloc)(size_t, size_t) = (void *(*)(size_t, size_t))in_the_library("__libc_calloc");
    void *(*my_realloc)(void *, size_t) = (void *(*)(void *, size_t))in_the_library("__libc_realloc");
    void *(*my_memalign)(size_t, size_t) = (void *(*)(size_t, size_t))in_the_library("__libc_memalign");
    void *(*my_valloc)(size_t) = (void *(*)(size_t))in_the_library("__libc_valloc");
    void *(*my_pvalloc)(size_t) = (void *(*)(size_t))in_the_library("__libc_pvalloc");
    int (*my_posix_memalign)(void **, size_t, size_t) = (int (*)(void **, size_t, size_t))in_the_library("__posix_memalign");
    int (*my_mallopt)(int, int) = (int (*)(int, int))in_the_library("__libc_mallopt");
    struct mallinfo (*my_mallinfo)(void) = (struct mallinfo(*)(void))in_the_library("__libc_mallinfo");
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        size_t size = SIZES[i], page = page_size();
        void *blocks[] = {my_malloc(size), my_calloc(size, 1), my_realloc(malloc(8), size), my_memalign(256, size),
                          my_valloc(size), my_pvalloc(size), NULL};
        CHECK(my_posix_memalign(&blocks[6], 128, size) == 0, "%zu bytes", size);
        expect_bytes(blocks[1], 0, size, 0, "zeroed");
        CHECK(is_aligned(blocks[3], 256) && is_aligned(blocks[4], page) && is_aligned(blocks[6], 128), "%zu bytes", size);
        CHECK(malloc_usable_size(blocks[5]) >= (size + page - 1) / page * page, "%zu bytes", size);
        for (unsigned j = 0; j < COUNT(blocks); j++) {
            CHECK(blocks[j], "%zu bytes, %u", size, j);
            fill(blocks[j], size, j);
        }
        for (unsigned j = 0; j < COUNT(blocks); j++) {
            verify(blocks[j], size, j);
            (j % 2 ? free : my_free)(blocks[j]);
        }
        my_free(malloc(size));
    }
    CHECK(my_mallopt(M_MMAP_THRESHOLD, 64 * (int)KIB) == 1, "refused");
    void *block = malloc(200 * KIB);
    CHECK(my_mallinfo().hblks == 1, "%d mappings", my_mallinfo().hblks);
    free(block);
}

// C23 7.24.3.4: "If ptr is a null pointer ... no action occurs. Otherwise ... the behavior is equivalent to free(ptr)", and
// likewise 7.24.3.5. A size that is wrong does no harm here.
static void sized_frees_free(void) {
    CHECK(in_the_library("free_sized") && in_the_library("free_aligned_sized"), "they are not there");
    free_sized(NULL, 10);
    free_aligned_sized(NULL, 64, 10);
    for (int round = 0; round < 300; round++) {
        char *block = malloc(10 * MIB), *aligned = aligned_alloc(4096, 10 * MIB);
        memset(block, 1, 10 * MIB), memset(aligned, 1, 10 * MIB);
        errno = 5;
        free_sized(block, 10 * MIB);
        free_aligned_sized(aligned, 4096, 10 * MIB);
        CHECK(errno == 5, "errno is %d", errno);
        free_sized(malloc(100), hidden(100000));
        free_aligned_sized(aligned_alloc(64, 640), hidden(16), hidden(1));
    }
    CHECK(resident() < 200 * MIB, "%zu MiB are resident", resident() / MIB);
}

// malloc_good_size and nallocx: the size that a block would have, all of which can be used.
static void the_size_of_a_block_can_be_known_before(void) {
    for (size_t size = 0; size < 70000; size = size < 9000 ? size + 1 : size + 97) {
        void *block = malloc(size);
        CHECK(malloc_good_size(size) == malloc_usable_size(block), "%zu: %zu", size, malloc_good_size(size));
        CHECK(nallocx(size, 0) == malloc_usable_size(block), "%zu: %zu", size, nallocx(size, 0));
        free(block);
    }
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        void *block = malloc(SIZES[i]);
        CHECK(malloc_good_size(SIZES[i]) == malloc_usable_size(block), "%zu: %zu", SIZES[i], malloc_good_size(SIZES[i]));
        free(block);
        for (int lg = 0; lg < 22; lg++) {
            block = mallocx(SIZES[i], MALLOCX_LG_ALIGN(lg));
            size_t good = nallocx(SIZES[i], MALLOCX_LG_ALIGN(lg));
            CHECK(good == sallocx(block, 0), "%zu at 2^%d: %zu, not %zu", SIZES[i], lg, sallocx(block, 0), good);
            dallocx(block, MALLOCX_LG_ALIGN(lg));
        }
    }
    CHECK(nallocx(SIZE_MAX, 0) == 0 && nallocx(SIZE_MAX - 4096, MALLOCX_ALIGN(8192)) == 0, "there is such a block");
    CHECK(malloc_good_size(SIZE_MAX) == SIZE_MAX, "there is such a block");
}

// jemalloc(3), mallocx(): "allocates at least size bytes of memory, and returns a pointer to the base address of the
// allocation"; MALLOCX_ALIGN: "align the memory allocation to start at an address that is a multiple of a"; MALLOCX_ZERO:
// "Initialize newly allocated memory to contain zero bytes".
static void mallocx_aligns_and_zeroes(void) {
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(SIZES); i++) {
            for (int lg = 0; lg <= 24; lg += 1 + lg / 8) {
                size_t size = SIZES[i];
                // Caches and arenas by number, as jemalloc's callers say them: ignored.
                int flags = MALLOCX_LG_ALIGN(lg) | (lg % 2 ? 1 << 8 : 5 << 20);
                char *block = mallocx(size, flags), *zeroed = mallocx(size, flags | MALLOCX_ZERO);
                CHECK(block && is_aligned(block, (size_t)1 << lg) && is_aligned(block, 16), "%zu at 2^%d: %p", size, lg, block);
                CHECK(zeroed && is_aligned(zeroed, (size_t)1 << lg), "%zu at 2^%d: %p", size, lg, zeroed);
                if (size <= MIB + 1 || lg < 2) expect_bytes(zeroed, 0, size, 0, "zeroed");
                memset(zeroed, 0xee, size < MIB ? size : MIB), fill(block, size, 3), verify(block, size, 3);
                sdallocx(block, size, flags), dallocx(zeroed, flags);
            }
        }
    }
    CHECK(MALLOCX_ALIGN(1) == 0 && MALLOCX_ALIGN(4096) == 12, "alignments");
    errno = 0;
    CHECK(mallocx(hidden(SIZE_MAX), 0) == NULL && errno == ENOMEM, "errno is %d", errno);
    CHECK(mallocx(16, MALLOCX_LG_ALIGN(63)) == NULL && mallocx(hidden(SIZE_MAX), MALLOCX_ZERO) == NULL, "there is memory");
    CHECK(resident() < 300 * MIB, "%zu MiB are resident", resident() / MIB);
}

// jemalloc(3), rallocx(): "resizes the allocation at ptr to be at least size bytes ... The contents of the memory are unchanged up
// to the lesser of the new and old sizes"; with zeroing, "the real size prior to reallocation defines the boundary".
static void rallocx_keeps_contents_and_alignment(void) {
    static const int lgs[] = {0, 6, 12, 15};
    for (size_t from = 0; from < COUNT(SIZES); from++) {
        for (size_t to = 0; to < COUNT(SIZES); to++) {
            int lg = lgs[(from + to) % COUNT(lgs)];
            size_t old = SIZES[from], new = SIZES[to];
            char *block = mallocx(old, MALLOCX_LG_ALIGN(lg));
            size_t real = sallocx(block, 0);
            fill(block, real, 9);
            block = rallocx(block, new, MALLOCX_LG_ALIGN(lg) | MALLOCX_ZERO);
            CHECK(block && is_aligned(block, (size_t)1 << lg), "%zu to %zu at 2^%d", old, new, lg);
            size_t now = sallocx(block, 0);
            CHECK(now >= new, "%zu to %zu gave %zu", old, new, now);
            verify_part(block, new < old ? new : old, real, 9);
            if (now > real && now <= 2 * MIB) expect_bytes(block, real, now, 0, "behind the old ones");
            dallocx(block, 0);
        }
    }
    char *block = mallocx(100, 0);
    fill(block, 100, 1);
    CHECK(rallocx(block, hidden(SIZE_MAX), 0) == NULL && rallocx(block, hidden(SIZE_MAX), MALLOCX_ALIGN(64)) == NULL, "memory");
    verify(block, 100, 1);
    dallocx(block, 0);
}

// jemalloc(3), xallocx(): "resizes the allocation at ptr in place to be at least size bytes, and returns the real size ... If extra
// is non-zero, an attempt is made to resize the allocation to be at least (size + extra) bytes".
static void xallocx_resizes_in_place(void) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        for (size_t j = 0; j < COUNT(SIZES); j++) {
            char *block = mallocx(SIZES[i], 0);
            size_t real = sallocx(block, 0);
            fill(block, real, 4);
            size_t now = xallocx(block, SIZES[j], j % 2 ? 10000 : 0, MALLOCX_ZERO);
            CHECK(now == sallocx(block, 0), "%zu bytes, not %zu", sallocx(block, 0), now);
            verify_part(block, now < real ? now : real, real, 4);
            if (now > real) expect_bytes(block, real, now, 0, "behind the old ones");
            dallocx(block, 0);
        }
    }
    // Pages that were freed behind a run of pages are to be had.
    char *block = mallocx(400 * KIB, 0);
    size_t shrunk = xallocx(block, 100 * KIB, 0, 0);
    CHECK(shrunk == 100 * KIB, "%zu bytes", shrunk);
    size_t grown = xallocx(block, 200 * KIB, 100 * KIB, 0);
    CHECK(grown == 300 * KIB, "%zu bytes", grown);
    CHECK(xallocx(block, hidden(SIZE_MAX), hidden(SIZE_MAX), 0) == 300 * KIB, "%zu bytes", sallocx(block, 0));
    dallocx(block, 0);
}

// terrace.h: options by name.
static void options_are_set_by_name(void) {
    CHECK(terrace_set_option("mmap_threshold", "65536") == 0, "errno is %d", errno);
    void *block = malloc(200 * KIB);
    CHECK(mallinfo2().hblks == 1, "%zu mappings", mallinfo2().hblks);
    free(block);
    CHECK(terrace_set_option("MMAP_THRESHOLD", "1048576") == 0, "errno is %d", errno);
    block = malloc(200 * KIB);
    CHECK(mallinfo2().hblks == 0, "%zu mappings", mallinfo2().hblks);
    free(block);
    errno = 0;
    CHECK(terrace_set_option("mmap_treshold", "65536") == -1 && errno == ENOENT, "errno is %d", errno);
    CHECK(terrace_set_option("mmap_threshold", "many") == -1 && errno == EINVAL, "errno is %d", errno);
    CHECK(terrace_set_option("source", "disk") == -1 && errno == EINVAL, "errno is %d", errno);
    CHECK(terrace_set_option("source", "mmap") == 0, "errno is %d", errno);
}

static void terrace_purge_returns_memory(void) {
    enum { MANY = 100 };
    void *blocks[MANY];
    size_t before = resident();
    for (int i = 0; i < MANY; i++) memset(blocks[i] = malloc(500 * KIB), 1, 500 * KIB);
    for (int i = 0; i < MANY; i++) free(blocks[i]);
    CHECK(resident() > before + 40 * MIB, "%zu KiB", resident() / KIB);
    terrace_purge();
    CHECK(resident() < before + MIB, "%zu KiB stay", (resident() - before) / KIB);
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(m_mmap_threshold_says_which_blocks_get_mappings),
    CASE(m_mmap_max_limits_how_many_blocks_get_mappings),
    CASE(m_perturb_fills_new_and_freed_blocks),
    CASE(m_trim_threshold_says_how_much_free_memory_is_kept),
    CASE(mallinfo2_counts_what_is_in_use),
    CASE(mallinfo_gives_the_same_in_ints),
    CASE(malloc_stats_writes_to_standard_error_past_stdio),
    CASE(malloc_info_fails_as_the_manual_says),
    CASE(malloc_trim_says_whether_memory_was_released),
    CASE(the_private_names_of_the_c_library_are_the_same_heap),
    CASE(sized_frees_free),
    CASE(the_size_of_a_block_can_be_known_before),
    CASE(mallocx_aligns_and_zeroes),
    CASE(rallocx_keeps_contents_and_alignment),
    CASE(xallocx_resizes_in_place),
    CASE(options_are_set_by_name),
    CASE(terrace_purge_returns_memory),
};

// Cases that a test of its own runs, with an environment or to read what they print.
static const struct test_case WITH_A_TEST_OF_THEIR_OWN[] = {
    CASE(m_arena_max_limits_the_arenas),
    CASE(m_check_action_says_what_a_bad_pointer_leads_to),
    CASE(malloc_info_prints_xml_to_a_stream_that_allocates),
};

int main(int argc, char **argv) {
    if (argc == 3) return run_case(WITH_A_TEST_OF_THEIR_OWN, COUNT(WITH_A_TEST_OF_THEIR_OWN), argc, argv);
    return run_case(CASES, COUNT(CASES), argc, argv);
}
