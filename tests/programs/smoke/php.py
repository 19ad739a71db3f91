"""PHP: arrays, JSON, regular expressions, XML and a database of its extensions, which it binds deeply."""

from .harness import Program
from .side import INPUTS


def work(side):
    """arrays, JSON, regular expressions, XML and SQLite by extensions, its own heap and none"""
    side.serves("php", "--version")
    command = ["php", INPUTS / "work.php", side.amount(1, 4)]
    return {"output": side.run(command), "without a heap of its own": side.run(command, env={"USE_ZEND_ALLOC": "0"})}


PROGRAM = Program("php", work, needs=["php"], starts=["php"])
