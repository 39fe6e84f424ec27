"""Configuration of a lab's nodes: cluster.yaml with the power switch as every node's fence device."""

from collections.abc import Sequence
from typing import Protocol

import yaml

from truecl.lab.description import LabNode


class Provision(Protocol):
    """Fills the /etc/truecl of every node (`LabNode.etc`, empty) before the first boot. Raises LabError or OSError."""

    def __call__(self, nodes: Sequence[LabNode], links: Sequence[str]) -> None: ...


def nothing(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
    """Leave /etc/truecl empty."""


def cluster_yaml(nodes: Sequence[LabNode], links: Sequence[str]) -> str:
    """The text of cluster.yaml."""
    entries: dict[str, dict[str, object]] = {}
    for node in nodes:
        fence = {"agent": node.fence_agent, "parameters": node.fence_parameters, "timeout": "20s", "verify": True}
        entries[node.name] = {**node.addresses, "fence": fence}
        if node.witness:
            entries[node.name]["witness"] = True
    return yaml.safe_dump({"cluster": "lab", "links": list(links), "nodes": entries}, sort_keys=False)


def write_configuration(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
    """cluster.yaml and an empty apps directory for every node."""
    text = cluster_yaml(nodes, links)
    for node in nodes:
        (node.etc / "apps").mkdir(exist_ok=True)
        (node.etc / "cluster.yaml").write_text(text, encoding="utf-8")
