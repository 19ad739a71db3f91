"""sqlite3: big inserts, indices, joins, aggregates, JSON, full text, sorting in threads, a dump read back."""

from .harness import Program
from .side import INPUTS


def work(side):
    """big inserts, indices, joins, window functions, JSON, full-text search, dump and reload"""
    side.serves("sqlite3", "--version")
    script = (INPUTS / "work.sql").read_bytes().replace(b":rows:", b"%d" % side.amount(60_000, 500_000))
    output = side.run(["sqlite3", "-batch", "-bail", "first.db"], input=script)
    dump = side.run(["sqlite3", "first.db", ".dump orders customers"])
    again = side.run(["sqlite3", "-bail", "second.db"], input=dump)
    check = side.run(["sqlite3", "second.db", "PRAGMA integrity_check; SELECT count(*), sum(amount) FROM orders"])
    return {"output": output, "dump": dump, "reload": again, "check": check}


PROGRAM = Program("sqlite", work, needs=["sqlite3"], starts=["sqlite3"])
