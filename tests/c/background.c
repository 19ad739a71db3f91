// The thread in the background (TERRACE_BACKGROUND=1, TERRACE_PURGE_DELAY_MS=200): when it is there, what it does, and that the
// program does not notice it otherwise.

#include "../../capi/include/terrace.h"
#include "check.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { LARGE = 4 << 20 };

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

// The beginning of a file of the kernel's.
static const char *contents(const char *path) {
    static char text[4096];
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    text[length > 0 ? length : 0] = 0;
    return text;
}

static unsigned long long field(const char *path, const char *name, int base) {
    const char *line = strstr(contents(path), name);
    return line ? strtoull(line + strlen(name), NULL, base) : 0;
}

static int threads(void) {
    return (int)field("/proc/self/status", "Threads:", 10);
}

// The folder of the purger's thread under /proc; empty if there is none.
static const char *purger(void) {
    static char path[64];
    path[0] = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(tasks));) {
        char name[320];
        snprintf(name, sizeof name, "/proc/self/task/%s/comm", entry->d_name);
        if (strcmp(contents(name), "terrace-purger\n") == 0) snprintf(path, sizeof path, "/proc/self/task/%.20s/status", entry->d_name);
    }
    closedir(tasks);
    return path;
}

static void put_something_there(void) {
    void *block = malloc(hidden(LARGE));
    CHECK(block, "no memory");
    memset(block, 1, LARGE);
    free(block);
}

static void await_purger(void) {
    for (int i = 0; i < 1000 && !*purger(); i++) sleep_ms(10);
    CHECK(*purger(), "there is no purger");
}

static void it_is_there_when_there_is_something_to_return_and_not_before(void) {
    free(malloc(hidden(100)));
    CHECK(threads() == 1, "a thread was started for nothing");
    put_something_there();
    await_purger();
    unsigned long long blocked = field(purger(), "SigBlk:", 16);
    const int signals[] = {SIGTERM, SIGINT, SIGALRM, SIGUSR1, SIGCHLD, SIGPROF};
    for (size_t i = 0; i < COUNT(signals); i++) CHECK(blocked >> (signals[i] - 1) & 1, "it takes signal %d", signals[i]);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    CHECK(!sigismember(&mask, SIGTERM), "the program's own signals are blocked");
}

static void an_idle_process_returns_what_is_free(void) {
    enum { BLOCKS = 100000, SIZE = 1000 };
    static unsigned char *blocks[BLOCKS];
    size_t base = resident(), page = (size_t)sysconf(_SC_PAGESIZE), kept = 0;
    uintptr_t last = 0;
    for (int i = 0; i < BLOCKS; i++) {
        CHECK((blocks[i] = malloc(hidden(SIZE))), "no memory");
        memset(blocks[i], 1, SIZE);
    }
    uint64_t random = 7;
    for (int i = 0; i < BLOCKS; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        if ((random >> 33) % 20 != 0) {
            free(blocks[i]);
            blocks[i] = NULL;
            continue;
        }
        for (uintptr_t at = (uintptr_t)blocks[i] / page; at <= ((uintptr_t)blocks[i] + SIZE - 1) / page; at++) {
            kept += at != last ? page : 0;
            last = at;
        }
    }
    CHECK(resident() > base + BLOCKS / 2 * (size_t)SIZE, "too soon");
    // Nobody calls the allocator from here on.
    size_t now = 0;
    for (int i = 0; i < 1000 && (now = resident()) > base + kept * 5 / 4 + MIB; i++) sleep_ms(10);
    CHECK(now <= base + kept * 5 / 4 + MIB, "%zu KiB are still held, %zu KiB of pages hold a block", (now - base) / KIB, kept / KIB);
    for (int i = 0; i < BLOCKS; i++) CHECK(!blocks[i] || (blocks[i][0] == 1 && blocks[i][SIZE - 1] == 1), "block %d was changed", i);
}

static void medium_blocks_go_back_though_nobody_calls_again(void) {
    // A thread keeps one of this size at hand.
    enum { SIZE = 140000 };
    // To look takes some memory the first time.
    (void)resident();
    put_something_there();
    await_purger();
    void *first = malloc(hidden(SIZE)), *second = malloc(hidden(SIZE));
    CHECK(first && second, "no memory");
    memset(first, 1, SIZE);
    memset(second, 1, SIZE);
    free(first);
    // The purger returns what there is, and falls asleep.
    sleep_ms(1500);
    size_t before = resident(), now = 0;
    // The first one goes to its arena.
    free(second);
    for (int i = 0; i < 1000 && (now = resident()) + SIZE * 3 / 4 > before; i++) sleep_ms(10);
    CHECK(now + SIZE * 3 / 4 <= before, "%zu KiB were held, %zu are still", before / KIB, now / KIB);
}

static void it_uses_no_time_while_there_is_nothing_to_do(void) {
    for (int round = 0; round < 2; round++) {
        size_t base = resident();
        put_something_there();
        await_purger();
        for (int i = 0; i < 1000 && resident() > base + LARGE / 2; i++) sleep_ms(10);
        CHECK(resident() <= base + LARGE / 2, "it does nothing");
        // To look for it takes memory and frees it.
        const char *status = purger();
        unsigned long long before, after = 0;
        int tries = 0;
        do {
            CHECK(tries++ < 20, "it wakes for nothing: %llu times so far", after);
            before = after;
            sleep_ms(1000);
            after = field(status, "voluntary_ctxt_switches:", 10);
        } while (after != before);
    }
}

static void expect_fine(pid_t child) {
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
}

static void a_child_has_one_of_its_own(void) {
    put_something_there();
    await_purger();
    for (int depth = 0; depth < 3; depth++) {
        pid_t child = fork();
        CHECK(child >= 0, "no child");
        if (child > 0) return expect_fine(child);
        CHECK(threads() == 1, "a child begins with a thread");
        put_something_there();
        await_purger();
    }
}

// As a daemon begins, before it allocates.
static void so_has_a_child_of_a_process_without_a_block(void) {
    pid_t child = fork();
    CHECK(child >= 0, "no child");
    if (child > 0) return expect_fine(child);
    put_something_there();
    await_purger();
}

static void a_child_that_shares_its_parent_s_memory_has_none(void) {
    free(malloc(hidden(100)));
    pid_t child = vfork();
    if (child == 0) {
        put_something_there();
        _exit(threads() == 1 ? 0 : 3);
    }
    expect_fine(child);
}

static void *last_thread(void *unused) {
    put_something_there();
    await_purger();
    sleep_ms(300);
    return unused;
}

static void the_process_ends_when_the_program_s_threads_have(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, last_thread, NULL) == 0, "no thread");
    pthread_exit(NULL);
}

static void nobody_is_there(void) {
    CHECK(threads() == 1, "it runs while the process exits");
}

static void it_has_ended_when_the_program_s_last_functions_run(void) {
    atexit(nobody_is_there);
    put_something_there();
    await_purger();
}

static void it_goes_when_the_option_is_switched_off_and_comes_again(void) {
    for (int round = 0; round < 3; round++) {
        put_something_there();
        await_purger();
        CHECK(terrace_set_option("background", "0") == 0, "no such option");
        CHECK(threads() == 1, "it is still there");
        put_something_there();
        CHECK(threads() == 1, "it is there again");
        CHECK(terrace_set_option("background", "1") == 0, "no such option");
    }
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(it_is_there_when_there_is_something_to_return_and_not_before),
    CASE(an_idle_process_returns_what_is_free),
    CASE(medium_blocks_go_back_though_nobody_calls_again),
    CASE(it_uses_no_time_while_there_is_nothing_to_do),
    CASE(a_child_has_one_of_its_own),
    CASE(so_has_a_child_of_a_process_without_a_block),
    CASE(a_child_that_shares_its_parent_s_memory_has_none),
    CASE(the_process_ends_when_the_program_s_threads_have),
    CASE(it_has_ended_when_the_program_s_last_functions_run),
    CASE(it_goes_when_the_option_is_switched_off_and_comes_again),
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
