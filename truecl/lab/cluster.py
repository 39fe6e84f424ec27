"""A lab: a cluster on one machine. Each node has a file system, a network and power of its own: it is a set of
namespaces, or (`vm=True`) a kernel.

    with Lab.up(4, name="mine", bare=True) as lab:
        lab.exec("n1", ["hostname"]).check()
        lab.kill("n1")

All methods raise LabError (its subclass NoLab where there is none); all work from any process.
"""

import compileall
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from truecl.lab import cgroups, teardown
from truecl.lab.description import (
    KIND_KERNELS,
    KIND_NAMESPACES,
    Description,
    LabNode,
    NodeState,
    Provision,
    checked_name,
    cut_text,
    describe,
    grown,
    link_name,
    load_cuts,
    save_cuts,
    write_json,
)
from truecl.lab.errors import LabError, NoLab
from truecl.lab.locks import locked
from truecl.lab.machine import check_machine
from truecl.lab.machines import PACKAGE, Machines, environment
from truecl.lab.namespaces import Namespaces
from truecl.lab.network import ANY, Cut, Network
from truecl.lab.paths import BASE, CLIENT, SCOPE, Paths
from truecl.lab.probing import Probing, asking, writing
from truecl.lab.switch import ENTER, PowerSwitch

SERVICE = (sys.executable, "-m", "truecl.service.truecld")
"""What a node's first process keeps running."""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    def check(self) -> "Result":
        """Raises LabError unless the exit code is 0."""
        if self.code:
            raise LabError(f"{' '.join(self.argv)}: exit code {self.code}: {self.err.strip() or self.out.strip()}")
        return self


@dataclass(frozen=True)
class NodeStatus:
    """A line of `lha_lab list`."""

    name: str
    state: str
    """on, off or paused."""
    witness: bool
    pid: int
    boots: int
    addresses: tuple[str, ...]
    cuts: tuple[str, ...]
    power: str
    """How the power switch treats it: ok, refuse, slow SECONDS."""


class Lab:
    """One lab, by the files it keeps under /run/truecl-lab/NAME."""

    def __init__(self, paths: Paths, description: Description) -> None:
        self.paths = paths
        self.description = description
        self.network = Network(paths, description.ports, description.links)
        self._mount_point = cgroups.mount_point()
        self._switch = PowerSwitch(paths, self._mount_point)
        self._machines = self._made_of()

    def _made_of(self) -> Machines:
        if self.description.kind == KIND_NAMESPACES:
            return Namespaces(self.paths, self.description, self.network)
        from truecl.lab.vm.kernels import Kernels  # of no use to most labs

        return Kernels(self.paths, self.description, self.network)

    # ---- the lab as a whole -----------------------------------------------------------------------------------------

    @classmethod
    def open(cls, name: str = "lab") -> "Lab":
        """A lab that is up."""
        check_machine()
        paths = Paths(checked_name(name))
        return cls(paths, Description.load(paths))

    @classmethod
    def up(
        cls,
        count: int = 4,
        *,
        name: str = "lab",
        names: Sequence[str] = (),
        links: int = 2,
        witness: bool = False,
        bare: bool = False,
        service: Sequence[str] = SERVICE,
        shared: str = "",
        disk_size: int = 0,
        provide: Provision | None = None,
        vm: bool = False,
    ) -> "Lab":
        """Make a lab of `count` nodes (or those in `names`), `witness` adds one more, and boot them all.

        `bare`: without truecl's service and configuration. `shared`: a directory of the machine instead of an empty
        one for /shared. `disk_size`: bytes of a node's own disk, if not the default. `provide`: fills the nodes'
        /etc/truecl instead of `truecl.lab.provision`. `vm`: with kernels of their own, which boot in some seconds.
        """
        check_machine()
        paths = Paths(checked_name(name))
        wanted = names or [f"n{i}" for i in range(1, count + 1)]
        kind = KIND_KERNELS if vm else KIND_NAMESPACES
        described = describe(paths, wanted, links, witness, shared, () if bare else tuple(service), kind)
        with locked(paths.lock_file):
            if Path(paths.root).exists() or Path(paths.group(cgroups.mount_point())).exists():
                raise LabError(f"lab '{name}' exists already: lha_lab down --name {name} removes it")
            teardown.remember_loops()
            lab = cls(paths, described)
            try:
                lab._machines.prepare()
                lab._lay_out(disk_size, provide)
                lab._boot_all()
            except BaseException as problem:
                teardown.tear_down(paths)
                Path(paths.lock_file).unlink(missing_ok=True)
                teardown.tidy_machine()
                if isinstance(problem, (OSError, subprocess.CalledProcessError)):
                    raise LabError(f"the lab did not come up: {problem}") from problem
                raise
        return lab

    @staticmethod
    def down(name: str = "lab") -> bool:
        """Cut every node's power and remove all that the lab made; False when there was nothing."""
        check_machine()
        paths = Paths(checked_name(name))
        with locked(paths.lock_file, remove=True):
            existed = teardown.tear_down(paths)
        teardown.tidy_machine()
        return existed

    @staticmethod
    def names() -> list[str]:
        """Labs on this machine."""
        base = Path(BASE)
        return sorted(path.name for path in base.iterdir() if path.is_dir()) if base.exists() else []

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        Lab.down(self.paths.name)

    def _lay_out(self, disk_size: int, provide: Provision | None) -> None:
        paths, nodes = self.paths, self.description.nodes
        for directory in (paths.root, paths.power_directory, paths.shared):
            Path(directory).mkdir(mode=0o700 if directory == paths.root else 0o755)
        for part in ("room", CLIENT, *(f"node.{node.name}" for node in nodes)):
            Path(f"{paths.group(self._mount_point)}/{part}").mkdir(parents=True)
        making = []
        try:
            for node in nodes:
                for part in ("etc", "log", "root"):
                    Path(f"{node.directory}/{part}").mkdir(parents=True)
                making.append(self._machines.make_disk(node, disk_size or self._machines.disk_size))
            self.network.create()
            self._switch.start()
            self._configure(provide)
            if self.description.service:
                compileall.compile_dir(f"{PACKAGE}/truecl", quiet=2)  # the nodes see it read-only
        finally:
            problems = [process.communicate()[1] for process in making]
        for process, problem in zip(making, problems, strict=True):
            if process.returncode:
                raise LabError(f"mkfs.ext4: {problem.strip()}")
        self.description.save(paths)

    def add_node(self, name: str, disk_size: int = 0) -> LabNode:
        """One machine more, switched on, with an empty /etc/truecl: `lha_init --join` fills it with what `lha_node add`
        made. The other nodes know it by its addresses, not by its name."""
        with locked(self.paths.lock_file):
            described = grown(Description.load(self.paths), self.paths, name)
            node = described.nodes[-1]
            try:
                Path(f"{self.paths.group(self._mount_point)}/node.{name}").mkdir()
                for part in ("etc", "log", "root"):
                    Path(f"{node.directory}/{part}").mkdir(parents=True)
                making = self._machines.make_disk(node, disk_size or self._machines.disk_size)
                problem = making.communicate()[1]
            except OSError as error:
                raise LabError(f"{name}: {error}") from error
            if making.returncode:
                raise LabError(f"mkfs.ext4: {problem.strip()}")
            described.save(self.paths)
            self.description = described
            self.network = Network(self.paths, described.ports, described.links)
            self._machines = self._made_of()
        self.boot(name)
        return node

    def _configure(self, provide: Provision | None) -> None:
        if provide is None:
            if not self.description.service:
                return
            from truecl.lab import provision  # brings cryptography, which no other verb needs

            provide = provision.configure
        provide(self.description.nodes, [link_name(link) for link in range(1, self.description.links + 1)])

    def _boot_all(self) -> None:
        nodes = self.description.nodes
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: self._boot(node.name), nodes))
        if self.description.service == SERVICE:
            for node in nodes:
                self.wait_service(node.name)

    def wait_service(self, node: str) -> None:
        """Wait until commands on the node find its request daemon. Raises LabError."""
        if not self._machines.wait_service(self.description.node(node), self.pid(node)):
            raise LabError(f"{node}: truecl's service did not start:\n{self.console(node)[-2000:]}")

    # ---- power ------------------------------------------------------------------------------------------------------

    def kill(self, node: str) -> None:
        """Cut the node's power: what it had not synced is lost. Returns when it is off; off already is no error."""
        self.description.node(node)
        with self._held():
            self._switch.ask(f"cut {node}")

    def boot(self, node: str) -> None:
        """Switch the node on; returns when its first process has started the service."""
        self.description.node(node)
        with self._held():
            try:
                self._boot(node)
            except OSError as problem:
                raise LabError(f"{node} did not boot: {problem}") from None

    def _boot(self, node: str) -> None:
        place = self.description.node(node)
        if self._unfinished(node):
            self._switch.ask(f"cut {node}")
        with locked(self.paths.node_lock(node)):
            if self.state(node) != "off":
                raise LabError(f"{node} is {self.state(node)} already; lha_lab kill {node} cuts its power")
            Path(f"{self._group(node)}/{SCOPE}").mkdir(parents=True, exist_ok=True)
            self._end_silence(node)
            self._machines.resume(place)
            write_json(self.paths.boot_file(node), self._machines.boot_order(place))
            interfaces = [place.port.interface(link) for link in range(1, self.description.links + 1)]
            Path(self.paths.ports_file(node)).write_text(" ".join(interfaces), encoding="utf-8")
            with self._switch.connect() as connection, connection.makefile("rw", encoding="utf-8") as talk:
                talk.write(f"{self._machines.order} {node}\n")
                talk.flush()
                pid = int(self._reply(talk.readline(), "pid", node))
                self._plug_in(place, pid)
                self._reply(talk.readline(), "built", node)
                before = NodeState.load(self.paths, node)
                NodeState(pid, before.boots + 1).save(self.paths, node)
                talk.write("go\n")
                talk.flush()
                self._reply(talk.readline(), "up", node)

    def _plug_in(self, node: LabNode, pid: int) -> None:
        with locked(f"{self.paths.cuts_file}.lock"):
            self._machines.plug_in(node, pid)
            self.network.apply(load_cuts(self.paths), only=node.name)

    def _reply(self, line: str, word: str, node: str) -> str:
        if line.split(" ")[0].strip() != word:
            said = line.strip() or "its first process ended: " + self.console(node).strip().rpartition("\n")[2]
            raise LabError(f"{node} did not boot: {said} ({self.paths.console(node)})")
        return line.partition(" ")[2].strip()

    def pause(self, node: str, silent: bool = False) -> None:
        """Stop all of the node's processes where they are; clocks run on. Its kernel still answers the network (ARP,
        ping, TCP's accept), as under a hanging user space; `silent` drops its frames too, as of a stopped VM."""
        self._running(node)
        place = self.description.node(node)
        with self._held(), locked(self.paths.node_lock(node)):
            if silent:
                links = range(1, self.description.links + 1)
                pairs = [(link, *pair) for link in links for pair in ((ANY, node), (node, ANY))]
                self._add_cuts(pairs, by="pause")
            self._machines.pause(place, silent)

    def resume(self, node: str) -> None:
        """Let a paused node run on; harmless for one that runs."""
        self.description.node(node)
        if self.state(node) == "off":
            raise LabError(f"{node} is off; lha_lab boot {node} switches it on")
        with self._held(), locked(self.paths.node_lock(node)):
            self._end_silence(node)
            self._machines.resume(self.description.node(node))

    def _end_silence(self, node: str) -> None:
        self._remove_cuts(lambda cut: cut.by == "pause" and node in (cut.source, cut.target))

    def power(self, node: str, mode: str) -> None:
        """How the power switch treats orders of the cluster for this node: 'ok', 'refuse' or 'slow SECONDS'."""
        self.description.node(node)
        Path(self.paths.mode_file(node)).write_text(f"{mode}\n", encoding="utf-8")

    # ---- network ----------------------------------------------------------------------------------------------------

    def cut(
        self,
        node: str,
        *,
        link: int = 0,
        source: str = "",
        one_way: bool = False,
        unplug: bool = False,
        port: int = 0,
        spared: int = 0,
    ) -> None:
        """Lose the node's frames on a link (0: on all); `node` may be 'client'.

        `source`: only those between the two. `one_way`: only what the node would receive. `unplug`: the cable is out,
        so that the node sees no carrier. `port`: only those from or to this TCP or UDP port; `spared`: all but those.
        """
        known = [port.name for port in self.description.ports]
        for name in (node, source):
            if name and name not in known:
                raise LabError(f"no node '{name}' in lab '{self.paths.name}': it has {', '.join(known)}")
        if link not in range(self.description.links + 1):
            raise LabError(f"no link {link}: lab '{self.paths.name}' has 1 to {self.description.links}")
        if unplug and (source or one_way or port or spared):
            raise LabError("a cable is out in both directions and for everything: --unplug goes with --link alone")
        if port and spared:
            raise LabError("a cut is of one port, or of all but one")
        for number in (port, spared):
            if number not in range(65536):
                raise LabError(f"{number} is no port: 1 to 65535")
        if unplug and not self._machines.carrier:
            raise LabError(
                "a node with a kernel (--vm) does not see that a cable is out: cut the link without --unplug"
            )
        if source == node:
            raise LabError(f"{node} cannot be cut from itself")
        pairs = []
        for number in [link] if link else range(1, self.description.links + 1):
            pairs.append((number, source or ANY, node))
            if not one_way and not unplug:
                pairs.append((number, node, source or ANY))
        with self._held():
            self._add_cuts(pairs, unplugged=unplug, port=port, spared=spared)

    def heal(self, node: str = "") -> int:
        """Take all cuts away, or those that touch `node`; returns how many there were."""
        with self._held():
            return self._remove_cuts(lambda cut: cut.by == "cut" and node in ("", cut.source, cut.target))

    def cuts(self) -> list[Cut]:
        return load_cuts(self.paths)

    def _add_cuts(self, pairs: Iterable[tuple[int, str, str]], by: str = "cut", **how: Any) -> None:
        with locked(f"{self.paths.cuts_file}.lock"):
            cuts = load_cuts(self.paths)
            have = {replace(cut, number=0) for cut in cuts}
            number = max((cut.number for cut in cuts), default=0)
            added = []
            for link, source, target in pairs:
                wanted = Cut(0, link, source, target, by, **how)
                if wanted not in have:
                    number += 1
                    added.append(replace(wanted, number=number))
            save_cuts(self.paths, [*cuts, *added])
            self.network.apply(added)

    def _remove_cuts(self, chosen: Callable[[Cut], bool]) -> int:
        with locked(f"{self.paths.cuts_file}.lock"):
            cuts = load_cuts(self.paths)
            gone = [cut for cut in cuts if chosen(cut)]
            save_cuts(self.paths, [cut for cut in cuts if not chosen(cut)])
            self.network.lift(gone)
            return len(gone)

    # ---- in the nodes -----------------------------------------------------------------------------------------------

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in a node or the client; in the node it dies with the node's power."""
        if node == CLIENT:
            enter = ["nsenter", f"--net={self.paths.client_namespace}", "--", *argv]
            group = f"{self.paths.group(self._mount_point)}/{CLIENT}"
        else:
            self._running(node)
            enter = self._machines.enter(self.description.node(node), NodeState.load(self.paths, node).pid, argv)
            group = f"{self._group(node)}/{SCOPE}"
        return ["/bin/sh", "-c", ENTER, f"{group}/cgroup.procs", *enter]

    def popen(self, node: str, argv: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
        """Start a command in a node or the client; `options` as subprocess.Popen has them."""
        command = self.command(node, argv)
        return subprocess.Popen(command, env=self.environment_for(node), text=True, **options)

    def exec(self, node: str, argv: Sequence[str], timeout: float = 30.0, stdin: str = "") -> Result:
        """Run a command to its end and give back what it printed."""
        pipe = subprocess.PIPE
        process = self.popen(node, argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise LabError(f"{node}: {' '.join(argv)}: not done after {timeout:g} s") from None
        return Result(tuple(argv), process.returncode, out, err)

    def enter(self, node: str, argv: Sequence[str]) -> int:
        """Run a command on this terminal; returns its exit code."""
        return subprocess.run(self.command(node, argv), env=self.environment_for(node), check=False).returncode

    def environment_for(self, node: str) -> Mapping[str, str]:
        """What a command there finds in its environment."""
        if node == CLIENT:
            return {**os.environ, "PYTHONPATH": PACKAGE}
        return {**environment(), "TERM": os.environ.get("TERM", "dumb")}

    def probe(self, target: str, **options: Any) -> Probing:
        """A client that asks ADDRESS:PORT every 5 ms in the background, from the client's place; see Probing.
        `options`: of `truecl.lab.probing.asking`."""
        return self._client(asking(target, **options))

    def writer(self, target: str, prefix: str) -> Probing:
        """A client that commits rows to the database there, one after the other (`truecl.lab.replicated.writer`)."""
        return self._client(writing(target, prefix))

    def _client(self, argv: Sequence[str]) -> Probing:
        return Probing(lambda argv, popen: self.popen(CLIENT, argv, **popen), argv)

    # ---- what is ----------------------------------------------------------------------------------------------------

    def state(self, node: str) -> str:
        """on, off or paused."""
        if not cgroups.event(self._group(node), "populated"):
            return "off"
        return "paused" if self._machines.paused(self.description.node(node)) else "on"

    def pid(self, node: str) -> int:
        """The machine's number of the node's PID 1. Raises LabError when the node is off."""
        self._running(node, paused=True)
        return NodeState.load(self.paths, node).pid

    def console(self, node: str) -> str:
        """What the node's first process and its service wrote to their standard error."""
        try:
            return Path(self.paths.console(node)).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def status(self) -> list[NodeStatus]:
        cuts = load_cuts(self.paths)
        return [self._status(node, cuts) for node in self.description.nodes]

    def _status(self, node: LabNode, cuts: Iterable[Cut]) -> NodeStatus:
        state = self.state(node.name)
        kept = NodeState.load(self.paths, node.name)
        mode = Path(self.paths.mode_file(node.name))
        return NodeStatus(
            node.name,
            state,
            node.witness,
            0 if state == "off" else kept.pid,
            kept.boots,
            tuple(node.addresses.values()),
            tuple(cut_text(cut) for cut in cuts if node.name in (cut.source, cut.target)),
            mode.read_text(encoding="utf-8").strip() if mode.exists() else "ok",
        )

    # ---- inner parts ------------------------------------------------------------------------------------------------

    def _group(self, node: str) -> str:
        return self.paths.node_group(self._mount_point, node)

    def _held(self) -> Any:
        """`down` waits for verbs that are under way, and they for it."""
        check_machine()
        if not Path(self.paths.root).exists():
            raise NoLab(f"no lab '{self.paths.name}': lha_lab up makes one")
        return locked(self.paths.lock_file, shared=True)

    def _running(self, node: str, paused: bool = False) -> None:
        self.description.node(node)
        state = self.state(node)
        if state == "off":
            raise LabError(f"{node} is off; lha_lab boot {node} switches it on")
        if state == "paused" and not paused:
            raise LabError(f"{node} is paused; lha_lab resume {node} lets it run on")

    def _unfinished(self, node: str) -> bool:
        path = Path(self.paths.loops_file(node))
        return path.exists() and bool(path.read_text(encoding="utf-8").strip())
