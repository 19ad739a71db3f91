"""memcached: four threads, many connections that come and go, values that grow, and everything read back."""

import hashlib
import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor

from .harness import Program
from .processes import free_port

CLIENTS = 6


class Client:
    """A connection that speaks memcached's text protocol."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.lines = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def ask(self, command, *, data=None):
        """Sends a command, with its block of data; returns the first line of the reply."""
        self.socket.sendall(command.encode() + b"\r\n" + (data + b"\r\n" if data is not None else b""))
        return self.lines.readline().strip()

    def store(self, verb, key, data):
        """Stores data under a key by the given verb."""
        reply = self.ask(f"{verb} {key} 0 0 {len(data)}", data=data)
        assert reply == b"STORED", f"{verb} {key}: {reply}"

    def get(self, keys):
        """The values of the keys that are there."""
        found = {}
        line = self.ask("get " + " ".join(keys))
        while line != b"END":
            _, key, _, size = line.split()
            found[key.decode()] = self.lines.read(int(size) + 2)[:-2]
            line = self.lines.readline().strip()
        return found


def client_work(port, number, rounds):
    """One client's share, under keys of its own; returns a hash of all its values."""
    rng = random.Random(number)
    digest = hashlib.sha256()
    expected = {}
    with Client(port) as client:
        for step in range(rounds):
            key = f"client{number}:{rng.randrange(400)}"
            size = rng.randrange(60_000) if rng.random() < 0.1 else rng.randrange(2000)
            value = rng.randbytes(size)
            choice = rng.random()
            if choice < 0.2 and key in expected:
                client.store("append", key, value[:500])
                expected[key] += value[:500]
            elif choice < 0.3 and key in expected:
                assert client.ask(f"delete {key}") == b"DELETED"
                del expected[key]
            else:
                client.store("set", key, value)
                expected[key] = value
            if step % 50 == 0:
                # A connection that only comes and goes.
                with Client(port) as visitor:
                    assert visitor.ask("version").startswith(b"VERSION")
        for key in sorted(expected):
            found = client.get([key])
            assert found == {key: expected[key]}, f"{key}: another value than was stored"
            digest.update(key.encode() + found[key])
        many = client.get(sorted(expected)[:100])
        digest.update(repr(sorted(many.items())).encode())
    return digest.hexdigest()


def work(side):
    """sets, appends, deletes and gets of six clients on four threads, values compared"""
    identity = ["-u", "root"] if os.geteuid() == 0 else []
    side.serves("memcached", "-V")
    port = free_port()
    command = ["memcached", "-l", "127.0.0.1", "-p", port, "-U", "0", "-t", "4", "-m", "256", "-c", "600", *identity]
    results = {}
    with side.start(command) as server:
        server.until(lambda: Client(port).__exit__() or True, "listening")
        for turn in range(side.amount(2, 6)):
            crowd = [Client(port) for _ in range(150)]
            with ThreadPoolExecutor(CLIENTS) as pool:
                shares = [
                    pool.submit(client_work, port, number, side.amount(3000, 15_000)) for number in range(CLIENTS)
                ]
                results[f"values {turn}"] = " ".join(share.result(timeout=170) for share in shares)
            for visitor in crowd:
                visitor.__exit__()
            server.check_mapped()
            with Client(port) as client:
                client.ask("stats")
                stats = dict(
                    line.split()[1:3] for line in iter(client.lines.readline, b"END\r\n") if line.count(b" ") == 2
                )
                results[f"items {turn}"] = stats[b"curr_items"]
                assert client.ask("flush_all") == b"OK"
        server.stop()
    return results


PROGRAM = Program("memcached", work, needs=["memcached"], starts=["memcached"])
