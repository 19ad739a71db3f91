"""redis-server: under redis-benchmark, then with a known set of data that is saved by a fork, edited and read back."""

import random
import socket

from .harness import Program
from .processes import free_port


class Client:
    """A connection that speaks redis's protocol (RESP 2), with pipelining."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.replies = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.replies.close()
        self.socket.close()

    def all(self, commands):
        """Sends all commands (tuples of words) at once and returns their replies."""
        packet = []
        for words in commands:
            packet.append(b"*%d\r\n" % len(words))
            for word in words:
                raw = word if isinstance(word, bytes) else str(word).encode()
                packet.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
        self.socket.sendall(b"".join(packet))
        return [self.reply() for _ in commands]

    def ask(self, *words):
        """Sends one command and returns its reply."""
        return self.all([words])[0]

    def reply(self):
        """The next reply; an error reply is raised."""
        line = self.replies.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.replies.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise AssertionError(f"redis says {line!r}")


def load(client, count):
    """Fills the server with keys of every type, in batches."""
    rng = random.Random("redis")
    for base in range(0, count, 500):
        batch = []
        for number in range(base, base + 500):
            batch += [
                ("SET", f"string:{number}", rng.randbytes(rng.randrange(800))),
                ("RPUSH", f"list:{number % 300}", *(rng.randbytes(rng.randrange(1, 60)) for _ in range(4))),
                ("HSET", f"hash:{number % 500}", f"field{number}", rng.randrange(10**9), "last", number),
                ("SADD", f"set:{number % 200}", number, f"member {number}"),
                ("ZADD", f"sorted:{number % 100}", rng.randrange(10**6), f"member {number}"),
                ("XADD", f"stream:{number % 50}", f"{number + 1}-1", "value", rng.randrange(10**6)),
            ]
        client.all(batch)


def edit(client, count):
    """Grows, cuts, moves and deletes much of what `load` made; deletes in the background too."""
    script = "for i = 1, 200 do redis.call('APPEND', KEYS[1], string.rep(ARGV[1], i % 9)) end return 1"
    for base in range(0, count, 500):
        batch = []
        for number in range(base, base + 500):
            batch += [
                ("APPEND", f"string:{number}", "x" * (number % 700)),
                ("SETRANGE", f"string:{number}", number % 3000, "middle"),
                ("HDEL", f"hash:{number % 500}", f"field{number * 7 % count}"),
                ("LPOP", f"list:{number % 300}"),
                ("ZREMRANGEBYRANK", f"sorted:{number % 100}", 0, 0),
            ]
            if number % 4 == 0:
                batch.append(("UNLINK", f"string:{number}"))
        client.all(batch)
    client.all([("EVAL", script, 1, f"script:{number}", "lua") for number in range(100)])
    client.ask("SUNIONSTORE", "set:all", *(f"set:{number}" for number in range(200)))
    client.ask("SORT", "set:all", "ALPHA", "LIMIT", 0, 1000, "STORE", "list:sorted")
    client.ask("SETRANGE", "big", 20_000_000, "end")
    client.ask("UNLINK", "set:all")


def saved(client):
    """True when no background save runs any more; fails when one failed."""
    status = client.ask("INFO", "persistence")
    assert b"rdb_last_bgsave_status:ok" in status and b"aof_last_bgrewrite_status:ok" in status, status
    return b"rdb_bgsave_in_progress:0" in status and b"aof_rewrite_in_progress:0" in status


def work(side):
    """redis-benchmark with two I/O threads; a data set with BGSAVE, BGREWRITEAOF, Lua and restart; DEBUG DIGEST"""
    side.serves("redis-server", "--version")
    side.serves("redis-benchmark", "--version")
    port = free_port()
    command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", side.work]
    command += ["--io-threads", "2", "--io-threads-do-reads", "yes", "--enable-debug-command", "local"]
    count = side.amount(5_000, 60_000)
    results = {}
    with side.start(command) as server:
        server.until(lambda: Client(port).ask("PING"), "answering")
        every = "set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset"
        for size, pipeline, rounds, tests in (
            (40, 16, side.amount(4000, 100_000), every),
            (3000, 4, side.amount(1500, 40_000), "set,get,lpush,lrange_100,mset"),
        ):
            side.run(
                ["redis-benchmark", "-h", "127.0.0.1", "-p", port, "-q", "--threads", "2", "-c", "40", "-P", pipeline]
                + ["-n", rounds, "-r", "20000", "-d", size]
                + ["-t", tests]
            )
        server.check_mapped()
        with Client(port) as client:
            client.ask("FLUSHALL", "ASYNC")
            load(client, count)
            results["loaded"] = client.ask("DEBUG", "DIGEST")
            # The forked child writes what was there at the fork while the parent changes it.
            client.ask("BGSAVE")
            server.check_mapped()
            edit(client, count)
            server.until(lambda: saved(client), "saved")
            results["edited"] = client.ask("DEBUG", "DIGEST")
            client.ask("BGREWRITEAOF")
            server.until(lambda: saved(client), "rewritten")
            client.ask("DEBUG", "RELOAD")
            results["reloaded"] = client.ask("DEBUG", "DIGEST")
            client.socket.sendall(b"SHUTDOWN SAVE\r\n")
            server.wait()
    with side.start(command) as server:
        server.until(lambda: b"\nloading:0" in Client(port).ask("INFO", "persistence"), "loaded")
        with Client(port) as client:
            results["restarted"] = client.ask("DEBUG", "DIGEST")
            results["keys"] = client.ask("DBSIZE")
            client.ask("FLUSHALL")
        server.stop()
    if not results["edited"] == results["reloaded"] == results["restarted"]:
        raise AssertionError(f"the data changed when saved and read back: {results}")
    return results


PROGRAM = Program("redis", work, needs=["redis-server", "redis-benchmark"], starts=["redis-server", "redis-benchmark"])
