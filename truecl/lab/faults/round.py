"""One round: a fault while clients work, then peace; what they saw, and whether every promise was kept."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from truecl.lab import traces
from truecl.lab.bench.cluster import Cluster
from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError
from truecl.lab.faults import arp
from truecl.lab.faults.apps import ADDRESSES, APPS, FILES, PAGES, target
from truecl.lab.faults.draw import HARMLESS, Fault
from truecl.lab.faults.inject import Injection
from truecl.lab.faults.watch import Watch
from truecl.model.ids import AppName, NodeName
from truecl.model.ledger import Grant
from truecl.runtime.trace import Incomplete
from truecl.sim.linear import Undecided
from truecl.wire.messages import Status

HEALING = 60.0
"""Seconds within which the applications run again, or somebody says why not."""
STEADY = 2.0
"""Seconds for which it must have been so: what was frozen may not know yet that its lease is over, and a slow device's
order may come late."""
EVERY = 0.02
"""Seconds between two of a client's tries."""
ANSWERING = 15.0
"""Seconds within which an application that counts as running answers: it may be begun again just now."""
ALONE = "2"
NOTE = re.compile(r"(\d+) (r\d+-\d+)")
SLACK = 0.15
"""Seconds by which an overlap may seem longer than it was: two looks on a busy machine, or the gap in ARP answers."""


class Violation(Exception):
    """A promise was broken."""


@dataclass
class Outcome:
    """Of one round. Seconds."""

    number: int
    topology: str
    fault: Fault
    victim: str
    hit: tuple[AppName, ...] = ()
    """Applications that ran on the victim; all of two nodes alone, where each has lost the quorum with the other."""
    outages: dict[AppName, float] = field(default_factory=dict)
    """The longest time between two answers; not of an application that did not run again."""
    moved: tuple[AppName, ...] = ()
    again: tuple[AppName, ...] = ()
    """Applications that were stopped and begun again on the same node."""
    false: int = 0
    """Applications that moved, or were begun again, and the fault gave them no cause."""
    overlap: float = 0.0
    """S2's exception: how long two nodes had an address."""
    copies: float = 0.0
    """How long two nodes had a program of an application without storage."""
    acknowledged: int = 0
    stated: dict[AppName, str] = field(default_factory=dict)
    """Why an application did not run at the end."""
    healed: float = 0.0
    """From the end of the fault until all was well."""


class Acknowledged:
    """What clients were told is written, over all rounds."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def add(self, round_: int, answered: Iterable[int]) -> None:
        self._told |= {f"r{round_}-{number}" for number in answered}

    def check(self, text: str) -> None:
        """`text` is what the application has. Raises Violation."""
        token, found = 0, set()
        for line in text.splitlines():
            match = NOTE.fullmatch(line)
            if match is None:
                continue
            if int(match[1]) < token:
                raise Violation(f"generation {match[1]} wrote {match[2]} after generation {token} had begun")
            token = int(match[1])
            found.add(match[2])
        lost = sorted(self._told - found)
        if lost:
            raise Violation(f"{len(lost)} acknowledged writes are lost: {', '.join(lost[:5])} …")


class Round:
    """`bound`: seconds for which S2's exception may last."""

    def __init__(self, cluster: Cluster, topology: str, acknowledged: Acknowledged, bound: float) -> None:
        self._cluster, self._lab = cluster, cluster.lab
        self._topology, self._acknowledged, self._bound = topology, acknowledged, bound

    def play(self, fault: Fault, number: int) -> Outcome:
        """Raises Violation, LabError."""
        before = running(self._cluster)
        if len(before) < len(APPS):
            raise LabError(f"round {number} cannot begin: only {', '.join(before) or 'nothing'} runs")
        outcome = Outcome(number, self._topology, fault, self._victim(fault, before))
        both = self._topology == ALONE and fault.kind not in HARMLESS
        outcome.hit = tuple(app for app, grant in before.items() if both or grant.node == outcome.victim)
        path = f"/add?r{number}-{{try}}"
        with (
            Watch(self._lab) as watch,
            Asking(self._lab) as asking,
            self._lab.probe(target(FILES), path=path, every=EVERY) as writer,
            self._lab.probe(target(PAGES), every=EVERY) as reader,
        ):
            writer.wait_answer()
            reader.wait_answer()
            time.sleep(fault.delay)
            self._do(fault, outcome)
            after = self._settle(outcome)
            time.sleep(2 * EVERY)
        self._acknowledged.add(number, writer.result.answered)
        outcome.acknowledged = len(writer.result.answered)
        for app, probing in ((FILES, writer), (PAGES, reader)):
            if app in after:
                outcome.outages[app] = probing.result.longest
        began = [app for app, grant in after.items() if grant.generation != before[app].generation]
        outcome.moved = tuple(app for app in began if after[app].node != before[app].node)
        outcome.again = tuple(app for app in began if app not in outcome.moved)
        outcome.false = sum(app not in outcome.hit or fault.kind in HARMLESS for app in began)
        self._judge(outcome, watch, asking, FILES in after)
        return outcome

    def _victim(self, fault: Fault, owners: dict[AppName, Grant]) -> NodeName:
        if fault.aim in owners:
            return owners[AppName(fault.aim)].node
        nodes = self._cluster.nodes
        return self._cluster.master() if fault.aim == "master" else nodes[int(fault.place * len(nodes))]

    def _do(self, fault: Fault, outcome: Outcome) -> None:
        self._lab.power(outcome.victim, fault.switch)
        injection = Injection(self._lab, outcome.victim, fault)
        try:
            injection.begin()
            time.sleep(fault.length)
        finally:
            injection.end()
            self._lab.power(outcome.victim, "ok")

    def _settle(self, outcome: Outcome) -> dict[AppName, Grant]:
        """Switch on what is off and wait. Returns where the applications run."""
        began = since = time.monotonic()
        found: dict[AppName, Grant] = {}
        while (now := time.monotonic()) < began + HEALING:
            for node in self._cluster.nodes:
                if self._lab.state(node) == "off":
                    self._lab.boot(node)
            before, found = found, running(self._cluster)
            if len(found) < len(APPS) or found != before:
                since = now
            elif now - since > STEADY:
                break
            time.sleep(0.1)
        outcome.healed = since - began
        if len(found) < len(APPS):
            status = next((each for node in self._cluster.nodes if (each := self._cluster.status(node))), None)
            for app in APPS:
                if app not in found:
                    outcome.stated[app] = stated(status, app)
        return found

    def _judge(self, outcome: Outcome, watch: Watch, asking: "Asking", runs: bool) -> None:
        problems = list(watch.violations)
        problems += [f"nobody says why '{app}' does not run" for app, why in outcome.stated.items() if not why]
        for overlap in watch.overlaps:
            length = overlap.until - overlap.since
            if overlap.thing == (PAGES, "address"):
                outcome.overlap = max(outcome.overlap, length)
            elif overlap.thing[1] == "program":
                outcome.copies = max(outcome.copies, length)
        for address, length, macs in asking.doubles():
            if address == ADDRESSES[FILES] and length > SLACK:
                problems.append(f"{' and '.join(macs)} both answered for {address}, for {length:.2f} s")
            elif address == ADDRESSES[PAGES]:
                outcome.overlap = max(outcome.overlap, length)
        if outcome.overlap > self._bound + SLACK:
            problems.append(f"two nodes had {ADDRESSES[PAGES]} for {outcome.overlap:.2f} s, {self._bound:g} at most")
        if watch.looks < 20:
            problems.append(f"the watch looked {watch.looks} times only")
        problems += self._without_order()
        if problems:
            raise Violation("; ".join(dict.fromkeys(problems)))
        if runs:
            self._acknowledged.check(self._fetch())

    def _without_order(self) -> list[str]:
        """What all masters asked for since the cluster was formed, of a lock or a grant, and no order explains. Raises
        LabError."""
        try:
            wrong = traces.gather(self._lab.description.nodes).unexplained()
        except (Incomplete, Undecided) as unknown:
            raise LabError(f"nobody can say whether an order explains all grants: {unknown}") from unknown
        if wrong is None:
            return []
        return [f"no order explains the history of {wrong[0].object}: " + ", ".join(str(call) for call in wrong)]

    def _fetch(self) -> str:
        """All that the application with storage has."""
        script = f"import urllib.request as u; print(u.urlopen('http://{target(FILES)}/', timeout=5).read().decode())"
        deadline = time.monotonic() + ANSWERING
        while (said := self._lab.exec("client", ["/usr/bin/python3", "-c", script])).code:
            if time.monotonic() > deadline:
                raise Violation(f"'{FILES}' counts as running and does not answer: {said.err.strip().splitlines()[-1]}")
        return said.out


def running(cluster: Cluster) -> dict[AppName, Grant]:
    """Where the applications run that do, by the word of a master whom all nodes follow; empty if there is none, or as
    long as a node is to be fenced."""
    status = cluster.complete()
    found: dict[AppName, Grant] = {}
    if status is None or status.ledger.fences:
        return {}
    for app in APPS:
        state = status.ledger.apps.get(app)
        if state is None or state.grant is None:
            continue
        for line in status.reports[state.grant.node].instances:
            if (line.app, line.generation, line.phase) == (app, state.grant.generation, "running"):
                found[app] = state.grant
    return found


def stated(status: Status | None, app: AppName) -> str:
    """lha_stat's words for why it does not run; '' for none."""
    if status is None:
        return ""
    if status.state != "UP":
        return status.state
    away = [f"{node} {word}" for node, word in status.nodes.items() if word != "UP"]
    return status.notes.get(app, ", ".join(away))


class Asking:
    """`truecl.lab.faults.arp` from the start of the `with` block to its end."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._spans: list[tuple[str, str, float, float]] = []

    def __enter__(self) -> "Asking":
        script = str(Path(arp.__file__))
        argv = [sys.executable, "-I", "-S", script, "eth0", *ADDRESSES.values()]
        pipe = subprocess.PIPE
        self._process = self._lab.popen("client", argv, stdin=subprocess.DEVNULL, stdout=pipe, start_new_session=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise LabError("the client cannot ask by ARP")
        return self

    def __exit__(self, *why: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=10.0)
        self._spans = json.loads(out or "[]")

    def doubles(self) -> Sequence[tuple[str, float, tuple[str, str]]]:
        """For each two that answered for an address at the same time: for how long, and their hardware addresses."""
        found = []
        for index, (address, mac, first, last) in enumerate(self._spans):
            for other, other_mac, other_first, other_last in self._spans[:index]:
                length = min(last, other_last) - max(first, other_first)
                if other == address and other_mac != mac and length > 0:
                    found.append((address, length, (other_mac, mac)))
        return found
