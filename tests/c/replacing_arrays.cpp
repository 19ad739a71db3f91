// As replacing.cpp, but that the operators for arrays are replaced.

#define ARRAYS
#include "replacing.cpp"
