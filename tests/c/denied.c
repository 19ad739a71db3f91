// A kernel that denies what the library can do without: a filter of system calls (seccomp(2)), in place before the process
// begins, gives an error for them; and a control group (cgroups(7)) whose memory is nearly all in use.

#include "check.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char *self;

enum { MOST_DENIED = 16 };

static void deny(const int *calls, size_t count, int error) {
    struct sock_filter filter[2 * MOST_DENIED + 2];
    unsigned short length = 0;
    CHECK(count <= MOST_DENIED, "%zu calls", count);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < count; i++) {
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error);
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {length, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "errno %d", errno);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "there is no filter: errno %d", errno);
}

enum { PLACES = 200 };

// Blocks of all sizes come and go, and grow and shrink. Nothing but memory that is there is asked for.
static void *use(void *argument) {
    uint64_t random = (uintptr_t)argument + 5;
    struct {
        char *start;
        size_t size;
    } blocks[PLACES] = {0};
    for (int step = 0; step < 500; step++) {
        size_t i = next_random(&random) % PLACES, size = SIZES[next_random(&random) % (COUNT(SIZES) - (step % 20 ? 8 : 2))];
        if (blocks[i].start) verify(blocks[i].start, blocks[i].size, (unsigned)i);
        if (step % 3 == 0 && blocks[i].start) {
            char *moved = realloc(blocks[i].start, size);
            CHECK(moved, "no %zu bytes", size);
            verify_part(moved, size < blocks[i].size ? size : blocks[i].size, blocks[i].size, (unsigned)i);
            blocks[i].start = moved;
        } else {
            errno = 99;
            free(blocks[i].start);
            CHECK(errno == 99, "free set errno to %d", errno);
            blocks[i].start = step % 3 == 1 ? calloc(1, size) : aligned_alloc((size_t)16 << step % 16, size);
            CHECK(blocks[i].start, "no %zu bytes", size);
            if (step % 3 == 1) CHECK(!blocks[i].start[0] && !blocks[i].start[size / 2] && !blocks[i].start[size - 1], "not zero");
        }
        blocks[i].size = size;
        fill(blocks[i].start, size, (unsigned)i);
        if (step % 200 == 0) malloc_trim(0);
    }
    for (size_t i = 0; i < PLACES; i++) {
        if (blocks[i].start) verify(blocks[i].start, blocks[i].size, (unsigned)i);
        free(blocks[i].start);
    }
    return NULL;
}

// Large blocks that grow and shrink, with freed ones at hand whose pages could be moved into them.
static void resize_large(void) {
    for (unsigned round = 0; round < 4; round++) {
        char *freed[3], *between[3];
        for (int i = 0; i < 3; i++) fill(freed[i] = malloc(2 * MIB), 2 * MIB, round), between[i] = malloc(2 * MIB);
        char *block = malloc(3 * MIB);
        fill(block, 3 * MIB, round);
        for (int i = 0; i < 3; i++) free(freed[i]);
        static const size_t sizes[] = {9 * MIB, 2 * MIB, 5 * MIB, 20 * MIB, 4 * MIB};
        size_t size = 3 * MIB;
        for (size_t i = 0; i < COUNT(sizes); i++) {
            char *moved = realloc(block, sizes[i]);
            CHECK(moved, "no %zu bytes", sizes[i]);
            verify_part(moved, size < sizes[i] ? size : sizes[i], size, round);
            block = moved;
            fill(block, size = sizes[i], round);
        }
        free(block);
        for (int i = 0; i < 3; i++) free(between[i]);
    }
}

static void use_in_threads(void) {
    resize_large();
    pthread_t threads[3];
    for (uintptr_t i = 0; i < COUNT(threads); i++) CHECK(pthread_create(&threads[i], NULL, use, (void *)i) == 0, "no thread");
    use((void *)17);
    for (size_t i = 0; i < COUNT(threads); i++) pthread_join(threads[i], NULL);
}

// Run under a filter that was in place before this program was executed: it denies at least the call DENIED, with DENIED_WITH.
static void used_under_a_filter(void) {
    long call = atol(getenv("DENIED")), error = atol(getenv("DENIED_WITH"));
    CHECK(prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER, "there is no filter");
    CHECK(syscall(call, 0, 0, 0, 0, 0) == -1 && errno == error, "call %ld is not denied: errno %d", call, errno);
    use_in_threads();
    pid_t child = fork();
    if (child == 0) {
        use_in_threads();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "status %#x", status);
    // Files can be closed to the process, too, once the loader has read those of the program; the next child is the first to
    // have a second thread.
    deny((const int[]){SYS_openat, SYS_read}, 2, EPERM);
    use_in_threads();
}

static void each_optional_call_may_be_denied(void) {
    static const int calls[][5] = {
        {1, SYS_madvise}, {1, SYS_mremap},    {1, SYS_brk},        {1, SYS_sched_getaffinity},
        {1, SYS_mincore}, {1, SYS_getrandom}, {1, SYS_sched_yield}, {4, SYS_madvise, SYS_mremap, SYS_brk, SYS_sched_getaffinity},
    };
    static const int errors[] = {EPERM, ENOSYS};
    for (size_t i = 0; i < COUNT(calls) * COUNT(errors); i++) {
        const int *denied = calls[i / COUNT(errors)];
        pid_t child = fork();
        if (child == 0) {
            char number[16], error[16];
            snprintf(number, sizeof number, "%d", denied[1]);
            snprintf(error, sizeof error, "%d", errors[i % COUNT(errors)]);
            setenv("DENIED", number, 1);
            setenv("DENIED_WITH", error, 1);
            deny(denied + 1, (size_t)denied[0], errors[i % COUNT(errors)]);
            execv("/proc/self/exe", (char *[]){self, "used_under_a_filter", "by itself", NULL});
            _exit(127);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child, "the child is gone");
        CHECK(status == 0, "call %d denied with %d: status %#x", denied[1], errors[i % COUNT(errors)], status);
    }
}

// Filters that deny files as well, before the process has a second thread: it then knows nothing of its processors.
static void files_may_be_denied_before_there_are_threads(void) {
    deny((const int[]){SYS_openat, SYS_open, SYS_read, SYS_write}, 4, EACCES);
    use_in_threads();
}

enum { MOST_MIB = 64 };
static size_t group_mib;

static size_t peak_resident(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss * KIB;
}

// Has up to 64 MiB of blocks of one size, frees them, and goes on with another size.
static void change_sizes(void) {
    static const size_t sizes[] = {64, 1000, 8000, 30000, 100 * KIB, 700 * KIB, 3 * MIB, 20 * MIB, 200, 100 * KIB, 3 * MIB, 24};
    size_t most = MOST_MIB * MIB / 24;
    char **blocks = mmap(NULL, most * sizeof *blocks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(blocks != MAP_FAILED, "no addresses");
    for (size_t round = 0; round < COUNT(sizes); round++) {
        size_t size = sizes[round], count = (size_t)MOST_MIB * MIB / (size + 16) / (round % 2 ? 1 : 2);
        for (size_t i = 0; i < count; i++) {
            blocks[i] = malloc(size);
            CHECK(blocks[i], "no %zu bytes", size);
            memset(blocks[i], (int)round + 1, size);
        }
        for (size_t i = 0; i < count; i++) {
            CHECK(blocks[i][0] == (char)(round + 1) && blocks[i][size - 1] == (char)(round + 1), "block %zu was changed", i);
            free(blocks[i]);
        }
        madvise(blocks, most * sizeof *blocks, MADV_DONTNEED);
    }
}

static bool write_text(const char *folder, const char *name, size_t number) {
    char path[300], text[32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(text, sizeof text, "%zu", number);
    int file = open(path, O_WRONLY);
    if (file < 0) return false;
    bool written = write(file, text, strlen(text)) > 0;
    close(file);
    return written;
}

// Makes a group with that much memory, of the second version or the first; `false` where this user may not.
static bool make_group(char *folder, size_t length) {
    static const char *const versions[][2] = {
        {"/sys/fs/cgroup", "memory.max"},
        {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
    };
    for (size_t i = 0; i < COUNT(versions); i++) {
        snprintf(folder, length, "%s/terrace-test-%d", versions[i][0], (int)getpid());
        if (mkdir(folder, 0755) != 0) continue;
        if (write_text(folder, versions[i][1], group_mib * MIB)) return true;
        rmdir(folder);
    }
    return false;
}

// What is resident never exceeds what a group of GROUP_MIB has; where a group can be made, the kernel is the judge as well: it
// kills a process that asks for more.
static void a_nearly_full_group_is_enough_for_one_size_after_the_other(void) {
    group_mib = strtoul(getenv("GROUP_MIB"), NULL, 10);
    char folder[200];
    bool made = make_group(folder, sizeof folder);
    pid_t child = fork();
    if (child == 0) {
        if (made) CHECK(write_text(folder, "cgroup.procs", (size_t)getpid()), "the group cannot be joined: errno %d", errno);
        change_sizes();
        CHECK(peak_resident() < group_mib * MIB, "%zu MiB were resident", peak_resident() / MIB);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child, "the child is gone");
    for (int i = 0; made && i < 100 && rmdir(folder) != 0; i++) usleep(20000);
    CHECK(!WIFSIGNALED(status), "the process was killed by signal %d", WTERMSIG(status));
    CHECK(status == 0, "status %#x", status);
    printf("%s\n", made ? "in a group" : "without a group");
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(each_optional_call_may_be_denied),
    CASE(files_may_be_denied_before_there_are_threads),
};

int main(int argc, char **argv) {
    self = argv[0];
    // Not among the cases that are listed: they are run with an environment.
    static const struct test_case others[] = {
        CASE(a_nearly_full_group_is_enough_for_one_size_after_the_other),
        CASE(used_under_a_filter),
    };
    if (argc > 2) return run_case(others, COUNT(others), argc, argv);
    return run_case(CASES, COUNT(CASES), argc, argv);
}
