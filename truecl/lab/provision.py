"""Configuration of a lab's nodes: what `lha_init` makes, with the power switch as every node's fence device."""

import pwd
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from truecl.commands import init
from truecl.commands.bundle import Refused
from truecl.lab.description import LabNode
from truecl.lab.errors import LabError
from truecl.model.config import Profile
from truecl.model.ids import LinkName, NodeName

CLUSTER = "lab"
USER = "truecl"
"""Runs the daemons without privilege, and so must read the keys."""


def configure(
    nodes: Sequence[LabNode],
    links: Sequence[str],
    profile: Profile = "normal",
    fenced: bool = True,
    fence_timeout: str = "20s",
) -> None:
    """Authority, keys and cluster.yaml into every node's /etc/truecl, as an operator does it. Raises LabError."""
    first = nodes[0]
    request = init.InitRequest(
        cluster=CLUSTER,
        nodes=tuple((NodeName(node.name), tuple(node.addresses.values())) for node in nodes),
        this=NodeName(first.name),
        links=tuple(LinkName(link) for link in links),
    )
    text = cluster_yaml(nodes, links, profile, fenced, fence_timeout)
    try:
        made = init.init(_environment(first), request)
        for node in nodes[1:]:
            init.join(_environment(node), Path(made.bundles[NodeName(node.name)]))
    except Refused as problem:
        raise LabError("\n".join(problem.problems)) from None
    for node in nodes:
        (node.etc / "cluster.yaml").write_text(text, encoding="utf-8")


def _environment(node: LabNode) -> init.Environment:
    try:
        owner: int | None = pwd.getpwnam(USER).pw_uid
    except KeyError:
        owner = None
    return init.Environment(directory=node.etc, now=time.time(), owner=owner)


def cluster_yaml(
    nodes: Sequence[LabNode],
    links: Sequence[str],
    profile: Profile = "normal",
    fenced: bool = True,
    fence_timeout: str = "20s",
) -> str:
    """The text of cluster.yaml. `fenced`: with the lab's power switch as fence device."""
    entries: dict[str, dict[str, object]] = {}
    for node in nodes:
        fence = {
            "agent": node.fence_agent,
            "parameters": node.fence_parameters,
            "timeout": fence_timeout,
            "verify": True,
        }
        entries[node.name] = {**node.addresses, **({"fence": fence} if fenced else {})}
        if node.witness:
            entries[node.name]["witness"] = True
    text = {"cluster": CLUSTER, "links": list(links), "profile": profile, "nodes": entries}
    return yaml.safe_dump(text, sort_keys=False)
