// A program with a malloc of its own, which the library that is preloaded must not take the place of: in an executable's own
// functions nobody comes first.

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
    FILE *file = fopen("/proc/self/maps", "r");
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0) CHECK(is_mine(line), "%p came from another malloc", (void *)line);
    free(line);
    fclose(file);
    CHECK(calls > 60, "only %d calls", calls);
    return 0;
}
