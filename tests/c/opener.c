// A shared object that opens another one by its bare name, which only its own search path (DT_RUNPATH) leads to.

#include <dlfcn.h>

void *opener_opens(const char *name) {
    // Volatile, so that the call is no jump: the loader goes by the return address.
    void *volatile handle = dlopen(name, RTLD_NOW | RTLD_DEEPBIND);
    return handle;
}
