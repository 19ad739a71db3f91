"""firefox, headless: a page of scripts, a table and a drawing, in a browser with all its processes.

Like Chromium's, its program has an allocator of its own. But it defines only some of C++'s operators, and leaves those that
know a block's size to the library: that these free what the program's own operators gave is shown here.
"""

from .harness import Program
from .side import INPUTS


def work(side):
    """a page of scripts, a table and a drawing: its picture (own malloc and some own operators, see the file)"""
    results = {}
    for number in range(side.amount(1, 3)):
        picture, profile = side.work / f"picture{number}.png", side.work / f"profile{number}"
        profile.mkdir()
        command = ["firefox-esr", "--headless", "--no-remote", "--profile", profile, "--window-size", "800,700"]
        side.run([*command, "--screenshot", picture, f"file://{INPUTS / 'plain.html'}"], timeout=150)
        results[f"picture {number}"] = picture.read_bytes()
    return results


PROGRAM = Program("firefox", work, needs=["firefox-esr"], starts=["firefox-esr"])
