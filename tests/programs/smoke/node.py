"""node: JSON, buffers, compression and hashing in the thread pool, worker threads, an HTTP server asked by itself."""

from .harness import Program
from .side import INPUTS


def work(side):
    """JSON, buffers, zlib and crypto in the thread pool, worker_threads, HTTP"""
    side.serves("node", "--version")
    return {"output": side.run(["node", INPUTS / "work.js", side.amount(1, 6)])}


PROGRAM = Program("node", work, needs=["node"], starts=["node"])
