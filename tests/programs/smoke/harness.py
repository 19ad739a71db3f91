"""Runs a program's work on both sides and judges it."""

import hashlib
import resource
import shutil
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from . import processes
from .library import Library
from .side import Failure, Side, find

# Seconds that processes left behind by a program get to end by themselves.
GRACE = 5


@dataclass
class Program:
    """A real program and the work that it does here."""

    name: str
    # Does the work on a side; returns results by name (bytes, text or numbers), which must be equal on both sides.
    work: Callable[[Side], dict]
    # The commands that must be installed.
    needs: list
    # Names of the programs that must have been started with the library.
    starts: list = field(default_factory=list)

    @property
    def summary(self):
        """The first line of the work's docstring."""
        return self.work.__doc__.splitlines()[0]


class Bench:
    """The place of a whole run: a temporary folder, the library's copy, and nothing left running at the end."""

    def __init__(self, library, quick, keep):
        self.quick, self.keep = quick, keep
        self.folder = Path(tempfile.mkdtemp(prefix="terrace-programs-"))
        self.folder.chmod(0o755)
        try:
            self.library = Library(library, self.folder / "library")
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        processes.adopt_orphans()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        processes.end_strays(0)
        if self.keep:
            print(f"kept {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def judge(self, program):
        """Runs one program, prints its line, and returns whether it passed."""
        begin = time.monotonic()
        try:
            self.compare(program)
        except Failure as failure:
            complaint = str(failure)
        except Exception:  # A fault of the test, or a reply that no working server gives.
            complaint = "".join(f"\n    {line}" for line in traceback.format_exc().splitlines())
        else:
            complaint = None
        left = processes.end_strays(GRACE if complaint is None else 0)
        if complaint is None and left:
            complaint = f"left running: {', '.join(sorted(left))}"
        seconds = time.monotonic() - begin
        verdict, rest = ("ok", "") if complaint is None else ("FAILED", f": {complaint}")
        print(f"{verdict} {program.name} ({seconds:.1f} s){rest}", flush=True)
        return complaint is None

    def compare(self, program):
        """Raises a `Failure` unless the program gives equal results on both sides."""
        missing = [command for command in program.needs if not find(command)]
        if missing:
            raise Failure(f"not installed: {', '.join(missing)} (tests/programs/packages names what to install)")
        results = []
        for name, library in (("without", None), ("with", self.library)):
            work = self.folder / program.name / "work"
            side = Side(work, self.folder / program.name / name, library, self.quick)
            try:
                results.append(program.work(side))
            except Failure as failure:
                raise Failure(f"{name} the library: {failure}") from None
            # The second side works at the same paths, since programs write paths into what they make.
            shutil.rmtree(work)
            if library:
                side.check_starts(program.starts)
        without, preloaded = results
        differing = [key for key in {**without, **preloaded} if without.get(key) != preloaded.get(key)]
        if differing:
            pairs = (f"{key}: {brief(without.get(key))}, {brief(preloaded.get(key))}" for key in differing)
            raise Failure("other results without, with the library:" + "".join(f"\n    {pair}" for pair in pairs))
        if not self.keep:
            shutil.rmtree(self.folder / program.name)


def brief(value):
    """A result in a few characters: long ones by their length and hash."""
    raw = value if isinstance(value, bytes) else str(value).encode()
    return repr(value) if len(raw) <= 60 else f"{len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()[:16]}"
