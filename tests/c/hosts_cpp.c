// A program in C that loads a plugin in C++ into a scope of its own: the library has to find the C++ library there. Without
// one in the whole process, it says so and aborts. Argument: the plugin.

#include "check.h"

int main(int argc, char **argv) {
    require_terrace();
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    void *(*operator_new)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "_Znwm");
    CHECK(operator_new, "there is no operator new");
    if (argc == 1) {
        free(operator_new(100));
        operator_new(hidden(SIZE_MAX / 2));
        return 0;
    }
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(plugin, "%s", dlerror());
    int (*plugin_catches)(size_t) = (int (*)(size_t))dlsym(plugin, "plugin_catches");
    CHECK(plugin_catches(100) == 0, "100 bytes could not be had");
    for (int i = 0; i < 3; i++) CHECK(plugin_catches(hidden(SIZE_MAX / 2)) == 1, "nothing was thrown");
    CHECK(dlclose(plugin) == 0, "%s", dlerror());
    return 0;
}
