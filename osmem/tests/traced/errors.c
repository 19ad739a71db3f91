/* Makes one system call of the library fail, the one that the argument names. */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "osmem.h"

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(99);
}

static void at_exit(void)
{
	say("handlers ran\n");
}

static void limit_data(void)
{
	struct rlimit nothing = {0, 0};

	if (setrlimit(RLIMIT_DATA, &nothing) != 0)
		_exit(98);
}

int main(int argc, char **argv)
{
	const char *which = argc > 1 ? argv[1] : "";

	atexit(at_exit);
	if (strcmp(which, "first-use") == 0) {
		limit_data();
		say("now\n");
		os_calloc(1, 1);
	} else if (strcmp(which, "growth") == 0) {
		os_malloc(100000);
		limit_data();
		say("now\n");
		os_malloc(100000);
	} else if (strcmp(which, "grow-in-place") == 0) {
		os_malloc(100000);
		void *last = os_malloc(100000);

		limit_data();
		say("now\n");
		last = os_realloc(last, 110000);
	} else if (strcmp(which, "mmap") == 0) {
		say("now\n");
		os_malloc((size_t)1 << 60);
	} else if (strcmp(which, "munmap") == 0) {
		void *block = os_malloc(200000);

		/* What a program must not do, and the simplest way to have the kernel refuse. */
		OSMEM_BLOCK(block)->size = (size_t)1 << 62;
		say("now\n");
		os_free(block);
	}
	say("it came back\n");
	return 0;
}
