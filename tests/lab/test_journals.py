"""A journal that rotted while it was in use: its daemon does not start again with it, says so, and the others go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clusterlib import Cluster, kill, light, until

pytestmark = pytest.mark.lab

APPS = {"light": light(1)}
FIRST_PAGE = 32 + 24 + 1000
"""In the write-ahead log: of the first frame that it has. SQLite takes the log for empty then."""
FLIP = """
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]))
    (byte,) = file.read(1)
    file.seek(int(sys.argv[2]))
    file.write(bytes([byte ^ 1]))
"""


@contextmanager
def damaged(cluster: Cluster, node: str, daemon: str) -> Iterator[str]:
    """One bit of its journal is another one, and the daemon dies; then the bit is as it was. Yields the file's name."""
    path = f"/var/lib/truecl/{daemon}/journal.db"

    def flip() -> None:
        cluster.run(node, "/usr/bin/python3", "-c", FLIP, f"{path}-wal", str(FIRST_PAGE))

    pid = cluster.pid(node, daemon)
    flip()
    kill(pid, 9)
    try:
        yield path
    finally:
        flip()


def test_a_rotten_log_keeps_one_voter_out_and_lha_stat_says_why(cluster: Cluster) -> None:
    cluster.start("light", "-N", "n1")
    with damaged(cluster, "n3", "lockd") as path:
        until(lambda: "JournalDamaged" in cluster.log("n3", "lockd"), "it looks at its journal")
        said = cluster.log("n3", "lockd")
        assert f"{path}: " in said and "saves are missing" in said and "lha_node remove" in said, said

        def shown() -> bool:
            row = next(row for row in cluster.stat("n1")["nodes"] if row["name"] == "n3")
            return "journal cannot be used" in row["daemons"]["lockd"]

        until(shown, "lha_stat says it, on another node")
        cluster.move("light", "-N", "n2")
        cluster.move("light", "-N", "n1")
    cluster.wait_up(seconds=40)
    cluster.stop("light")


def test_a_rotten_record_of_what_ran_keeps_a_node_out(cluster: Cluster) -> None:
    """reqd might start a generation again that it had started: nothing starts on that node, and nothing lies."""
    cluster.start("light", "-N", "n1")
    with damaged(cluster, "n2", "reqd") as path:
        until(lambda: "JournalDamaged" in cluster.log("n2", "reqd"), "it looks at its journal")
        assert f"{path}: " in cluster.log("n2", "reqd")
        until(lambda: not cluster.pid("n2", "reqd"), "it ends")
        refused = cluster.move("light", "-N", "n2", code=None)
        assert refused.code != 0 and cluster.app("light")["node"] == "n1"
    cluster.wait_up(seconds=60)
    cluster.stop("light")


def test_journals_of_another_node_are_refused(cluster: Cluster) -> None:
    own, copy = "/var/lib/truecl/lockd/journal.db", Path("/shared/lockd.db")
    cluster.run("n1", "sh", "-c", f"cp {own} {copy}; cp {own}-wal {copy}-wal; cp {own}.count {copy}.count")
    cluster.run("n3", "sh", "-c", f"mkdir /tmp/own; cp -a {own}* /tmp/own")
    cluster.run("n3", "sh", "-c", f"for part in '' -wal .count; do cat {copy}$part > {own}$part; done")
    kill(cluster.pid("n3", "lockd"), 9)
    until(lambda: "is that of lockd on node 'n1'" in cluster.log("n3", "lockd"), "it looks whose it is")
    cluster.run("n3", "sh", "-c", "cp -a /tmp/own/* /var/lib/truecl/lockd/")
    cluster.wait_up(seconds=60)
