"""Is the library under test really at work? Reads what the dynamic loader and the kernel say about processes.

Three questions, three sources. *Which processes started with it*: the loader's trace of files (`LD_DEBUG=files`), one
trace a process. *Whose malloc do the program's objects call*: the loader's trace of bindings, of a short start of the
program. *Is it mapped in this server and its workers now*: `/proc/PID/maps`.
"""

import os
import re
import shutil
from pathlib import Path


class LibraryError(Exception):
    """The library cannot be tested at all: it is missing, or cannot be preloaded."""


class Library:
    """A copy of the library under test, in a place that every user may read and no build overwrites."""

    def __init__(self, original, folder):
        original = Path(original)
        if not original.is_file():
            raise LibraryError(f"{original} is not a file: build the library first")
        folder.mkdir()
        self.path = folder / original.name
        shutil.copyfile(original, self.path)
        self.path.chmod(0o755)
        folder.chmod(0o755)
        if re.search(r"[\s:]", str(self.path)):
            raise LibraryError(f"{self.path}: LD_PRELOAD takes no path with a space or a colon; set TMPDIR elsewhere")

    def preload(self, traces):
        """The environment that preloads the library and has each process trace its files into `traces`."""
        return {"LD_PRELOAD": str(self.path), "LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(traces / "files")}

    def bindings(self, traces):
        """The environment that preloads the library and traces every binding at once into `traces`."""
        return {
            "LD_PRELOAD": str(self.path),
            "LD_BIND_NOW": "1",
            "LD_DEBUG": "files,bindings",
            "LD_DEBUG_OUTPUT": str(traces / "bindings"),
        }

    def starts(self, traces):
        """Yields (name of the program, whether it started with the library) for each start traced in `traces`."""
        initialised = f"calling init: {self.path}"
        for trace in sorted(traces.glob("files.*")):
            loaded = False
            # One trace holds several programs when a process executes the next without forking.
            for line in trace.read_text(errors="replace").splitlines():
                loaded = loaded or line.endswith(initialised)
                start = re.search(r"transferring control: (.*)$", line)
                if start:
                    yield os.path.basename(start[1]), loaded
                    loaded = False

    def serves_malloc(self, traces):
        """Whether some object of a process traced in `traces` calls the library when it calls malloc.

        A process that executed several programs (a wrapper, then what it wraps) is judged by its last one.
        """
        binding = re.compile(rf"to {re.escape(str(self.path))} \[\d+\]: normal symbol `malloc'")
        lives = [trace.read_text(errors="replace") for trace in traces.glob("bindings.*")]
        last = ("".join(re.split(r"transferring control: .*\n", life)[-2:]) for life in lives)
        return any(binding.search(trace) for trace in last)

    def is_mapped(self, pid):
        """Whether the process `pid` has the library in its address space."""
        return str(self.path) in Path(f"/proc/{pid}/maps").read_text(errors="replace")
