// A chain of functions that keep no frame pointers, and what may happen while its stack is taken. Prints the functions' offsets in
// the program, the innermost first.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile kept;
static volatile int depth;

// Each has a frame, and something to do after its call.
__attribute__((noinline)) static void innermost(size_t size)
{
    volatile char frame[100];
    frame[0] = (char)depth;
    kept = malloc(size);
    depth += frame[0];
}

__attribute__((noinline)) static void middle(size_t size)
{
    volatile char frame[300];
    frame[0] = (char)depth;
    innermost(size);
    depth += frame[0];
}

__attribute__((noinline)) static void outermost(size_t size)
{
    middle(size);
    depth++;
}

static void *work(void *library)
{
    for (int i = 0; i < 200; i++) {
        outermost(1000);
        free(malloc(50000));
        void *handle = dlopen(library, RTLD_NOW);
        if (handle != NULL)
            dlclose(handle);
    }
    return NULL;
}

// Threads take stacks, objects come and go, and children of fork go on.
static int busy(char *library)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, work, library) != 0)
            return 1;
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            outermost(2000);
            _exit(0);
        }
        int status;
        if (waitpid(child, &status, 0) != child || status != 0)
            return 1;
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

int main(int count, char **arguments)
{
    if (count > 1)
        return busy(arguments[1]);
    void *functions[] = {(void *)innermost, (void *)middle, (void *)outermost};
    for (int i = 0; i < 3; i++) {
        Dl_info info;
        if (!dladdr(functions[i], &info))
            return 1;
        printf("%d f%d %#zx\n", i, i, (size_t)functions[i] - (size_t)info.dli_fbase);
    }
    fflush(stdout);
    outermost(1234);
    return 0;
}
