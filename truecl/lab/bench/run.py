"""Runs cases, each lab once for all cases that want its size; prints and keeps what they gave."""

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import yaml

from truecl.lab import sample
from truecl.lab.bench.cases import CASES, Case, Setting
from truecl.lab.bench.cluster import Cluster
from truecl.lab.bench.figures import BY_KEY, Series, table
from truecl.lab.cluster import Lab
from truecl.lab.description import LabNode, Provision
from truecl.lab.errors import LabError

SLEEP = ["/bin/sleep", "infinity"]


def chosen(only: Sequence[str]) -> list[Case]:
    """The cases of these names; without any, all but those that want to be named. Raises LabError."""
    known = {case.name: case for case in CASES}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise LabError(f"no measurement '{unknown[0]}': {', '.join(known)}")
    return [known[name] for name in only] if only else [case for case in CASES if case.many]


def bench(only: Sequence[str], runs: int, keep: Path, name: str = "bench") -> list[Series]:
    """Measures, prints a line as each case is done and the table at the end. Raises LabError."""
    found: list[Series] = []
    cases = sorted(chosen(only), key=lambda case: case.setting)
    for setting, group in groupby(cases, key=lambda case: case.setting):
        with Lab.up(setting.nodes, name=name, provide=_provide(setting)) as lab:
            cluster = Cluster(lab)
            for case in group:
                began = time.monotonic()
                found += _measured(case, cluster, runs)
                _say(f"{case.name}: {time.monotonic() - began:.0f} s")
                save(found, keep)
    print(f"\n{machine_line()}\n{table(found)}\nkept in {keep}")
    return found


def _measured(case: Case, cluster: Cluster, runs: int) -> list[Series]:
    at, before = time.strftime("%Y-%m-%d %H:%M:%S"), os.getloadavg()[0]
    values = case.run(cluster, runs)
    load = round((before + os.getloadavg()[0]) / 2, 1)
    return [Series(key, tuple(each), at, load) for key, each in values.items() if key in BY_KEY]


def _provide(setting: Setting) -> Provision:
    def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
        from truecl.lab import provision  # brings cryptography, which no other verb needs

        provision.configure(nodes, links, setting.profile, not setting.bare)
        sample.install(nodes, storage=not setting.bare)
        for number in range(setting.apps):
            order = [nodes[(number + place) % len(nodes)].name for place in range(len(nodes))]
            text = yaml.safe_dump({"nodes": order, "autostart": True, "programs": {"sleep": {"run": SLEEP}}})
            for node in nodes:
                (node.etc / "apps" / f"app{number:03d}.yaml").write_text(text, encoding="utf-8")

    return provide


def machine() -> dict[str, object]:
    with Path("/proc/meminfo").open(encoding="ascii") as file:
        memory = int(file.readline().split()[1]) // 1000
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "processor": _processor(),
        "memory_mb": memory,
        "python": platform.python_version(),
        "load": [round(each, 2) for each in os.getloadavg()],
    }


def machine_line() -> str:
    is_ = machine()
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}, {is_['cores']} cores ({is_['processor']}), Linux {is_['kernel']}, "
        f"Python {is_['python']}, load {load}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def save(found: Sequence[Series], keep: Path) -> None:
    """Figures that were not measured now stay as they were, each with its own date."""
    kept: dict[str, object] = {}
    with suppress(OSError, ValueError, KeyError):  # none yet, or not ours
        kept = json.loads(keep.read_text(encoding="utf-8"))["figures"]
    figures = kept | {each.key: each.as_json() for each in found}
    ordered = {key: figures[key] for key in BY_KEY if key in figures}
    text = {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": machine(), "figures": ordered}
    keep.parent.mkdir(parents=True, exist_ok=True)
    partial = keep.with_name(keep.name + ".new")
    partial.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    partial.replace(keep)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
