"""xz and zstd: large buffers, and blocks handed between threads."""

import random

from .harness import Program

WORDS = [b"amber", b"birch", b"cedar", b"dune", b"elm", b"fjord", b"grove", b"heath"]


def work(side):
    """xz and zstd with two threads each, there and back"""
    rng = random.Random("compress")
    text = b" ".join(rng.choice(WORDS) + b"%d" % rng.randrange(5000) for _ in range(side.amount(700_000, 4_000_000)))
    (side.work / "text").write_bytes(text)
    results = {}
    for name, pack in (
        ("xz", ["xz", "-k", "-T2", "-2", "--block-size=1MiB"]),
        ("zstd", ["zstd", "-q", "-k", "-T2", "-9", "-B1048576"]),
        ("zstd-long", ["zstd", "-q", "-k", "-f", "-T2", f"-{side.amount(12, 19)}", "--long=24"]),
    ):
        tool = pack[0]
        side.serves(tool, "--version")
        packed = side.run([*pack, "-c", "text"])
        (side.work / "packed").write_bytes(packed)
        side.run([tool, "-d", "-c", "packed"])
        results[name] = packed
        results[f"{name} unpacked"] = side.run([tool, "-d", "-c", "-T2", "packed"]) == text
        if not results[f"{name} unpacked"]:
            raise AssertionError(f"{name} does not unpack to what was packed")
    return results


PROGRAM = Program("compressors", work, needs=["xz", "zstd"], starts=["xz", "zstd"])
