"""`lha_lab faults --vm`: rounds on two nodes with kernels of their own; the table and the JSON that come of it."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from truecl.cli.table import table as aligned
from truecl.lab.bench.run import machine, machine_line
from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError
from truecl.lab.faults.round import Violation
from truecl.lab.replicated import app
from truecl.lab.replicated.cluster import Cluster
from truecl.lab.replicated.draw import KINDS, draw
from truecl.lab.replicated.rounds import Outcome, Round, keep_logs


@dataclass(frozen=True)
class Campaign:
    """`keep`: where the outcome goes."""

    seed: int
    rounds: Sequence[int]
    keep: Path
    name: str
    kinds: tuple[str, ...] = KINDS

    def play(self) -> list[Outcome]:
        """Prints a line for each round, and the table at the end.

        Raises LabError; after a Violation the logs are kept beside `keep`, and it is raised as well.
        """
        for kind in self.kinds:
            if kind not in KINDS:
                raise LabError(f"'{kind}' is no kind of fault: {', '.join(KINDS)}")
        found: list[Outcome] = []
        told: set[str] = set()
        with Lab.up(2, name=self.name, provide=app.provide, vm=True) as lab:
            try:
                cluster = Cluster(lab)
                cluster.built()
                for number in self.rounds:
                    found.append(self._round(cluster, told, number))
                    print(line(found[-1]), file=sys.stderr, flush=True)
            finally:
                if found:
                    self._save(found)
                    print(f"\n{machine_line()}\nseed {self.seed}\n{table(found)}\n{total(found, told)}", flush=True)
                    print(f"kept in {self.keep}", flush=True)
        return found

    def _round(self, cluster: Cluster, told: set[str], number: int) -> Outcome:
        fault = draw(self.seed, number, self.kinds)
        try:
            return Round(cluster, told).play(fault, number)
        except (Violation, LabError) as problem:
            kept = self.keep.parent / f"faults-vm-{self.seed}-{number}"
            keep_logs(cluster.lab, kept)
            text = f"seed {self.seed}, round {number}, {fault}: {problem}; logs kept in {kept}"
            raise (Violation if isinstance(problem, Violation) else LabError)(text) from None

    def _save(self, found: Sequence[Outcome]) -> None:
        rounds = [asdict(each) for each in found]
        text = {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": machine(), "seed": self.seed, "rounds": rounds}
        self.keep.parent.mkdir(parents=True, exist_ok=True)
        partial = self.keep.with_name(self.keep.name + ".new")
        partial.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.keep)


def line(outcome: Outcome) -> str:
    """A round in a line."""
    fault = outcome.fault
    more = ", the power switch refuses" if fault.refuse else ""
    moved = f"moved to {outcome.after}" if outcome.after != outcome.owner else "stayed"
    return (
        f"round {outcome.number}: {fault.kind}{more}, {fault.length:.1f} s, database on {outcome.owner}; {moved}; "
        f"outage {outcome.outage:.2f} s, frozen {outcome.frozen:.2f} s, {outcome.rows} rows, "
        f"well {outcome.healed:.1f} s later"
    )


def table(found: Sequence[Outcome]) -> str:
    """By kind: outages as the client saw them, and how long a primary's I/O stood still. Seconds."""
    rows = [["KIND OF FAULT", "ROUNDS", "MOVED", "OUTAGE MIN", "MEDIAN", "MAX", "FROZEN MAX", "WELL AFTER"]]
    for kind in KINDS:
        each = [outcome for outcome in found if outcome.fault.kind == kind]
        if each:
            outages = [outcome.outage for outcome in each]
            moved = sum(outcome.after != outcome.owner for outcome in each)
            numbers = [min(outages), median(outages), max(outages), max(outcome.frozen for outcome in each)]
            numbers.append(max(outcome.healed for outcome in each))
            rows.append([kind, str(len(each)), str(moved), *(f"{number:.2f}" for number in numbers)])
    return aligned(rows[0], rows[1:], right=range(1, len(rows[0])))


def total(found: Sequence[Outcome], told: set[str]) -> str:
    return f"{len(found)} rounds, {len(told)} rows acknowledged, 0 lost"
