"""Builds and installs what a comparison needs, and says what it could not get."""

import glob
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys

BENCHES = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCHES.parent

RUST_FEATURES = ("terrace", "mimalloc", "jemalloc", "snmalloc")
DEBIAN_RIVALS = {
    "jemalloc": ("libjemalloc2", "libjemalloc.so.2"),
    "tcmalloc": ("libtcmalloc-minimal4", "libtcmalloc_minimal.so.4"),
}

MIMALLOC_FLAGS = (
    # As mimalloc's own release build of its shared library sets them: the names of the C library are aliases of the
    # allocator's functions, and thread-local storage is initial-exec, so a call takes no detour.
    "-O3 -std=gnu11 -DNDEBUG -DMI_BUILD_RELEASE -DMI_CMAKE_BUILD_TYPE=release -DMI_MALLOC_OVERRIDE -DMI_SHARED_LIB"
    " -DMI_SHARED_LIB_EXPORT -fPIC -fvisibility=hidden -ftls-model=initial-exec -fno-builtin-malloc -w -shared"
).split()


class Unavailable(Exception):
    """Something could not be built or installed; the message is a sentence for the report."""


def run_checked(command, what, **options):
    """Runs a command; raises Unavailable with its last words if it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options)
    except OSError as error:
        raise Unavailable(f"{what}: {error}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("error")), lines[-1] if lines else "no message")
        raise Unavailable(f"{what}: exit status {done.returncode}: {reason.strip()}")
    return done.stdout


class Workshop:
    """Where things are built, and what has been missed so far."""

    def __init__(self, install=True, jobs=None):
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute()
        self.root_target = target
        self.target = target / "bench"
        self.store = self.target / "compare"
        self.store.mkdir(parents=True, exist_ok=True)
        self.install = install
        self.jobs = ["-j", str(jobs)] if jobs else []
        self.missing = []
        self.versions = {}

    def attempt(self, action, *arguments):
        """The result of an action, or None after noting why it is not to be had."""
        try:
            return action(*arguments)
        except Unavailable as reason:
            self.missing.append(str(reason))
            print(f"not available: {reason}", file=sys.stderr)
            return None

    # Programs of this package.

    def programs(self, features, name):
        """Builds the package with these features; keeps the programs under `name`; returns their folder."""
        print(f"building the benchmark programs with {', '.join(features) or 'no features'}", file=sys.stderr)
        command = ["cargo", "build", "--release", "--quiet", "--bins", *self.jobs, "--features", ",".join(features)]
        run_checked(command, f"benchmark programs ({name})", cwd=BENCHES, env=self.environment(self.target))
        folder = self.store / name
        folder.mkdir(exist_ok=True)
        for program in ("rust_face", "c_face", "rss_of"):
            # Through a new name, since the old file may be running.
            fresh = folder / f"{program}.new"
            shutil.copy2(self.target / "release" / program, fresh)
            fresh.replace(folder / program)
        return folder

    def rust_faces(self, wanted):
        """{heap: program} for the Rust face. mimalloc's two versions cannot share a program, nor need a rival that does
        not build keep the others from running."""
        features = [feature for feature in RUST_FEATURES if feature in wanted or f"{feature}-v3" in wanted]
        folder = self.attempt(self.programs, features, "faces")
        if folder is None:
            usable = [f for f in features if self.attempt(self.programs, [f], f"only-{f}") is not None]
            folder = self.programs(usable, "faces")
            features = usable
        heaps = {name: folder / "rust_face" for name in ("glibc", "nothing")}
        heaps.update({("mimalloc-v3" if f == "mimalloc" else f): folder / "rust_face" for f in features})
        if "mimalloc-v2" in wanted:
            folder = self.attempt(self.programs, ["mimalloc-v2"], "mimalloc-v2")
            if folder is not None:
                heaps["mimalloc-v2"] = folder / "rust_face"
        return {name: program for name, program in heaps.items() if name in wanted or name == "nothing"}

    @staticmethod
    def environment(target):
        return {**os.environ, "CARGO_TARGET_DIR": str(target)}

    # Shared objects to preload.

    def preloads(self, wanted, terrace_library=None):
        """{heap: shared object} for the C face; None stands for the C library's own."""
        makers = {
            "terrace": lambda: self.terrace(terrace_library),
            "mimalloc-v3": lambda: self.mimalloc("v3"),
            "mimalloc-v2": lambda: self.mimalloc("v2"),
            **{name: (lambda name=name: self.debian(name)) for name in DEBIAN_RIVALS},
        }
        found = {name: self.attempt(make) for name, make in makers.items() if name in wanted}
        found = {name: library for name, library in found.items() if library is not None}
        if "glibc" in wanted:
            found["glibc"] = None
            self.versions["glibc"] = " ".join(platform.libc_ver())
        return found

    def terrace(self, library):
        """libterrace.so: the given one, or the one that the root workspace builds."""
        if library is None:
            print("building libterrace.so", file=sys.stderr)
            command = ["cargo", "build", "--release", "--quiet", "--workspace", *self.jobs]
            run_checked(command, "libterrace.so", cwd=ROOT, env=self.environment(self.root_target))
            library = self.root_target / "release" / "libterrace.so"
        library = pathlib.Path(library).absolute()
        if not library.exists():
            raise Unavailable(f"libterrace.so: {library.name} was not built")
        return library

    def mimalloc(self, version):
        """mimalloc as a shared object, from the C sources in the crate that the Rust face uses, so both are one version."""
        metadata = run_checked(
            ["cargo", "metadata", "--format-version", "1", "--features", "mimalloc"], "mimalloc's sources", cwd=BENCHES
        )
        packages = json.loads(metadata)["packages"]
        crate = next(package for package in packages if package["name"] == "libmimalloc-sys")
        sources = pathlib.Path(crate["manifest_path"]).parent / "c_src" / "mimalloc" / version
        library = self.store / f"libmimalloc-{version}.so"
        include = [f"-I{sources / 'include'}", f"-I{sources / 'src'}"]
        command = ["cc", *MIMALLOC_FLAGS, *include, str(sources / "src" / "static.c"), "-lpthread", "-o", str(library)]
        run_checked(command, f"mimalloc {version} as a shared object")
        self.versions[f"mimalloc-{version}"] = f"libmimalloc-sys {crate['version']}"
        return library

    def debian(self, name):
        """A rival from Debian's packages."""
        package, soname = DEBIAN_RIVALS[name]
        library = self.find_library(soname)
        if library is None and self.install and shutil.which("apt-get"):
            print(f"installing {package}", file=sys.stderr)
            quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
            run_checked(["apt-get", "update", "-qq"], f"{name} (package lists)", **quiet)
            run_checked(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], name, **quiet)
            library = self.find_library(soname)
        if library is None:
            raise Unavailable(f"{name}: no {soname} on this machine; install the package {package}")
        if shutil.which("dpkg-query"):
            query = ["dpkg-query", "--showformat=${Version}", "--show", package]
            self.versions[name] = self.attempt(run_checked, query, f"{name}'s version") or "unknown"
        return library

    @staticmethod
    def find_library(soname):
        folders = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
        found = [path for folder in folders for path in glob.glob(f"{folder}/{soname}")]
        return pathlib.Path(found[0]) if found else None

    def hello(self):
        """The small C program whose resident memory is measured."""
        program = self.store / "hello"
        run_checked(["cc", "-O2", str(BENCHES / "programs" / "hello.c"), "-o", str(program)], "the hello program")
        return program
