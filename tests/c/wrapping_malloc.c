// A program whose malloc counts the calls and hands them on, as profilers do: to the next malloc, found by dlsym(3) with RTLD_NEXT,
// or, compiled with BY_PRIVATE_NAMES, to glibc's own by the names __libc_*. With the library preloaded it is the next, and has
// those names.

#include "check.h"

#include <stdatomic.h>
#include <sys/wait.h>

static atomic_int calls;

#ifdef BY_PRIVATE_NAMES

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *block);

void *malloc(size_t size) {
    calls++;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    calls++;
    return __libc_calloc(count, size);
}
void *realloc(void *block, size_t size) {
    calls++;
    return __libc_realloc(block, size);
}
void *memalign(size_t align, size_t size) {
    calls++;
    return __libc_memalign(align, size);
}
void free(void *block) {
    calls++;
    __libc_free(block);
}

#else

static void *(*next_malloc)(size_t), *(*next_calloc)(size_t, size_t), *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);

// dlsym itself may allocate, before there is a next one to ask.
static char first[4096];
static size_t first_used;

static bool is_first(const void *block) {
    return (const char *)block >= first && (const char *)block < first + sizeof first;
}

static bool found(void) {
    static atomic_bool searching;
    if (next_free) return true;
    if (atomic_exchange(&searching, true)) return false;
    next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    next_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    return true;
}

static void *take_first(size_t size) {
    void *block = first + first_used;
    first_used += (size + 15) / 16 * 16;
    CHECK(first_used <= sizeof first, "dlsym wants more than %zu bytes", sizeof first);
    return block;
}

void *malloc(size_t size) {
    calls++;
    return found() ? next_malloc(size) : take_first(size);
}
void *calloc(size_t count, size_t size) {
    calls++;
    return found() ? next_calloc(count, size) : take_first(count * size);
}

void *realloc(void *block, size_t size) {
    calls++;
    if (found() && !is_first(block)) return next_realloc(block, size);
    void *new = malloc(size);
    return block ? memcpy(new, block, size) : new;
}

void free(void *block) {
    calls++;
    if (!is_first(block) && found()) next_free(block);
}

#endif

static void *busy(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    char *blocks[50] = {0};
    size_t sizes[50] = {0};
    for (int step = 0; step < 3000; step++) {
        size_t i = next_random(&random) % COUNT(blocks), size = SIZES[next_random(&random) % (COUNT(SIZES) - 6)];
        if (blocks[i]) verify(blocks[i], sizes[i], (unsigned)i);
        if (step % 3 == 0) {
            blocks[i] = realloc(blocks[i], size);
        } else {
            free(blocks[i]);
            // memalign and the like are not all the program's own: what comes from there is freed by its free as well.
            blocks[i] = step % 3 == 1 ? malloc(size) : step % 2 ? aligned_alloc(64, size) : memalign(128, size);
        }
        CHECK(blocks[i], "no %zu bytes", size);
        fill(blocks[i], sizes[i] = size, (unsigned)i);
    }
    for (size_t i = 0; i < COUNT(blocks); i++) free(blocks[i]);
    return argument;
}

int main(void) {
    CHECK(getenv("LD_PRELOAD") && dlsym(RTLD_DEFAULT, "terrace_purge"), "the library is not there");
    pthread_t threads[3];
    for (uintptr_t i = 0; i < COUNT(threads); i++) CHECK(pthread_create(&threads[i], NULL, busy, (void *)i) == 0, "no thread");
    pid_t child = fork();
    if (child == 0) {
        busy((void *)9);
        _exit(0);
    }
    for (size_t i = 0; i < COUNT(threads); i++) pthread_join(threads[i], NULL);
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "status %#x", status);
    int before = calls;
    char *line = NULL;
    CHECK(asprintf(&line, "%d calls", before) > 0 && (line = reallocarray(line, 100, 100)), "no memory");
    free(line);
    CHECK(calls >= before + 3, "reallocarray or asprintf past the program's own functions: %d calls", calls - before);
    // The blocks are the library's.
    Dl_info owner;
    size_t (*live)(void *) = (size_t (*)(void *))dlsym(RTLD_DEFAULT, "malloc_usable_size");
    CHECK(dladdr((void *)live, &owner) && strstr(owner.dli_fname, "libterrace"), "it is not there");
    void *block = malloc(hidden(100));
    CHECK(live(block) == 112, "%zu bytes", live(block));
    free(block);
    CHECK(before > 3000, "only %d calls", before);
    return 0;
}
