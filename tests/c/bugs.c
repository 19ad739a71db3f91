/* One bug of a program for each case, for the checks to find (tests/checks.rs). */

#include "check.h"

#include <sys/wait.h>

#define HOLD(condition) CHECK(condition, "it does not hold")

static size_t (*look)(void);

static void *in_another_thread(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    void *result;
    HOLD(pthread_create(&thread, NULL, function, argument) == 0);
    HOLD(pthread_join(thread, &result) == 0);
    return result;
}

static void *freeing(void *block)
{
    free(block);
    return NULL;
}

static void overflow_by_one(void)
{
    char *block = malloc(100);
    block[100] = 1;
    free(block);
}

static void overflow_of_a_block_of_none(void)
{
    char *block = malloc(0);
    block[0] = 1;
    free(block);
}

static void overflow_of_calloc(void)
{
    char *block = calloc(3, 11);
    block[33] = 0;
    free(block);
}

static void overflow_of_aligned(void)
{
    char *block = aligned_alloc(4096, 5000);
    block[5001] = 1;
    free(block);
}

static void overflow_of_medium(void)
{
    char *block = malloc(70000);
    block[70000] = 1;
    free(block);
}

static void overflow_of_resized(void)
{
    char *block = realloc(malloc(10), 20);
    block[20] = 1;
    block = realloc(block, 30);
    free(block);
}

static void overflow_left_at_exit(void)
{
    static char *volatile block;
    block = malloc(24);
    block[24] = 1;
}

static void underflow(void)
{
    char *block = malloc(100);
    block[-1] = 1;
    free(block);
}

static void write_after_free(void)
{
    char *block = malloc(100);
    free(block);
    block[40] = 1;
    for (int i = 0; i < 100000; i++)
        free(malloc(1000));
}

static void write_after_free_in_another_thread(void)
{
    char *block = malloc(100);
    in_another_thread(freeing, block);
    block[7] = 1;
}

static void write_past_a_large_block(void)
{
    char *block = malloc(1 << 20);
    block[1 << 20] = 1;
    free(block);
}

static void read_before_a_large_block(void)
{
    char *block = malloc(2 << 20);
    fputc(block[-1], stdout);
}

static void read_of_a_freed_large_block(void)
{
    char *block = malloc(1 << 20);
    free(block);
    fputc(block[5], stdout);
}

static void double_free(void)
{
    void *block = malloc(100);
    free(block);
    free(block);
}

static void double_free_with_one_between(void)
{
    void *a = malloc(100), *b = malloc(100);
    free(a);
    free(b);
    free(a);
}

static void double_free_by_another_thread(void)
{
    void *block = malloc(100);
    in_another_thread(freeing, block);
    free(block);
}

static void double_free_of_large(void)
{
    void *block = malloc(3 << 20);
    free(block);
    free(block);
}

// Too large to be kept for later: its memory is the kernel's again.
static void double_free_of_unmapped(void)
{
    void *block = malloc(300 << 20);
    free(block);
    free(block);
}

static void free_of_the_inside(void)
{
    char *block = malloc(100);
    free(block + 32);
}

static void free_before_the_start(void)
{
    char *block = malloc(100);
    free(block - 16);
}

static void free_of_the_stack(void)
{
    long array[16];
    free(array);
}

static void realloc_of_freed(void)
{
    void *block = malloc(100);
    free(block);
    errno = 0;
    HOLD(realloc(block, 200) == NULL && errno == EINVAL);
}

static void leak(void)
{
    static __attribute__((used)) void *volatile kept;
    for (int i = 0; i < 3; i++)
        kept = malloc(1234);
    kept = malloc(77777);
    free(malloc(4321));
}

__attribute__((noinline)) static void *leaking_function(void)
{
    void *block = malloc(1234);
    __asm__ volatile("" ::: "memory");
    return block;
}

__attribute__((noinline)) static void *caller_of_it(void)
{
    void *block = leaking_function();
    __asm__ volatile("" ::: "memory");
    return block;
}

static void leak_with_a_stack(void)
{
    static __attribute__((used)) void *volatile kept;
    kept = caller_of_it();
    printf("%p %p\n", (void *)leaking_function, (void *)caller_of_it);
}

static void found_on_demand(void)
{
    char *block = malloc(100);
    HOLD(look() == 0);
    char before = block[100];
    block[100] = 1;
    HOLD(look() == 1);
    block[100] = before;
    HOLD(look() == 0);
    free(block);
    block[3]++;
    HOLD(look() == 1);
    block[3]--;
    HOLD(look() == 0);
}

static void new_and_freed_blocks_are_filled(void)
{
    unsigned char *block = malloc(100);
    for (int i = 0; i < 100; i++)
        HOLD(block[i] == 0x21);
    free(block);
    for (int i = 16; i < 100; i++)
        HOLD(block[i] == 0xDE);
    block = calloc(10, 10);
    for (int i = 0; i < 100; i++)
        HOLD(block[i] == 0);
    free(block);
}

static void a_freed_block_stays_out_of_reach(void)
{
    void *block = malloc(100);
    free(block);
    for (int i = 0; i < 10000; i++) {
        void *other = malloc(100);
        HOLD(other != block);
        free(other);
    }
}

static void *working(void *unused)
{
    static char *volatile exchange[64];
    unsigned seed = (unsigned)(size_t)unused;
    for (int i = 0; i < 20000; i++) {
        size_t size = (size_t)(rand_r(&seed) % 300);
        size = size < 4 ? size * 40000 : size;
        char *block = rand_r(&seed) % 4 ? malloc(size) : calloc(1, size);
        memset(block, 5, size);
        HOLD(malloc_usable_size(block) == size);
        block = realloc(block, size / 2 + 10);
        memset(block, 6, size / 2 + 10);
        free(__atomic_exchange_n(&exchange[rand_r(&seed) % 64], block, __ATOMIC_ACQ_REL));
    }
    for (int i = 0; i < 64; i++)
        free(__atomic_exchange_n(&exchange[i], NULL, __ATOMIC_ACQ_REL));
    return NULL;
}

/* A write far before a freed block, where the heap keeps the link to the next free one: it leads into the block that is linked. */
static void write_to_the_link_of_a_free_block(void)
{
    void **first = malloc(100), **second = malloc(100);
    free(first);
    free(second);
    second[-2] = (char *)first - 8;
    for (int i = 0; i < 3; i++)
        free(malloc(5000));
}

static void no_bug_at_all(void)
{
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        HOLD(pthread_create(&threads[i], NULL, working, (void *)(i + 1)) == 0);
    for (int i = 0; i < 5; i++) {
        pid_t child = fork();
        HOLD(child >= 0);
        if (child == 0) {
            working((void *)9);
            HOLD(look() == 0);
            _exit(0);
        }
        int status;
        HOLD(waitpid(child, &status, 0) == child && status == 0);
    }
    for (int i = 0; i < 4; i++)
        HOLD(pthread_join(threads[i], NULL) == 0);
    HOLD(look() == 0);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
#define CASE(name) { #name, name }
    CASE(overflow_by_one), CASE(overflow_of_a_block_of_none), CASE(overflow_of_calloc), CASE(overflow_of_aligned),
    CASE(overflow_of_medium), CASE(overflow_of_resized), CASE(overflow_left_at_exit), CASE(underflow),
    CASE(write_after_free), CASE(write_after_free_in_another_thread), CASE(write_past_a_large_block),
    CASE(read_before_a_large_block), CASE(read_of_a_freed_large_block), CASE(double_free),
    CASE(double_free_with_one_between), CASE(double_free_by_another_thread), CASE(double_free_of_large),
    CASE(double_free_of_unmapped),
    CASE(free_of_the_inside), CASE(free_before_the_start), CASE(free_of_the_stack), CASE(realloc_of_freed), CASE(leak),
    CASE(leak_with_a_stack), CASE(found_on_demand), CASE(new_and_freed_blocks_are_filled),
    CASE(a_freed_block_stays_out_of_reach), CASE(write_to_the_link_of_a_free_block), CASE(no_bug_at_all),
};

int main(int count, char **arguments)
{
    look = (size_t (*)(void))dlsym(RTLD_DEFAULT, "terrace_check");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (count > 1 && strcmp(arguments[1], cases[i].name) == 0) {
            cases[i].run();
            puts("went on");
            return 0;
        }
    }
    fprintf(stderr, "no such case\n");
    return 2;
}
