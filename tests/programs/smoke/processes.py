"""Processes and ports: who descends from this run, and ending those by their process id."""

import ctypes
import os
import signal
import socket
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Makes this process the parent of every orphan among its descendants, so that none gets out of sight."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def parents():
    """The parent of each process on the machine, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text(errors="replace")
            except OSError:
                continue  # It has just ended.
            found[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
    return found


def descendants(pid):
    """The processes below `pid`, parents before children."""
    by_child = parents()
    found, frontier = [], [pid]
    while frontier:
        parent = frontier.pop(0)
        children = [child for child, its_parent in by_child.items() if its_parent == parent]
        found += children
        frontier += children
    return found


def kill(pid):
    """Kills the process `pid`, a child of this run that has not been waited for, and all that descend from it."""
    for victim in [pid, *descendants(pid)]:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass  # It ended by itself meanwhile.


def end_strays(grace):
    """Waits `grace` seconds for processes left behind to end, then kills them; returns the names of the killed."""
    deadline = time.monotonic() + grace
    killed = []
    while strays := descendants(os.getpid()):
        overdue = time.monotonic() > deadline
        for pid in strays:
            if overdue:
                killed.append(command_name(pid))
                kill(pid)
            try:
                os.waitpid(pid, 0 if overdue else os.WNOHANG)
            except ChildProcessError:
                pass  # A grandchild; it becomes a child when its parent has been waited for.
        time.sleep(0.02)
    return killed


def command_name(pid):
    """The name of the command that the process `pid` runs."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process that has ended"


def free_port():
    """A loopback TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
