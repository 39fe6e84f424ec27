"""Processes of an instance that are outside its control group, known by the environment that they inherited."""

from collections.abc import Collection
from pathlib import Path

from truecl.model.step import Instance


def strays(proc: Path, instance: Instance, members: Collection[int]) -> bytes:
    """Lines 'PID COMMAND'. To be called in a child: /proc/PID/environ waits for the process's memory lock.

    A process that systemd started on the instance's behalf does not have the environment and is not found.
    """
    app = f"TRUECL_APP={instance.app}".encode()
    generation = f"TRUECL_GENERATION={instance.generation}".encode()
    found = []
    for entry in sorted(proc.iterdir()):
        if not entry.name.isdecimal() or int(entry.name) in members:
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            if app in variables and generation in variables:
                found.append(f"{entry.name} {(entry / 'comm').read_text(errors='replace').strip()}\n")
        except OSError:
            continue
    return "".join(found).encode("utf-8", "replace")
