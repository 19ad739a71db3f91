"""One side of a comparison: where a program's commands run, with the library or without it.

A program's work is a function of a `Side`. It starts commands and servers through the side alone, which gives them a
clean environment, bounds their time, ends them, and judges their exit status and their output.
"""

import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from . import processes

# What a command may never say: the complaints of the allocator, of the C library, of the dynamic loader, and of servers
# that lost a worker.
HEAP_ERROR = re.compile(
    rb"\bterrace: |: malloc(_consolidate)?\(\): |: free\(\): |: realloc\(\): |double free|heap corruption|corrupted "
    rb"|[Ss]egmentation fault|exited on signal|terminated by signal|cannot be preloaded|ERROR: ld\.so"
)
INPUTS = Path(__file__).resolve().parent / "inputs"
TAIL_LINES = 20


class Failure(Exception):
    """A program failed; the text says how, and holds the tail of what it printed. `command` is the one that failed."""

    def __init__(self, text, command=None):
        super().__init__(text)
        self.command = command


def find(command):
    """The path of `command`, or None; daemons and PostgreSQL's own programs are found outside the search path too."""
    versions = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), reverse=True)
    return shutil.which(command, path=os.pathsep.join([*versions, os.environ["PATH"], "/usr/sbin", "/sbin"]))


def tail(*logs):
    """The last lines of the given log files."""
    lines = [
        line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    ]
    return "".join(f"\n    {line}" for line in lines)


class Side:
    """Runs commands in `work`, with `library` preloaded unless it is None; logs and traces go to `records`."""

    def __init__(self, work, records, library, quick):
        self.work, self.records, self.library, self.quick = work, records, library, quick
        self.traces = records / "traces"
        self.probes = records / "probes"
        self.servers = []
        self.commands = 0
        for folder in (work, records, self.traces, self.probes):
            folder.mkdir(parents=True)
        # Servers that run as another user trace too.
        self.traces.chmod(0o1777)
        self.probes.chmod(0o1777)

    def amount(self, quick, full):
        """How much work to do: `quick` in the quick form, `full` otherwise."""
        return quick if self.quick else full

    def run(self, argv, *, input=None, cwd=None, env=None, timeout=180, user=None):
        """Runs a command to its end; returns what it printed on standard output, as bytes.

        `input` (bytes) is its standard input, `env` adds to its environment, `timeout` is in seconds, `user` is the
        account to run it as.
        """
        with self.start(argv, input=input, cwd=cwd, env=env, user=user) as command:
            command.wait(timeout)
        return command.out.read_bytes()

    def start(self, argv, *, input=None, cwd=None, env=None, user=None):
        """Starts a command and returns it while it runs; use it in a `with` statement, which kills what still runs."""
        self.commands += 1
        command, *arguments = map(str, argv)
        return Command(self, [find(command) or command, *arguments], input, cwd or self.work, env, user)

    def serves(self, *argv, env=None):
        """Fails unless the program that `argv` starts, for an instant, calls the library when it calls malloc."""
        if self.library is None:
            return
        traces = self.probes / f"{len(list(self.probes.iterdir())):02}"
        traces.mkdir()
        self.run(argv, env={**(env or {}), **self.library.bindings(traces)}, timeout=60)
        if not self.library.serves_malloc(traces):
            raise Failure(f"{argv[0]}: no object of the process calls {self.library.path.name} for malloc")

    def environment(self, extra):
        """The environment of a command: the same on every machine, but for the search path."""
        inherited = {
            name: value for name, value in os.environ.items() if name.startswith("TERRACE_") and name != "TERRACE_STATS"
        }
        fixed = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.work),
            "TMPDIR": str(self.work),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        preload = self.library.preload(self.traces) if self.library else {}
        return {**inherited, **fixed, **preload, **(extra or {})}

    def check_starts(self, expected):
        """Fails unless all processes started with the library, and each program named in `expected` was among them."""
        starts = list(self.library.starts(self.traces))
        bare = sorted({name for name, loaded in starts if not loaded})
        if bare:
            raise Failure(f"started without {self.library.path.name}: {', '.join(bare)}")
        missing = sorted(set(expected) - {name for name, _ in starts})
        if missing:
            raise Failure(f"never seen to start with {self.library.path.name}: {', '.join(missing)}")


class Command:
    """A command that a side started, with its output in files."""

    def __init__(self, side, argv, input, cwd, env, user):
        self.side = side
        self.argv = argv
        self.name = os.path.basename(argv[0])
        stem = side.records / f"{side.commands:02}-{self.name}"
        self.out, self.err = stem.with_suffix(".out"), stem.with_suffix(".err")
        identity = {"user": user, "group": user, "extra_groups": []} if user else {}
        if input is not None:
            given = stem.with_suffix(".in")
            given.write_bytes(input)
        with (
            open(given if input is not None else os.devnull, "rb") as stdin,
            open(self.out, "wb") as out,
            open(self.err, "wb") as err,
        ):
            self.process = subprocess.Popen(
                argv, stdin=stdin, stdout=out, stderr=err, cwd=cwd, env=side.environment(env), **identity
            )

    def __enter__(self):
        return self

    def __exit__(self, _, error, trace):
        try:
            if isinstance(error, Exception) and getattr(error, "command", None) is not self:
                raise self.explain(error, trace) from error
        finally:
            if self.process.poll() is None:
                processes.kill(self.process.pid)
                self.process.wait()

    def explain(self, error, trace):
        """A failure that tells what became of this server when what its clients did ended in `error`."""
        what = str(error)
        if not isinstance(error, Failure):
            place = traceback.extract_tb(trace)[-1]
            what = f"{type(error).__name__} {error} ({os.path.basename(place.filename)}:{place.lineno})"
        try:
            end = f"had ended with status {self.process.wait(1)}"
        except subprocess.TimeoutExpired:
            end = "still ran"
        return Failure(f"{what}\n  Its server:\n    {self.failure(end)}")

    def wait(self, timeout=180):
        """Waits for the end of the command; fails on a wrong exit status, on error text, and after `timeout` s."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.failure(f"still ran after {timeout} s") from None
        if status < 0:
            raise self.failure(f"was ended by {signal.Signals(-status).name}")
        if status:
            raise self.failure(f"ended with exit status {status}")
        self.check_output()

    def check_output(self):
        """Fails when the command has printed something that speaks of a broken heap."""
        for log in (self.err, self.out):
            for line in log.read_bytes().splitlines():
                # Standard output is the program's work as well; only the allocator's own words count there.
                if HEAP_ERROR.search(line) if log is self.err else line.startswith(b"terrace: "):
                    raise self.failure(f"printed '{line.decode(errors='replace')}'")

    def stop(self, with_signal=signal.SIGTERM, timeout=60):
        """Ends a server by a signal and judges how it ended."""
        self.process.send_signal(with_signal)
        self.wait(timeout)

    def until(self, condition, what, timeout=60):
        """Waits until `condition()` is true, and gives its value; fails when the command ends first or time is up."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if value := condition():
                    return value
            except OSError:
                pass  # Nobody listens yet.
            if self.process.poll() is not None:
                raise self.failure(f"ended (exit status {self.process.returncode}) before {what}")
            time.sleep(0.02)
        raise self.failure(f"not yet {what} after {timeout} s")

    def workers(self):
        """The processes below this one."""
        return processes.descendants(self.process.pid)

    def check_mapped(self):
        """Fails unless the library is mapped in this process and in all below it."""
        if self.side.library is None:
            return
        for pid in [self.process.pid, *self.workers()]:
            try:
                mapped = self.side.library.is_mapped(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue  # A worker that has just ended.
            if not mapped:
                name = processes.command_name(pid)
                raise self.failure(f"{self.side.library.path.name} is not mapped in process {pid} ({name})")

    def failure(self, what):
        """A failure of this command, with the tail of its logs."""
        line = " ".join(self.argv)
        shown = line if len(line) <= 160 else line[:157] + "..."
        return Failure(f"{self.name} {what}\n    $ {shown}{tail(self.out, self.err)}", self)


def python(*arguments):
    """The command line that runs this very interpreter."""
    return [os.path.realpath(sys.executable), *map(str, arguments)]
