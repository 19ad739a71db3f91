"""java: a program compiled in memory and run, whose virtual machine and native buffers live on malloc."""

from .harness import Program
from .side import INPUTS


def work(side):
    """collections, threads, direct buffers, deflate, on a small heap with two collector threads"""
    side.serves("java", "-version")
    options = ["-Xmx256m", "-XX:ParallelGCThreads=2", "-XX:ConcGCThreads=1", "-XX:-UsePerfData"]
    results = {}
    for collector in ("G1", "Serial") if not side.quick else ("G1",):
        command = ["java", *options, f"-XX:+Use{collector}GC", INPUTS / "Work.java", side.amount(1, 8)]
        results[collector] = side.run(command)
    return results


PROGRAM = Program("java", work, needs=["java", "javac"], starts=["java"])
