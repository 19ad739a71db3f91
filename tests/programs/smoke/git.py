"""git: a history of thousands of commits, cloned, repacked by threads, checked, searched and merged."""

import random

from .harness import Program

IDENTITY = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A. Author",
    "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_COMMITTER_NAME": "A. Author",
    "GIT_COMMITTER_EMAIL": "author@example.org",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}


def history(commits, files):
    """A stream for git fast-import: `commits` commits on two branches, each of which edits some of `files` files."""
    rng = random.Random("history")
    lines = {number: [f"file {number} line {line} {rng.random()}" for line in range(120)] for number in range(files)}
    stream = []
    for commit in range(commits):
        branch = "side" if commit % 5 == 4 else "main"
        message = f"Commit {commit}\n\n" + "because of reasons " * (commit % 20)
        stream.append(f"commit refs/heads/{branch}\nmark :{commit + 1}\n")
        stream.append(f"committer A. Author <author@example.org> {1600000000 + commit * 60} +0000\n")
        stream.append(f"data {len(message)}\n{message}\n")
        if commit == 4:
            stream.append("from :1\n")
        # The branches edit different halves of the files, so that they merge without a conflict.
        for pair in rng.sample(range(files // 2), 3):
            number = pair * 2 + (branch == "side")
            for _ in range(4):
                lines[number][rng.randrange(len(lines[number]))] = f"changed in {commit} {rng.random()}"
            lines[number].insert(rng.randrange(len(lines[number])), f"new in {commit}")
            body = "\n".join(lines[number]) + "\n"
            stream.append(f"M 100644 inline dir{number % 10}/file{number}\ndata {len(body)}\n{body}\n")
    return "".join(stream).encode()


def work(side):
    """fast-import, commits, clone, repack -adf with threads, fsck, log, blame, grep, merge, bundle"""
    side.serves("git", "--version")

    def git(*arguments, repository="made", input=None):
        return side.run(["git", "-C", repository, *arguments], env=IDENTITY, input=input)

    git("init", "-q", "-b", "main", "made", repository=".")
    for name, value in (("gc.auto", "0"), ("pack.threads", "2"), ("grep.threads", "2"), ("index.threads", "2")):
        git("config", name, value)
    git("fast-import", "--quiet", input=history(commits=side.amount(800, 6000), files=60))
    git("reset", "-q", "--hard", "main")
    for number in range(side.amount(10, 80)):
        (side.work / "made" / f"note{number}").write_text(f"note {number}\n" * 2000)
        git("add", f"note{number}")
        git("commit", "-q", "-m", f"Note {number}")
    git("merge", "-q", "-m", "Merge side", "side")
    git("clone", "-q", "--no-local", "made", "copy", repository=".")

    for depth in ("20", "50"):
        git("repack", "-adfq", "--threads=2", "--window=20", f"--depth={depth}", repository="copy")
    git("gc", "-q", "--prune=now", repository="copy")
    git("bundle", "create", "-q", "../all.bundle", "--all", repository="copy")
    git("clone", "-q", "--mirror", "all.bundle", "mirror", repository=".")
    results = {}
    for name in ("made", "copy", "mirror"):
        git("fsck", "--full", "--strict", "--no-progress", repository=name)
        results[f"objects of {name}"] = git("cat-file", "--batch-all-objects", "--batch-check", repository=name)
    return results | {
        "head": git("rev-parse", "HEAD", repository="copy"),
        "log": git("log", "-p", "--stat", "-M", "--first-parent", f"-{side.amount(150, 1500)}", repository="copy"),
        "blame": git("blame", "-w", "-M", "dir0/file10", repository="copy"),
        "grep": git("grep", "-n", "-E", "changed in [0-9]*7 0[.]1", repository="copy"),
        "tree": git("ls-tree", "-r", "HEAD", repository="mirror"),
    }


PROGRAM = Program("git", work, needs=["git"], starts=["git"])
