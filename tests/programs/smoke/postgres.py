"""PostgreSQL: a server that forks for each client, under pgbench, then large sorts, joins and parallel queries."""

import os
import pwd
import re
import shutil
import signal

from .harness import Program
from .side import INPUTS, Failure

# pgbench keeps these equal: every transaction adds one and the same amount to an account, a teller and a branch.
BALANCES = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
       (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history),
       (SELECT count(*) FROM pgbench_history);
"""
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "shared_buffers": "32MB",
    "work_mem": "2MB",
    "max_parallel_workers_per_gather": "2",
    "min_parallel_table_scan_size": "0",
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "max_connections": "40",
    "dynamic_shared_memory_type": "mmap",
    # Else rows lie where chance has it: a scan begins where another, or one of several workers, was last; and rows go to what a
    # vacuum in the background has freed.
    "synchronize_seqscans": "off",
    "autovacuum": "off",
}


def account():
    """The user that the server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name, None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
            return name, name
        except KeyError:
            pass
    raise Failure("no account to run postgres as: it refuses to be root, and there is neither 'postgres' nor 'nobody'")


def work(side):
    """initdb, pgbench from several clients, parallel queries, sorts, JSON, an index build, a dump; balances checked"""
    name, user = account()
    side.serves("postgres", "--version")
    side.serves("pgbench", "--version")
    # The socket's path must be short (108 bytes), and both folders belong to the server's user.
    place, data = side.work / "run", side.work / "data"
    for folder in (place, data):
        folder.mkdir(mode=0o700)
        if user:
            shutil.chown(folder, user)
    client = {"PGHOST": str(place), "PGUSER": name, "PGDATABASE": "postgres", "HOME": str(place)}

    def run(*argv, input=None):
        return side.run([*argv], input=input, env=client, user=user, cwd=place)

    run("initdb", "-D", data, "-U", name, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    command = ["postgres", "-D", data, "-k", place]
    for key, value in SETTINGS.items():
        command += ["-c", f"{key}={value}"]
    clients, transactions = 6, side.amount(300, 4000)
    with side.start(command, env=client, user=user, cwd=place) as server:
        server.until(lambda: b"ready to accept connections" in server.err.read_bytes(), "ready")
        run("pgbench", "-i", "-q", "-s", side.amount(1, 10))
        for _ in range(2):
            load = ["-n", "-c", clients, "-j", "2", "-t", transactions, "--random-seed=42"]
            run("pgbench", *load)
            run("pgbench", "-C", "-S", "-n", "-c", "4", "-j", "2", "-t", side.amount(25, 200), "--random-seed=43")
        server.check_mapped()
        psql = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]
        balances = run(*psql, input=BALANCES.encode())
        script = (INPUTS / "work-postgres.sql").read_bytes().replace(b":rows:", b"%d" % side.amount(60_000, 600_000))
        results = {"balances": balances, "queries": run(*psql, input=script)}
        # The dump, but for the random key that guards it.
        results["dump"] = re.sub(rb"\n\\(un)?restrict .*", b"", run("pg_dump", "-t", "orders"))
        server.stop(signal.SIGINT)
    *sums, count = balances.split(b"|")
    if len(set(sums)) != 1 or int(count) != 2 * clients * transactions:
        raise Failure(f"the balances of pgbench do not add up: {balances.decode()}")
    return results


PROGRAM = Program(
    "postgres",
    work,
    needs=["postgres", "initdb", "pgbench", "psql", "pg_dump"],
    starts=["postgres", "initdb", "pgbench", "psql", "pg_dump"],
)
