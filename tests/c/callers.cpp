// Functions that each allocate a block in one way, of a size that is theirs alone, for a test of the stacks that are told.
//
// `callers SIZE`: those of about this size run and leave their blocks, for a report of leaks; `callers free`: all run, and each frees
// its block, for the history. Prints for each function the block's size, what it is called, and where it lies in the program.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <malloc.h>
#include <new>

// The library that is preloaded has them.
extern "C" void *mallocx(size_t, int) __attribute__((weak));
extern "C" void *rallocx(void *, size_t, int) __attribute__((weak));

static bool frees;
static void *volatile kept;

struct Caller {
    const char *name;
    size_t size;
    void (*function)();
};

// Each way is a function for each of three sizes: in a slab, a run of pages, a mapping of its own.
#define WAY(number, name, allocate, release)                       \
    template <size_t base> __attribute__((noinline)) static void name() \
    {                                                              \
        const size_t size = base + number;                         \
        void *block = allocate;                                    \
        kept = block;                                              \
        if (frees)                                                 \
            release;                                               \
    }

WAY(1, of_malloc, malloc(size), free(block))
WAY(2, of_calloc, calloc(1, size), free(block))
WAY(3, of_realloc, realloc(malloc(10), size), free(block))
WAY(4, of_realloc_of_nothing, realloc(nullptr, size), kept = realloc(block, 0))
WAY(5, of_reallocarray, reallocarray(malloc(10), 1, size), free(block))
WAY(6, of_aligned_alloc, aligned_alloc(64, size), free(block))
WAY(7, of_memalign, memalign(8192, size), free(block))
WAY(8, of_valloc, valloc(size), free(block))
WAY(9, of_new, operator new(size), operator delete(block))
WAY(10, of_new_array, operator new[](size), operator delete[](block))
WAY(11, of_new_aligned, operator new(size, std::align_val_t(64)), operator delete(block, std::align_val_t(64)))
WAY(12, of_new_nothrow, operator new(size, std::nothrow), operator delete(block, std::nothrow))
WAY(13, of_mallocx, mallocx(size, 0x40), free(block))
WAY(14, of_rallocx, rallocx(malloc(10), size, 0), free(block))

template <size_t base> __attribute__((noinline)) static void of_posix_memalign()
{
    void *block = nullptr;
    if (posix_memalign(&block, 256, base + 15) != 0)
        abort();
    kept = block;
    if (frees)
        free(block);
}

#define CALLERS(number, name)                                                            \
    {#name, 100 + number, name<100>}, {#name, 40000 + number, name<40000>},              \
    {#name, 4000000 + number, name<4000000>}

static const Caller callers[] = {
    CALLERS(1, of_malloc),       CALLERS(2, of_calloc),        CALLERS(3, of_realloc),
    CALLERS(4, of_realloc_of_nothing), CALLERS(5, of_reallocarray), CALLERS(6, of_aligned_alloc),
    CALLERS(7, of_memalign),     CALLERS(8, of_valloc),        CALLERS(9, of_new),
    CALLERS(10, of_new_array),   CALLERS(11, of_new_aligned),  CALLERS(12, of_new_nothrow),
    CALLERS(13, of_mallocx),     CALLERS(14, of_rallocx),      CALLERS(15, of_posix_memalign),
};

int main(int count, char **arguments)
{
    frees = count > 1 && strcmp(arguments[1], "free") == 0;
    const size_t about = frees ? 0 : count > 1 ? strtoul(arguments[1], nullptr, 10) : 0;
    for (const Caller &caller : callers) {
        Dl_info info;
        if (about != 0 && (caller.size < about || caller.size > about + 99))
            continue;
        if (!dladdr((void *)caller.function, &info))
            return 1;
        caller.function();
        printf("%zu %s %#zx\n", caller.size, caller.name, (size_t)caller.function - (size_t)info.dli_fbase);
    }
    return 0;
}
