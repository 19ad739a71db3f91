// A program that loads the library late with dlopen, into a scope of its own, and unloads it while a thread that used it goes
// on. Arguments: the library, and "keep" or "unload".

#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void *(*library_malloc)(size_t);
static void (*library_free)(void *);
static pthread_key_t key;

// Allocates and frees in every round of destructors, also after the library's own.
static void destructor(void *block) {
    static __thread int rounds;
    library_free(block);
    if (rounds++ < 3) pthread_setspecific(key, library_malloc(40));
}

static void *use(void *argument) {
    enum { MANY = 500 };
    unsigned char *blocks[MANY];
    for (int i = 0; i < MANY; i++) {
        blocks[i] = library_malloc((size_t)i * 7 + 1);
        CHECK(blocks[i] != NULL, "block %d", i);
        memset(blocks[i], i, (size_t)i * 7 + 1);
    }
    for (int i = 0; i < MANY; i++) {
        CHECK(blocks[i][i * 7] == (unsigned char)i, "block %d was changed", i);
        library_free(blocks[i]);
    }
    return argument;
}

static void *use_and_end(void *argument) {
    use(argument);
    pthread_setspecific(key, library_malloc(99));
    return argument;
}

static pthread_barrier_t used, unloaded;

static void *use_and_outlive(void *argument) {
    use(argument);
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&unloaded);
    return argument;
}

int main(int argc, char **argv) {
    CHECK(argc == 3, "%d arguments", argc);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL, "%s", dlerror());
    library_malloc = (void *(*)(size_t))dlsym(library, "malloc");
    library_free = (void (*)(void *))dlsym(library, "free");
    CHECK(library_malloc != malloc, "the library is the program's own malloc");
    CHECK(pthread_key_create(&key, destructor) == 0, "no key");
    pthread_t thread;
    for (int i = 0; i < 500; i++) {
        CHECK(pthread_create(&thread, NULL, use_and_end, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
    }
    if (strcmp(argv[2], "unload") == 0) {
        pthread_barrier_init(&used, NULL, 2);
        pthread_barrier_init(&unloaded, NULL, 2);
        CHECK(pthread_create(&thread, NULL, use_and_outlive, NULL) == 0, "no thread");
        pthread_barrier_wait(&used);
        CHECK(dlclose(library) == 0, "%s", dlerror());
        pthread_barrier_wait(&unloaded);
        pthread_join(thread, NULL);
    }
    return 0;
}
