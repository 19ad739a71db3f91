"""chromium, headless: pages of scripts, layout, pictures, workers and frames, in a browser with all its processes.

Its program brings an allocator of its own, PartitionAlloc, and defines malloc, free, operator new and the rest itself: for
libraries that it loads, too. What is shown here is that such a program keeps working with the library preloaded into each of
its processes (browser, zygotes, renderers, GPU, utilities, crash handler); functions that it does not define, `reallocarray` or
`malloc_trim`, do come from the library. On the library itself run the launcher's shell and what that starts.
"""

import re

from .harness import Program
from .side import INPUTS, Failure

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--log-level=3",
]


def work(side):
    """a page of scripts, layout, canvas, streams, workers and frames: its text and its picture (own malloc, see the file)"""
    side.serves("sh", "-c", "exec grep --version")
    results = {}
    for number in range(side.amount(1, 4)):
        address = f"file://{INPUTS / 'page.html'}#{number + 1}"
        picture = side.work / f"picture{number}.png"
        command = ["chromium", *QUIET, f"--user-data-dir={side.work / 'profile'}", "--window-size=1000,800"]
        command += ["--timeout=60000", f"--screenshot={picture}", "--dump-dom", address]
        text = side.run(command, timeout=150)
        said = re.findall(rb"<p>(\w+: [^<]*)</p>", text)
        if len(said) < 9 or b"<title>done</title>" not in text:
            raise Failure(f"the page did not come to its end: {said}")
        results[f"text {number}"] = b"\n".join(said)
        results[f"rows {number}"] = text.count(b'class="row"')
        results[f"picture {number}"] = picture.read_bytes()
    return results


PROGRAM = Program("chromium", work, needs=["chromium"], starts=["chromium", "chrome_crashpad_handler", "exe", "grep"])
