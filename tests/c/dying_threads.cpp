// Objects of storage duration `thread_local`, whose destructors allocate and free when their thread ends.

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

static std::mutex lock;
static std::vector<std::unique_ptr<std::string>> inherited;

struct Notebook {
    std::map<int, std::vector<std::string>> pages;

    void write(int count) {
        for (int i = 0; i < count; i++) {
            pages[i % 17].push_back(std::string(static_cast<size_t>(i * 13 % 3000), static_cast<char>('a' + i % 26)));
        }
    }

    ~Notebook() {
        write(40);
        for (auto &[number, lines] : pages) {
            for (auto &line : lines) {
                for (char c : line) CHECK(c == line[0], "a line on page %d was changed", number);
            }
        }
        auto last_words = std::make_unique<std::string>(5000, 'z');
        std::lock_guard<std::mutex> guard(lock);
        inherited.push_back(std::move(last_words));
    }
};

static thread_local Notebook first;
static thread_local Notebook second;

static void destructors_of_thread_local_objects_allocate_and_free(void) {
    for (int round = 0; round < 100; round++) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; i++) {
            threads.emplace_back([i] {
                first.write(100);
                // In every second thread the object is made, and then nothing but its destructor allocates.
                if (i % 2) second.write(0);
            });
        }
        for (auto &thread : threads) thread.join();
        for (auto &words : inherited) CHECK(*words == std::string(5000, 'z'), "what a thread left was changed");
        CHECK(inherited.size() >= 4 * (static_cast<size_t>(round % 10) + 1), "%zu threads left something", inherited.size());
        if (round % 10 == 9) inherited.clear();
    }
}

static const struct test_case CASES[] = {
    {"destructors_of_thread_local_objects_allocate_and_free", destructors_of_thread_local_objects_allocate_and_free},
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
