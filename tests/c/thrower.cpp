// A plugin in C++ for programs that are not: what its operator new cannot give, it catches itself.

#include <cstdint>
#include <new>

extern "C" int plugin_catches(std::size_t size) {
    try {
        ::operator delete(::operator new(size));
    } catch (const std::bad_alloc &) {
        return 1;
    }
    return 0;
}
