// A program in C++ that is linked with the library.

#include <terrace.h>

#include <map>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

static int calls;

static void give_up(void) {
    calls++;
    std::set_new_handler(nullptr);
}

int main() {
    auto work = [] {
        std::map<int, std::vector<std::string>> pages;
        for (int i = 0; i < 20000; i++) pages[i % 97].push_back(std::string(static_cast<size_t>(i % 700), 'x'));
        for (auto &[number, lines] : pages) CHECK(lines.size() > 200, "page %d has %zu lines", number, lines.size());
    };
    std::thread thread(work);
    work();
    thread.join();
    // What operator new gives is a block of this library's.
    char *block = new char[100];
    CHECK(sallocx(block, 0) == malloc_good_size(100), "%zu bytes", sallocx(block, 0));
    delete[] block;
    struct alignas(256) Wide {
        char bytes[256];
    };
    delete new Wide;
    std::set_new_handler(give_up);
    try {
        ::operator delete(::operator new(hidden(SIZE_MAX / 2)));
        CHECK(false, "there was memory");
    } catch (const std::bad_alloc &) {
    }
    CHECK(calls == 1, "the new-handler was called %d times", calls);
    std::set_new_handler(give_up);
    CHECK(::operator new(hidden(SIZE_MAX / 2), std::nothrow) == nullptr && calls == 2, "%d calls", calls);
    return 0;
}
