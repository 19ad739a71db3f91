/* One call after the other, to look at with ltrace. It asks nothing else of the kernel on its way. */
#include "osmem.h"

int main(void)
{
	char *a = os_malloc(100);
	char *b = os_malloc(131072);
	char *c = os_calloc(1, 5000);
	char *d = os_calloc(1, 50);

	os_free(NULL);
	os_free(a);
	a = os_malloc(130000);
	d = os_realloc(d, 131072);
	d = os_realloc(d, 10);
	b = os_realloc(b, 0);
	os_free(c);
	os_free(d);
	return a == NULL || b != NULL;
}
