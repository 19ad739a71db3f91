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

static pthread_key_t key;
static int rounds;
static int late_destructors;

struct Late {
    std::vector<std::string> lines;

    explicit Late(int round) {
        for (int i = 0; i < 100; i++) lines.push_back(std::string(static_cast<size_t>(i * 29 % 3000), static_cast<char>('a' + round)));
    }

    ~Late() {
        lines.push_back(std::string(5000, lines[1][0]));
        for (auto &line : lines) {
            for (char c : line) CHECK(c == lines[1][0], "a line was changed");
        }
        std::map<int, std::string> others;
        for (int i = 0; i < 500; i++) others[i] = std::string(static_cast<size_t>(i * 7), 'y');
        late_destructors++;
    }
};

// The key's destructor makes an object of the thread's in each of its rounds. The library's own last one comes before the last of
// these, and glibc calls the objects' destructors at the exit, when the thread has no cache any more.
static void make_an_object(void *) {
    switch (rounds++) {
    case 0: {
        static thread_local Late late(0);
        break;
    }
    case 1: {
        static thread_local Late late(1);
        break;
    }
    case 2: {
        static thread_local Late late(2);
        break;
    }
    default: {
        static thread_local Late late(3);
        break;
    }
    }
    pthread_setspecific(key, &key);
}

// The last of all functions for the exit.
static void look_back(void) {
    CHECK(rounds == 4 && late_destructors == 4, "%d rounds, and %d destructors after them", rounds, late_destructors);
}

// pthread_exit(3): when the last thread ends, "the process is terminated by calling exit(3) with an exit status of zero".
static void destructors_of_thread_local_objects_run_after_the_cache_is_gone(void) {
    CHECK(atexit(look_back) == 0, "no function for the exit");
    CHECK(pthread_key_create(&key, make_an_object) == 0, "no key");
    pthread_setspecific(key, &key);
    pthread_exit(nullptr);
}

static const struct test_case CASES[] = {
    {"destructors_of_thread_local_objects_allocate_and_free", destructors_of_thread_local_objects_allocate_and_free},
    {"destructors_of_thread_local_objects_run_after_the_cache_is_gone",
     destructors_of_thread_local_objects_run_after_the_cache_is_gone},
};

int main(int argc, char **argv) {
    return run_case(CASES, COUNT(CASES), argc, argv);
}
