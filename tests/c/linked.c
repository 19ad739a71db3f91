// A program that is linked with the library and brings options of its own. Arguments: how many blocks of 200 KiB get a mapping
// of their own, of one; or "secure", to tell how the kernel started it.

#include "check.h"

#include <sys/auxv.h>
#include <sys/wait.h>
#include <terrace.h>

const char *terrace_options = "mmap_threshold=65536, stats=0";

static void *use(void *argument) {
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        char *block = i % 2 ? malloc(SIZES[i]) : mallocx(SIZES[i], MALLOCX_ALIGN(64));
        fill(block, SIZES[i], 3);
        block = realloc(block, SIZES[i] + 5000);
        verify_part(block, SIZES[i], SIZES[i], 3);
        i % 2 ? free(block) : free_sized(block, SIZES[i] + 5000);
    }
    return argument;
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "%d arguments", argc);
    if (strcmp(argv[1], "secure") == 0) {
        void *block = malloc(200 * KIB);
        printf("%lu %zu\n", getauxval(AT_SECURE), mallinfo2().hblks);
        free(block);
        return 0;
    }
    char *block = malloc(200 * KIB);
    CHECK(mallinfo2().hblks == (size_t)atoi(argv[1]), "%zu mappings", mallinfo2().hblks);
    free(block);
    CHECK(terrace_set_option("arenas", "2") == 0 && malloc_good_size(100) == 112, "another library");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use, NULL) == 0, "no thread");
    use(NULL);
    pthread_join(thread, NULL);
    char *line = NULL;
    CHECK(asprintf(&line, "%d %s", 42, "allocated by the C library") > 0, "nothing printed");
    pid_t child = fork();
    if (child == 0) {
        free(line);
        use(NULL);
        _exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with %d", status);
    free(line);
    return 0;
}
