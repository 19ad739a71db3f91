// A program that registers more functions for its exit than the C library has room for, before anything was allocated: atexit(3)
// then calls calloc with a lock of its own held, and would wait for ever if the allocator called it again from there.

#include "check.h"

enum { FUNCTIONS = 100 };
static int called;

static void at_exit(void) {
    free(malloc(10));
    if (++called == FUNCTIONS && write(1, "all\n", 4) != 4) _exit(3);
}

int main(void) {
    alarm(60);
    for (int i = 0; i < FUNCTIONS; i++) CHECK(atexit(at_exit) == 0, "function %d is not registered", i);
    require_terrace();
    char *lost = malloc(hidden(12345));
    fill(lost, 12345, 1);
    // More than is kept, so that there is something to return, and a thread in the background if one is wanted.
    for (int i = 0; i < 20; i++) free(memset(malloc(100 * KIB), 1, 100 * KIB));
    return 0;
}
