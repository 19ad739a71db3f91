// fork(2) in a process whose threads allocate and free without a pause. The child has one thread, and the blocks of all.

#include "check.h"
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 4, PLACES = 600, SECONDS_FOR_A_CHILD = 60 };

struct item {
    size_t size;
    unsigned seed;
};

// Blocks that belong to whoever takes them out. What lies here was written to its end before it was put here.
static _Atomic(struct item *) places[PLACES];
static atomic_bool stop;

static struct item *make_item(uint64_t *random) {
    uint64_t kind = next_random(random) % 1000;
    size_t most = kind < 900 ? 700 : kind < 990 ? 20000 : kind < 999 ? 100 * KIB : 2 * MIB;
    size_t size = sizeof(struct item) + next_random(random) % most;
    struct item *item = kind % 7 ? malloc(size) : aligned_alloc(64, size);
    CHECK(item, "no %zu bytes", size);
    item->size = size - sizeof *item;
    item->seed = (unsigned)next_random(random);
    fill(item + 1, item->size, item->seed);
    return item;
}

static void free_item(struct item *item) {
    if (item) verify(item + 1, item->size, item->seed);
    free(item);
}

static void *busy_thread(void *argument) {
    uint64_t random = (uintptr_t)argument * 104729 + 3;
    while (!atomic_load(&stop)) {
        struct item *item = make_item(&random);
        if (next_random(&random) % 20 == 0) {
            struct item *larger = realloc(item, sizeof *item + item->size + 9000);
            verify_part(larger + 1, larger->size, larger->size, larger->seed);
            item = larger;
        }
        free_item(atomic_exchange(&places[next_random(&random) % PLACES], item));
    }
    return NULL;
}

// Threads that are born and die all the time, so that some are half of either when the process forks.
static void *thread_of_threads(void *argument) {
    while (!atomic_load(&stop)) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, (void *(*)(void *))argument, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void *short_thread(void *argument) {
    (void)argument;
    uint64_t random = 31337;
    for (int i = 0; i < 20; i++) free_item(atomic_exchange(&places[next_random(&random) % PLACES], make_item(&random)));
    return NULL;
}

static void *thread_of_the_child(void *argument) {
    uint64_t random = (uintptr_t)argument;
    for (int i = 0; i < 200; i++) free_item(atomic_exchange(&places[next_random(&random) % PLACES], make_item(&random)));
    return NULL;
}

static void expect_whole(pid_t child, int number) {
    CHECK(child > 0, "fork failed");
    int status;
    CHECK(waitpid(child, &status, 0) == child, "the child is gone");
    CHECK(!WIFSIGNALED(status), "child %d was ended by signal %d", number, WTERMSIG(status));
    CHECK(status == 0, "child %d ended with %d", number, WEXITSTATUS(status));
}

// A child of a child has the blocks of both processes before it.
static void be_a_grandchild(int number) {
    alarm(SECONDS_FOR_A_CHILD);
    uint64_t random = (uint64_t)number + 7;
    for (int i = 0; i < PLACES; i++) {
        if (next_random(&random) % 3) free_item(atomic_exchange(&places[i], NULL));
    }
    for (int i = 0; i < 300; i++) free_item(atomic_exchange(&places[next_random(&random) % PLACES], make_item(&random)));
    for (int i = 0; i < PLACES; i++) free_item(atomic_exchange(&places[i], NULL));
    if (number % 4) _exit(0);
    exit(0);
}

static void be_a_child(int number) {
    // Should it wait for a lock that nobody holds any more, it dies of SIGALRM.
    alarm(SECONDS_FOR_A_CHILD);
    uint64_t random = (uint64_t)number + 77;
    // Blocks of the parent's threads.
    for (int i = 0; i < PLACES; i++) {
        if (next_random(&random) % 2) free_item(atomic_exchange(&places[i], NULL));
    }
    for (int i = 0; i < 600; i++) free_item(atomic_exchange(&places[next_random(&random) % PLACES], make_item(&random)));
    if (number % 4 == 0) malloc_trim(0);
    // Forks again, while there are blocks of the parent's threads left, and some of its own.
    pid_t grandchild = number % 3 ? 0 : fork();
    if (number % 3 == 0 && grandchild == 0) be_a_grandchild(number);
    if (number % 5 == 0) {
        pthread_t threads[2];
        for (uintptr_t i = 0; i < 2; i++) {
            CHECK(pthread_create(&threads[i], NULL, thread_of_the_child, (void *)(i + 5)) == 0, "no thread");
        }
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < PLACES; i++) free_item(atomic_exchange(&places[i], NULL));
    if (number % 3 == 0) expect_whole(grandchild, number);
    if (number % 2) _exit(0);
    exit(0);
}

static void fork_and_wait(int number) {
    pid_t child = fork();
    if (child == 0) be_a_child(number);
    expect_whole(child, number);
}

static pthread_t busy[THREADS], births;

static void start_threads(void) {
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&busy[i], NULL, busy_thread, (void *)i) == 0, "no thread");
    CHECK(pthread_create(&births, NULL, thread_of_threads, (void *)short_thread) == 0, "no thread");
}

static void stop_threads(void) {
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) pthread_join(busy[i], NULL);
    pthread_join(births, NULL);
    for (int i = 0; i < PLACES; i++) free_item(atomic_exchange(&places[i], NULL));
}

static void children_of_a_busy_process_have_a_whole_heap(void) {
    // More for a long run.
    const char *wanted = getenv("FORKS");
    int forks = wanted ? atoi(wanted) : 200;
    start_threads();
    for (int i = 0; i < forks; i++) fork_and_wait(i);
    stop_threads();
}

static void *forking_thread(void *argument) {
    for (int i = 0; i < 20; i++) fork_and_wait((int)(uintptr_t)argument * 1000 + i);
    return NULL;
}

static void several_threads_can_fork_at_once(void) {
    start_threads();
    pthread_t forkers[3];
    for (uintptr_t i = 0; i < 3; i++) CHECK(pthread_create(&forkers[i], NULL, forking_thread, (void *)i) == 0, "no thread");
    for (int i = 0; i < 3; i++) pthread_join(forkers[i], NULL);
    stop_threads();
}

// pthread_atfork(3) handlers of the program may allocate, as they may with the C library's own malloc.
static struct item *of_handlers[64];
static int handled;

static void handler(void) {
    static uint64_t random = 9;
    for (int i = 0; i < 64; i++) {
        free_item(of_handlers[i]);
        of_handlers[i] = make_item(&random);
    }
    handled++;
}

static void fork_with_handlers(void) {
    start_threads();
    for (int i = 0; i < 20; i++) {
        int before = handled;
        fork_and_wait(i);
        CHECK(handled == before + 2, "the handlers ran %d times", handled - before);
    }
    stop_threads();
}

static void fork_handlers_of_the_program_can_allocate(void) {
    pthread_atfork(handler, handler, handler);
    fork_with_handlers();
}

// Handlers that were registered first prepare last: when the library has taken all its locks.
static void fork_handlers_registered_before_the_library_can_allocate(void) {
    fork_with_handlers();
}

// A handler that takes a lock of the program's, as many libraries have one, waits for whoever holds it: the allocator must not be
// locked yet. So this library's own handler, of which the C library must know first, prepares last.
static pthread_mutex_t lock_of_the_program = PTHREAD_MUTEX_INITIALIZER;

static void take_lock(void) {
    pthread_mutex_lock(&lock_of_the_program);
}

static void give_lock(void) {
    pthread_mutex_unlock(&lock_of_the_program);
}

static void *thread_that_allocates_with_the_lock(void *argument) {
    uint64_t random = 5;
    while (!atomic_load(&stop)) {
        take_lock();
        // Medium blocks of lengths that a thread seldom has at hand: most take a lock of an arena.
        for (int i = 0; i < 20; i++) free(malloc(hidden(40000 + next_random(&random) % 100000)));
        give_lock();
    }
    return argument;
}

static void a_fork_handler_can_wait_for_a_thread_that_allocates(void) {
    pthread_atfork(take_lock, give_lock, give_lock);
    alarm(3 * SECONDS_FOR_A_CHILD);
    CHECK(pthread_create(&busy[0], NULL, thread_that_allocates_with_the_lock, NULL) == 0, "no thread");
    for (int i = 0; i < 200; i++) fork_and_wait(1 + 6 * i);
    atomic_store(&stop, true);
    pthread_join(busy[0], NULL);
}

static void register_early(int argc, char **argv, char **environment) {
    (void)environment;
    if (argc > 1 && strstr(argv[1], "registered_before")) pthread_atfork(handler, handler, handler);
}
// Runs before any library's initialiser.
__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char **, char **) = register_early;

// Threads that have allocated, have freed each other's blocks and rest while the process forks: their caches hold blocks, and
// the blocks that they leave belong to caches that no thread of the child has.
static pthread_barrier_t filled, forked;

static void *resting_thread(void *argument) {
    uint64_t random = (uintptr_t)argument * 7919 + 1;
    for (int i = 0; i < 2000; i++) free_item(atomic_exchange(&places[next_random(&random) % PLACES], make_item(&random)));
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&forked);
    return NULL;
}

static void children_free_what_resting_threads_of_the_parent_hold(void) {
    pthread_barrier_init(&filled, NULL, THREADS + 1);
    pthread_barrier_init(&forked, NULL, THREADS + 1);
    for (int round = 0; round < 2; round++) {
        for (uintptr_t i = 0; i < THREADS; i++) {
            CHECK(pthread_create(&busy[i], NULL, resting_thread, (void *)i) == 0, "no thread");
        }
        pthread_barrier_wait(&filled);
        for (int i = 0; i < 11; i++) fork_and_wait(i);
        pthread_barrier_wait(&forked);
        for (int i = 0; i < THREADS; i++) pthread_join(busy[i], NULL);
    }
    for (int i = 0; i < PLACES; i++) free_item(atomic_exchange(&places[i], NULL));
}

static void *thread_with_blocks_at_hand(void *argument) {
    enum { BLOCKS = 4, SIZE = 60000 };
    void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        CHECK((blocks[i] = malloc(hidden(SIZE))), "no memory");
        memset(blocks[i], 1, SIZE);
    }
    // Nothing of this comes to an arena: a thread keeps as many.
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&forked);
    return argument;
}

static void medium_blocks_that_a_resting_thread_had_at_hand_are_free_in_the_child(void) {
    pthread_barrier_init(&filled, NULL, THREADS + 1);
    pthread_barrier_init(&forked, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&busy[i], NULL, thread_with_blocks_at_hand, NULL) == 0, "no thread");
    }
    pthread_barrier_wait(&filled);
    // What this thread can return is returned, and to look takes memory the first time.
    (void)resident();
    malloc_trim(0);
    pid_t child = fork();
    CHECK(child >= 0, "no process");
    if (child == 0) {
        size_t before = resident();
        malloc_trim(0);
        size_t after = resident();
        // 240 KiB of each thread; the child comes to have other pages meanwhile.
        CHECK(after + THREADS * 120 * KIB <= before, "%zu KiB are resident, %zu were", after / KIB, before / KIB);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child failed: %d", status);
    pthread_barrier_wait(&forked);
    for (int i = 0; i < THREADS; i++) pthread_join(busy[i], NULL);
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(children_of_a_busy_process_have_a_whole_heap),
    CASE(several_threads_can_fork_at_once),
    CASE(fork_handlers_of_the_program_can_allocate),
    CASE(fork_handlers_registered_before_the_library_can_allocate),
    CASE(a_fork_handler_can_wait_for_a_thread_that_allocates),
    CASE(children_free_what_resting_threads_of_the_parent_hold),
    CASE(medium_blocks_that_a_resting_thread_had_at_hand_are_free_in_the_child),
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
