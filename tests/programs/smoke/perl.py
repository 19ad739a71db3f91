"""perl: hashes, regular expressions, sorting, growing strings, interpreter threads and forks."""

from .harness import Program
from .side import INPUTS


def work(side):
    """hashes, regular expressions, sorts, interpreter threads, forks"""
    side.serves("perl", "-v")
    return {"output": side.run(["perl", INPUTS / "work.pl", side.amount(1, 5)], env={"PERL_HASH_SEED": "7"})}


PROGRAM = Program("perl", work, needs=["perl"], starts=["perl"])
