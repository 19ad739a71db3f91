"""What python3 does under test: prints one line a part, the same on every run.

Argument: how many times the small work.
"""

import bz2
import ctypes
import hashlib
import json
import multiprocessing
import os
import pickle
import queue
import random
import re
import sys
import threading
import zlib

SCALE = int(sys.argv[1])
WORDS = "amber birch cedar dune elm fjord grove heath".split()


def show(part, *values):
    """Prints a part's name and a hash of its values."""
    print(part, hashlib.sha256(repr(values).encode()).hexdigest(), flush=True)


def containers(rng):
    """Dicts of lists that grow, are thinned out and grow again."""
    books = {}
    for step in range(150_000 * SCALE):
        books.setdefault(f"key{rng.randrange(30_000)}", []).append("v" * rng.randrange(60))
        if step % 4 == 0:
            books.pop(f"key{rng.randrange(30_000)}", None)
    return sorted((key, len(value), sum(map(len, value))) for key, value in books.items())


def documents(rng):
    """JSON and pickle there and back."""
    rows = [
        {"id": number, "name": rng.choice(WORDS) * rng.randrange(5), "tags": rng.sample(WORDS, 3), "size": rng.random()}
        for number in range(15_000 * SCALE)
    ]
    text = json.dumps(rows, sort_keys=True, indent=1)
    assert json.loads(text) == rows and pickle.loads(pickle.dumps(rows)) == rows
    return text


def text(rng):
    """Regular expressions over a long text, and edits of it."""
    prose = " ".join(rng.choice(WORDS) + str(rng.randrange(1000)) for _ in range(100_000 * SCALE))
    changed = re.sub(r"\b(cedar|elm)(\d+)", lambda match: match[2] + match[1].upper(), prose)
    return [len(prose), changed, re.findall(r"(?:dune|fjord)(\d{3}) (\w+)", prose)]


def buffers(rng):
    """Byte arrays of up to some megabytes that grow, shrink, and are compressed."""
    rope, marks = bytearray(), []
    for _ in range(400 * SCALE):
        rope += rng.randbytes(rng.randrange(40_000))
        if len(rope) > 3_000_000:
            del rope[: rng.randrange(len(rope))]
        marks.append(len(rope))
    packed = zlib.compress(bytes(rope), 1), bz2.compress(bytes(rope[:300_000]))
    assert zlib.decompress(packed[0]) == rope and bz2.decompress(packed[1]) == rope[:300_000]
    return [marks, hashlib.sha256(rope).hexdigest(), *map(len, packed)]


def integers(_):
    """Integers of a hundred thousand digits."""
    number = 3 ** (50_000 * SCALE)
    return [hashlib.sha256(str(number % 10**4000).encode()).hexdigest(), (number * number >> 7) % 1_000_003]


def relay(_):
    """Threads in a ring of queues: each frees what another made. Threads are born and die all the while."""
    queues = [queue.Queue(64) for _ in range(4)]
    results = []

    def make(out, seed):
        rng = random.Random(seed)
        for number in range(6_000 * SCALE):
            out.put([WORDS[number % 8] * rng.randrange(30), rng.randbytes(rng.randrange(3000)), {number: str(number)}])
        out.put(None)

    def take(source):
        size = 0
        while (item := source.get()) is not None:
            size += len(item[0]) + len(item[1]) + sum(map(len, item[2].values()))
        results.append(size)

    threads = [threading.Thread(target=make, args=(place, seed)) for seed, place in enumerate(queues)]
    threads += [threading.Thread(target=take, args=(place,)) for place in queues]
    for thread in threads:
        thread.start()
    for _ in range(30 * SCALE):
        brief = [threading.Thread(target=lambda: results.append(len([str(i) for i in range(2000)]))) for _ in range(8)]
        for thread in brief:
            thread.start()
        for thread in brief:
            thread.join()
    for thread in threads:
        thread.join()
    return sorted(results)


def digest(seed):
    """A pool worker's piece of work."""
    return hashlib.sha256(json.dumps([str(seed) * n for n in range(400)]).encode()).hexdigest()


def pool(_):
    """A pool of forked workers, and one of freshly started ones."""
    answers = []
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(3, maxtasksperchild=20) as workers:
            answers.append(workers.map(digest, range(200 * SCALE), chunksize=5))
            workers.close()
            workers.join()
    assert answers[0] == answers[1]
    return answers[0]


def forks(rng):
    """Forks while other threads allocate: the child works on, whatever they were doing at that moment.

    They call regcomp(3), which allocates much, through ctypes, which lets go of the interpreter's lock.
    """
    libc = ctypes.CDLL(None)
    stop = threading.Event()
    data = {str(number): rng.randbytes(200) for number in range(20_000)}

    def churn():
        compiled = ctypes.create_string_buffer(512)
        while not stop.is_set():
            assert libc.regcomp(compiled, b"(amber|birch+|[c-e]dar){1,9}(dune|elm?){2,7}", 1) == 0
            libc.regfree(compiled)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    statuses = []
    for child in range(25 * SCALE):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                mine = {key: value * 2 for key, value in data.items()}
                data.clear()
                status = 40 + child % 50 if sum(map(len, mine.values())) == 8_000_000 else 2
            finally:
                os._exit(status)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    assert statuses == [40 + child % 50 for child in range(25 * SCALE)], statuses
    return statuses


if __name__ == "__main__":
    # The interpreter has its objects on malloc, or the test would test nothing.
    assert os.environ["PYTHONMALLOC"] == "malloc"
    for part in (containers, documents, text, buffers, integers, relay, pool, forks):
        show(part.__name__, part(random.Random(part.__name__)))
