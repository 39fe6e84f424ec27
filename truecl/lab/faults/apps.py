"""The applications of a campaign: one of everything, one of an address and a program, one of a program alone."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from truecl.lab import provision, traces
from truecl.lab.description import LabNode
from truecl.lab.faults.clock import Clock
from truecl.lab.sample import WEBAPP, make_image
from truecl.model.config import Profile
from truecl.model.ids import AppName

FILES, PAGES, ALONE = AppName("files"), AppName("pages"), AppName("alone")
APPS = (FILES, PAGES, ALONE)
ADDRESSES = {FILES: "10.77.1.101", PAGES: "10.77.1.102"}
PORT = 80
FENCE_TIMEOUT = "4s"
"""Longer than the slow switch takes. Of two nodes, the second waits longer for the first, if that has power."""
IMAGE, MOUNT = "files.img", "/srv/files"


def target(app: AppName) -> str:
    return f"{ADDRESSES[app]}:{PORT}"


def texts(names: Sequence[str]) -> dict[AppName, str]:
    """The files of conf/apps. Each application prefers another node."""

    def web(app: AppName, directory: str) -> dict[str, object]:
        run = ["/usr/bin/python3", "-I", "-S", str(WEBAPP), directory, ADDRESSES[app], str(PORT)]
        return {"addresses": [ADDRESSES[app]], "programs": {"web": {"run": run}}}

    storage: dict[str, object] = {
        "volumes": {"data": {"type": "file", "image": f"/shared/{IMAGE}"}},
        "filesystems": [{"type": "ext4", "mount": MOUNT}],
    }
    parts: dict[AppName, dict[str, object]] = {
        FILES: storage | web(FILES, MOUNT),
        PAGES: web(PAGES, "/tmp"),
        ALONE: {"programs": {"sleep": {"run": ["/bin/sleep", "infinity"]}}},
    }
    found = {}
    for place, (app, part) in enumerate(parts.items()):
        turn = place % len(names)
        order = [*names[turn:], *names[:turn]]
        found[app] = yaml.safe_dump({"nodes": order, "autostart": True, **part}, sort_keys=False)
    return found


class Provider:
    """For `Lab.up`: everything into the nodes' /etc/truecl, each node's wall clock where there can be one, and a place
    for traces."""

    def __init__(self, profile: Profile, clock: Clock | None) -> None:
        self._profile, self._clock = profile, clock

    def __call__(self, nodes: Sequence[LabNode], links: Sequence[str]) -> None:
        provision.configure(nodes, links, self._profile, fence_timeout=FENCE_TIMEOUT)
        make_image(Path(nodes[0].shared) / IMAGE)
        traces.begin(nodes)
        for node in nodes:
            (node.etc / "apps").mkdir(exist_ok=True)
            for app, text in texts([each.name for each in nodes if not each.witness]).items():
                (node.etc / "apps" / f"{app}.yaml").write_text(text, encoding="utf-8")
            if self._clock is not None:
                self._clock.install(node.etc)
