/* The smallest honest C program: its resident memory is what an allocator costs before it has done anything. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    char *name = malloc(16);
    if (name == NULL) {
        return 1;
    }
    snprintf(name, 16, "world");
    printf("hello, %s\n", name);
    free(name);
    return 0;
}
