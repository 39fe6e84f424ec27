"""What the tests of a whole cluster share: applications, the operator at a node, and a watch over who holds what.

A `Cluster` is a lab whose nodes run truecl's service. What an operator does goes through the commands as he types them;
what is looked at from outside (`holders`) does not ask truecl at all.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from lablib import lab_name

from truecl.lab import cgroups, provision
from truecl.lab.cluster import Lab, Result
from truecl.lab.description import LabNode
from truecl.lab.errors import LabError
from truecl.lab.sample import WEBAPP, make_image

SOURCE = Path(__file__).parents[2]

PYTHON = "/usr/bin/python3"
NODES = ("n1", "n2", "n3")
PORT = 80

App = dict[str, Any]
"""An application's file as YAML would give it."""


def address(number: int) -> str:
    """A floating address for the application of that number."""
    return f"10.77.1.{100 + number}"


def webapp(directory: str, number: int) -> list[str]:
    return [PYTHON, "-I", "-S", str(WEBAPP), directory, address(number), str(PORT)]


def web(number: int, image: str = "", nodes: Sequence[str] = NODES, **more: Any) -> App:
    """The sample application on an image of its own: /shared/IMAGE.img on /srv/IMAGE."""
    name = image or f"web{number}"
    return {
        "nodes": list(nodes),
        "volumes": {"data": {"type": "file", "image": f"/shared/{name}.img"}},
        "filesystems": [{"type": "ext4", "mount": f"/srv/{name}"}],
        "addresses": [address(number)],
        "programs": {"web": {"run": webapp(f"/srv/{name}", number)}},
    } | more


def light(number: int, nodes: Sequence[str] = NODES, **more: Any) -> App:
    """Without storage: an address and the web server."""
    program = {"web": {"run": webapp("/tmp", number)}}
    return {"nodes": list(nodes), "addresses": [address(number)], "programs": program} | more


def program(nodes: Sequence[str] = NODES, app: Mapping[str, Any] | None = None, **it: Any) -> App:
    """One program, 'it', alone; `app`: keys of the application beside it."""
    return {"nodes": list(nodes), "programs": {"it": it}} | dict(app or {})


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def images(apps: Mapping[str, App]) -> Iterator[str]:
    """Names below /shared of all images that applications name."""
    for app in apps.values():
        for volume in app.get("volumes", {}).values():
            yield Path(volume["image"]).name


def write_apps(nodes: Sequence[LabNode], apps: Mapping[str, App]) -> None:
    for node in nodes:
        (node.etc / "apps").mkdir(exist_ok=True)
        for name, app in apps.items():
            (node.etc / "apps" / f"{name}.yaml").write_text(yaml.safe_dump(app, sort_keys=False), encoding="utf-8")


def until(so: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """Ask again and again until there is something; what came."""
    deadline = time.monotonic() + seconds
    while not (found := so()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


class Cluster:
    """A lab with truecl's service on every node."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes = tuple(node.name for node in lab.description.nodes)

    # ---- the operator -----------------------------------------------------------------------------------------------

    def run(self, node: str, *argv: str, code: int | None = 0, timeout: float = 60.0) -> Result:
        """A command at a node; `code` None: whatever its end. Never a traceback."""
        result = self.lab.exec(node, argv, timeout)
        assert "Traceback" not in result.out + result.err, result
        assert code is None or result.code == code, f"{node}: {' '.join(argv)}: {result.code}, not {code}: {result}"
        return result

    def as_nobody(
        self, node: str, code: str, *argv: str, groups: str = "--clear-groups", ends: int | None = 0
    ) -> Result:
        """Python at a node, as user nobody. Shown where nobody may look: the checkout can lie under /root."""
        for place, source in (("/mnt/source", SOURCE), ("/mnt/venv", sys.prefix)):
            self.run(node, "sh", "-c", f"mkdir -p {place}; mountpoint -q {place} || mount --bind {source} {place}")
        user = ("setpriv", "--reuid=nobody", "--regid=nogroup", groups, "env", "PYTHONPATH=/mnt/source")
        return self.run(node, *user, "/mnt/venv/bin/python3", "-c", code, *argv, code=ends)

    def command_as_nobody(
        self, node: str, command: str, *argv: str, groups: str = "--clear-groups", ends: int = 1
    ) -> Result:
        """One of truecl's commands, as user nobody."""
        module = command.removeprefix("lha_")
        code = f"import sys; from truecl.cli.{module} import main; sys.argv[0] = {command!r}; sys.exit(main())"
        return self.as_nobody(node, code, *argv, groups=groups, ends=ends)

    def form(self, *options: str, node: str = "n1", code: int | None = 0) -> Result:
        return self.run(node, "lha_form", *options, code=code)

    def build(self, app: str, *options: str, node: str = "n1", code: int | None = 0) -> Result:
        return self.run(node, "lha_buildapp", "-A", app, *options, code=code)

    def start(self, app: str, *options: str, node: str = "n1", code: int | None = 0, validated: bool = False) -> Result:
        """`validated`: only if lha_buildapp has found it ready. Most tests are about something else."""
        anyway = () if validated else ("--unvalidated",)
        return self.run(node, "lha_startapp", "-A", app, *anyway, *options, code=code)

    def stop(self, app: str, *options: str, node: str = "n1", code: int | None = 0) -> Result:
        return self.run(node, "lha_stopapp", "-A", app, *options, code=code)

    def move(self, app: str, *options: str, node: str = "n1", code: int | None = 0, validated: bool = False) -> Result:
        anyway = () if validated else ("--unvalidated",)
        return self.run(node, "lha_moveapp", "-A", app, *anyway, *options, code=code)

    def stat(self, node: str = "n1") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(node, "lha_stat", "--json").out)
        return found

    def app(self, name: str, node: str = "n1") -> dict[str, Any]:
        """Its row of lha_stat."""
        return next(row for row in self.stat(node)["apps"] if row["name"] == name)

    def wait_app(self, name: str, *, at: str = "n1", seconds: float = 15.0, **wanted: Any) -> dict[str, Any]:
        """Until lha_stat at the node `at` says so: status="UP", node="n2", note=a part of it."""
        last: dict[str, Any] = {}

        def so() -> bool:
            result = self.lab.exec(at, ["lha_stat", "--json"])
            if result.code:
                return False
            last.clear()
            last.update(next(row for row in json.loads(result.out)["apps"] if row["name"] == name))
            return all(value in last[key] if key == "note" else last[key] == value for key, value in wanted.items())

        try:
            until(so, f"{name} {wanted}", seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}; it is {last}") from None
        return dict(last)

    def master(self, node: str = "n1") -> str:
        return str(self.stat(node)["master"])

    def wait_up(self, *nodes: str, at: str = "n1", seconds: float = 15.0) -> None:
        """Until the master's lha_stat, asked at `at`, has a fresh report of each, with all daemons up."""

        def so() -> bool:
            result = self.lab.exec(at, ["lha_stat", "--json"])
            if result.code:
                return False
            rows = {row["name"]: row for row in json.loads(result.out)["nodes"]}
            return all(
                rows[node]["status"] == "UP"
                and rows[node]["reported"]
                and set(rows[node]["daemons"].values()) == {"up"}
                for node in nodes or self.nodes
            )

        until(so, f"{nodes or self.nodes} up with all daemons", seconds)

    # ---- what is, seen from outside ---------------------------------------------------------------------------------

    def log(self, node: str, daemon: str) -> str:
        """A daemon's log file."""
        try:
            return Path(f"{self.lab.paths.node(node)}/log/truecl/{daemon}.log").read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def pid(self, node: str, title: str) -> int:
        """The machine's number of a node's daemon, 0 when there is none."""
        group = self.lab.paths.node_group(cgroups.mount_point(), node)
        for pid in [*cgroups.members(f"{group}/init.scope"), *cgroups.members(f"{group}/truecl/reqd")]:
            with suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode() == title:
                    return pid
        return 0

    def programs(self, node: str, app: str) -> tuple[int, ...]:
        """The machine's numbers of an application's processes on a node, whatever generation."""
        group = Path(self.lab.paths.node_group(cgroups.mount_point(), node))
        found: list[int] = []
        with suppress(OSError):  # groups come and go while they are looked at
            for path in group.glob(f"truecl/{app}.*/**/cgroup.procs"):
                found += [int(line) for line in path.read_text().split()]
        return tuple(found)

    def holds(self, node: str, app: str, number: int, mount: str = "") -> tuple[str, ...]:
        """What of an application a powered node has: 'mount', 'address', 'programs'."""
        found = []
        with suppress(OSError, LabError):
            pid = self.lab.pid(node)
            if mount and f" {mount} " in Path(f"/proc/{pid}/mountinfo").read_text():
                found.append("mount")
            if f"|-- {address(number)}\n" in Path(f"/proc/{pid}/net/fib_trie").read_text():
                found.append("address")
        if self.programs(node, app):
            found.append("programs")
        return tuple(found)

    @contextmanager
    def watched(self, app: str, number: int, mount: str = "") -> "Iterator[Watch]":
        """Looks all the time whether two powered nodes hold the same; the test fails at the end if they ever did."""
        watch = Watch(self, app, number, mount)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()
        assert not watch.violations, watch.violations[:10]
        assert watch.looks > 20, "the watch was no watch"


class Watch(threading.Thread):
    """`history`: whenever it changed, who held what."""

    def __init__(self, cluster: Cluster, app: str, number: int, mount: str) -> None:
        super().__init__(daemon=True)
        self.violations: list[str] = []
        self.history: list[tuple[float, dict[str, tuple[str, ...]]]] = []
        self.looks = 0
        self._cluster, self._what = cluster, (app, number, mount)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            self._look()
            self._over.wait(0.004)

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _look(self) -> None:
        held = {node: self._cluster.holds(node, *self._what) for node in self._cluster.nodes}
        self.looks += 1
        if not self.history or self.history[-1][1] != held:
            self.history.append((time.monotonic(), held))
        for one, other in ((a, b) for a in held for b in held if a < b):
            both = set(held[one]) & set(held[other])
            # The nodes are looked at one after the other: what the first one still has was there all the time.
            still = both & set(self._cluster.holds(one, *self._what)) if both else None
            if still:
                self.violations.append(f"{one} and {other} both hold {', '.join(sorted(still))}")


@contextmanager
def running(
    suffix: str,
    apps: Mapping[str, App],
    *,
    count: int = 3,
    form: bool = True,
    configure: Callable[[Sequence[LabNode], Sequence[str]], None] = provision.configure,
    **options: Any,
) -> Iterator[Cluster]:
    """Nodes with truecl's service and these applications, formed from n1."""

    def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
        configure(nodes, links)
        for image in dict.fromkeys(images(apps)):
            if not image.startswith("missing"):
                make_image(nodes[0].shared / image)
        write_apps(nodes, apps)

    with Lab.up(count, name=lab_name(suffix), **({"provide": provide} | options)) as lab:
        cluster = Cluster(lab)
        if form:
            cluster.form()
            cluster.wait_up()
        yield cluster


def lines(text: str) -> list[str]:
    """What was printed, without the announcement's prefix and folding."""
    return [re.sub(r"^\d{6} \[ *\d+\] ", "", line) for line in text.splitlines()]


def steps(result: Result) -> str:
    """The words of a --verbose command as one text."""
    return " ".join(
        re.sub(r"^(LOG|WARN|ERROR) ?", "", line) for line in lines(result.out) if not line.startswith("Date")
    )


def kill(pid: int, number: int) -> None:
    """One process, by its number on the machine."""
    assert pid > 1
    os.kill(pid, number)
