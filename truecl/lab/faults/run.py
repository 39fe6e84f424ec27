"""A campaign: rounds on one topology after the other; the table and the JSON that come of it."""

import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from statistics import median

from truecl.cli.table import table as aligned
from truecl.core.netd import FAST_LEASE
from truecl.lab.bench.cluster import Cluster
from truecl.lab.bench.run import machine, machine_line
from truecl.lab.cluster import SERVICE, Lab
from truecl.lab.errors import LabError
from truecl.lab.faults.apps import APPS, FILES, PAGES, Provider
from truecl.lab.faults.clock import Clock
from truecl.lab.faults.draw import CLOCK, KINDS, Fault, draw
from truecl.lab.faults.round import Acknowledged, Outcome, Round, Violation, running
from truecl.model.config import PROFILES, Profile

TOPOLOGIES = ("2", "2+witness", "3", "5")
_TOPOLOGY = re.compile(r"([2-8])(\+witness)?")


@dataclass(frozen=True)
class Campaign:
    """`rounds` are dealt out over the topologies; `name`: of the labs; `keep`: where the outcome goes."""

    seed: int
    rounds: Sequence[int]
    topologies: Sequence[str]
    keep: Path
    name: str
    profile: Profile = "normal"
    kinds: tuple[str, ...] = KINDS

    def play(self) -> list[Outcome]:
        """Prints a line for each round, and the table at the end.

        Raises LabError; after a Violation the logs are kept beside `keep`, and it is raised as well.
        """
        self._check()
        found: list[Outcome] = []
        with tempfile.TemporaryDirectory() as directory:
            clock = _clock(Path(directory)) if CLOCK in self.kinds else None
            kinds = tuple(kind for kind in self.kinds if kind != CLOCK or clock is not None)
            try:
                for place, topology in enumerate(self.topologies):
                    numbers = [number for number in self.rounds if number % len(self.topologies) == place]
                    if numbers:
                        self._play(topology, numbers, kinds, clock, found)
            finally:
                if found:
                    save(found, self.seed, self.profile, self.keep)
                    print(f"\n{machine_line()}\nseed {self.seed}, profile {self.profile}\n{table(found)}", flush=True)
                    print(f"kept in {self.keep}", flush=True)
        return found

    def _check(self) -> None:
        for topology in self.topologies:
            if not _TOPOLOGY.fullmatch(topology):
                raise LabError(f"'{topology}' is no topology: {', '.join(TOPOLOGIES)}, … up to 8 nodes")
        for kind in self.kinds:
            if kind not in KINDS:
                raise LabError(f"'{kind}' is no kind of fault: {', '.join(KINDS)}")

    def _play(
        self, topology: str, numbers: Sequence[int], kinds: tuple[str, ...], clock: Clock | None, found: list[Outcome]
    ) -> None:
        count, _, witness = topology.partition("+")
        service = Clock.wrapped(SERVICE) if clock is not None else SERVICE
        provide = Provider(self.profile, clock)
        with Lab.up(int(count), name=self.name, witness=bool(witness), provide=provide, service=service) as lab:
            cluster = Cluster(lab)
            cluster.formed()
            round_ = Round(cluster, topology, Acknowledged(), overlap_bound(self.profile))
            for number in numbers:
                cluster.wait("all applications running", lambda: len(running(cluster)) == len(APPS))
                outcome = self._round(lab, round_, draw(self.seed, number, kinds), number)
                found.append(outcome)
                _say(line(outcome))
                if outcome.false:
                    _say(f"logs kept in {_keep_logs(lab, self._logs(number))}")
                if outcome.stated:
                    _help(cluster, outcome)

    def _round(self, lab: Lab, round_: Round, fault: Fault, number: int) -> Outcome:
        try:
            return round_.play(fault, number)
        except (Violation, LabError) as problem:
            kept = _keep_logs(lab, self._logs(number))
            text = f"seed {self.seed}, round {number}, {len(lab.description.nodes)} nodes, {fault}: {problem}"
            raise (Violation if isinstance(problem, Violation) else LabError)(f"{text}; logs kept in {kept}") from None

    def _logs(self, number: int) -> Path:
        return self.keep.parent / f"faults-{self.seed}-{number}"


def _clock(directory: Path) -> Clock | None:
    try:
        return Clock(directory)
    except LabError as problem:
        _say(f"left out: {CLOCK} ({problem})")
        return None


def _help(cluster: Cluster, outcome: Outcome) -> None:
    """What lha_stat asks of the operator."""
    for app in outcome.stated:
        cluster.run(cluster.nodes[0], "lha_startapp", "-A", app, "--unvalidated")


def overlap_bound(profile: Profile) -> float:
    """Seconds for which S2's exception may last: an address's lifetime beyond the lease, and half a second of the
    kernel's own timer, less what 'expired' waits for."""
    timing = PROFILES[profile]
    margin = 0 if timing.lease < FAST_LEASE else 1
    return ceil(timing.lease) + margin + 0.5 - timing.address_allowance


def _keep_logs(lab: Lab, directory: Path) -> Path:
    for node in lab.description.nodes:
        shutil.copytree(f"{lab.paths.node(node.name)}/log", directory / node.name, dirs_exist_ok=True)
    shutil.copy(lab.paths.power_log, directory)
    return directory


def line(outcome: Outcome) -> str:
    """A round in a line."""
    fault = outcome.fault
    outages = ", ".join(f"{app} {length * 1000:.0f} ms" for app, length in outcome.outages.items())
    more = [f"switch {fault.switch}"] if fault.switch != "ok" else []
    more += [f"moved {', '.join(outcome.moved)}"] if outcome.moved else []
    more += [f"begun again {', '.join(outcome.again)}"] if outcome.again else []
    more += [f"FALSE: {outcome.false}"] if outcome.false else []
    more += [f"overlap {outcome.overlap:.2f} s"] if outcome.overlap else []
    more += [f"{app}: {why}" for app, why in outcome.stated.items()]
    where = f"{outcome.topology} nodes: {fault.kind} {fault.length:.1f} s, {outcome.victim}"
    ran = f" ({', '.join(outcome.hit)})" if outcome.hit else ""
    return "; ".join([f"round {outcome.number}, {where}{ran}; {outages}", *more])


def table(found: Sequence[Outcome]) -> str:
    """By kind. Outages are of applications that ran on the victim; the last column is the longest of all others."""
    head = ["KIND OF FAULT", "ROUNDS", "STORAGE", "MIN", "MEDIAN", "MAX", "ADDRESS", "MIN", "MEDIAN", "MAX", "OTHERS",
            "FALSE", "OVERLAP", "NOT BACK"]  # fmt: skip
    rows = [_row(kind, [each for each in found if each.fault.kind == kind]) for kind in KINDS]
    rows = [row for row in rows if row[1] != "0"] + [_row("all", list(found))]
    return aligned(head, rows, right=range(1, len(head)))


def _row(kind: str, rounds: Sequence[Outcome]) -> list[str]:
    row = [kind, str(len(rounds))]
    for app in (FILES, PAGES):
        lengths = [each.outages[app] for each in rounds if app in each.hit and app in each.outages]
        row.append(str(len(lengths)))
        row += [_ms(of(lengths)) for of in (min, median, max)] if lengths else ["-"] * 3
    others = [length for each in rounds for app, length in each.outages.items() if app not in each.hit]
    overlaps = [each.overlap for each in rounds if each.overlap]
    row.append(_ms(max(others)) if others else "-")
    row.append(str(sum(each.false for each in rounds)))
    row.append(f"{len(overlaps)}, {_ms(max(overlaps))}" if overlaps else "0")
    return [*row, str(sum(bool(each.stated) for each in rounds))]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def save(found: Sequence[Outcome], seed: int, profile: Profile, keep: Path) -> None:
    rounds = [asdict(each) for each in found]
    text = {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": machine(), "seed": seed, "profile": profile,
            "rounds": rounds}  # fmt: skip
    keep.parent.mkdir(parents=True, exist_ok=True)
    partial = keep.with_name(keep.name + ".new")
    partial.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    partial.replace(keep)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
