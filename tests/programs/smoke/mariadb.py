"""MariaDB: a server with a thread for each connection, under mariadb-slap and sysbench, then large queries and a dump."""

import os

from .harness import Program
from .side import INPUTS, Failure

SYSBENCH = "/usr/share/sysbench/oltp_read_write.lua"
# What no event of sysbench changes: it deletes and inserts a row of the same number.
INVARIANTS = "SELECT count(*), sum(id) FROM sbtest1; SELECT count(*), sum(id) FROM sbtest2; CHECK TABLE sbtest1, sbtest2"
SETTINGS = {
    "innodb-buffer-pool-size": "32M",
    "innodb-log-file-size": "16M",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-flush-method": "nosync",
    "thread-cache-size": "4",
    "max-connections": "60",
    "sort-buffer-size": "256K",
    "tmp-memory-table-size": "1M",
}


def work(side):
    """mariadb-slap with connections that come and go, sysbench's transactions, sorts, JSON, windows, a dump read back"""
    side.serves("mariadbd", "--version")
    side.serves("sysbench", "--version")
    data, socket = side.work / "data", side.work / "socket"
    identity = ["--user=root"] if os.geteuid() == 0 else []
    side.run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        + ["--skip-name-resolve", "--skip-test-db", *identity]
    )
    place = ["--no-defaults", f"--socket={socket}"]
    client = [*place, "--user=root"]

    def query(text, *options):
        return side.run(["mariadb", *client, "--batch", "--raw", *options], input=text)

    server_options = [f"--{name}={value}" for name, value in SETTINGS.items()]
    command = ["mariadbd", *place, f"--datadir={data}", "--skip-networking", "--pid-file=pid", *server_options, *identity]
    results = {}
    with side.start(command) as server:
        server.until(lambda: b"ready for connections" in server.err.read_bytes(), "ready")
        for engine, detach in (("InnoDB", 7), ("MyISAM", 0)):
            side.run(
                ["mariadb-slap", *client, "--auto-generate-sql", "--auto-generate-sql-load-type=mixed", f"--engine={engine}"]
                + ["--auto-generate-sql-secondary-indexes=2", "--number-char-cols=4", "--number-int-cols=3"]
                + [f"--detach={detach}", "--concurrency=4,16", f"--number-of-queries={side.amount(1_000, 20_000)}"]
            )
        server.check_mapped()
        query(b"CREATE DATABASE sbtest")
        bench = ["sysbench", SYSBENCH, "--db-driver=mysql", f"--mysql-socket={socket}", "--mysql-user=root"]
        bench += ["--tables=2", f"--table-size={side.amount(2_000, 50_000)}", "--threads=6", "--rand-seed=7"]
        side.run([*bench, "prepare"])
        report = side.run([*bench, f"--events={side.amount(300, 8_000)}", "--time=0", "--mysql-ignore-errors=1213", "run"])
        if b"General statistics" not in report:
            raise Failure("sysbench did not come to its end")
        results["invariants"] = query(INVARIANTS.encode(), "sbtest")
        script = (INPUTS / "work-mariadb.sql").read_bytes().replace(b":rows:", b"%d" % side.amount(20_000, 300_000))
        results["queries"] = query(script)
        dump = side.run(["mariadb-dump", *client, "--skip-dump-date", "shop"])
        query(b"CREATE DATABASE again")
        query(dump, "again")
        results["dump"] = side.run(["mariadb-dump", *client, "--skip-dump-date", "--skip-comments", "again"])
        server.check_mapped()
        server.stop()
    return results


PROGRAM = Program(
    "mariadb",
    work,
    needs=["mariadbd", "mariadb-install-db", "mariadb-slap", "mariadb", "mariadb-dump", "sysbench"],
    starts=["mariadbd", "mariadb-slap", "mariadb", "mariadb-dump", "sysbench"],
)
