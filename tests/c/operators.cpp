// What the C++ standard promises of operator new and operator delete ([new.delete], C++17), a case a clause.

#include <limits>
#include <new>
#include <vector>

#include "check.h"

// Runtime values, so that no call is folded away.
static const size_t TOO_MUCH = hidden(SIZE_MAX / 2 - 100);

struct alignas(64) Wide {
    char bytes[200];
};

using std::align_val_t;

// An operator new of each form, by number; all throw but the last four.
static const int FORMS = 8;
static void *allocate(int form, size_t size, size_t align = 64) {
    switch (form) {
        case 0: return ::operator new(size);
        case 1: return ::operator new[](size);
        case 2: return ::operator new(size, align_val_t(align));
        case 3: return ::operator new[](size, align_val_t(align));
        case 4: return ::operator new(size, std::nothrow);
        case 5: return ::operator new[](size, std::nothrow);
        case 6: return ::operator new(size, align_val_t(align), std::nothrow);
        default: return ::operator new[](size, align_val_t(align), std::nothrow);
    }
}

static bool throws(int form) { return form < 4; }
static bool aligns(int form) { return form % 4 >= 2; }

// Every operator delete that may free what a form gave, by number.
static const int WAYS = 3;
static void release(int form, int way, void *block, size_t size, size_t align = 64) {
    bool array = form % 2 == 1;
    if (aligns(form)) {
        align_val_t a{align};
        switch (way) {
            case 0: return array ? ::operator delete[](block, a) : ::operator delete(block, a);
            case 1: return array ? ::operator delete[](block, size, a) : ::operator delete(block, size, a);
            default: return array ? ::operator delete[](block, a, std::nothrow) : ::operator delete(block, a, std::nothrow);
        }
    }
    switch (way) {
        case 0: return array ? ::operator delete[](block) : ::operator delete(block);
        case 1: return array ? ::operator delete[](block, size) : ::operator delete(block, size);
        default: return array ? ::operator delete[](block, std::nothrow) : ::operator delete(block, std::nothrow);
    }
}

// [basic.stc.dynamic.allocation]/2: "the value returned ... shall be a non-null pointer value different from any previously
// returned value", also for 0 bytes; /3: "suitably aligned"; [new.delete.single]/10 ff.: operator delete makes it available again.
static void every_form_allocates_and_every_form_frees(void) {
    for (int form = 0; form < FORMS; form++) {
        for (int way = 0; way < WAYS; way++) {
            for (size_t size : SIZES) {
                for (size_t align : {size_t(32), size_t(64), size_t(4096), size_t(1) << 21}) {
                    if (size > MIB && align > 4096) continue;
                    void *a = allocate(form, size, align), *b = allocate(form, hidden(0), align);
                    CHECK(a && b && a != b, "form %d of %zu bytes gave %p and %p", form, size, a, b);
                    CHECK(is_aligned(a, aligns(form) ? align : 16), "form %d of %zu bytes: %p", form, size, a);
                    CHECK(malloc_usable_size(a) >= size, "form %d of %zu bytes", form, size);
                    fill(a, size, 1);
                    verify(a, size, 1);
                    release(form, way, a, size, align), release(form, way, b, 0, align);
                }
            }
            release(form, way, nullptr, 10);
        }
    }
    for (int round = 0; round < 1000; round++) {
        int form = round % FORMS;
        void *block = allocate(form, 10 * MIB);
        memset(block, 1, MIB);
        release(form, round % WAYS, block, 10 * MIB);
    }
    CHECK(resident() < 100 * MIB, "%zu MiB are resident", resident() / MIB);
    Wide *wide = new Wide[5];
    CHECK(is_aligned(wide, 64), "%p", static_cast<void *>(wide));
    delete[] wide;
}

// [replacement.functions]: all the operators that the standard lets a program replace are this library's.
static void every_form_is_the_library_s(void) {
    static const char *const names[] = {
        "_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t",
        "_ZnwmSt11align_val_tRKSt9nothrow_t", "_ZnamSt11align_val_tRKSt9nothrow_t", "_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvm",
        "_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t", "_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t",
        "_ZdlPvmSt11align_val_t", "_ZdaPvmSt11align_val_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
        "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    };
    for (const char *name : names) {
        Dl_info found;
        void *function = dlsym(RTLD_DEFAULT, name);
        CHECK(function && dladdr(function, &found) && strstr(found.dli_fname, "libterrace"), "%s is not there", name);
    }
}

// Counts how many of these there are: unwinding destroys them.
struct Guest {
    static int present;
    Guest() { present++; }
    ~Guest() { present--; }
};
int Guest::present;

__attribute__((noinline)) static void *allocate_in_company(int form, size_t size) {
    Guest guest;
    void *block = allocate(form, size);
    CHECK(Guest::present == 1, "%d guests", Guest::present);
    return block;
}

// [new.delete.single]/3: "or else throw a bad_alloc exception"; /7 of the forms with nothrow: "or else return a null pointer".
static void without_memory_a_form_throws_or_gives_null(void) {
    for (int round = 0; round < 3; round++) {
        for (int form = 0; form < FORMS; form++) {
            bool caught = false;
            void *block = &caught;
            try {
                block = allocate_in_company(form, TOO_MUCH);
            } catch (const std::bad_alloc &) {
                caught = true;
            }
            CHECK(caught == throws(form), "form %d %s", form, caught ? "threw" : "did not throw");
            CHECK(caught || block == nullptr, "form %d gave %p", form, block);
            CHECK(Guest::present == 0, "form %d left %d guests", form, Guest::present);
        }
    }
    try {
        std::vector<char> vector(TOO_MUCH / 2);
        CHECK(false, "a vector of %zu bytes", vector.size());
    } catch (const std::bad_alloc &) {
    }
    // [new.delete.single]: an alignment that is none.
    try {
        CHECK(::operator new(100, align_val_t(hidden(48))) == nullptr, "aligned to 48");
    } catch (const std::bad_alloc &) {
    }
}

static int calls;

// [new.delete.single]/4: "Executes a loop: Within the loop, the function first attempts to allocate the requested storage ... if the
// attempt fails, [and] the current new_handler is a null pointer value, throws bad_alloc. Otherwise, the function calls the
// current new_handler function. If the called function returns, the loop repeats."
static void give_up_after_three(void) {
    if (++calls == 3) std::set_new_handler(nullptr);
}

static void the_new_handler_is_called_until_it_gives_up(void) {
    for (int form = 0; form < FORMS; form++) {
        calls = 0;
        std::set_new_handler(give_up_after_three);
        bool caught = false;
        try {
            CHECK(allocate_in_company(form, TOO_MUCH) == nullptr, "form %d", form);
        } catch (const std::bad_alloc &) {
            caught = true;
        }
        CHECK(caught == throws(form) && calls == 3, "form %d: %d calls", form, calls);
    }
}

static void *reserve;

static void give_the_reserve(void) {
    calls++;
    CHECK(reserve, "called again with nothing to give");
    free(reserve);
    reserve = nullptr;
}

// [new.handler]/2: the handler may "make more storage available for allocation and then return".
static void a_new_handler_that_makes_room_has_the_call_succeed(void) {
    for (int form = 0; form < FORMS; form++) {
        calls = 0;
        reserve = malloc(300 * MIB);
        CHECK(reserve, "no reserve");
        struct rlimit limit = {address_space() + 100 * MIB, RLIM_INFINITY};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0, "no limit");
        std::set_new_handler(give_the_reserve);
        void *block = allocate_in_company(form, 300 * MIB);
        CHECK(block && calls == 1, "form %d: %p after %d calls", form, block, calls);
        std::set_new_handler(nullptr);
        release(form, 0, block, 300 * MIB);
        limit.rlim_cur = RLIM_INFINITY;
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0, "no limit");
    }
}

struct Refusal : std::bad_alloc {};

static void refuse(void) {
    Guest guest;
    throw Refusal();
}

// [new.handler]/2: or "throw an exception of type bad_alloc or a class derived from bad_alloc"; the forms with nothrow "return
// a null pointer" then.
static void a_new_handler_may_throw(void) {
    for (int form = 0; form < FORMS; form++) {
        std::set_new_handler(refuse);
        bool caught = false;
        try {
            CHECK(allocate_in_company(form, TOO_MUCH) == nullptr, "form %d", form);
        } catch (const Refusal &) {
            caught = true;
        }
        CHECK(caught == throws(form), "form %d %s", form, caught ? "threw" : "did not throw");
        CHECK(Guest::present == 0, "form %d left %d guests", form, Guest::present);
    }
}

// [expr.new]: a constructor that throws has its storage freed by the matching operator delete, sized or aligned.
static void storage_of_objects_that_cannot_be_made_is_freed(void) {
    struct Large {
        char bytes[10 << 20];
        Large() {
            memset(bytes, 1, sizeof bytes);
            throw 7;
        }
    };
    for (int round = 0; round < 100; round++) {
        try {
            delete new Large;
        } catch (int) {
        }
    }
    CHECK(resident() < 100 * MIB, "%zu MiB are resident", resident() / MIB);
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(every_form_allocates_and_every_form_frees),
    CASE(every_form_is_the_library_s),
    CASE(without_memory_a_form_throws_or_gives_null),
    CASE(the_new_handler_is_called_until_it_gives_up),
    CASE(a_new_handler_that_makes_room_has_the_call_succeed),
    CASE(a_new_handler_may_throw),
    CASE(storage_of_objects_that_cannot_be_made_is_freed),
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
