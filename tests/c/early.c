// Allocation before main and after it: in the start-up of the program and of its libraries, in dlopen and dlsym.
// The second argument of the cases that load it is the path of the object built from plugin.c.

#include "check.h"
#include <stdatomic.h>

static struct {
    char *start;
    size_t size;
} early[3 * COUNT(SIZES)];
static size_t early_count;

static void allocate_early(void) {
    for (size_t i = 0; i < COUNT(SIZES); i++, early_count++) {
        size_t size = SIZES[i];
        early[early_count].start = i % 3 == 0 ? calloc(1, size) : i % 3 == 1 ? realloc(malloc(1), size) : malloc(size);
        early[early_count].size = size;
        CHECK(early[early_count].start, "no %zu bytes before main", size);
        fill(early[early_count].start, size, (unsigned)early_count);
    }
}

static void before_all_libraries(int argc, char **argv, char **environment) {
    (void)environment;
    // Even the C library is not ready yet. The plain case of the options is one without such programs.
    if (argc < 2 || strcmp(argv[1], "options_are_read") != 0) allocate_early();
}
__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char **, char **) = before_all_libraries;
__attribute__((constructor(101))) static void before_other_constructors(void) {
    allocate_early();
}
__attribute__((constructor)) static void before_main(void) {
    allocate_early();
}

static char *late;

__attribute__((destructor)) static void after_main(void) {
    char *block = realloc(late, 50000);
    if (late) verify_part(block, 300, 300, 3);
    free(block);
    for (size_t i = 0; i < COUNT(SIZES); i++) free(malloc(SIZES[i]));
}

static void at_exit(void) {
    late = malloc(300);
    fill(late, 300, 3);
}

static void blocks_from_before_main_are_blocks_like_others(void) {
    CHECK(early_count == COUNT(early), "%zu blocks were allocated before main", early_count);
    atexit(at_exit);
    for (size_t i = 0; i < early_count; i++) {
        verify(early[i].start, early[i].size, (unsigned)i);
        early[i].start = realloc(early[i].start, early[i].size + 3000);
        verify_part(early[i].start, early[i].size, early[i].size, (unsigned)i);
        free(early[i].start);
    }
}

static const char *plugin;
static atomic_bool stop;

static void *busy_thread(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    while (!atomic_load(&stop)) {
        size_t size = next_random(&random) % 3000;
        char *block = malloc(size);
        fill(block, size, 1);
        verify(block, size, 1);
        free(block);
    }
    return NULL;
}

// The plug-in allocates in its constructor and its destructor, and has thread-local storage that the loader allocates.
static void *load_and_unload(void *argument) {
    (void)argument;
    for (int i = 0; i < 60; i++) {
        void *handle = dlopen(plugin, i % 2 ? RTLD_NOW : RTLD_LAZY);
        CHECK(handle, "%s", dlerror());
        char *(*give)(size_t) = (char *(*)(size_t))dlsym(handle, "plugin_gives");
        void (*take)(char *, size_t) = (void (*)(char *, size_t))dlsym(handle, "plugin_takes");
        CHECK(give && take, "%s", dlerror());
        // An error message of the loader is allocated too, and freed by the next one or at the end of the thread.
        CHECK(dlsym(handle, "there_is_no_such_symbol") == NULL && dlopen("/no/such/object.so", RTLD_NOW) == NULL, "found");
        for (size_t j = 0; j < COUNT(SIZES) - 2; j++) {
            char *block = give(SIZES[j]);
            verify(block, SIZES[j], 11);
            if (j % 2) {
                take(block, SIZES[j]);
            } else {
                free(block);
            }
        }
        CHECK(dlclose(handle) == 0, "%s", dlerror());
    }
    return NULL;
}

static void objects_are_loaded_and_unloaded_while_threads_allocate(void) {
    pthread_t busy[2], loaders[2];
    for (uintptr_t i = 0; i < 2; i++) CHECK(pthread_create(&busy[i], NULL, busy_thread, (void *)i) == 0, "no thread");
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&loaders[i], NULL, load_and_unload, NULL) == 0, "no thread");
    for (int i = 0; i < 2; i++) pthread_join(loaders[i], NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) pthread_join(busy[i], NULL);
}

// Blocks go to the object and come from it, as PHP's do with its extensions.
static void an_object_that_is_bound_deeply_has_the_same_heap(void) {
    void *handle = dlopen(plugin, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    CHECK(handle, "%s", dlerror());
    char *(*give)(size_t) = (char *(*)(size_t))dlsym(handle, "plugin_gives");
    void (*take)(char *, size_t) = (void (*)(char *, size_t))dlsym(handle, "plugin_takes");
    CHECK(give && take, "%s", dlerror());
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        char *block = give(SIZES[i]);
        verify(block, SIZES[i], 11);
        free(block);
        block = malloc(SIZES[i]);
        fill(block, SIZES[i], 11);
        take(block, SIZES[i]);
    }
    CHECK(dlclose(handle) == 0, "%s", dlerror());
}

static const char *opener;

// What the flag is taken from goes on to the loader as a call of the object that made it.
static void an_object_is_found_where_the_one_that_opens_it_says(void) {
    const char *name = strrchr(plugin, '/') + 1;
    CHECK(!dlopen(name, RTLD_NOW), "%s is found without a search path", name);
    void *handle = dlopen(opener, RTLD_NOW);
    CHECK(handle, "%s", dlerror());
    void *(*opens)(const char *) = (void *(*)(const char *))dlsym(handle, "opener_opens");
    CHECK(opens, "%s", dlerror());
    CHECK(opens(name), "%s", dlerror());
    CHECK(!opens("no-such-object.so") && strstr(dlerror(), "no-such-object.so"), "found");
}

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);

// As wrappers of malloc do: they look up the next one with dlsym, which may itself allocate.
static void the_next_malloc_is_found_by_dlsym(void) {
    next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    CHECK(next_malloc == (void *(*)(size_t))dlsym(RTLD_DEFAULT, "malloc") && next_free, "another malloc");
    void *block = next_malloc(100);
    free(block);
    next_free(malloc(100));
    static const char *const names[] = {
        "malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc",
        "reallocarray", "malloc_usable_size", "cfree", "malloc_trim",
    };
    // All of them from one library: with half of them a program would free what the other half gave.
    for (size_t i = 0; i < COUNT(names); i++) {
        Dl_info found;
        void *function = dlsym(RTLD_DEFAULT, names[i]);
        CHECK(function && dladdr(function, &found) && strstr(found.dli_fname, "libterrace"), "%s is not there", names[i]);
    }
}

// What the options are tested on: blocks of all regimes, allocated and freed by several threads.
static void *options_thread(void *argument) {
    (void)argument;
    void *blocks[COUNT(SIZES) * 3];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        size_t size = SIZES[i % COUNT(SIZES)];
        blocks[i] = malloc(size);
        fill(blocks[i], size, (unsigned)i);
    }
    for (size_t i = 0; i < COUNT(blocks); i++) {
        verify(blocks[i], SIZES[i % COUNT(SIZES)], (unsigned)i);
        free(blocks[i]);
    }
    return NULL;
}

static void run_for_options(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, options_thread, NULL) == 0, "no thread");
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < early_count; i++) free(early[i].start);
    // These stay in use until the end, for the statistics.
    for (int i = 0; i < 10; i++) {
        static void *kept[10];
        kept[i] = malloc(200 * KIB);
        memset(kept[i], 1, 200 * KIB);
    }
}

static void options_are_read(void) {
    run_for_options();
}

static void options_are_read_when_something_allocates_before_the_c_library_is_ready(void) {
    CHECK(early_count == COUNT(early), "%zu blocks were allocated before main", early_count);
    run_for_options();
}

static void new_blocks_are_perturbed(void) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        unsigned char *block = malloc(SIZES[i]);
        for (size_t j = 0; j < SIZES[i]; j++) CHECK(block[j] == (0xff ^ 90), "byte %zu of %zu is %d", j, SIZES[i], block[j]);
        free(block);
    }
}

static void a_bad_pointer_is_freed(void) {
    int local;
    free(hidden_pointer(&local));
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(blocks_from_before_main_are_blocks_like_others),
    CASE(objects_are_loaded_and_unloaded_while_threads_allocate),
    CASE(an_object_that_is_bound_deeply_has_the_same_heap),
    CASE(an_object_is_found_where_the_one_that_opens_it_says),
    CASE(the_next_malloc_is_found_by_dlsym),
    CASE(options_are_read),
    CASE(new_blocks_are_perturbed),
    CASE(a_bad_pointer_is_freed),
    CASE(options_are_read_when_something_allocates_before_the_c_library_is_ready),
};

int main(int argc, char **argv) {
    plugin = argc > 2 ? argv[2] : NULL;
    opener = argc > 3 ? argv[3] : NULL;
    return run_case(CASES, COUNT(CASES), argc, argv);
}
