// A program with a malloc of its own, which the library that is preloaded must not take the place of: in an executable's own
// functions nobody comes first. It has the four functions that glibc's manual asks for in "Replacing malloc", and the old cfree.

#include "check.h"

static char arena[8 << 20];
static size_t used;
static int calls;

static bool is_mine(const void *block) {
    return (const char *)block >= arena && (const char *)block < arena + sizeof arena;
}

void *malloc(size_t size) {
    calls++;
    size_t *header = (size_t *)(arena + used);
    used += 16 + (size + 15) / 16 * 16;
    CHECK(used <= sizeof arena, "the arena is used up");
    *header = size;
    return header + 2;
}

void free(void *block) {
    calls++;
    CHECK(!block || is_mine(block), "%p came from another malloc", block);
}

void *calloc(size_t count, size_t size) { return memset(malloc(count * size), 0, count * size); }

void *realloc(void *block, size_t size) {
    void *new = malloc(size);
    if (block) {
        size_t old = ((size_t *)block)[-2];
        memcpy(new, block, old < size ? old : size);
    }
    return new;
}

// As in the times when glibc had it.
void cfree(void *block) { free(block); }

// Functions that this program does not have, and that are defined by those that it has: reallocarray(3) is "equivalent to the call
// realloc(ptr, nmemb * size)", C23's sized frees (7.24.3.4 and 7.24.3.5) are "equivalent to free(ptr)".
static void use_what_the_own_functions_define(void) {
    char *block = reallocarray(NULL, 10, 10);
    CHECK(is_mine(block), "%p came from another malloc", (void *)block);
    fill(block, 100, 1);
    block = reallocarray(block, 300, 3);
    CHECK(is_mine(block), "%p came from another malloc", (void *)block);
    verify_part(block, 100, 100, 1);
    errno = 0;
    CHECK(reallocarray(block, hidden(SIZE_MAX), 2) == NULL && errno == ENOMEM, "errno is %d", errno);
    void (*sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*aligned)(void *, size_t, size_t) = (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    CHECK(sized && aligned, "the library has no sized frees");
    int before = calls;
    sized(block, 900);
    aligned(malloc(64), 16, 64);
    CHECK(calls == before + 3, "%d calls of the own functions", calls - before);
}

// What stays the library's, and whole: operator new, from a plugin in C++, is freed by the delete beside it, and what glibc's
// private names give by those.
static void use_what_stays_the_library_s(void) {
    void *(*new)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "_Znwm");
    void *(*private_malloc)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "__libc_malloc");
    static const char *const frees[] = {"_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvSt11align_val_t", "__libc_free"};
    int before = calls;
    for (size_t i = 0; i < COUNT(frees); i++) {
        void (*give_back)(void *, size_t, size_t) = (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, frees[i]);
        CHECK(new && private_malloc && give_back, "there is no %s", frees[i]);
        for (size_t j = 0; j < COUNT(SIZES); j++) {
            char *block = i + 1 == COUNT(frees) ? private_malloc(SIZES[j]) : new (SIZES[j]);
            CHECK(!is_mine(block), "%p came from the own malloc", (void *)block);
            fill(block, SIZES[j], 1);
            verify(block, SIZES[j], 1);
            give_back(block, SIZES[j], 16);
        }
    }
    CHECK(calls == before, "%d calls of the own functions", calls - before);
}

static void *in_a_thread(void *argument) {
    char *copy = strdup("allocated by the C library in a thread");
    CHECK(is_mine(copy), "%p came from another malloc", (void *)copy);
    free(copy);
    return argument;
}

int main(void) {
    CHECK(getenv("LD_PRELOAD") && dlsym(RTLD_DEFAULT, "terrace_purge"), "the library is not there");
    for (int i = 0; i < 20; i++) {
        char *line = NULL;
        CHECK(asprintf(&line, "%d lines", i) > 0 && is_mine(line), "%p came from another malloc", (void *)line);
        free(line);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, in_a_thread, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
    }
    use_what_the_own_functions_define();
    use_what_stays_the_library_s();
    FILE *file = fopen("/proc/self/maps", "r");
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0) CHECK(is_mine(line), "%p came from another malloc", (void *)line);
    free(line);
    fclose(file);
    CHECK(calls > 60, "only %d calls", calls);
    return 0;
}
