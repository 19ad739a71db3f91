"""Runs every row on every allocator, interleaved in rotating order, one process a sample."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field

TIME_LIMIT = 180
"""Seconds after which a sample counts as failed."""

TRIES = 3
"""How often a sample is taken that other programs keep disturbing."""


@dataclass(frozen=True)
class Target:
    """An allocator on one face: the program that runs it, and what is preloaded into the program."""

    heap: str
    program: str
    preload: str | None = None

    def environment(self):
        """The environment of a sample: nothing is preloaded but what is asked for."""
        environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
        if self.preload:
            environment["LD_PRELOAD"] = str(self.preload)
        return environment


@dataclass
class Samples:
    """All samples of a face: values[row][heap][round] is the program's report."""

    values: dict = field(default_factory=dict)
    failures: list = field(default_factory=list)

    def series(self, row, heap, key):
        """{round: value} of one figure."""
        return {run: report[key] for run, report in self.values.get(row, {}).get(heap, {}).items()}


def list_rows(program):
    """The rows that a benchmark program knows, as dictionaries."""
    output = subprocess.run([program, "list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def disturbed(report):
    """Whether a single-threaded sample lost over 5 % of the processor to other programs."""
    return report["cpu_ns"] < 0.95 * report["wall_ns"]


def quiet_sample(target, row, scale):
    """One report of a row; of a single-threaded one, the first that nobody disturbed, or the least disturbed."""
    if row["threads"] > 1:
        return sample(target, row["row"], scale)
    reports = []
    while len(reports) < TRIES and all(map(disturbed, reports)):
        reports.append(sample(target, row["row"], scale))
    return max(reports, key=lambda report: report["cpu_ns"] / report["wall_ns"])


def sample(target, row, scale):
    """One report of `row` on `target`; raises RuntimeError with a sentence if the program fails."""
    command = [target.program, "run", target.heap, row, "--scale", str(scale)]
    try:
        done = subprocess.run(
            command, env=target.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=TIME_LIMIT, check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise RuntimeError(f"no result after {TIME_LIMIT} seconds") from late
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise RuntimeError(f"exit status {done.returncode}: {words[-1] if words else 'no message'}")
    report = {}
    for line in done.stdout.splitlines():
        report.update(json.loads(line))
    if target.preload and os.path.realpath(report["provider"]) != os.path.realpath(target.preload):
        raise RuntimeError(f"malloc came from {report['provider']} instead of the preloaded library")
    return report


def collect(targets, rows, runs, scale, label):
    """Samples of all rows on all targets. In each round each row starts with the next target, so that no allocator always
    runs first, or always after the same other."""
    samples = Samples()
    broken = set()
    start, done, total = time.monotonic(), 0, runs * len(rows) * len(targets)
    for run in range(runs):
        for index, row in enumerate(rows):
            shift = (run + index) % len(targets)
            for target in targets[shift:] + targets[:shift]:
                done += 1
                name = row["row"]
                if (name, target.heap) in broken:
                    continue
                try:
                    report = quiet_sample(target, row, scale)
                except RuntimeError as failure:
                    broken.add((name, target.heap))
                    samples.failures.append(f"{label}: {target.heap} failed in {name}: {failure}")
                    continue
                samples.values.setdefault(name, {}).setdefault(target.heap, {})[run] = report
            progress(label, done, total, start)
    return samples


def progress(label, done, total, start):
    """Shows how far a face has come, on a terminal only."""
    if sys.stderr.isatty():
        left = (time.monotonic() - start) / done * (total - done)
        end = "\n" if done == total else ""
        print(f"\r{label}: {done} of {total} samples, {left:4.0f} s left ", end=end, file=sys.stderr, flush=True)


def fresh_programs(launcher, commands, preloads, runs):
    """{program: {heap: [report of rss_of]}} for small programs under each preloaded library."""
    results = {}
    environment = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "RSS_OF_PRELOAD")}
    heaps = list(preloads)
    for run in range(runs):
        for name, command in commands.items():
            for heap in heaps[run % len(heaps):] + heaps[: run % len(heaps)]:
                preload = {"RSS_OF_PRELOAD": str(preloads[heap])} if preloads[heap] else {}
                done = subprocess.run(
                    [launcher, *command], env={**environment, **preload}, stdout=subprocess.PIPE, text=True, check=True
                )
                results.setdefault(name, {}).setdefault(heap, []).append(json.loads(done.stdout))
    return results
