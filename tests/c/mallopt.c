// Prints what mallopt(3) answers for parameters that Terrace has no counterpart of, to be compared with what the C library's own
// answers.

#include "check.h"

int main(void) {
    static const int parameters[] = {M_MXFAST, M_NLBLKS, M_GRAIN, M_KEEP, M_TOP_PAD, M_ARENA_TEST, 5, 99, -9, -99, 0};
    static const int values[] = {0, 1, 64, 159, 160, 161, 100000, -1};
    require_terrace();
    for (size_t i = 0; i < COUNT(parameters); i++) {
        for (size_t j = 0; j < COUNT(values); j++) {
            printf("mallopt(%d, %d) = %d\n", parameters[i], values[j], mallopt(parameters[i], values[j]));
        }
    }
    free(malloc(100));
    return 0;
}
