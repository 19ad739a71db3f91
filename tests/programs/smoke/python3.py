"""python3 with every object on malloc: containers, text, threads, processes."""

from .harness import Program
from .side import INPUTS, python


def work(side):
    """PYTHONMALLOC=malloc: json, re, pickle, big integers, threads, multiprocessing, forks"""
    side.serves(*python("--version"))
    return {
        "output": side.run(
            python("-B", INPUTS / "work.py", side.amount(1, 6)), env={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "11"}
        )
    }


PROGRAM = Program("python3", work, needs=[python()[0]], starts=[python()[0].rpartition("/")[2]])
