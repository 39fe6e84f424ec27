"""The sample application of demo, benchmark and tests: a web server on an ext4 image with a floating address."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from truecl.lab.description import LabNode
from truecl.lab.errors import LabError

APP = "web"
ADDRESS = "10.77.1.100"
PORT = 80
MOUNT = "/srv/web"
IMAGE_SIZE = 64 << 20
TARGET = f"{ADDRESS}:{PORT}"
WEBAPP = Path(__file__).with_name("webapp.py")


def application_yaml(nodes: Sequence[str], image: str, autostart: bool = False) -> str:
    """conf/apps/web.yaml of the lab. `image` is its path as the nodes see it; '' for none: an address alone."""
    run = ["/usr/bin/python3", "-I", "-S", str(WEBAPP), MOUNT if image else "/tmp", ADDRESS, str(PORT)]
    storage = {
        "volumes": {"data": {"type": "file", "image": image}},
        "filesystems": [{"type": "ext4", "mount": MOUNT}],
    }
    return yaml.safe_dump(
        {
            "nodes": list(nodes),
            "autostart": autostart,
            **(storage if image else {}),
            "addresses": [ADDRESS],
            "programs": {APP: {"run": run}},
        },
        sort_keys=False,
    )


def make_image(path: Path) -> None:
    """An empty ext4 file system. Raises LabError."""
    with path.open("wb") as file:
        file.truncate(IMAGE_SIZE)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(path)], capture_output=True, text=True)
    if made.returncode:
        raise LabError(f"mkfs.ext4 {path}: {made.stderr.strip()}")


def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
    """For `Lab.up`: what `lha_init` makes, and the sample application. Raises LabError."""
    from truecl.lab import provision  # brings cryptography, which no other verb needs

    provision.configure(nodes, links)
    install(nodes)


def install(nodes: Sequence[LabNode], autostart: bool = False, storage: bool = True) -> None:
    """The image into the lab's shared directory, the application's file into every node's configuration."""
    image = f"/shared/{APP}.img" if storage else ""
    if storage:
        make_image(nodes[0].shared / f"{APP}.img")
    text = application_yaml([node.name for node in nodes if not node.witness], image, autostart)
    for node in nodes:
        (node.etc / "apps").mkdir(exist_ok=True)
        (node.etc / "apps" / f"{APP}.yaml").write_text(text, encoding="utf-8")
