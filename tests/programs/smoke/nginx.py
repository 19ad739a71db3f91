"""nginx: two workers under wrk, static and compressed pages, a proxy to itself, new workers under load."""

import gzip
import http.client
import os
import random
import re
import signal

from .harness import Program
from .processes import free_port

CONFIGURATION = """
daemon off;
{identity}
worker_processes 2;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    default_type application/octet-stream;
    access_log off;
    keepalive_requests 50;
    client_body_temp_path temp_body; proxy_temp_path temp_proxy; fastcgi_temp_path temp_fastcgi;
    uwsgi_temp_path temp_uwsgi; scgi_temp_path temp_scgi;
    types {{ text/html html; }}
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location /gzip/ {{ alias {root}/; gzip on; gzip_comp_level 5; gzip_min_length 100; }}
        location /proxy/ {{ proxy_pass http://127.0.0.1:{port}/; proxy_buffers 8 16k; proxy_busy_buffers_size 32k; }}
        location /ssi/ {{ alias {root}/; ssi on; ssi_types *; }}
    }}
}}
"""
PATHS = [
    "/empty",
    "/small.html",
    "/page.html",
    "/big.bin",
    "/gzip/page.html",
    "/gzip/small.html",
    "/proxy/page.html",
    "/proxy/big.bin",
    "/proxy/gzip/page.html",
    "/ssi/parts.html",
]


def make_pages(root):
    """Writes the pages that are served."""
    rng = random.Random("nginx")
    prose = " ".join(rng.choice(["amber", "birch", "cedar", "dune"]) + str(rng.randrange(999)) for _ in range(30_000))
    root.mkdir()
    (root / "empty").write_bytes(b"")
    (root / "small.html").write_text("<p>small</p>" * 20)
    (root / "page.html").write_text(f"<html>{prose}</html>")
    (root / "big.bin").write_bytes(rng.randbytes(3_000_000))
    (root / "parts.html").write_text('<!--#include virtual="/small.html" -->' * 20)


def fetch(port, path):
    """The body of a page, unpacked when it came compressed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == 200, f"{path}: status {response.status}"
    return gzip.decompress(body) if response.headers["Content-Encoding"] == "gzip" else body


def load(side, server, port, path, replace):
    """Runs wrk on a path and lets nginx `replace` its workers meanwhile, or not; every page must arrive."""
    workers = set(server.workers())
    seconds = side.amount(1, 6)
    command = ["wrk", "-t2", "-c24", f"-d{seconds}s", "--timeout", "20s", "-H", "Accept-Encoding: gzip"]
    with side.start([*command, f"http://127.0.0.1:{port}{path}"]) as wrk:
        if replace:
            server.process.send_signal(signal.SIGHUP)
            server.until(lambda: set(server.workers()) - workers, "running new workers")
        server.check_mapped()
        wrk.wait(seconds + 60)
    report = wrk.out.read_bytes()
    # A worker that leaves closes idle connections, which wrk counts as errors of reading.
    errors = rb"Non-2xx|unable to|connect [1-9]|timeout [1-9]" if replace else rb"Non-2xx|unable to|Socket errors"
    if re.search(errors, report) or not re.search(rb"[1-9]\d* requests in", report):
        raise wrk.failure("did not get all its pages")
    if replace:
        # The workers that were replaced end when their connections have; no allocator may keep them from it.
        server.until(lambda: not workers & set(server.workers()), "rid of its old workers")


def work(side):
    """two workers under wrk: static, gzip, proxy and included pages; new workers under load; bodies compared"""
    side.serves("nginx", "-v")
    port = free_port()
    make_pages(side.work / "pages")
    identity = "user root root;" if os.geteuid() == 0 else ""
    configuration = side.work / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(identity=identity, port=port, root=side.work / "pages"))
    bodies = {}
    with side.start(["nginx", "-p", side.work, "-e", "stderr", "-c", configuration]) as server:
        server.until(lambda: fetch(port, "/empty") == b"", "answering")
        server.until(lambda: len(server.workers()) == 2, "running two workers")
        for path in ("/small.html", "/gzip/page.html", "/proxy/page.html", "/ssi/parts.html"):
            load(side, server, port, path, replace=False)
        load(side, server, port, "/gzip/page.html", replace=True)
        for path in PATHS:
            bodies[path] = fetch(port, path)
        server.stop(signal.SIGQUIT)
    pages = side.work / "pages"
    if bodies["/proxy/big.bin"] != (pages / "big.bin").read_bytes():
        raise AssertionError("nginx served another file than it was given")
    return bodies


PROGRAM = Program("nginx", work, needs=["nginx", "wrk"], starts=["nginx", "wrk"])
