/*
 * The C library's malloc works beside libosmem, on the same program break.
 *
 * Both allocators are used in turn, at random, and every block is filled and looked at again before it is freed. The
 * first os_malloc comes after the C library has already moved the break; the lines before and after it stand out in a
 * trace.
 */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "osmem.h"

#define BLOCKS 200
#define STEPS 20000

struct block {
	unsigned char *payload;
	size_t size;
	int ours;
};

static struct block blocks[BLOCKS];
static unsigned seed = 1;

static unsigned below(unsigned limit)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % limit;
}

static void mark(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(99);
}

int main(void)
{
	char *theirs = malloc(1000);

	printf("a line that the C library puts into a buffer of its own\n");
	fflush(stdout);
	mark("first\n");
	void *first = os_malloc(100);
	mark("then\n");
	os_free(first);
	free(theirs);

	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = below(BLOCKS);
		struct block *block = &blocks[i];

		for (size_t k = 0; k < block->size; k++) {
			if (block->payload[k] != (unsigned char)(i + k)) {
				printf("block %u of %s was overwritten\n", i, block->ours ? "libosmem" : "the C library");
				return 1;
			}
		}
		if (block->payload && below(3) > 0) {
			block->ours ? os_free(block->payload) : free(block->payload);
			*block = (struct block){0};
			continue;
		}
		size_t size = 1 + below(below(10) == 0 ? 100000 : 2000);

		if (!block->payload)
			block->ours = below(2);
		block->payload = block->ours ? os_realloc(block->payload, size) : realloc(block->payload, size);
		block->size = size;
		for (size_t k = 0; k < size; k++)
			block->payload[k] = (unsigned char)(i + k);
	}
	printf("all is well\n");
	return 0;
}
