// Allocation in threads that are being born and dying: destructors of thread-specific data, detached threads, threads that
// only free, and thousands of short ones.

#include "check.h"
#include <stdatomic.h>

struct item {
    struct item *next;
    size_t size;
    unsigned seed;
};

// A stack that threads leave blocks on and take all at once.
static _Atomic(struct item *) left_over;

static struct item *make_item(size_t size, unsigned seed) {
    struct item *item = malloc(sizeof *item + size);
    CHECK(item, "no %zu bytes", size);
    item->size = size;
    item->seed = seed;
    fill(item + 1, size, seed);
    return item;
}

static void leave(struct item *item) {
    item->next = atomic_load(&left_over);
    while (!atomic_compare_exchange_weak(&left_over, &item->next, item)) {
    }
}

static size_t free_left_over(void) {
    size_t count = 0;
    for (struct item *item = atomic_exchange(&left_over, NULL); item;) {
        struct item *next = item->next;
        verify(item + 1, item->size, item->seed);
        free(item);
        item = next;
        count++;
    }
    return count;
}

static size_t some_size(uint64_t *random) {
    uint64_t kind = next_random(random) % 100;
    if (kind < 80) return next_random(random) % 600;
    if (kind < 95) return next_random(random) % 33000;
    if (kind < 99) return next_random(random) % (300 * KIB);
    return next_random(random) % (2 * MIB);
}

enum { KEYS = 6 };
static pthread_key_t keys[KEYS];
static atomic_int rounds_seen, destructor_calls;
static __thread int rounds_of_this_thread;

// The C library calls destructors at most PTHREAD_DESTRUCTOR_ITERATIONS times over as long as they set their keys anew.
static void key_destructor(void *value) {
    struct item *item = value;
    uint64_t random = item->seed * 2654435761u + 1;
    verify(item + 1, item->size, item->seed);
    for (int i = 0; i < 30; i++) {
        struct item *a = make_item(some_size(&random), (unsigned)i);
        struct item *b = realloc(a, sizeof *b + a->size + 5000);
        verify_part(b + 1, a == b ? b->size : b->size, b->size, b->seed);
        if (i % 4 == 0) {
            fill(b + 1, b->size, b->seed);
            leave(b);
        } else {
            free(b);
        }
        free(calloc(1, some_size(&random)));
        void *aligned = aligned_alloc(4096, 100);
        CHECK(is_aligned(aligned, 4096), "%p", aligned);
        free(aligned);
    }
    atomic_fetch_add(&destructor_calls, 1);
    struct item *again = make_item(some_size(&random), item->seed + 1);
    free(item);
    rounds_of_this_thread++;
    if (rounds_of_this_thread > atomic_load(&rounds_seen)) atomic_store(&rounds_seen, rounds_of_this_thread);
    for (int i = 0; i < KEYS; i++) {
        if (!pthread_getspecific(keys[i])) {
            pthread_setspecific(keys[i], again);
            return;
        }
    }
    // The last values are nobody's: the C library calls no more destructors for them.
    leave(again);
}

static void make_key(int i) {
    CHECK(pthread_key_create(&keys[i], key_destructor) == 0, "no key");
}

// Before the initialisers of any library, and so, perhaps, before the library has a key of its own.
static void make_first_key(int argc, char **argv, char **environment) {
    (void)argc, (void)argv, (void)environment;
    pthread_key_create(&keys[0], key_destructor);
}
#ifdef __GLIBC__
__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char **, char **) = make_first_key;
#else
// musl calls nothing so early. A key that was not made is number 0, which may be the library's.
__attribute__((constructor(101))) static void make_first_key_later(void) {
    make_first_key(0, NULL, NULL);
}
#endif

__attribute__((constructor(101))) static void make_second_key(void) {
    make_key(1);
}

static void *thread_with_values(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    for (int i = 0; i < KEYS; i++) pthread_setspecific(keys[i], make_item(some_size(&random), (unsigned)(uintptr_t)argument));
    for (int i = 0; i < 100; i++) free(make_item(some_size(&random), 1));
    return NULL;
}

// A thread that has never allocated before its destructors run.
static void *thread_with_a_value_of_others(void *argument) {
    pthread_setspecific(keys[3], argument);
    return NULL;
}

static void destructors_of_keys_allocate_and_free_in_every_round(void) {
    for (int i = 2; i < KEYS; i++) make_key(i);
    // Values beyond the first 32 keys lie in a block that the C library itself allocates, and frees after all destructors.
    pthread_key_t many[60];
    for (int i = 0; i < 60; i++) CHECK(pthread_key_create(&many[i], NULL) == 0, "no key");
    size_t freed = 0;
    for (uintptr_t round = 0; round < 60; round++) {
        pthread_t threads[4];
        for (uintptr_t i = 0; i < 4; i++) {
            void *argument = i == 3 ? (void *)make_item(200, 8) : (void *)(round * 4 + i);
            void *(*start)(void *) = i == 3 ? thread_with_a_value_of_others : thread_with_values;
            CHECK(pthread_create(&threads[i], NULL, start, argument) == 0, "no thread");
        }
        for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
        freed += free_left_over();
    }
    CHECK(atomic_load(&rounds_seen) > 4 * KEYS / 2, "the destructors ran %d times in a thread", atomic_load(&rounds_seen));
    CHECK(freed > 60 * 4 * 8, "%zu blocks were left", freed);
}

static atomic_int running;

static void *detached_thread(void *argument) {
    uint64_t random = (uintptr_t)argument * 31 + 7;
    for (int i = 0; i < 50; i++) leave(make_item(some_size(&random), (unsigned)i));
    free_left_over();
    for (int i = 0; i < 10; i++) leave(make_item(some_size(&random), (unsigned)i));
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void detached_threads_leave_their_blocks_to_others(void) {
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (uintptr_t i = 0; i < 500; i++) {
        while (atomic_load(&running) >= 8) usleep(100);
        atomic_fetch_add(&running, 1);
        pthread_t thread;
        CHECK(pthread_create(&thread, &detached, detached_thread, (void *)i) == 0, "no thread");
        if (i % 10 == 0) free_left_over();
    }
    while (atomic_load(&running) > 0) usleep(1000);
    free_left_over();
    // Threads that are still on their way out, when the process ends, must not matter.
}

// A program for musl names it only if it has the library: linked, or by another's doing.
#pragma weak malloc_trim
static void trim(void) {
    if (malloc_trim) malloc_trim(0);
}

static void detached_threads_leave_no_memory_behind(void) {
    detached_threads_leave_their_blocks_to_others();
    trim();
    // Had each thread kept what it had at hand, that would be more. The last ones may still be on their way out.
    for (int i = 0; i < 20000 && resident() >= 45 * MIB; i++) usleep(1000), trim();
    CHECK(resident() < 45 * MIB, "%zu MiB are resident", resident() / MIB);
}

static atomic_bool no_more;

static void *thread_that_only_frees(void *argument) {
    (void)argument;
    size_t freed = 0;
    while (!atomic_load(&no_more) || atomic_load(&left_over)) {
        freed += free_left_over();
        usleep(200);
    }
    return (void *)freed;
}

static void what_a_thread_that_only_frees_frees_is_used_again(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, thread_that_only_frees, NULL) == 0, "no thread");
    uint64_t random = 5;
    size_t made = 0, bytes = 0, most = 0;
    while (bytes < 600 * MIB) {
        for (int i = 0; i < 500; i++, made++) {
            struct item *item = make_item(next_random(&random) % 2000, (unsigned)i);
            bytes += item->size;
            leave(item);
        }
        // No more than about 2 MiB are on their way.
        while (atomic_load(&left_over)) usleep(50);
        if (made % 20000 == 0 && resident() > most) most = resident();
    }
    atomic_store(&no_more, true);
    void *freed;
    pthread_join(thread, &freed);
    CHECK((size_t)freed == made, "%zu blocks were made, %zu freed", made, (size_t)freed);
    CHECK(most < 24 * MIB, "%zu MiB were resident", most / MIB);
}

static void *allocate_until_cancelled(void *argument) {
    _Atomic(struct item *) *place = argument;
    uint64_t random = (uintptr_t)argument;
    for (;;) {
        // Cancelled at the test alone: had malloc or free been a point of cancellation, an item would be lost, or be here twice.
        struct item *item = atomic_exchange(place, NULL);
        if (item) {
            verify(item + 1, item->size, item->seed);
            free(item);
        }
        atomic_store(place, make_item(next_random(&random) % 60000, 7));
        pthread_testcancel();
    }
    return NULL;
}

// pthreads(7), on cancellation points: malloc(3) and free(3) are not among those that are required to be or may be one.
static void cancelled_threads_leave_their_blocks_to_others(void) {
    enum { ROUNDS = 200 };
    static _Atomic(struct item *) places[4];
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) {
            CHECK(pthread_create(&threads[i], NULL, allocate_until_cancelled, &places[i]) == 0, "no thread");
        }
        usleep((unsigned)round * 10);
        for (int i = 0; i < 4; i++) CHECK(pthread_cancel(threads[i]) == 0, "not cancelled");
        for (int i = 0; i < 4; i++) {
            void *result;
            CHECK(pthread_join(threads[i], &result) == 0 && result == PTHREAD_CANCELED, "not cancelled");
            struct item *item = atomic_exchange(&places[i], NULL);
            CHECK(item, "an item is lost");
            verify(item + 1, item->size, item->seed);
            free(item);
        }
    }
    CHECK(resident() < 40 * MIB, "%zu MiB are resident", resident() / MIB);
}

enum { SURVIVORS = 4000 };
static _Atomic(struct item *) survivors[SURVIVORS];

static void *short_thread(void *argument) {
    uint64_t random = (uintptr_t)argument * 48271 + 11;
    struct item *own[100];
    for (int i = 0; i < 100; i++) own[i] = make_item(next_random(&random) % 2000, (unsigned)i);
    for (int i = 0; i < 100; i++) {
        if (i % 10) {
            verify(own[i] + 1, own[i]->size, own[i]->seed);
            free(own[i]);
            continue;
        }
        struct item *old = atomic_exchange(&survivors[next_random(&random) % SURVIVORS], own[i]);
        if (old) {
            verify(old + 1, old->size, old->seed);
            free(old);
        }
    }
    return NULL;
}

static void thousands_of_short_threads_take_no_more_memory_than_their_blocks(void) {
    enum { AT_A_TIME = 4 };
    // More for a long run.
    const char *wanted = getenv("THREADS");
    size_t count = wanted ? strtoul(wanted, NULL, 10) : 2000;
    pthread_t threads[AT_A_TIME];
    size_t early = 0;
    for (uintptr_t i = 0; i < count; i++) {
        if (i >= AT_A_TIME) pthread_join(threads[i % AT_A_TIME], NULL);
        CHECK(pthread_create(&threads[i % AT_A_TIME], NULL, short_thread, (void *)i) == 0, "no thread");
        // Nearly all places are taken by then: from here on the live blocks are as many as they will be.
        if (i == count / 2) early = resident();
    }
    for (int i = 0; i < AT_A_TIME; i++) pthread_join(threads[i], NULL);
    // The blocks that survive are 4 MiB.
    size_t late = resident();
    CHECK(late < 20 * MIB, "%zu MiB are resident", late / MIB);
    CHECK(late < early + 4 * MIB, "%zu KiB were resident after half the threads, %zu KiB at the end", early / KIB, late / KIB);
    for (int i = 0; i < SURVIVORS; i++) {
        struct item *item = atomic_exchange(&survivors[i], NULL);
        if (item) verify(item + 1, item->size, item->seed);
        free(item);
    }
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(destructors_of_keys_allocate_and_free_in_every_round),
    CASE(detached_threads_leave_their_blocks_to_others),
    CASE(detached_threads_leave_no_memory_behind),
    CASE(what_a_thread_that_only_frees_frees_is_used_again),
    CASE(cancelled_threads_leave_their_blocks_to_others),
    CASE(thousands_of_short_threads_take_no_more_memory_than_their_blocks),
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
