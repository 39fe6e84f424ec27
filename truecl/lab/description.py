"""What a lab consists of, and what is kept of it in files, so that its commands work from any shell."""

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from truecl.lab.errors import LabError, NoLab
from truecl.lab.network import ANY, CLIENT_INDEX, Cut, Port
from truecl.lab.paths import CLIENT, Paths

MOST_NODES = 64
KIND_NAMESPACES, KIND_KERNELS = "namespaces", "kernels"
"""What nodes are made of."""
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True)
class LabNode:
    """A node as `up` laid it out."""

    name: str
    index: int
    witness: bool
    links: int
    directory: str
    """The machine's directory of this node."""

    @property
    def port(self) -> Port:
        return Port(self.name, self.index)

    @property
    def etc(self) -> Path:
        """What the node sees as /etc/truecl."""
        return Path(self.directory) / "etc"

    @property
    def shared(self) -> Path:
        """The machine's path of what all nodes see as /shared."""
        return Path(self.directory).parent.parent / "shared"

    @property
    def addresses(self) -> dict[str, str]:
        """Link name (link1, link2, …) to IPv4 address; the interfaces are eth0, eth1, …"""
        return {link_name(link): self.port.ipv4(link) for link in range(1, self.links + 1)}

    @property
    def fence_agent(self) -> str:
        """Path of the fence agent, inside every node."""
        return "/lab/fence_truecl_lab"

    @property
    def fence_parameters(self) -> dict[str, str]:
        return {"plug": self.name, "socket": "/lab/power.sock"}


class Provision(Protocol):
    """Fills the /etc/truecl of every node (`LabNode.etc`, empty) before the first boot. Raises LabError or OSError."""

    def __call__(self, nodes: Sequence[LabNode], links: Sequence[str]) -> None: ...


def link_name(link: int) -> str:
    return f"link{link}"


@dataclass(frozen=True)
class Description:
    """The lab as `up` made it, and the nodes that came later."""

    name: str
    nodes: tuple[LabNode, ...]
    links: int
    service: tuple[str, ...]
    """Command line that a node's first process keeps running; empty: none (`--bare`)."""
    shared: str
    created: str
    kind: str

    @property
    def ports(self) -> tuple[Port, ...]:
        return (*(node.port for node in self.nodes), Port(CLIENT, CLIENT_INDEX))

    def node(self, name: str) -> LabNode:
        """Raises LabError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"no node '{name}' in lab '{self.name}': it has " + ", ".join(n.name for n in self.nodes))

    def save(self, paths: Paths) -> None:
        write_json(paths.lab_file, asdict(self))

    @classmethod
    def load(cls, paths: Paths) -> "Description":
        """Raises NoLab, or LabError when the lab never came up."""
        if not Path(paths.root).exists():
            raise NoLab(f"no lab '{paths.name}': lha_lab up makes one")
        try:
            fields = json.loads(Path(paths.lab_file).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            raise LabError(f"lab '{paths.name}' is not complete: lha_lab down --name {paths.name} clears it") from None
        fields["nodes"] = tuple(LabNode(**node) for node in fields["nodes"])
        fields["service"] = tuple(fields["service"])
        return cls(**fields)


@dataclass(frozen=True)
class NodeState:
    """What a boot leaves in the node's state file."""

    pid: int = 0
    """The machine's number of the node's PID 1."""
    boots: int = 0

    @classmethod
    def load(cls, paths: Paths, node: str) -> "NodeState":
        try:
            return cls(**json.loads(Path(paths.state_file(node)).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()

    def save(self, paths: Paths, node: str) -> None:
        write_json(paths.state_file(node), asdict(self))


def load_cuts(paths: Paths) -> list[Cut]:
    try:
        return [Cut(**cut) for cut in json.loads(Path(paths.cuts_file).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []


def save_cuts(paths: Paths, cuts: Sequence[Cut]) -> None:
    write_json(paths.cuts_file, [asdict(cut) for cut in cuts])


def write_json(path: str, value: object) -> None:
    """Whole or not at all: readers take no lock."""
    partial = Path(f"{path}.{os.getpid()}.new")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def describe(
    paths: Paths, names: Sequence[str], links: int, witness: bool, shared: str, service: tuple[str, ...], kind: str
) -> Description:
    """A lab's layout out of what was asked. Raises LabError."""
    wanted = [*names, *(["witness"] if witness else [])]
    for name in wanted:
        if not NAME.fullmatch(name) or name == CLIENT:
            raise LabError(f"'{name}' is no name for a node: small letters, digits and hyphens, and not '{CLIENT}'")
    if len(set(wanted)) != len(wanted):
        raise LabError(f"a node's name is given twice: {', '.join(wanted)}")
    if not 1 <= len(wanted) <= MOST_NODES:
        raise LabError(f"{len(wanted)} nodes: a lab has 1 to {MOST_NODES}")
    if not 1 <= links <= 9:
        raise LabError(f"{links} links: a lab has 1 to 9")
    if shared and not Path(shared).is_dir():
        raise LabError(f"--shared {shared}: no such directory")
    last = len(wanted) if witness else 0
    nodes = tuple(
        LabNode(name, index, index == last, links, paths.node(name)) for index, name in enumerate(wanted, start=1)
    )
    created = time.strftime("%Y-%m-%d %H:%M:%S")
    where = str(Path(shared).resolve()) if shared else paths.shared
    return Description(paths.name, nodes, links, service, where, created, kind)


def grown(described: Description, paths: Paths, name: str) -> Description:
    """With one node more. Raises LabError."""
    names = [node.name for node in described.nodes]
    if name in names:
        raise LabError(f"'{name}' is a node of lab '{described.name}' already")
    describe(paths, [*names, name], described.links, False, "", described.service, described.kind)
    index = max(node.index for node in described.nodes) + 1
    node = LabNode(name, index, False, described.links, paths.node(name))
    return replace(described, nodes=(*described.nodes, node))


def checked_name(name: str) -> str:
    """Raises LabError."""
    if not NAME.fullmatch(name):
        raise LabError(f"'{name}' is no name for a lab: small letters, digits and hyphens")
    return name


def cut_text(cut: Cut) -> str:
    """A cut in words, for the operator."""
    if cut.unplugged:
        return f"link{cut.link} unplugged"
    names = {ANY: "all"}
    only = f" port {cut.port}" if cut.port else f" but port {cut.spared}" if cut.spared else ""
    return f"link{cut.link} {names.get(cut.source, cut.source)}->{names.get(cut.target, cut.target)}{only}"
