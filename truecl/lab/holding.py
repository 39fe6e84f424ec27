"""What a node's kernel has of applications, looked at from the machine, without asking truecl or the node.

All say no for a node that is off or loses its power just now.
"""

from contextlib import suppress
from pathlib import Path

from truecl.lab import cgroups
from truecl.lab.cluster import Lab
from truecl.lab.description import NodeState


def local_addresses(lab: Lab, node: str) -> str:
    """The node's routing table, in which each IPv4 address of its own stands as `|-- ADDRESS` and a newline."""
    with suppress(OSError):
        pid = NodeState.load(lab.paths, node).pid
        return Path(f"/proc/{pid}/net/fib_trie").read_text() if pid else ""
    return ""


def has_address(lab: Lab, node: str, address: str) -> bool:
    return f"|-- {address}\n" in local_addresses(lab, node)


def has_mount(lab: Lab, node: str, point: str) -> bool:
    """In the mount namespace of the node's first process."""
    with suppress(OSError):
        pid = NodeState.load(lab.paths, node).pid
        return bool(pid) and f" {point} " in Path(f"/proc/{pid}/mountinfo").read_text()
    return False


def programs(lab: Lab, node: str) -> set[str]:
    """Applications that have a process on the node, of whatever generation."""
    groups = Path(f"{lab.paths.node_group(cgroups.mount_point(), node)}/truecl")
    found = set()
    with suppress(OSError):  # groups come and go while they are looked at
        for group in groups.iterdir():
            app, dot, _ = group.name.rpartition(".")
            if dot and app not in found and cgroups.event(str(group), "populated"):
                found.add(app)
    return found
