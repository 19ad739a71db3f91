"""stress-ng: workers that call malloc at random, fork, vfork and make threads as fast as they can, and verify what they did."""

import re

from .harness import Program
from .side import Failure

# The workers of each kind, and how many operations they do together, in the quick form and in full.
STRESSORS = {
    "malloc": (2, 20_000, 400_000),
    "fork": (2, 300, 4_000),
    "vfork": (1, 200, 3_000),
    "pthread": (2, 150, 2_000),
    "daemon": (1, 40, 400),
    "mergesort": (1, 1, 4),
}


def work(side):
    """workers of malloc, fork, vfork, threads, daemons, sorting; each checks itself and does all of its operations"""
    side.serves("stress-ng", "--version")
    command = ["stress-ng", "--no-rand-seed", "--verify", "--malloc-bytes", "48M", "--timeout", "120", "--yaml", "report"]
    for name, (workers, quick, full) in STRESSORS.items():
        command += [f"--{name}", workers, f"--{name}-ops", side.amount(quick, full)]
    side.run([*command, "--metrics-brief"])
    report = (side.work / "report").read_text()
    done = dict(re.findall(r"- stressor: (\S+)\n *bogo-ops: (\d+)", report))
    short = [name for name, (_, quick, full) in STRESSORS.items() if int(done.get(name, 0)) < side.amount(quick, full)]
    if short:
        raise Failure(f"stress-ng did not do all of its operations of {', '.join(short)}")
    return {"kinds": " ".join(sorted(done))}


PROGRAM = Program("stress-ng", work, needs=["stress-ng"], starts=["stress-ng"])
