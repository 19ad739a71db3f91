// The history of blocks, as a C program sees it.

#include "../../capi/include/terrace.h"
#include "check.h"
#include <sys/wait.h>

static struct terrace_event events[8];

static size_t history_of(const void *address) {
    return terrace_history_of(address, events, COUNT(events));
}

// Each size is one that another layer of the allocator serves.
static const size_t ASKED[] = {24, 4000, 100000, 3 * MIB};

static void a_block_s_events_are_kept_in_order(void) {
    terrace_history_start(100);
    for (size_t i = 0; i < COUNT(ASKED); i++) {
        char *block = malloc(ASKED[i]);
        size_t before = history_of(block);
        CHECK(before >= 1 && events[before - 1].kind == TERRACE_ALLOCATION, "%zu events", before);
        CHECK(events[before - 1].size == ASKED[i] && events[before - 1].address == block, "another block");
        CHECK(events[before - 1].thread == (unsigned)gettid(), "another thread");
        free(block);
        CHECK(history_of(block + ASKED[i] / 2) == before + 1, "%zu events", history_of(block + ASKED[i] / 2));
        CHECK(events[before].kind == TERRACE_FREE && events[before].time_ns >= events[before - 1].time_ns, "no free");
    }
}

static void a_resize_names_both_places(void) {
    terrace_history_start(100);
    char *block = malloc(100);
    char *moved = realloc(block, 5000);
    CHECK(moved != block, "it was not moved");
    size_t count = history_of(moved);
    CHECK(count >= 2 && events[count - 1].kind == TERRACE_RESIZE, "%zu events", count);
    CHECK(events[count - 1].other == block && events[count - 1].size == 5000, "other places");
    count = history_of(block);
    CHECK(events[count - 1].kind == TERRACE_RESIZE && events[count - 2].kind == TERRACE_FREE, "it is not there by the old place");
}

static void *free_it(void *block) {
    free(block);
    return NULL;
}

static void what_another_thread_frees_is_in_the_history_when_that_thread_is_gone(void) {
    terrace_history_start(100);
    void *block = malloc(100);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_it, block) == 0 && pthread_join(thread, NULL) == 0, "no thread");
    size_t count = history_of(block);
    CHECK(count >= 2 && events[count - 1].kind == TERRACE_REMOTE_FREE, "%zu events", count);
    CHECK(events[count - 1].thread != (unsigned)gettid() && events[count - 1].thread > 1, "another thread");
}

static void a_stack_is_kept_when_it_is_asked_for(void) {
    terrace_history_start(100);
    void *block = malloc(100);
    size_t count = history_of(block);
    CHECK(count >= 1 && events[count - 1].stack == 0, "nobody asked for it");
    CHECK(terrace_event_frames(&events[count - 1], NULL, 0) == 0, "frames of no stack");
    free(block);
    CHECK(terrace_set_option("history_stacks", "1") == 0, "it is an option");
    block = malloc(100);
    count = history_of(block);
    const void *frames[2];
    CHECK(count >= 1 && events[count - 1].stack != 0, "it has no stack");
    CHECK(terrace_event_frames(&events[count - 1], frames, 2) >= 1, "it has no frames");
    // The call that made the block is in this function.
    size_t offset = (size_t)((const char *)frames[0] - (const char *)a_stack_is_kept_when_it_is_asked_for);
    CHECK(offset < 4096, "%zu bytes from this function", offset);
    events[count - 1].stack = 0xffffff;
    CHECK(terrace_event_frames(&events[count - 1], frames, 2) == 0, "frames of a stack that there is not");
    free(block);
}

static void only_the_last_events_are_kept(void) {
    terrace_history_start(10);
    void *block = malloc(777);
    size_t count = history_of(block);
    CHECK(count > 0, "there is none");
    for (int i = 0; i < 10; i++) free(malloc(100000));
    CHECK(history_of(block) == 0, "they are still there");
}

static void nothing_is_recorded_when_it_is_off(void) {
    void *block = malloc(5000);
    CHECK(history_of(block) == 0, "it was never switched on");
    terrace_history_start(10);
    free(malloc(5000));
    terrace_history_stop();
    free(block);
    CHECK(history_of(block) == 0, "it is off");
    CHECK(terrace_set_option("history", "20") == 0, "it is an option as well");
    block = malloc(40000);
    CHECK(history_of(block) >= 1, "it is on");
}

static void purges_are_recorded(void) {
    terrace_history_start(100);
    void *block = memset(malloc(3 * MIB), 1, 3 * MIB);
    free(block);
    terrace_purge();
    terrace_history_print(NULL);
}

static void what_the_purger_returns_is_recorded(void) {
    CHECK(terrace_set_option("purge_delay_ms", "50") == 0 && terrace_set_option("background", "1") == 0, "no purger");
    terrace_history_start(100);
    // Housekeeping starts the purger; from here on nobody else does any.
    for (int i = 0; i < 100; i++) {
        free(memset(malloc(3 * MIB), 1, 3 * MIB));
        usleep(1000);
    }
    sleep(1);
    terrace_history_print(NULL);
}

static void a_block_freed_twice_is_reported_with_its_history(void) {
    terrace_history_start(100);
    void *block = malloc(200000);
    free(block);
    free(block);
}

static void a_child_goes_on_with_what_its_parent_did(void) {
    terrace_history_start(100);
    void *block = malloc(200000);
    pid_t child = fork();
    if (child == 0) {
        free(block);
        size_t count = history_of(block);
        CHECK(count >= 2 && events[count - 2].thread == (unsigned)getppid() && events[count - 1].thread == (unsigned)getpid(),
              "%zu events", count);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with %d", status);
    CHECK(events[0].kind == 0 && history_of(block) >= 1, "the parent saw what the child did");
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(a_block_s_events_are_kept_in_order),
    CASE(a_resize_names_both_places),
    CASE(what_another_thread_frees_is_in_the_history_when_that_thread_is_gone),
    CASE(a_stack_is_kept_when_it_is_asked_for),
    CASE(only_the_last_events_are_kept),
    CASE(nothing_is_recorded_when_it_is_off),
    CASE(a_child_goes_on_with_what_its_parent_did),
    CASE(purges_are_recorded),
    CASE(what_the_purger_returns_is_recorded),
    CASE(a_block_freed_twice_is_reported_with_its_history),
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
