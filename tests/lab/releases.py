"""Nodes of a lab that run different releases of truecl, each in a directory that all of them see."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from clusterlib import SOURCE, App, Cluster, images, kill, until, write_apps
from lablib import lab_name

from truecl import __version__
from truecl.lab import provision
from truecl.lab.cluster import Lab
from truecl.lab.description import LabNode
from truecl.lab.paths import CLIENT
from truecl.lab.sample import make_image
from truecl.model.ledger import LEVEL
from truecl.wire.frame import VERSIONS

INSTALLED = "/etc/truecl/release"
"""Link to what the node's service is started from, and its commands."""
SERVICE = ("/bin/sh", "-c", f"PYTHONPATH=$(readlink -f {INSTALLED}) exec {sys.executable} -m truecl.service.truecld")


class ReleasesLab(Lab):
    """Commands are of the release that is installed at their node."""

    def environment_for(self, node: str) -> Mapping[str, str]:
        found = super().environment_for(node)
        return found if node == CLIENT else {**found, "PYTHONPATH": INSTALLED}


def archived(commit: str) -> bytes:
    """The package as it was at a commit of this repository; nothing where the clone is too shallow to have it."""
    command = ["git", "-c", f"safe.directory={SOURCE}", "-C", SOURCE, "archive", commit, "truecl"]
    return subprocess.run(command, capture_output=True, check=False).stdout


def unpack(archive: bytes, directory: Path) -> None:
    subprocess.run(["tar", "-x", "-C", directory], input=archive, check=True)


def of_this(
    directory: Path, version: str = __version__, level: int = LEVEL, formats: tuple[int, int] = VERSIONS
) -> None:
    """This tree, as a release that calls itself `version` and knows other levels of the log, or other formats."""
    shutil.copytree(SOURCE / "truecl", directory / "truecl", ignore=shutil.ignore_patterns("__pycache__"))
    for file, name, value in (
        ("__init__.py", "__version__", repr(version)),
        ("model/ledger.py", "LEVEL", repr(level)),
        ("wire/frame.py", "VERSIONS", repr(formats)),
    ):
        path = directory / "truecl" / file
        text, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", path.read_text(), flags=re.MULTILINE)
        assert found == 1, f"{file} has no {name}"
        path.write_text(text)


def install(cluster: Cluster, node: str, release: str) -> None:
    """What is started there from now on is of that release; what runs goes on with the old one."""
    link = cluster.lab.description.node(node).etc / "release"
    link.unlink()
    link.symlink_to(f"/shared/{release}")


def restart(cluster: Cluster, node: str, number: int = signal.SIGTERM) -> None:
    """The node's service, as `systemctl restart truecl` (SIGTERM) does it; returns when another truecld runs."""
    before = cluster.pid(node, "truecld")
    kill(before, number)
    until(lambda: cluster.pid(node, "truecld") not in (0, before), f"{node} runs another truecld", 20)


@contextmanager
def released(suffix: str, apps: Mapping[str, App], releases: Mapping[str, Callable[[Path], None]]) -> Iterator[Cluster]:
    """Three nodes with the first of the releases, formed from n1. A release: what fills its directory."""
    first = next(iter(releases))

    def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
        provision.configure(nodes, links)
        write_apps(nodes, apps)
        shared = nodes[0].shared
        for image in images(apps):
            make_image(shared / image)
        for name, fill in releases.items():
            (shared / name).mkdir()
            fill(shared / name)
        for node in nodes:
            (node.etc / "release").symlink_to(f"/shared/{first}")

    with ReleasesLab.up(3, name=lab_name(suffix), service=SERVICE, provide=provide) as lab:
        cluster = Cluster(lab)
        for node in cluster.nodes:
            lab.wait_service(node)
        cluster.run("n1", "lha_form")  # as that release has it
        cluster.wait_up()
        yield cluster
