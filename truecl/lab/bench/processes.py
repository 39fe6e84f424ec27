"""The daemons of a lab's nodes as the kernel counts them: memory and processor time, per node."""

import os
from dataclasses import dataclass
from pathlib import Path

from truecl.lab.cluster import Lab
from truecl.model.ids import DAEMONS

TITLES = frozenset({"truecld", *DAEMONS})


@dataclass(frozen=True)
class Usage:
    """Of all daemons of one node together."""

    pss: float
    """MB, as the kernel shares every page among all processes of the machine that have it, other nodes' too."""
    alone: float
    """MB, with the pages of files counted wholly to this node once, as on a machine of its own."""
    cpu: dict[int, float]
    """Process id to seconds of processor time."""


def usage(lab: Lab, node: str) -> Usage:
    """Of the daemons that live now; those that end while they are looked at are left out."""
    pss, anonymous = 0.0, 0.0
    files: dict[str, float] = {}
    cpu: dict[int, float] = {}
    for pid in daemons(lab, node):
        try:
            cpu[pid] = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            mappings = Path(f"/proc/{pid}/smaps").read_text()
        except (OSError, IndexError):
            continue
        pss += _field(rollup, "Pss:")
        anonymous += _field(rollup, "Pss_Anon:")
        for name, size in _file_pages(mappings).items():
            files[name] = max(files.get(name, 0.0), size)
    return Usage(pss / 1000 * 1.024, (anonymous + sum(files.values())) / 1000 * 1.024, cpu)


def daemons(lab: Lab, node: str) -> list[int]:
    """Process ids of the node's daemons and their parent."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            group = (entry / "cgroup").read_text()
            title = (entry / "comm").read_text().strip()
        except OSError:
            continue
        if title in TITLES and f"/{lab.paths.name}/node.{node}/" in group:
            found.append(int(entry.name))
    return found


def spent(before: Usage, after: Usage) -> float:
    """Seconds of processor time between two looks, by the daemons that lived at both, and by new ones wholly."""
    return sum(seconds - before.cpu.get(pid, 0.0) for pid, seconds in after.cpu.items())


def program_pids(lab: Lab, node: str, word: str) -> list[int]:
    """Processes of the node whose command line has `word`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"/{lab.paths.name}/node.{node}/" in (entry / "cgroup").read_text() and word.encode() in (
                    entry / "cmdline"
                ).read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _field(text: str, name: str) -> float:
    """kB."""
    for line in text.splitlines():
        if line.startswith(name):
            return float(line.split()[1])
    return 0.0


def _file_pages(smaps: str) -> dict[str, float]:
    """kB of each mapped piece of a file that are in memory and not private copies, by its place in the file."""
    found: dict[str, float] = {}
    where, resident = "", 0.0
    for line in smaps.splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            where = f"{words[5]} {words[2]} {words[0]}" if len(words) > 5 and words[5].startswith("/") else ""
        elif where and words[0] == "Rss:":
            resident = float(words[1])
        elif where and words[0] == "Anonymous:":
            found[where] = found.get(where, 0.0) + resident - float(words[1])
    return found
