"""cargo: this very project, built offline from a copy of its sources, to the very same files.

rustc brings an allocator of its own; cargo, the linker and the build scripts run on the library.
"""

import hashlib
import os
import shutil
from pathlib import Path

from .harness import Program

PROJECT = Path(__file__).resolve().parents[3]
LEFT_OUT = shutil.ignore_patterns("target", ".git", "__pycache__", "node_modules")


def homes():
    """Where cargo and rustup keep their things; commands get another home folder here."""
    home = Path.home()
    places = {"CARGO_HOME": home / ".cargo", "RUSTUP_HOME": home / ".rustup"}
    return {name: os.environ.get(name) or str(place) for name, place in places.items()}


def work(side):
    """the root crate (in full: the workspace) built from a copy of the sources, offline; all libraries compared"""
    environment = homes() | {"CARGO_INCREMENTAL": "0", "CARGO_TERM_COLOR": "never", "CARGO_NET_OFFLINE": "true"}
    side.serves("cargo", "--version", env=environment)
    shutil.copytree(PROJECT, side.work / "project", symlinks=True, ignore=LEFT_OUT)
    what = side.amount(["--package", "terrace"], ["--workspace", "--release"])
    build = ["cargo", "build", "--offline", "--jobs", "1", *what, "--target-dir", side.work / "target"]
    side.run(build, cwd=side.work / "project", env=environment, timeout=900)
    tree = side.run(["cargo", "tree", "--offline", "--workspace"], cwd=side.work / "project", env=environment)
    made = [path for path in (side.work / "target").rglob("*") if path.suffix in (".rlib", ".a", ".so", ".rmeta")]
    hashes = {str(path.relative_to(side.work)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(made)}
    return {"tree": tree} | hashes


PROGRAM = Program("cargo", work, needs=["cargo", "cc"], starts=["cargo", "rustc", "cc"])
