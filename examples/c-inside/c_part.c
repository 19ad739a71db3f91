// The C part of `src/main.rs`.

#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned char *c_part_gives(size_t size, bool by_the_c_library) {
    char *block;
    if (by_the_c_library) {
        // The C library's own calls of malloc and realloc have to come to the same heap.
        size_t length;
        FILE *stream = open_memstream(&block, &length);
        for (size_t i = 0; i < size; i++) fputc(7, stream);
        fclose(stream);
        block = realloc(block, size);
    } else {
        block = realloc(memset(malloc(10), 7, 10), size);
        memset(block, 7, size);
    }
    return (unsigned char *)block;
}

const char *c_part_takes(void *block) {
    free(block);
    free(strdup("a copy by the C library"));
    return "taken";
}
