// Processes that are started from a program whose threads allocate, by other means than fork alone; and what programs do that
// have ideas of their own about malloc.

#include "check.h"

#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

extern char **environ;

static atomic_bool stop;
static char *self;

static void *busy(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    void *blocks[64] = {0};
    while (!atomic_load(&stop)) {
        size_t i = next_random(&random) % COUNT(blocks), size = next_random(&random) % 40000;
        free(blocks[i]);
        fill(blocks[i] = malloc(size), size, 1);
    }
    for (size_t i = 0; i < COUNT(blocks); i++) free(blocks[i]);
    return argument;
}

static void use_all_sizes(void) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        char *block = malloc(SIZES[i]);
        fill(block, SIZES[i], 2);
        verify(block, SIZES[i], 2);
        free(block);
    }
}

static void with_busy_threads(void (*run)(void)) {
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, busy, (void *)i) == 0, "no thread");
    run();
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    use_all_sizes();
}

static void expect_success(pid_t child) {
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "it ended with %#x", status);
}

static void spawn_many(void) {
    for (int i = 0; i < 100; i++) {
        pid_t child;
        char *arguments[] = {self, "a_child_uses_all_sizes", NULL};
        CHECK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) == 0, "nothing was started");
        use_all_sizes();
        expect_success(child);
    }
}

// posix_spawn(3): the child shares the parent's memory until it executes another program.
static void programs_are_started_by_posix_spawn(void) { with_busy_threads(spawn_many); }

static void vfork_many(void) {
    for (int i = 0; i < 100; i++) {
        char *block = malloc(1000);
        fill(block, 1000, (unsigned)i);
        char *arguments[] = {self, "a_child_uses_all_sizes", NULL};
        pid_t child = vfork();
        if (child == 0) {
            execv("/proc/self/exe", arguments);
            _exit(1);
        }
        CHECK(child > 0, "no child");
        verify(block, 1000, (unsigned)i);
        free(block);
        expect_success(child);
    }
}

// vfork(2): "the calling thread is suspended until the child terminates ... or makes a call to execve(2)".
static void programs_are_started_by_vfork(void) { with_busy_threads(vfork_many); }

static void daemonise(void) {
    for (int i = 0; i < 10; i++) {
        int ends[2];
        CHECK(pipe(ends) == 0, "no pipe");
        char *inherited = malloc(300000);
        fill(inherited, 300000, 3);
        pid_t child = fork();
        if (child == 0) {
            // daemon(3) forks once more, and ends this process by _exit.
            CHECK(daemon(1, 1) == 0, "no daemon");
            verify(inherited, 300000, 3);
            free(inherited);
            use_all_sizes();
            pthread_t thread;
            atomic_store(&stop, true);
            CHECK(pthread_create(&thread, NULL, busy, NULL) == 0, "no thread");
            pthread_join(thread, NULL);
            CHECK(write(ends[1], "done", 4) == 4, "nobody listens");
            exit(0);
        }
        free(inherited);
        expect_success(child);
        close(ends[1]);
        char said[8];
        CHECK(read(ends[0], said, sizeof said) == 4, "the daemon did not come to its end");
        close(ends[0]);
    }
}

// daemon(3), from a program whose threads allocate.
static void a_daemon_uses_what_it_inherited(void) { with_busy_threads(daemonise); }

static void a_child_uses_all_sizes(void) { use_all_sizes(); }

// Programs ask whether they run on jemalloc by whether it has this function; the functions they then take for jemalloc's own
// are not all there.
extern int mallctl(const char *, void *, size_t *, void *, size_t) __attribute__((weak));
extern void *mallocx(size_t, int) __attribute__((weak));

static void nobody_takes_the_library_for_jemalloc(void) {
    CHECK(mallocx && !mallctl, "it looks like jemalloc");
    CHECK(!dlsym(RTLD_DEFAULT, "mallctl") && !dlsym(RTLD_DEFAULT, "mallctlnametomib"), "it looks like jemalloc");
    CHECK(!dlsym(RTLD_DEFAULT, "mallctlbymib") && !dlsym(RTLD_DEFAULT, "MallocExtension_GetNumericProperty"), "or tcmalloc");
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(programs_are_started_by_posix_spawn),
    CASE(programs_are_started_by_vfork),
    CASE(a_daemon_uses_what_it_inherited),
    CASE(nobody_takes_the_library_for_jemalloc),
    CASE(a_child_uses_all_sizes),
};

int main(int argc, char **argv) {
    self = argv[0];
    return run_case(CASES, COUNT(CASES), argc, argv);
}
