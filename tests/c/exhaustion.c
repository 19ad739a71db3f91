// Out of memory, by the limits of the process (setrlimit(2)) and by the kernel's limit of mappings (vm.max_map_count):
// blocks until there are no more, everything freed, and the same again.

#include "check.h"

struct link {
    struct link *next;
    size_t size;
};

enum { HEADROOM_MIB = 256 };

// Allocates blocks of a size until there are no more; gives their list and their bytes.
static struct link *take_all(size_t size, size_t *bytes) {
    struct link *list = NULL;
    *bytes = 0;
    for (;;) {
        errno = 0;
        struct link *block = malloc(size);
        if (!block) {
            CHECK(errno == ENOMEM, "no %zu bytes, but errno %d", size, errno);
            break;
        }
        fill(block + 1, size - sizeof *block, (unsigned)*bytes);
        block->next = list;
        block->size = size;
        list = block;
        *bytes += size;
    }
    // It stays so, and it is no matter how one asks.
    errno = 0;
    CHECK(calloc(1, HEADROOM_MIB * MIB) == NULL && errno == ENOMEM, "errno %d", errno);
    void *place = &place;
    CHECK(posix_memalign(&place, 4096, HEADROOM_MIB * MIB) == ENOMEM && place == &place, "posix_memalign");
    errno = 0;
    if (list) CHECK(realloc(list, HEADROOM_MIB * MIB) == NULL && errno == ENOMEM, "errno %d", errno);
    return list;
}

static void give_all(struct link *list, size_t bytes) {
    while (list) {
        struct link *next = list->next;
        bytes -= list->size;
        verify(list + 1, list->size - sizeof *list, (unsigned)bytes);
        errno = 777;
        free(list);
        CHECK(errno == 777, "free set errno to %d", errno);
        list = next;
    }
    CHECK(bytes == 0, "%zu bytes were lost", bytes);
}

static const size_t REGIMES[] = {100, 5000, 30000, 100 * KIB, 700 * KIB, 3 * MIB, 10 * MIB};

static void limit(int resource, size_t used) {
    struct rlimit limits;
    CHECK(getrlimit(resource, &limits) == 0, "no limits");
    limits.rlim_cur = used + HEADROOM_MIB * MIB;
    CHECK(setrlimit(resource, &limits) == 0, "the limit cannot be set");
}

static void use_up_and_recover(void) {
    size_t first[COUNT(REGIMES)];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(REGIMES); i++) {
            size_t bytes;
            struct link *list = take_all(REGIMES[i], &bytes);
            if (round == 0) first[i] = bytes;
            CHECK(bytes >= HEADROOM_MIB * MIB / 2, "only %zu MiB in blocks of %zu bytes, round %d", bytes / MIB, REGIMES[i], round);
            CHECK(bytes >= first[i] / 10 * 9, "%zu MiB at first, then %zu MiB, in blocks of %zu bytes", first[i] / MIB,
                  bytes / MIB, REGIMES[i]);
            give_all(list, bytes);
        }
    }
}

static void blocks_freed_under_a_limit_of_addresses_can_be_had_again_in_any_size(void) {
    limit(RLIMIT_AS, address_space());
    use_up_and_recover();
}

static void blocks_freed_under_a_limit_of_data_can_be_had_again_in_any_size(void) {
    // What counts as data so far is less than all that is mapped.
    limit(RLIMIT_DATA, 16 * MIB);
    use_up_and_recover();
}

static void *use_up_in_thread(void *argument) {
    uint64_t random = (uintptr_t)argument * 7919 + 1;
    enum { MANY = 4000 };
    static __thread struct {
        char *start;
        size_t size;
    } blocks[MANY];
    size_t failures = 0;
    for (int step = 0; step < 15000; step++) {
        size_t i = next_random(&random) % MANY;
        if (blocks[i].start) {
            verify(blocks[i].start, blocks[i].size, (unsigned)i);
            free(blocks[i].start);
            blocks[i].start = NULL;
        }
        size_t size = REGIMES[next_random(&random) % 4] + next_random(&random) % 1000;
        errno = 0;
        blocks[i].start = malloc(size);
        blocks[i].size = size;
        if (blocks[i].start) {
            fill(blocks[i].start, size, (unsigned)i);
        } else {
            CHECK(errno == ENOMEM, "errno %d", errno);
            failures++;
        }
    }
    for (size_t i = 0; i < MANY; i++) {
        if (blocks[i].start) verify(blocks[i].start, blocks[i].size, (unsigned)i);
        free(blocks[i].start);
    }
    return (void *)failures;
}

static void threads_that_run_out_of_memory_together_keep_their_blocks(void) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    size_t failures = 0;
    limit(RLIMIT_AS, address_space() + THREADS * 9 * MIB);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, use_up_in_thread, (void *)i) == 0, "no thread");
    }
    for (size_t i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        failures += (size_t)result;
    }
    CHECK(failures > 0, "the limit was never reached");
}

// Cuts one mapping into as many as the kernel allows; says how long it is.
static char *use_up_mappings(size_t *length) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), most = 1 << 23;
    *length = most * page;
    char *start = mmap(NULL, *length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(start != MAP_FAILED, "no addresses");
    for (size_t i = 1; i < most; i += 2) {
        if (mprotect(start + i * page, page, PROT_READ) != 0) {
            CHECK(errno == ENOMEM, "errno %d", errno);
            // To the last one: cutting takes two. Kinds alternate, so that none joins the one beside it.
            for (int j = 0; j < 16 && mmap(NULL, page, j % 2 ? PROT_READ : PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;) j++;
            return start;
        }
    }
    munmap(start, *length);
    return NULL;
}

enum { KEPT = 200 };

static void a_process_without_mappings_goes_on_or_is_told(void) {
    struct {
        char *start;
        size_t size;
    } kept[KEPT];
    uint64_t random = 99;
    for (size_t i = 0; i < KEPT; i++) {
        kept[i].size = SIZES[i % (COUNT(SIZES) - 2)];
        kept[i].start = malloc(kept[i].size);
        fill(kept[i].start, kept[i].size, (unsigned)i);
    }
    size_t length;
    char *wall = use_up_mappings(&length);
    // Where the limit is out of reach, there is nothing to be seen.
    if (!wall) return;
    for (int step = 0; step < 4000; step++) {
        size_t i = next_random(&random) % KEPT;
        size_t size = SIZES[next_random(&random) % (COUNT(SIZES) - (step % 10 ? 8 : 2))];
        if (kept[i].start) verify(kept[i].start, kept[i].size, (unsigned)i);
        errno = 0;
        if (step % 3 == 0) {
            char *moved = realloc(kept[i].start, size);
            if (!moved) {
                CHECK(errno == ENOMEM, "errno %d", errno);
                continue;
            }
            if (kept[i].start) verify_part(moved, size < kept[i].size ? size : kept[i].size, kept[i].size, (unsigned)i);
            kept[i].start = moved;
        } else {
            errno = 55;
            free(kept[i].start);
            CHECK(errno == 55, "free set errno to %d", errno);
            kept[i].start = step % 2 ? calloc(1, size) : malloc(size);
            CHECK(kept[i].start || errno == ENOMEM, "errno %d", errno);
        }
        kept[i].size = size;
        if (kept[i].start) fill(kept[i].start, size, (unsigned)i);
        if (step % 500 == 0) malloc_trim(0);
    }
    CHECK(munmap(wall, length) == 0, "the mappings cannot be given up");
    for (size_t i = 0; i < KEPT; i++) {
        if (kept[i].start) verify(kept[i].start, kept[i].size, (unsigned)i);
        free(kept[i].start);
    }
    malloc_trim(0);
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        char *block = malloc(SIZES[i]);
        CHECK(block, "no %zu bytes after the mappings are free again", SIZES[i]);
        fill(block, SIZES[i], 1);
        verify(block, SIZES[i], 1);
        free(block);
    }
    CHECK(resident() < 200 * MIB, "%zu MiB are resident", resident() / MIB);
}

#ifdef __GLIBC__ // It has mallopt and mallinfo2.
// Half of the kernel's mappings stay the program's, however many large blocks there are and however they are freed.
static void large_blocks_leave_half_of_the_mappings_to_the_program(void) {
    enum { USUAL = 65530, SIZE = MIB + 4096 };
    size_t allowed = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    CHECK(file && fscanf(file, "%zu", &allowed) == 1, "the kernel does not say how many mappings it allows");
    fclose(file);
    // Where far more are allowed, the budget is said, so that this does not take all day.
    if (allowed > USUAL) CHECK(mallopt(M_MMAP_MAX, USUAL / 2) == 1, "refused");
    enum { MANY = USUAL * 6 / 5 };
    char **blocks = malloc(MANY * sizeof *blocks);
    for (size_t i = 0; i < MANY; i++) {
        blocks[i] = malloc(SIZE);
        CHECK(blocks[i], "no block %zu", i);
        blocks[i][0] = (char)i;
    }
    CHECK(mallinfo2().hblks <= USUAL / 2, "%zu blocks have mappings of their own", mallinfo2().hblks);
    CHECK(mallinfo2().hblks >= USUAL / 4, "only %zu blocks have mappings of their own", mallinfo2().hblks);
    for (size_t i = 0; i < MANY; i += 2) free(blocks[i]);
    malloc_trim(0);
    size_t mappings = 0;
    file = fopen("/proc/self/maps", "r");
    for (int c; (c = getc(file)) != EOF;) mappings += c == '\n';
    fclose(file);
    CHECK(mappings < USUAL / 2 + 1000, "%zu mappings", mappings);
    for (size_t i = 1; i < MANY; i += 2) {
        CHECK(blocks[i][0] == (char)i, "block %zu was changed", i);
        free(blocks[i]);
    }
    free(blocks);
    malloc_trim(0);
    CHECK(resident() < 100 * MIB, "%zu MiB are resident", resident() / MIB);
}
#endif

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(blocks_freed_under_a_limit_of_addresses_can_be_had_again_in_any_size),
    CASE(blocks_freed_under_a_limit_of_data_can_be_had_again_in_any_size),
    CASE(threads_that_run_out_of_memory_together_keep_their_blocks),
    CASE(a_process_without_mappings_goes_on_or_is_told),
#ifdef __GLIBC__
    CASE(large_blocks_leave_half_of_the_mappings_to_the_program),
#endif
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
