"""Counts instructions an operation with callgrind, as the difference of two run lengths: start-up cancels out."""

import pathlib
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

SHORT, LONG = 200_000, 1_200_000


@dataclass(frozen=True)
class Count:
    """A figure: a row on a face, with the harness's own instructions taken off or not."""

    face: str
    row: str
    beyond_harness: bool
    what: str


COUNTS = (
    Count("c-face", "pairs-random", True, "C face, random LIFO pair, beyond the harness"),
    Count("c-face", "set-1k", True, "C face, random pair in a set of 1,000, beyond the harness"),
    Count("rust-face", "pairs-64", False, "Rust face, constant LIFO pair, with its loop"),
    Count("rust-face", "set-1k", True, "Rust face, random pair in a set of 1,000, beyond the harness"),
    Count("rust-face", "typed-1k", True, "Rust face, constant layouts in a set of 1,000, beyond the harness"),
)


def collected(target, row, operations):
    """Instructions of a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind", "--tool=callgrind", f"--callgrind-out-file={pathlib.Path(folder, 'out')}",
            target.program, "count", target.heap, row, str(operations),
        ]
        done = subprocess.run(
            command, env=target.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False
        )
    found = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    if done.returncode != 0 or not found:
        raise RuntimeError(f"{target.heap} does not run under valgrind ({row}, exit status {done.returncode})")
    operations = re.search(r'"operations": (\d+)', done.stdout)
    return int(found[1]), int(operations[1])


def per_operation(target, row):
    """Instructions an operation, loop and harness included."""
    short, short_operations = collected(target, row, SHORT)
    long, long_operations = collected(target, row, LONG)
    return (long - short) / (long_operations - short_operations)


def count(counts, targets, nothing, failures):
    """{(face, row): {heap: instructions}}. `targets` is {face: [Target]}, `nothing` is {face: Target} of the heap that does
    nothing. What cannot run under valgrind is left out, with a sentence in `failures`."""
    if not shutil.which("valgrind"):
        failures.append("instructions are counted with valgrind, which is not installed")
        return {}
    figures = {}
    for wanted in counts:
        harness = per_operation(nothing[wanted.face], wanted.row) if wanted.beyond_harness else 0.0
        found = figures.setdefault((wanted.face, wanted.row), {})
        for target in targets[wanted.face]:
            try:
                found[target.heap] = per_operation(target, wanted.row) - harness
            except RuntimeError as failure:
                failures.append(str(failure))
    return figures
