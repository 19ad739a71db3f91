/* Splits, merges, grows and maps: something to look at with osmem-trace. */
#include "osmem.h"

int main(void)
{
	void *a = os_malloc(100);
	void *b = os_malloc(1000);
	void *c = os_calloc(50, 10);

	os_free(a);
	os_free(b);
	a = os_malloc(900);
	c = os_realloc(c, 800);
	b = os_malloc(200000);
	void *d = os_malloc(129000);
	void *e = os_malloc(50000);

	b = os_realloc(b, 60000);
	os_free(c);
	os_free(d);
	e = os_realloc(e, 120000);
	os_free(a);
	os_free(b);
	os_free(e);
	return 0;
}
