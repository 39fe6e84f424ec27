"""The application: PostgreSQL on ext4 on DRBD on LVM, and a floating address."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from truecl.lab.cluster import Lab
from truecl.lab.description import LabNode
from truecl.lab.errors import LabError
from truecl.lab.probing import place
from truecl.lab.replicated.writer import CREATE, READ
from truecl.lab.vm.packages import CACHE

APP = "db"
ADDRESS = "10.77.1.100"
PORT = 5432
TARGET = f"{ADDRESS}:{PORT}"
MOUNT = "/srv/db"
DEVICE = "/dev/ubdb"
"""A node's empty disk."""
GROUP, VOLUME, SIZE = "vg0", "db", "128M"
REPLICATION = "link2"
RATE = "8M"
"""Slow enough for a resynchronisation to be met in its middle."""
TIMING = {"detection": "600ms", "election": "1200ms", "lease": "5s", "renewal": "500ms"}
"""Slower than the defaults: a node's kernel is a process among others and stands still when those have the processor,
and in it a fence agent takes half a second, for which the lease of the one that goes on alone has to last as well."""
SERVER = Path(__file__).with_name("server.py")
USER = "getent passwd postgres >/dev/null || useradd --system --user-group --no-create-home postgres"
INSTALLED = 'test -n "$(ls -d /usr/lib/postgresql/*/bin/postgres)"'


def application_yaml(nodes: Sequence[str], autostart: bool = False) -> str:
    """conf/apps/db.yaml of the lab."""
    volume = {"type": "lvm", "group": GROUP, "volume": VOLUME, "size": SIZE, "physical": [DEVICE]}
    run = ["/usr/bin/python3", "-I", "-S", str(SERVER), MOUNT, ADDRESS, str(PORT)]
    return yaml.safe_dump(
        {
            "nodes": list(nodes),
            "autostart": autostart,
            "volumes": {"data": {"type": "drbd", "on": volume}},
            "replication": {"link": REPLICATION, "rate": RATE},
            "filesystems": [{"type": "ext4", "mount": MOUNT}],
            "addresses": [ADDRESS],
            "programs": {"postgres": {"run": run}},
        },
        sort_keys=False,
    )


def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
    """For `Lab.up`: what `lha_init` makes, and the application. Raises LabError."""
    from truecl.lab import provision  # brings cryptography, which no other verb needs

    provision.configure(nodes, links)
    for node in nodes:
        path = node.etc / "cluster.yaml"
        path.write_text(path.read_text(encoding="utf-8") + yaml.safe_dump({"timing": TIMING}), encoding="utf-8")
    install(nodes)


def install(nodes: Sequence[LabNode], autostart: bool = False) -> None:
    text = application_yaml([node.name for node in nodes if not node.witness], autostart)
    for node in nodes:
        (node.etc / "apps").mkdir(exist_ok=True)
        (node.etc / "apps" / f"{APP}.yaml").write_text(text, encoding="utf-8")


def prepare(lab: Lab) -> None:
    """PostgreSQL's user on every node. Raises LabError."""
    for node in lab.description.nodes:
        if lab.exec(node.name, ["/bin/sh", "-c", INSTALLED]).code:
            raise LabError(f"no PostgreSQL in the nodes: {CACHE} is older than that; remove it, and make vm-packages")
        lab.exec(node.name, ["/bin/sh", "-c", USER]).check()


def ask(lab: Lab, sql: str, timeout: float = 20.0) -> list[str]:
    """What the database answers the client: a line for each row. Raises LabError."""
    argv = ["/usr/bin/python3", "-m", "truecl.lab.replicated.query", *place(TARGET), sql]
    return lab.exec("client", argv, timeout).check().out.splitlines()


def make_table(lab: Lab) -> None:
    ask(lab, CREATE)


def rows(lab: Lab) -> set[str]:
    """Names of all that are there."""
    return set(ask(lab, READ))


def lost(lab: Lab, acknowledged: set[str]) -> list[str]:
    """Rows that were acknowledged and are not there."""
    return sorted(acknowledged - rows(lab))
