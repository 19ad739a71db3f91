/*
 * Plays scripts of calls from standard input against libosmem and tells, after each call, all that can be seen.
 *
 *   m SLOT SIZE          slot = os_malloc(size)
 *   c SLOT COUNT SIZE    slot = os_calloc(count, size)
 *   r TO FROM SIZE       to = os_realloc(from, size)
 *   f SLOT               os_free(slot)
 *   b BYTES              sbrk(bytes): the program itself moves the break
 *   .                    ends a script; the next one plays in a fresh process
 *
 * Each call gives one line on standard output, in one write, which so also separates the calls in a trace:
 *
 *   HEAP POINTER SIZE STATUS VERDICT | OFFSET:SIZE:STATUS ... | OFFSET+LENGTH ...
 *
 * the heap's first header; the result and its header; "ok", or what was wrong with its content; the blocks of the heap's
 * list; and which bytes of the heap the library wrote. Offsets are from the heap's first header. Afterwards the driver fills the payload of the
 * result with bytes that tell it from every other. It never calls the C library's malloc.
 *
 * With an argument it does not look at what was written: that reads fresh memory, of which valgrind would complain.
 */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "osmem.h"

#define SLOTS 64
#define LARGEST_HEAP (16u << 20)
#define HEADER sizeof(struct osmem_block)

static char script[8u << 20];
static char line[1u << 20];
static size_t line_length;

static unsigned char shadow[LARGEST_HEAP];
static unsigned char *heap_start, *heap_end;

struct slot {
	unsigned char *payload;
	size_t size;
	unsigned seed;
};

static struct slot slots[SLOTS];

#define SAY(...) (line_length += snprintf(line + line_length, sizeof line - line_length, __VA_ARGS__))

static void send_line(void)
{
	SAY("\n");
	if (write(1, line, line_length) != (ssize_t)line_length)
		_exit(99);
	line_length = 0;
}

static unsigned char pattern(unsigned seed, size_t i)
{
	return (unsigned char)(seed * 37 + i * 11 + i / 256 + 1);
}

static const char *verdict(const struct slot *before, const unsigned char *now, size_t wanted, int zeroed)
{
	size_t size = OSMEM_BLOCK(now)->size;

	if ((size_t)now % 8 != 0)
		return "unaligned";
	if (size < wanted)
		return "too_small";
	for (size_t i = 0; zeroed && i < size; i++)
		if (now[i] != 0)
			return "not_zero";
	for (size_t i = 0; before && i < before->size && i < wanted; i++)
		if (now[i] != pattern(before->seed, i))
			return "content_lost";
	return "ok";
}

static void say_blocks(void)
{
	struct osmem_block *block = (void *)heap_start;
#ifdef OSMEM_HEADER_32
	struct osmem_block *prev = NULL;
#endif

	SAY("|");
	for (; block; block = block->next) {
		SAY(" %zu:%zu:%d", (size_t)((unsigned char *)block - heap_start), block->size, block->status);
#ifdef OSMEM_HEADER_32
		if (block->prev != prev)
			SAY("(prev is wrong)");
		prev = block;
#endif
	}
}

static void say_written(void)
{
	size_t length = heap_end - heap_start;

	for (size_t i = 0; i < length; i++) {
		size_t from = i;

		/* Equal stretches first, quickly. */
		if (i % 4096 == 0 && i + 4096 <= length && memcmp(shadow + i, heap_start + i, 4096) == 0) {
			i += 4095;
			continue;
		}
		while (i < length && shadow[i] != heap_start[i])
			i++;
		if (i > from)
			SAY(" %zu+%zu", from, i - from);
	}
}

static void say_result(const unsigned char *result, const char *verdict)
{
	SAY("%zu ", (size_t)heap_start);
	if (result)
		SAY("%zu %zu %d %s ", (size_t)result, OSMEM_BLOCK(result)->size, OSMEM_BLOCK(result)->status, verdict);
	else
		SAY("0 0 0 ok ");
}

/* Does one line of a script, and tells what came of it. */
static void perform(const char *command, unsigned number, int blind)
{
	size_t a = 0, b = 0, c = 0;
	const char *found = "ok";
	unsigned char *result = NULL;
	struct slot before;

	sscanf(command + 1, "%zu %zu %zu", &a, &b, &c);
	switch (command[0]) {
	case 'm':
		result = os_malloc(b);
		found = result ? verdict(NULL, result, b, 0) : "ok";
		break;
	case 'c':
		result = os_calloc(b, c);
		found = result ? verdict(NULL, result, b * c, 1) : "ok";
		break;
	case 'r':
		before = slots[b];
		result = os_realloc(before.payload, c);
		found = result ? verdict(before.payload ? &before : NULL, result, c, 0) : "ok";
		break;
	case 'f':
		os_free(slots[a].payload);
		break;
	default:
		sbrk(a);
	}

	if (!heap_start && result && OSMEM_BLOCK(result)->status != OSMEM_MAPPED)
		heap_start = result - HEADER;
	if (heap_start)
		heap_end = sbrk(0);
	if (heap_end - heap_start > (long)LARGEST_HEAP)
		_exit(98);

	say_result(result, found);
	say_blocks();
	SAY(" |");
	if (!blind)
		say_written();
	send_line();

	if (result) {
		slots[a] = (struct slot){result, OSMEM_BLOCK(result)->size, number};
		for (size_t i = 0; i < slots[a].size; i++)
			result[i] = pattern(number, i);
	}
	if (heap_start)
		memcpy(shadow, heap_start, heap_end - heap_start);
}

static void play(char *text, int blind)
{
	unsigned number = 0;

	for (char *command = strtok(text, "\n"); command; command = strtok(NULL, "\n"))
		perform(command, ++number, blind);
	_exit(0);
}

int main(int argc, char **argv)
{
	int blind = argc > 1 && argv[1][0];
	size_t length = 0;
	ssize_t got;

	while ((got = read(0, script + length, sizeof script - 1 - length)) > 0)
		length += got;

	for (char *text = script; *text;) {
		char *end = strstr(text, ".\n");
		int status;

		if (!end)
			_exit(97);
		*end = 0;
		SAY("script");
		send_line();
		if (fork() == 0)
			play(text, blind);
		if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
			_exit(96);
		text = end + 2;
	}
	return 0;
}
