// A shared object that allocates while it is loaded and unloaded. It is loaded with dlopen, or preloaded beside the library.

#include "check.h"

static __thread char in_every_thread[3000];
static char *blocks[COUNT(SIZES)];

__attribute__((constructor)) static void loaded(void) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        blocks[i] = malloc(SIZES[i]);
        fill(blocks[i], SIZES[i] < 5000 ? SIZES[i] : 5000, (unsigned)i);
    }
}

__attribute__((destructor)) static void unloaded(void) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        verify(blocks[i], SIZES[i] < 5000 ? SIZES[i] : 5000, (unsigned)i);
        free(blocks[i]);
    }
}

char *plugin_gives(size_t size) {
    in_every_thread[size % sizeof in_every_thread] = 1;
    char *block = malloc(size);
    fill(block, size, 11);
    return block;
}

void plugin_takes(char *block, size_t size) {
    verify(block, size, 11);
    free(block);
}
