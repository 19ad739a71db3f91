// `memcheck.c` again, for a program of its own that is linked with the static library.

#include "memcheck.c"
