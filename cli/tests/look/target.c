/* A program to look into: it makes blocks of known sizes, says what mallinfo2 counts, and goes on as told. */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 1000, MEDIUM = 7, LARGE = 3 };
static void *small[SMALL], *medium[MEDIUM], *large[LARGE];

static void *churn(void *unused) {
    static __thread void *blocks[512];
    for (unsigned i = 1;; i = i * 1664525u + 1013904223u) {
        void **place = &blocks[i >> 23];
        free(*place);
        *place = malloc(i >> 8 & 0x3fff ? i >> 8 & 0x3fff : 200000);
    }
    return unused;
}

int main(int count, char **arguments) {
    (void)count;
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    for (int i = 0; i < SMALL; i++) memset(small[i] = malloc(100), 1, 100);
    for (int i = 0; i < MEDIUM; i++) memset(medium[i] = malloc(200000), 1, 200000);
    for (int i = 0; i < LARGE; i++) memset(large[i] = malloc(3 << 20), 1, 3 << 20);
    pthread_t thread;
    if (!strcmp(arguments[1], "churn"))
        for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, churn, NULL);
    struct mallinfo2 info = mallinfo2();
    printf("%zu %zu %zu %p %p %p\n", info.uordblks, info.hblks, info.hblkhd, small[0], medium[0], large[0]);
    getchar();
    return 0;
}
