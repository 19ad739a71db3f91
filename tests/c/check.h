// What the test programs share: cases chosen by name, checks that say what did not hold, patterns through blocks, and proof
// that the library under test is in place.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef __GLIBC__
// What other C libraries do not have, and so do not declare; the library under test has it.
void *pvalloc(size_t size);
int malloc_trim(size_t pad);
#endif

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define COUNT(array) (sizeof(array) / sizeof *(array))

// Ends the program with a sentence when the condition does not hold. Allocates nothing.
#define CHECK(condition, ...)                                                                                              \
    do {                                                                                                                   \
        if (!(condition)) {                                                                                                \
            dprintf(2, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                     \
            dprintf(2, __VA_ARGS__);                                                                                       \
            dprintf(2, "\n");                                                                                              \
            _exit(1);                                                                                                      \
        }                                                                                                                  \
    } while (0)

// A value that the compiler knows nothing of.
static inline size_t hidden(size_t value) {
    __asm__ volatile("" : "+r"(value));
    return value;
}

static inline void *hidden_pointer(void *value) {
    __asm__ volatile("" : "+r"(value));
    return value;
}

// Sizes of all regimes, with their boundaries: slabs, runs of pages, mappings.
static const size_t SIZES[] = {
    1,         8,         15,      16,          17,        24,      100,         128,     129,     500,     1000,
    1024,      1025,      4096,    8191,        8192,      8193,    20000,       32767,   32768,   32769,   40000,
    100 * KIB, 256 * KIB, MIB - 1, (size_t)MIB, MIB + 1,   2 * MIB, 3 * MIB + 5, 4 * MIB, 9 * MIB, 33 * MIB,
};

static inline unsigned char expected_byte(size_t offset, unsigned seed) {
    return (unsigned char)(seed * 31 + offset * 7 + (offset >> 8) + 1);
}

// All bytes of a small block; of a larger one, one every so often, with an odd stride.
static inline size_t stride_for(size_t size) {
    return size <= 64 * KIB ? 1 : 509;
}

static inline void fill(void *block, size_t size, unsigned seed) {
    unsigned char *bytes = (unsigned char *)block;
    for (size_t i = 0; i < size; i += stride_for(size)) bytes[i] = expected_byte(i, seed);
    if (size > 0) bytes[size - 1] = expected_byte(size - 1, seed);
}

// Checks the first `up_to` bytes of a block that was filled as one of `size` bytes.
static inline void verify_part(const void *block, size_t up_to, size_t size, unsigned seed) {
    const unsigned char *bytes = (const unsigned char *)block;
    for (size_t i = 0; i < up_to; i += stride_for(size)) {
        CHECK(bytes[i] == expected_byte(i, seed), "byte %zu of a block of %zu bytes at %p was changed", i, size, block);
    }
    if (up_to == size && size > 0) {
        CHECK(bytes[size - 1] == expected_byte(size - 1, seed), "the last byte of %zu at %p was changed", size, block);
    }
}

static inline void verify(const void *block, size_t size, unsigned seed) {
    verify_part(block, size, size, seed);
}

static inline bool is_aligned(const void *block, size_t alignment) {
    return (uintptr_t)block % alignment == 0;
}

static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// The kernel's page in bytes, as the library sees it.
static inline size_t page_size(void) {
    const char *simulated = getenv("SIMULATED_PAGE");
    return simulated ? strtoul(simulated, NULL, 10) : (size_t)sysconf(_SC_PAGESIZE);
}

// The process's size in bytes: of its addresses, and of what is in memory. Allocates nothing.
static inline void process_size(size_t *address_space, size_t *resident) {
    char text[128] = {0};
    int file = open("/proc/self/statm", O_RDONLY);
    CHECK(file >= 0 && read(file, text, sizeof text - 1) > 0, "the size of the process cannot be read");
    close(file);
    char *end;
    *address_space = strtoul(text, &end, 10) * (size_t)sysconf(_SC_PAGESIZE);
    *resident = strtoul(end, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static inline size_t address_space(void) {
    size_t mapped, resident;
    process_size(&mapped, &resident);
    return mapped;
}

static inline size_t resident(void) {
    size_t mapped, resident;
    process_size(&mapped, &resident);
    return resident;
}

// A program that the loader started without the library would test the C library's own malloc.
static inline void require_terrace(void) {
    if (getenv("ANY_MALLOC")) return;
    Dl_info found;
    void *function = dlsym(RTLD_DEFAULT, "malloc");
    CHECK(function && dladdr(function, &found), "malloc is nowhere to be found");
    CHECK(strstr(found.dli_fname, "libterrace"), "malloc is that of %s", found.dli_fname);
}

struct test_case {
    const char *name;
    void (*run)(void);
};

// Runs the case that the first argument names; without one, lists the names.
static inline int run_case(const struct test_case *cases, size_t count, int argc, char **argv) {
    if (argc < 2) {
        for (size_t i = 0; i < count; i++) puts(cases[i].name);
        return 0;
    }
    require_terrace();
    // Programs that are meant to abort leave no core file.
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(cases[i].name, argv[1]) == 0) {
            cases[i].run();
            return 0;
        }
    }
    CHECK(false, "there is no case %s", argv[1]);
    return 1;
}
