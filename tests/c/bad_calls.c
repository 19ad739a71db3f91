// Calls with pointers that are no live block's. Each case says on standard output what it is about to do (the call, the
// address, and for pointers into a block its size and the offset), does it, and must not come back.

#include "check.h"

static void announce(const char *call, void *address) {
    printf("%s %p\n", call, address);
    fflush(stdout);
}

static void free_it(void *address) {
    announce("free", address);
    free(hidden_pointer(address));
    CHECK(false, "free(%p) came back", address);
}

static void realloc_it(void *address) {
    announce("realloc", address);
    void *result = realloc(hidden_pointer(address), 100);
    CHECK(false, "realloc(%p) came back with %p", address, result);
}

static void usable_size_of_it(void *address) {
    announce("malloc_usable_size", address);
    size_t size = malloc_usable_size(hidden_pointer(address));
    CHECK(false, "malloc_usable_size(%p) came back with %zu", address, size);
}

// A few blocks of each size, so that the heap is not empty, and one of them.
static char *some_block(size_t size) {
    char *block = NULL;
    for (int i = 0; i < 5; i++) {
        block = malloc(size);
        CHECK(block, "no %zu bytes", size);
        memset(block, 0x55, size);
    }
    return block;
}

static size_t number(const char *text) {
    return strtoull(text, NULL, 0);
}

static char in_the_program[64] = "a static object";

static void *foreign_address(const char *kind) {
    static char *on_the_stack;
    if (strcmp(kind, "stack") == 0) {
        char local[64];
        on_the_stack = hidden_pointer(local);
        return on_the_stack + 16;
    }
    if (strcmp(kind, "static") == 0) return in_the_program;
    if (strcmp(kind, "constant") == 0) return (void *)"a string";
    if (strcmp(kind, "function") == 0) return (void *)(uintptr_t)foreign_address;
    if (strcmp(kind, "mapping") == 0) {
        return mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (strcmp(kind, "inaccessible") == 0) return mmap(NULL, 8 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    // Below the break, but not the allocator's.
    if (strcmp(kind, "break") == 0) return sbrk(4096);
    return (void *)number(kind);
}

typedef void (*bad_call)(void *);

static bad_call call_named(const char *name) {
    if (strcmp(name, "free") == 0) return free_it;
    if (strcmp(name, "realloc") == 0) return realloc_it;
    CHECK(strcmp(name, "malloc_usable_size") == 0, "there is no call %s", name);
    return usable_size_of_it;
}

static void *run_in_thread(void *argument) {
    void **call_and_address = argument;
    ((bad_call)call_and_address[0])(call_and_address[1]);
    return NULL;
}

static void call_in_another_thread(bad_call call, void *address) {
    void *call_and_address[] = {(void *)(uintptr_t)call, address};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run_in_thread, call_and_address) == 0, "no thread");
    pthread_join(thread, NULL);
}

static void *free_in_thread(void *address) {
    free(address);
    return NULL;
}

static void *free_twice_in_thread(void *address) {
    free(address);
    free_it(address);
    return NULL;
}

struct turns {
    char *block;
    size_t size;
    size_t count;
};

// Frees a block, gets it back as often as that is so, up to a number of times, and frees it twice.
static void *free_twice_after_turns(void *context) {
    struct turns *turns = context;
    void *own[] = {some_block(turns->size), some_block(turns->size), some_block(turns->size)};
    for (size_t i = 0; i < 3; i++) free(own[i]);
    for (size_t turn = 0; turn < turns->count; turn++) {
        free(turns->block);
        if (hidden_pointer(malloc(turns->size)) != turns->block) {
            free_it(turns->block);
            return NULL;
        }
    }
    free(turns->block);
    free_it(turns->block);
    return NULL;
}

int main(int argc, char **argv) {
    require_terrace();
    // These programs are meant to abort; no core file is wanted.
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    CHECK(argc >= 3, "usage: CASE ARGUMENTS");
    const char *kind = argv[1];
    void *kept[] = {some_block(24), some_block(5000), some_block(100 * KIB), some_block(3 * MIB)};
    CHECK(kept[0], "no memory");

    if (strcmp(kind, "foreign") == 0) {
        // foreign CALL ADDRESS
        call_named(argv[2])(foreign_address(argv[3]));
    } else if (strcmp(kind, "foreign-in-thread") == 0) {
        call_in_another_thread(call_named(argv[2]), foreign_address(argv[3]));
    } else if (strcmp(kind, "inside") == 0) {
        // inside CALL SIZE OFFSET
        char *block = some_block(number(argv[3]));
        call_named(argv[2])(block + number(argv[4]));
    } else if (strcmp(kind, "inside-in-thread") == 0) {
        char *block = some_block(number(argv[3]));
        call_in_another_thread(call_named(argv[2]), block + number(argv[4]));
    } else if (strcmp(kind, "twice") == 0) {
        // twice CALL SIZE: free, and then the call.
        char *block = some_block(number(argv[3]));
        free(block);
        call_named(argv[2])(block);
    } else if (strcmp(kind, "twice-in-thread") == 0) {
        // twice-in-thread free SIZE: both frees in a thread that the block does not come from.
        char *block = some_block(number(argv[3]));
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, free_twice_in_thread, block) == 0, "no thread");
        pthread_join(thread, NULL);
    } else if (strcmp(kind, "twice-after-turns") == 0) {
        // twice-after-turns free SIZE COUNT: the same in a thread that takes such blocks itself, and has got this one COUNT times.
        struct turns turns = {some_block(number(argv[3])), number(argv[3]), number(argv[4])};
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, free_twice_after_turns, &turns) == 0, "no thread");
        pthread_join(thread, NULL);
    } else if (strcmp(kind, "twice-by-two-threads") == 0) {
        // The first free here, the second in another thread.
        char *block = some_block(number(argv[3]));
        free(block);
        call_in_another_thread(free_it, block);
    } else if (strcmp(kind, "twice-by-a-thread-that-ended") == 0) {
        // The first free in a thread that ends, the second here.
        char *block = some_block(number(argv[3]));
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, free_in_thread, block) == 0, "no thread");
        pthread_join(thread, NULL);
        free_it(block);
    } else if (strcmp(kind, "after-trim") == 0) {
        // Freed, returned to the kernel, and freed once more.
        char *block = some_block(number(argv[3]));
        free(block);
        malloc_trim(0);
        call_named(argv[2])(block);
    } else if (strcmp(kind, "never-handed-out") == 0) {
        // never-handed-out free SIZE BLOCKS: so many blocks behind one, where none was made yet or none can be.
        char *block = some_block(number(argv[3]));
        call_named(argv[2])(block + number(argv[4]) * malloc_usable_size(block));
    } else {
        CHECK(false, "there is no case %s", kind);
    }
    return 0;
}
