/*
 * osmem.h: the interface of libosmem, a small allocator to learn from.
 *
 * Define OSMEM_HEADER_32 before including this, if the library was built with its feature header-32.
 */
#ifndef OSMEM_H
#define OSMEM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a block is used for. */
#define OSMEM_FREE 0      /* in the heap, waiting to be handed out */
#define OSMEM_ALLOCATED 1 /* in the heap, handed out */
#define OSMEM_MAPPED 2    /* a mapping of its own, handed out */

/*
 * The header that lies directly before every payload: 24 bytes, or 32 with OSMEM_HEADER_32.
 *
 * Programs may read it and must not write it. `prev` and `next` join the blocks of the heap in address order; in a
 * mapped block they are NULL.
 */
struct osmem_block {
	size_t size; /* bytes of payload, a multiple of 8: at least what was asked for */
	int status;
#ifdef OSMEM_HEADER_32
	struct osmem_block *prev;
#endif
	struct osmem_block *next;
};

/* The header of the block whose payload is at `ptr`. */
#define OSMEM_BLOCK(ptr) ((struct osmem_block *)(ptr)-1)

/*
 * Allocates `size` bytes, aligned to 8, with any content.
 *
 * NULL if `size` is 0, or so large that it cannot be rounded up to 8 and have a header before it. If that, rounded and
 * with the header, reaches 128 KiB, the block is a mapping of its own.
 */
void *os_malloc(size_t size);

/*
 * Allocates `count` times `size` bytes, all zero.
 *
 * NULL if the product is 0, overflows or is too large as above. The block is a mapping of its own from one page on.
 */
void *os_calloc(size_t count, size_t size);

/*
 * Makes the block at `ptr` hold `size` bytes, and returns where it now is. It keeps its content up to the smaller of both
 * sizes. If it moved, `ptr` is freed.
 *
 * If `ptr` is NULL, this is os_malloc(size). If `size` is 0, it is os_free(ptr), and the result is NULL. If the block is
 * free already, or `size` is too large as above, nothing happens, and the result is NULL.
 */
void *os_realloc(void *ptr, size_t size);

/* Frees the block at `ptr`. Nothing happens if that is NULL. */
void os_free(void *ptr);

/*
 * Errors. When the kernel refuses a call, the library writes which one and why to standard error, and ends the program
 * by exit() with the errno of the call. It does not return NULL.
 *
 * Defined, though wrong:
 * - os_free or os_realloc of a block of the heap that is free, as long as nothing was allocated or moved since:
 *   os_free does nothing, os_realloc returns NULL;
 * - moving the program break up by other means, such as sbrk() or the C library's malloc(): the heap goes on behind it.
 *
 * Undefined:
 * - a pointer that is neither NULL nor a result of these functions, such as one into the middle of a block;
 * - a block that was freed, once anything has been allocated or moved since: its place may be in use again;
 * - a mapped block that was freed: its header is gone, and reading it ends the program;
 * - reading or writing behind a block's `size` bytes, or writing its header;
 * - moving the program break down;
 * - calls from several threads at a time, or from a signal handler that interrupted one of these functions.
 */

#ifdef __cplusplus
}
#endif

#endif
