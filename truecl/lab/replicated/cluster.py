"""The cluster of two nodes with kernels of their own that has the database: the operator's commands, and what is.

What DRBD's kernels say is asked of them (`Replica`), not of truecl.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from truecl.lab.cluster import Lab, Result
from truecl.lab.errors import LabError
from truecl.lab.replicated import app

PATIENCE = 60.0
"""Seconds to wait for a state of the cluster."""
LINE = re.compile(r"^ *(\d+): cs:(\S+) ro:(\S+)/(\S+) ds:(\S+)/(\S+) \S+ (\S)\S*\n.* oos:(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Replica:
    """A line of a node's /proc/drbd."""

    minor: int
    connection: str
    role: str
    peer_role: str
    disk: str
    peer_disk: str
    suspended: bool
    out_of_sync: int
    """Kilobytes."""

    @property
    def equal(self) -> bool:
        """Both copies are, by this kernel's word."""
        whole = ("Connected", "UpToDate", "UpToDate", 0)
        return (self.connection, self.disk, self.peer_disk, self.out_of_sync) == whole


class Cluster:
    """All of it raises LabError."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes = tuple(node.name for node in lab.description.nodes)

    def other(self, node: str) -> str:
        return next(each for each in self.nodes if each != node)

    # ---- the operator -----------------------------------------------------------------------------------------------

    def run(self, node: str, *argv: str, timeout: float = 120.0) -> Result:
        """A command that must end well."""
        return self.lab.exec(node, argv, timeout).check()

    def built(self) -> None:
        """Formed, the application built and running, its table made."""
        app.prepare(self.lab)
        self.run(self.nodes[0], "lha_form")
        self.run(self.nodes[0], "lha_buildapp", "-A", app.APP, "--create")
        self.run(self.nodes[0], "lha_startapp", "-A", app.APP)
        self.wait("the database answers", self.answers)
        app.make_table(self.lab)
        self.wait("both copies are equal", self.equal)

    def stat(self, node: str) -> dict[str, Any] | None:
        """`lha_stat --json`; None where nobody answers."""
        try:
            said = self.lab.exec(node, ["lha_stat", "--json", "-t", "2"], 15.0)
        except LabError:
            return None
        found: dict[str, Any] | None = json.loads(said.out) if said.code == 0 else None
        return found

    def row(self) -> dict[str, Any] | None:
        """The application's, by the word of the first node that answers and follows a master."""
        for node in self.nodes:
            if self.lab.state(node) == "on" and (found := self.stat(node)) is not None and found["master"]:
                return next((row for row in found["apps"] if row["name"] == app.APP), None)
        return None

    def owner(self) -> str:
        """Where the application runs; '' for nowhere."""
        row = self.row()
        return str(row["node"]) if row is not None and row["status"] == "UP" else ""

    def whole(self, at: str | None = None) -> bool:
        """Every node is up, reported and has all its daemons."""
        found = self.stat(at or self.nodes[0])
        return found is not None and all(
            row["status"] == "UP" and row["reported"] and set(row["daemons"].values()) == {"up"}
            for row in found["nodes"]
        )

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise LabError(f"waited {seconds:.0f} s in vain for: {what}")
            time.sleep(0.1)
        return found

    def answers(self) -> bool:
        try:
            return app.ask(self.lab, "select 1", 5.0) == ["1"]
        except LabError:
            return False

    def copies(self) -> dict[str, tuple[str, float]]:
        """What the log says of each node's copy, and since when (wall clock)."""
        row = self.wait("a master's word on the copies", self.row)
        return {copy["node"]: (copy["state"], copy["since"]) for copy in row["copies"]}

    # ---- the kernels ------------------------------------------------------------------------------------------------

    def shell(self, node: str, script: str, *arguments: str) -> str:
        """What a script in a node prints."""
        return self.lab.exec(node, ["/bin/sh", "-ec", script, *arguments], 30.0).check().out

    def replica(self, node: str) -> Replica | None:
        """None when the node is off or has none attached."""
        if self.lab.state(node) != "on":
            return None
        match = LINE.search(self.shell(node, "cat /proc/drbd 2>/dev/null || true"))
        if match is None:
            return None
        minor, connection, role, peer_role, disk, peer_disk, flag, oos = match.groups()
        return Replica(int(minor), connection, role, peer_role, disk, peer_disk, flag == "s", int(oos))

    def equal(self) -> bool:
        """By both kernels' word."""
        return all(replica is not None and replica.equal for replica in map(self.replica, self.nodes))

    def minor(self) -> int:
        """Of the database's device, on every node."""
        for node in self.nodes:
            if (replica := self.replica(node)) is not None:
                return replica.minor
        raise LabError("no kernel knows the database's device")

    def port(self) -> int:
        """The replication's, by the first kernel that knows it."""
        for node in self.nodes:
            if self.lab.state(node) == "on":
                said = self.shell(node, f"drbdsetup show {app.APP} 2>/dev/null || true")
                if match := re.search(r"\d+\.\d+\.\d+\.\d+:(\d+)", said):
                    return int(match[1])
        raise LabError(f"no kernel knows the resource {app.APP}")

    def generations(self, node: str) -> tuple[str, ...]:
        """DRBD's generation identifiers of a node's copy: current, bitmap, and two older ones. Without the lowest bit,
        which says only whether it is primary."""
        replica = self.replica(node)
        if replica is None:
            raise LabError(f"no replica on {node}")
        said = self.shell(node, f"drbdsetup show-gi {replica.minor}")
        match = re.search(r"([0-9A-F]{16}):([0-9A-F]{16}):([0-9A-F]{16}):([0-9A-F]{16})", said)
        if match is None:
            raise LabError(f"no generation identifiers on {node}: {said}")
        return tuple(f"{int(word, 16) & ~1:016X}" for word in match.groups())

    def agree(self) -> list[str]:
        """What keeps the copies from being the same data; empty when they are."""
        problems = [
            f"{node}: {replica}" for node in self.nodes if (replica := self.replica(node)) is None or not replica.equal
        ]
        current = {node: self.generations(node)[0] for node in self.nodes} if not problems else {}
        if len(set(current.values())) > 1:
            problems.append(f"generation identifiers differ: {current}")
        return problems


def acknowledged(prefix: str, numbers: Sequence[int]) -> set[str]:
    """Names of the rows that a writer was told are committed."""
    return {f"{prefix}-{number}" for number in numbers}
