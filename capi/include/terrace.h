/* terrace.h - what libterrace offers beyond <stdlib.h> and <malloc.h>.
 *
 * A program need not include it: linked with the library, or with the library preloaded, it has the usual functions from
 * there. The manual is docs/c-interface.md.
 */
#ifndef TERRACE_H
#define TERRACE_H

#include <stddef.h>

#ifdef __cplusplus
#define TERRACE_NOTHROW noexcept
extern "C" {
#else
#define TERRACE_NOTHROW
#endif

/* Options. */

/* Options that a program is built with: it may define this variable, as `name=value` pairs with commas between them:
 *     const char *terrace_options = "purge_delay_ms=500,arenas=2";
 * The environment (TERRACE_PURGE_DELAY_MS) goes before. */
extern const char *terrace_options;

/* Sets an option, whatever the environment says. 0; or -1, with errno at ENOENT (there is no such option) or EINVAL (it has
 * no such value) or EBUSY (it can only be set at the start). */
int terrace_set_option(const char *name, const char *value) TERRACE_NOTHROW;

/* Checks (docs/checks.md). */

/* Looks at the red zones of all blocks and at the quarantine now, and says on standard error what is wrong. How many bugs were
 * found: 0 while no check is on. */
size_t terrace_check(void) TERRACE_NOTHROW;

/* Called whenever a bug of the program was found, after it was said: a place for a debugger's breakpoint. */
void terrace_on_error(void) TERRACE_NOTHROW;

/* Memory. */

/* Returns to the kernel all free memory that can be returned now. */
void terrace_purge(void) TERRACE_NOTHROW;

/* Has a function called when more than the soft limit (TERRACE_SOFT_LIMIT) is mapped and returning free memory did not help: once,
 * and again after an eighth of the limit was free in between. It is called on the thread that allocates, with no lock held; it
 * may allocate and free. NULL: none is called. */
void terrace_set_limit_callback(void (*callback)(size_t mapped, size_t limit)) TERRACE_NOTHROW;

/* C23: free() for a block whose size, or alignment and size, the caller knows. Neither is looked at. NULL is nothing. */
void free_sized(void *block, size_t size) TERRACE_NOTHROW;
void free_aligned_sized(void *block, size_t alignment, size_t size) TERRACE_NOTHROW;

/* How many bytes a block for `size` bytes has, all of which can be used; `size` if there can be no such block. */
size_t malloc_good_size(size_t size) TERRACE_NOTHROW;

/* The *allocx family. `flags` is a sum of the following; the numbers of thread caches and arenas that other allocators take
 * here are ignored. */
#define MALLOCX_LG_ALIGN(logarithm) ((int)(logarithm))
#define MALLOCX_ALIGN(alignment) ((int)__builtin_ctzll((unsigned long long)(alignment)))
#define MALLOCX_ZERO ((int)0x40)

/* At least `size` bytes; NULL, with errno at ENOMEM, when there is no memory. */
void *mallocx(size_t size, int flags) TERRACE_NOTHROW;
/* Resizes a block, moving it if need be; with MALLOCX_ZERO what it has beyond its old bytes is zero. NULL, and the block as it
 * was, when there is no memory. */
void *rallocx(void *block, size_t size, int flags) TERRACE_NOTHROW;
/* Resizes a block where it lies, as far as that goes, to `size` bytes and up to `extra` more; gives the bytes that it has
 * then. */
size_t xallocx(void *block, size_t size, size_t extra, int flags) TERRACE_NOTHROW;
/* How many bytes a block has. */
size_t sallocx(const void *block, int flags) TERRACE_NOTHROW;
/* free(). The size is not looked at. */
void dallocx(void *block, int flags) TERRACE_NOTHROW;
void sdallocx(void *block, size_t size, int flags) TERRACE_NOTHROW;
/* How many bytes mallocx() would give; 0 if there can be no such block. */
size_t nallocx(size_t size, int flags) TERRACE_NOTHROW;

/* Looking into the heap. Nothing of it allocates or uses stdio; what it prints goes to standard output by write(2). The
 * manual is docs/inspecting.md. */

/* Every arena, segment and zone with its address range and use, every live block, and the totals. */
void show_alloc_mem(void) TERRACE_NOTHROW;
/* The same with the first 64 bytes of each block, and then the history, if there is one. */
void show_alloc_mem_ex(void) TERRACE_NOTHROW;
/* The block, or the zone, that an address lies in, byte by byte, with the state of each byte beside it. 0; or -1, with errno at
 * EINVAL, if there is nothing of the heap. Any address will do. */
int terrace_dump(const void *address) TERRACE_NOTHROW;

/* The statistics by size class, arena and thread, written to an open file: as JSON, or in the text format of Prometheus. 0; or
 * -1, with errno as write(2) set it. */
int terrace_stats_json(int file) TERRACE_NOTHROW;
int terrace_stats_prometheus(int file) TERRACE_NOTHROW;

/* History: the last events of each thread. See docs/history.md. */

enum terrace_event_kind {
    TERRACE_ALLOCATION = 1,  /* a block was given to the program */
    TERRACE_FREE = 2,        /* a block was freed */
    TERRACE_REMOTE_FREE = 3, /* a small block was freed by another thread than the one that has its slab */
    TERRACE_RESIZE = 4,      /* a block was resized */
    TERRACE_PURGE = 5        /* free memory was returned to the kernel */
};

struct terrace_event {
    unsigned long long time_ns; /* of CLOCK_MONOTONIC */
    const void *address;        /* the block's first byte; NULL for a purge */
    size_t size;                /* bytes that were asked for, that a freed block had, or that were returned */
    const void *other;          /* where a resized block was before; NULL otherwise */
    unsigned kind;              /* enum terrace_event_kind */
    unsigned thread;            /* the kernel's number of the thread */
    unsigned stack;             /* the number of the call stack, for terrace_event_frames(); 0 if none was kept */
};

/* Switches the history on, for the last `events` events of each thread; 0 switches it off. Rings that are there keep their
 * size. */
void terrace_history_start(unsigned events) TERRACE_NOTHROW;
/* Switches it off; what was recorded can still be read. */
void terrace_history_stop(void) TERRACE_NOTHROW;
/* Writes the last `most` events of blocks in which the address lies, or lay, the oldest first; gives how many events there are. */
size_t terrace_history_of(const void *address, struct terrace_event *events, size_t most) TERRACE_NOTHROW;
/* Writes the return addresses of an event's call stack, the innermost first, `most` at most; gives how many there are. Stacks are kept
 * with TERRACE_HISTORY_STACKS=1, or terrace_set_option("history_stacks", "1"). */
size_t terrace_event_frames(const struct terrace_event *event, const void **frames, size_t most) TERRACE_NOTHROW;
/* Prints those events, with their stacks, on standard error; for NULL all events. */
void terrace_history_print(const void *address) TERRACE_NOTHROW;

#ifdef __cplusplus
}
#endif

#endif
