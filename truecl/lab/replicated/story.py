"""`lha_lab demo --vm`: a database on a replicated volume loses the node that it runs on, in mid-write.

Two nodes, no shared storage: DRBD on LVM, ext4, PostgreSQL, a floating address. As in the other demo nothing is staged.
"""

import time

from truecl.lab.demo import PATIENCE, Telling
from truecl.lab.errors import LabError
from truecl.lab.probing import ProbeResult
from truecl.lab.replicated import app
from truecl.lab.replicated.cluster import Cluster, acknowledged

FIRST, SECOND = "n1", "n2"
WRITING = 3.0
"""Seconds for which the client has written when the power fails."""


class Story(Telling):
    def tell(self) -> None:
        cluster = Cluster(self.lab)
        app.prepare(self.lab)
        self.say("two nodes with kernels and disks of their own, nothing shared; form the cluster")
        self.must(FIRST, "lha_form", "--verbose")
        self.say("build the application's storage: a logical volume on each, replicated by DRBD, ext4 on it")
        self.must(FIRST, "lha_buildapp", "-A", app.APP, "--create", "-V")
        self.say("start it: PostgreSQL and a floating address")
        self.must(FIRST, "lha_startapp", "-A", app.APP, "-V")
        self.write("(the program makes its data directory first)\n")
        cluster.wait("the database's first answer", cluster.answers)
        self.must(FIRST, "lha_stat", "-A", app.APP)
        app.make_table(self.lab)
        told = self.power_failure()
        self.must(SECOND, "lha_log", "--timeline", "-A", app.APP)
        self.all_there(told)
        self.come_back(cluster)
        self.say(f"move the database back to {FIRST}")
        self.must(FIRST, "lha_moveapp", "-A", app.APP, "-N", FIRST, "-V")
        self.wait_for("the database's answer", cluster.answers)
        self.must(FIRST, "lha_stat", "-A", app.APP)
        self.all_there(told)
        self.say("stop the application, dissolve the cluster")
        self.must(FIRST, "lha_stopapp", "-A", app.APP, "-V")
        self.must(FIRST, "lha_dissolve", "--verbose")

    def power_failure(self) -> set[str]:
        """Returns the names of the rows that were acknowledged."""
        self.say(
            f"a client commits rows one by one and notes each acknowledged one; cut the power of {FIRST} in mid-write"
        )
        with self.lab.writer(app.TARGET, "row") as writing:
            writing.wait_answer(PATIENCE, node=FIRST)
            time.sleep(WRITING)
            self.lab.kill(FIRST)
            writing.wait_answer(PATIENCE, node=SECOND)
            time.sleep(WRITING / 3)
        self.write(f"{summary(writing.result)}\n")
        return acknowledged("row", writing.result.answered)

    def all_there(self, told: set[str]) -> None:
        """Raises LabError when a row is not."""
        lost = app.lost(self.lab, told)
        if lost:
            raise LabError(f"{len(lost)} acknowledged rows are lost: {', '.join(lost[:5])} …")
        self.write(f"of {len(told)} acknowledged rows all are there\n")

    def come_back(self, cluster: Cluster) -> None:
        self.say(f"{FIRST} gets its power back, joins, and takes over what it has missed")
        self.lab.boot(FIRST)
        self.wait_for(f"{FIRST} in the cluster", lambda: self.node_up(SECOND, FIRST))
        self.must(SECOND, "lha_stat", "-A", app.APP)
        self.wait_for("equal copies", cluster.equal)
        self.must(SECOND, "lha_stat", "-A", app.APP)


def summary(result: ProbeResult) -> str:
    nodes = ", then ".join(f"{count} on {node}" for node, count in result.nodes.items())
    return f"{result.answers} rows acknowledged, {nodes}; between two of them at most {result.longest * 1000:.0f} ms"
