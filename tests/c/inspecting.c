// Looking into the heap from C: each function does as terrace.h says, and none of them allocates.

#include "../../capi/include/terrace.h"
#include "check.h"

static char text[4 << 20];

// What a function writes to standard output, by its number: the C library's streams have no part in it.
static const char *said(int (*call)(void)) {
    int to = memfd_create("said", 0), was = dup(1);
    dup2(to, 1);
    size_t before = mallinfo2().uordblks;
    int result = call();
    size_t after = mallinfo2().uordblks;
    dup2(was, 1);
    CHECK(result == 0, "%d", result);
    CHECK(before == after, "%zu bytes in use, %zu before", after, before);
    ssize_t len = pread(to, text, sizeof text - 1, 0);
    CHECK(len > 0, "nothing was written");
    text[len] = 0;
    close(to), close(was);
    return text;
}

static char *block;
static char line_of_history[96];
static int map(void) { return show_alloc_mem(), 0; }
static int map_with_bytes(void) { return show_alloc_mem_ex(), 0; }
static int dump(void) { return terrace_dump(block + 5); }
static int json(void) { return terrace_stats_json(1); }
static int prometheus(void) { return terrace_stats_prometheus(1); }

static void zones_and_blocks_are_shown_with_totals(void) {
    block = strcpy(malloc(100), "a hundred bytes");
    char line[64];
    snprintf(line, sizeof line, "%#014lx - %#014lx  112 bytes\n", (unsigned long)block, (unsigned long)block + 112);
    CHECK(strstr(said(map), line) && strstr(text, "total: ") && !strstr(text, "|a hundred bytes.|"), "%s", text);
    CHECK(strstr(said(map_with_bytes), line) && strstr(text, "|a hundred bytes.|  LLLLLLLLLLLLLLLL\n"), "%s", text);
    CHECK(strstr(text, "\nhistory: it was never on; TERRACE_HISTORY=1000 switches it on\n"), "%s", text);
    free(block);
}

static void the_history_follows_the_blocks(void) {
    terrace_history_start(100);
    block = malloc(100000);
    snprintf(line_of_history, sizeof line_of_history, "  allocation   %p  100000 bytes\n", (void *)block);
    const char *history = strstr(said(map_with_bytes), "\nhistory: ");
    CHECK(history && strstr(history, line_of_history), "%s", text);
    CHECK(!strstr(said(map), "history"), "%s", text);
    CHECK(terrace_set_option("history_stacks", "1") == 0, "no such option");
    free(block);
    terrace_history_stop();
    history = strstr(said(map_with_bytes), "\nhistory: ");
    CHECK(history && strstr(history, ", now off\n") && strstr(history, "  free         0x"), "%s", text);
    CHECK(strstr(history, "\n      #0 /"), "%s", text);
}

// Checks are there from the start or not at all: the program begins anew.
static void red_zones_are_drawn(void) {
    if (!getenv("TERRACE_CHECK")) {
        setenv("TERRACE_CHECK", "red-zones,quarantine,guards", 1);
        execl("/proc/self/exe", "inspecting", __func__, (char *)NULL);
    }
    block = strcpy(malloc(40), "forty");
    char head[80];
    snprintf(head, sizeof head, "block of 40 bytes at %p, live; with what the checks put around it ", (void *)block);
    CHECK(!strncmp(said(dump), head, strlen(head)), "%s", text);
    CHECK(strstr(text, "|................|  rrrrrrrrrrrrrrrr\n") && strstr(text, "|forty"), "%s", text);
    CHECK(strstr(text, "|  LLLLLLLLrrrrrrrr\n"), "%s", text);
    free(block);
    CHECK(strstr(said(dump), ", freed, in quarantine; ") && strstr(text, "|  ffffffffrrrrrrrr\n"), "%s", text);
    CHECK(strstr(said(map), "\nchecks: ") && strstr(text, " in quarantine in 1 block;"), "%s", text);
    block = malloc(100000);
    CHECK(strstr(said(map), "  large, between guard pages\n"), "%s", text);
    size_t large = mallinfo2().hblks;
    free(block);
    CHECK(large == mallinfo2().hblks + 1, "%zu blocks, %zu before", mallinfo2().hblks, large);
    CHECK(strstr(said(map), "  freed, in quarantine\n"), "%s", text);
}

static void a_block_is_dumped_and_what_is_none_is_refused(void) {
    block = strcpy(malloc(40), "forty");
    CHECK(strstr(said(dump), "block of 48 bytes at 0x") && strstr(text, ", live\n") && strstr(text, "|forty"), "%s", text);
    free(block);
    CHECK(strstr(said(dump), "free, in a thread's hands\n"), "%s", text);
    errno = 0;
    CHECK(terrace_dump(&errno) == -1 && errno == EINVAL, "errno %d", errno);
}

static void statistics_are_written_in_both_forms(void) {
    CHECK(!strncmp(said(json), "{\"library\":\"", 12) && strstr(text, "\"classes\":[{\"block_size\":16,"), "%s", text);
    CHECK(strstr(said(prometheus), "\nterrace_memory_bytes{account=\"live\"} "), "%s", text);
    errno = 0;
    CHECK(terrace_stats_json(-1) == -1 && errno == EBADF, "errno %d", errno);
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(zones_and_blocks_are_shown_with_totals),
    CASE(the_history_follows_the_blocks),
    CASE(red_zones_are_drawn),
    CASE(a_block_is_dumped_and_what_is_none_is_refused),
    CASE(statistics_are_written_in_both_forms),
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
