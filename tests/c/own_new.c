// A program with C++'s two first operators of its own and no C++ library, as where that is linked in statically. What it leaves to the
// library goes to its own, also the form that gives NULL, though nobody is there who could catch.

#include "check.h"

static char arena[1 << 20];
static size_t used;
static int gone;

static bool is_mine(const void *block) {
    return (const char *)block >= arena && (const char *)block < arena + sizeof arena;
}

void *_Znwm(size_t size) {
    void *block = arena + used;
    used += (size + 15) / 16 * 16;
    CHECK(used <= sizeof arena, "the arena is used up");
    return block;
}

void _ZdlPv(void *block) {
    CHECK(is_mine(block), "%p came from another operator", block);
    gone++;
}

int main(void) {
    CHECK(!dlsym(RTLD_DEFAULT, "_ZSt15get_new_handlerv"), "there is a C++ library");
    static const char *const news[] = {"_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t"};
    static const char *const deletes[] = {"_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvRKSt9nothrow_t"};
    for (size_t i = 0; i < 3 * COUNT(news); i++) {
        void *(*make)(size_t, void *) = (void *(*)(size_t, void *))dlsym(RTLD_DEFAULT, news[i % COUNT(news)]);
        void (*unmake)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, deletes[i % COUNT(deletes)]);
        CHECK(make && unmake, "the operators are not there");
        char nothrow;
        char *block = make(100, &nothrow);
        CHECK(is_mine(block), "%s gave %p", news[i % COUNT(news)], (void *)block);
        fill(block, 100, 1);
        verify(block, 100, 1);
        unmake(block, 100);
        CHECK(gone == (int)i + 1, "%s freed %d blocks", deletes[i % COUNT(deletes)], gone);
    }
    return 0;
}
