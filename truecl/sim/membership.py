"""Nodes come and go on bad days: the operator's part of lha_node add and remove, and what must hold meanwhile.

The universe has all machines; the cluster begins without the last ones. What the commands do by way of files is done
here by hand: the bundle (a journal that waits for its first snapshot), and the versions of the configuration.
"""

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from truecl.core.contract import Event, Output
from truecl.core.lockd import Lockd
from truecl.core.raft import Raft, Role
from truecl.core.raft.journal import LOG, SNAPSHOT
from truecl.model.ids import CLUSTERD, LOCKD, AppName, Index, NodeName, Term
from truecl.model.membership import Membership
from truecl.sim.cluster import Violation
from truecl.wire.messages import Reply, Request
from truecl.wire.raft import Entry

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine
    from truecl.sim.process import Process
    from truecl.sim.reconfiguration import Reconfiguration

AGAIN = 3.0
"""Seconds after which the operator repeats a command whose end he did not see."""


class Growth:
    """One operator, who finishes one change before the next."""

    def __init__(self, cluster: "Cluster", reconfiguration: "Reconfiguration") -> None:
        self._cluster, self._reconfiguration = cluster, reconfiguration
        self._wish: tuple[str, NodeName] | None = None
        self._on = True
        self._number = 0

    def change(self) -> None:
        """Some node in or out, if none is on its way."""
        if self._wish is not None:
            return
        cluster, random = self._cluster, self._cluster.random
        inside = [name for name in cluster.names if name not in cluster.outside]
        if cluster.outside and (len(inside) < 3 or random.random() < 0.6):
            node = random.choice(cluster.outside)
            self._wish = ("add", node)
            self._invite(cluster.machines[node])
        else:
            self._wish = ("remove", random.choice(inside))
        cluster.note("operator", f"lha_node {self._wish[0]} {self._wish[1]}")
        self._ask()

    def end(self) -> None:
        """No new wishes; the last one is repeated until it has an end."""
        self._on = False

    @property
    def busy(self) -> bool:
        return self._wish is not None

    def _invite(self, machine: "Machine") -> None:
        """The configuration names it, and it has its bundle: a log that never begins by itself."""
        cluster = self._cluster
        cluster.outside = tuple(name for name in cluster.outside if name != machine.name)
        self._reconfiguration.nodes([name for name in cluster.names if name not in cluster.outside])
        self._reconfiguration.bring(machine)
        if LOCKD not in machine.journals:
            journal = machine.journals[LOCKD] = cluster.variant.journal()
            timing = cluster.configuration.cluster.timing
            born = Raft(machine.name, cluster.configuration.cluster.name, Membership(), {}, Random(0), timing)
            journal.write(born.take().saves)
            journal.flush()
        if not machine.powered:
            cluster.power_on(machine)

    def _ask(self) -> None:
        if self._wish is None:
            return
        cluster, (verb, node) = self._cluster, self._wish
        others = [name for name in cluster.names if name not in (node, *cluster.outside)]
        machine = cluster.machines[cluster.random.choice(others)]
        self._number += 1
        number, who = self._number, f"command-node-{self._number}"
        request = Request(f"{machine.name}-node-{self._number}", verb, AppName(""), node, "operator")

        def read(message: Any) -> None:
            if isinstance(message, Reply) and message.code is not None and self._number == number:
                cluster.schedule.after(0.0, machine.hang_up, who)
                if self._wish == (verb, node):
                    self._answered(message.code)

        machine.command(who, CLUSTERD, request, read)
        cluster.schedule.after(AGAIN, self._again, machine, who, self._number)

    def _again(self, machine: "Machine", who: str, number: int) -> None:
        if self._wish is not None and number == self._number:
            machine.hang_up(who)
            self._ask()

    def _answered(self, code: int) -> None:
        assert self._wish is not None, "asked only while there is one"
        verb, node = self._wish
        self._cluster.met(f"lha_node {verb}: {'done' if code == 0 else 'not done'}")
        if code == 4 or (verb == "add" and code):
            return  # it goes on, or has to: what was written into the configuration is to become true
        self._wish = None
        if verb == "remove" and not code:
            cluster = self._cluster
            cluster.outside = (*cluster.outside, node)
            self._reconfiguration.nodes([name for name in cluster.names if name not in cluster.outside])


class Reshapes:
    """What a leader may do to the membership, and what it may call committed, by the journals of all nodes."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._seen: dict[NodeName, tuple[int, Term, Index, int]] = {}
        """Life, term, commit index and number of memberships of each leader's log when it was last looked at."""

    def started(self, process: "Process", output: Output) -> None: ...

    def powered_off(self, machine: "Machine") -> None: ...

    def handled(self, process: "Process", event: Event, output: Output) -> None:
        core = process.core
        if not isinstance(core, Lockd) or core.raft.role is not Role.LEADER:
            return
        raft, log, name = core.raft, core.raft.log, process.machine.name
        now = (process.life, raft.term, log.commit, len(log._memberships))
        before = self._seen.get(name, now)
        self._seen[name] = now
        if before[:2] != now[:2] or raft._tenure is None:
            return
        if now[3] > before[3] and log.last_index > raft._tenure.term_start:
            self._reshaped(name, raft)
        if log.commit > before[2]:
            self._committed(name, raft)

    def _reshaped(self, name: NodeName, raft: Raft) -> None:
        log, tenure = raft.log, raft._tenure
        assert tenure is not None, "it leads"
        at, new = log._memberships[-1]
        older = log._memberships[-2][0] if len(log._memberships) > 1 else Index(0)
        old = log._memberships[-2][1] if len(log._memberships) > 1 else log.snapshot.membership
        if older > log.commit:
            raise Violation(f"{name} appends a membership at {at}, and the one at {older} is not committed")
        if log.commit < tenure.term_start:
            raise Violation(f"{name} appends a membership at {at}, and no entry of term {raft.term} is committed")
        for node in new.voters:
            if node not in old.voters and self._last(node) < tenure._committed:
                raise Violation(f"{node} is made a voter, has {self._last(node)} and lacks {tenure._committed}")

    def _committed(self, name: NodeName, raft: Raft) -> None:
        """A majority of the voters by the latest appended membership has it on disk; the leader itself before anything
        of this leaves it."""
        log = raft.log
        membership = log._memberships[-1][1] if log._memberships else log.snapshot.membership
        needed = [voter for voter in membership.voters if voter != membership.excluded]
        have = [node for node in needed if node == name or self._has(node, log.commit, log.term_at(log.commit))]
        if 2 * len(have) <= len(needed):
            raise Violation(f"S3: {name} commits {log.commit}, which only {have} of {needed} have")

    def _last(self, node: NodeName) -> int:
        records = self._records(node)
        return max([int(key) for bucket in (LOG, SNAPSHOT) for key in records.get(bucket, {})], default=0)

    def _has(self, node: NodeName, index: Index, term: Term | None) -> bool:
        records = self._records(node)
        entry = records.get(LOG, {}).get(index)
        if entry is not None:
            return msgspec.msgpack.decode(entry, type=Entry).term == term
        return any(int(key) >= index for key in records.get(SNAPSHOT, {}))

    def _records(self, node: NodeName) -> Any:
        journal = self._cluster.machines[node].journals.get(LOCKD)
        return journal.read() if journal is not None else {}
