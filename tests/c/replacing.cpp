// A program that replaces some of C++'s operators and leaves the others, which the standard defines by those ([new.delete], C++17, "Default
// behavior"). With ARRAYS it replaces those for arrays, otherwise those for single objects; in both cases with an alignment as well.

#include <new>

#include "check.h"

// That the sized forms are left is what is tested.
#pragma GCC diagnostic ignored "-Wsized-deallocation"

#ifdef ARRAYS
#define NEW operator new[]
#define DELETE operator delete[]
#else
#define NEW operator new
#define DELETE operator delete
#endif

using std::align_val_t;

alignas(4096) static char arena[4 << 20];
static size_t used;
static int made, gone;
static bool is_used_up;

static bool is_mine(const void *block) {
    return static_cast<const char *>(block) >= arena && static_cast<const char *>(block) < arena + sizeof arena;
}

static void *make(size_t size, size_t align) {
    if (is_used_up) throw std::bad_alloc();
    made++;
    used = (used + align - 1) / align * align;
    void *block = arena + used;
    used += size;
    CHECK(used <= sizeof arena, "the arena is used up");
    return block;
}

static void unmake(void *block) {
    CHECK(!block || is_mine(block), "%p came from another operator", block);
    gone++;
}

void *NEW(size_t size) { return make(size, 16); }
void *NEW(size_t size, align_val_t align) { return make(size, static_cast<size_t>(align)); }
void DELETE(void *block) noexcept { unmake(block); }
void DELETE(void *block, align_val_t) noexcept { unmake(block); }

static const align_val_t WIDE{256};

// Forms of new, by number: whether they are for arrays, have an alignment, and give NULL.
static void *allocate(int form, size_t size) {
    switch (form) {
        case 0: return ::operator new(size);
        case 1: return ::operator new[](size);
        case 2: return ::operator new(size, WIDE);
        case 3: return ::operator new[](size, WIDE);
        case 4: return ::operator new(size, std::nothrow);
        case 5: return ::operator new[](size, std::nothrow);
        case 6: return ::operator new(size, WIDE, std::nothrow);
        default: return ::operator new[](size, WIDE, std::nothrow);
    }
}
static const int FORMS = 8;

static void release(int form, int way, void *block, size_t size) {
    switch (form % 4 * 3 + way) {
        case 0: return ::operator delete(block);
        case 1: return ::operator delete(block, size);
        case 2: return ::operator delete(block, std::nothrow);
        case 3: return ::operator delete[](block);
        case 4: return ::operator delete[](block, size);
        case 5: return ::operator delete[](block, std::nothrow);
        case 6: return ::operator delete(block, WIDE);
        case 7: return ::operator delete(block, size, WIDE);
        case 8: return ::operator delete(block, WIDE, std::nothrow);
        case 9: return ::operator delete[](block, WIDE);
        case 10: return ::operator delete[](block, size, WIDE);
        default: return ::operator delete[](block, WIDE, std::nothrow);
    }
}

// Those of single objects know nothing of the arrays'; those of arrays are defined by them.
static bool is_replaced(int form) {
#ifdef ARRAYS
    return form % 2 == 1;
#else
    return form >= 0;
#endif
}

static void what_is_left_is_done_by_what_was_replaced(void) {
    for (int round = 0; round < 3; round++) {
        for (int form = 0; form < FORMS; form++) {
            for (int way = 0; way < 3; way++) {
                int made_before = made, gone_before = gone;
                void *block = allocate(form, 100);
                CHECK(block && is_mine(block) == is_replaced(form), "form %d gave %p", form, block);
                CHECK(form % 4 < 2 || is_aligned(block, 256), "form %d gave %p", form, block);
                fill(block, 100, 1);
                verify(block, 100, 1);
                release(form, way, block, 100);
                CHECK(made - made_before == is_replaced(form), "form %d: %d calls", form, made - made_before);
                CHECK(gone - gone_before == is_replaced(form), "form %d, way %d: %d calls", form, way, gone - gone_before);
            }
        }
    }
}

// [new.delete.single]/7: "calls operator new(size). If the call returns normally, returns the result of that call. Otherwise, returns a null pointer."
static void what_a_replaced_one_throws_is_caught_by_those_that_give_null(void) {
    is_used_up = true;
    for (int round = 0; round < 3; round++) {
        for (int form = 0; form < FORMS; form++) {
            if (!is_replaced(form)) continue;
            bool caught = false;
            void *block = &caught;
            try {
                block = allocate(form, 100);
            } catch (const std::bad_alloc &) {
                caught = true;
            }
            CHECK(caught == (form < 4), "form %d: %s", form, caught ? "threw" : "did not throw");
            CHECK(caught || !block, "form %d gave %p", form, block);
        }
    }
    is_used_up = false;
}

#define CASE(name) {#name, name}
static const struct test_case CASES[] = {
    CASE(what_is_left_is_done_by_what_was_replaced),
    CASE(what_a_replaced_one_throws_is_caught_by_those_that_give_null),
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
