"""Joins one daemon's core with its journal, its sessions, its sockets and its drivers. Decides nothing.

The pieces and the order of a start are the same for every daemon: load the records, build the core, open what needs
root, run. What a daemon adds of its own (drivers, a notice of its files) its service module passes in.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from truecl.core.assemble import LOCAL_EDGES, build
from truecl.core.contract import EXIT_JOURNAL, Event, Joined, Records, Save, Told
from truecl.core.raft import ForeignJournal
from truecl.core.raft import JournalDamaged as LogDamaged
from truecl.model.config import ClusterConfig, Configuration
from truecl.model.ids import HBD, REQD, SYNCD, DaemonName
from truecl.runtime.credentials import Credentials
from truecl.runtime.host import Actions, Bus, Host, NoMesh
from truecl.runtime.host import Mesh as AnyMesh
from truecl.runtime.journal import Journal, JournalFault, Owner
from truecl.runtime.local import LocalBus, LocalClient, LocalServer
from truecl.runtime.mesh import AddressTaken, Mesh
from truecl.runtime.process import CannotStart, Daemon
from truecl.runtime.rights import Rights
from truecl.runtime.tls import context_of
from truecl.runtime.trace import Trace
from truecl.wire.codec import Codec
from truecl.wire.messages import LOCAL, MESH, NewConfiguration, Ready, View
from truecl.wire.session import Identity

LOCAL_CODEC = Codec(LOCAL)
MESH_CODECS = {daemon: Codec(union) for daemon, union in MESH.items()}
"""Made at import, which is once in the warm parent: what msgspec learns of the messages' types is work of 10 ms."""
VOLATILE = "run."
"""Buckets that outlive the daemon and not the boot (`contract.Put`)."""


class SplitJournal:
    """Two journals as one: durable records on the disk, `run.` buckets in the run directory."""

    def __init__(self, durable: Journal | None, volatile: Journal | None, warn: Callable[[str], None]) -> None:
        self._durable, self._volatile, self._warn = durable, volatile, warn

    def load(self) -> Records:
        records: Records = {}
        for journal in (self._durable, self._volatile):
            if journal is not None:
                records |= journal.load()
        return records

    def save(self, saves: Iterable[Save]) -> None:
        """The durable ones first: what follows in the run directory may rely on them."""
        both = list(saves)
        for journal, volatile in ((self._durable, False), (self._volatile, True)):
            part = [each for each in both if each.bucket.startswith(VOLATILE) is volatile]
            if part:
                if journal is None:
                    raise AssertionError(f"nowhere to save bucket {part[0].bucket!r}")
                journal.save(part)

    def release(self) -> bool:
        if self._durable is None or not self._durable.release():
            return False
        self._warn(f"{self._durable.path}: the disk is full; the last reserve is in use now, make room")
        return True


class TracedBus:
    """A bus whose `tell` is traced."""

    def __init__(self, bus: Bus, trace: Trace) -> None:
        self._bus, self._trace = bus, trace

    def tell(self, who: str, message: Any) -> None:
        self._trace.tells(message)
        self._bus.tell(who, message)


def configured(daemon: Daemon) -> tuple[Configuration, Credentials]:
    """Raises CannotStart with every problem."""
    loaded = daemon.loaded
    if loaded.configuration is None or loaded.credentials is None:
        raise CannotStart("; ".join(loaded.problems) or "no configuration: lha_init makes one")
    return loaded.configuration, loaded.credentials


def open_journal(daemon: Daemon, cluster: str, durable: bool, volatile: bool) -> SplitJournal:
    """To be called as the user the daemon runs as. Raises CannotStart with the fault in operator's words."""
    owner = Owner(cluster, daemon.node, daemon.name)
    try:
        return SplitJournal(
            Journal(daemon.home() / "journal.db", owner, daemon.clock.now) if durable else None,
            Journal(daemon.paths.run / f"{daemon.name}.db", owner, daemon.clock.now) if volatile else None,
            daemon.log.error,
        )
    except JournalFault as fault:
        raise CannotStart(f"{type(fault).__name__}: {fault}", EXIT_JOURNAL) from fault


@dataclass
class Joint:
    """`durable`, `volatile`: which journals the core needs. `actions` and `failed` as `Host` takes them."""

    daemon: Daemon
    durable: bool = False
    volatile: bool = False
    has_mesh: bool = True
    serves: bool = True
    when_full: Event | None = None
    on_configuration: Callable[[ClusterConfig], None] = lambda cluster: None
    """Told of each that names this node."""
    trace: Trace | None = None
    _host: Host | None = None
    _mesh: Mesh | None = None
    _starts: list[Callable[[], None]] = field(default_factory=list)

    def feed(self, event: Event) -> None:
        """From every source. What the sessions need of hbd's view is passed on to them on the way."""
        if self._host is None:
            return
        if self.trace is not None:
            self.trace.heard(event)
        match event:
            case Told(who, View() as view) if who == HBD and self._mesh is not None:
                for node in view.nodes:
                    self._mesh.links(
                        node.node, {link.name: link.up for link in node.links}, node.boot if node.alive else None
                    )
            case Told(who, NewConfiguration(configuration)) if who == SYNCD:
                self.reconfigure(configuration)
            case Joined(who) if who == REQD:
                self._host.feed(event)
                self._say_ready()
                return
            case Told(who, Ready()) if who == REQD:
                self._say_ready()
                return
            case _:
                pass
        self._host.feed(event)

    def reconfigure(self, configuration: Configuration) -> None:
        """Sessions with the nodes of this configuration. One that does not name this node is not for it: what members
        say of it is what counts (`StopDaemons`)."""
        nodes = {node.name: node.addresses for node in configuration.cluster.nodes}
        if self.daemon.node not in nodes:
            return
        self.on_configuration(configuration.cluster)
        if self._mesh is not None:
            self._mesh.reconfigure(nodes)

    def tell(self, who: str, message: Any) -> None:
        self._bus.tell(who, message)

    def _say_ready(self) -> None:
        self.tell(REQD, Ready(self.daemon.name, os.getpid()))

    def run(
        self,
        actions: Actions | None = None,
        failed: Callable[[Any, BaseException], Any] | None = None,
        *,
        wrap_bus: Callable[[Bus], Bus] | None = None,
        mesh: AnyMesh | None = None,
        before_timer: Callable[[], None] = lambda: None,
        on_start: Callable[[], None] | None = None,
        on_terminate: Callable[[], None] | None = None,
    ) -> None:
        """Opens everything, gives up root, and turns the reactor until the process ends. Raises CannotStart.

        `mesh`: another way to the other nodes than sessions; `before_timer`: as `Host` takes it.
        """
        daemon = self.daemon
        configuration, credentials = configured(daemon)
        self._bus = self._local_bus()
        if self.has_mesh:
            self._mesh = self._sessions(configuration, credentials)
        try:
            self._bus.start()
            if self._mesh is not None:
                self._mesh.listen()
        except (OSError, AddressTaken) as error:
            raise CannotStart(f"{daemon.name}: {error}") from error
        home_first = self.durable and daemon.home()  # made, and given to the user, while this is still root
        daemon.settle()
        journal = open_journal(daemon, configuration.cluster.name, bool(home_first), self.volatile)
        try:
            core = build(
                daemon.name, daemon.node, configuration, daemon.boot, journal.load(), daemon.random, daemon.clock.now(),
                credentials.founder,
            )  # fmt: skip
        except (JournalFault, LogDamaged, ForeignJournal) as fault:
            raise CannotStart(f"{type(fault).__name__}: {fault}", EXIT_JOURNAL) from fault
        bus: Bus = self._bus if self.trace is None else TracedBus(self._bus, self.trace)
        self._host = Host(
            core,
            clock=daemon.clock,
            timers=daemon.reactor,
            before_timer=before_timer,
            journal=journal if self.durable or self.volatile else None,
            mesh=mesh or self._mesh or NoMesh(),
            bus=wrap_bus(bus) if wrap_bus is not None else bus,
            actions=actions or _no_actions,
            failed=failed or _no_failure,
            on_failed_save=daemon.failed_save,
            on_defect=daemon.defect,
            on_outdated=daemon.outdated,
            when_full=self.when_full,
        )
        self._host.start()
        if on_start is not None:
            on_start()
        daemon.run(on_terminate)

    def _local_bus(self) -> LocalBus:
        daemon, rights, codec = self.daemon, Rights.of_system(), LOCAL_CODEC
        run = daemon.paths.run
        server = None
        if self.serves:
            server = LocalServer(run, daemon.name, rights=rights, codec=codec, feed=self.feed, reactor=daemon.reactor,
                                 log=daemon.log)  # fmt: skip
        servers: list[DaemonName] = [other for client, other in LOCAL_EDGES if client == daemon.name]
        clients = {
            other: LocalClient(run, daemon.name, other, rights=rights, codec=codec, feed=self.feed,
                               reactor=daemon.reactor, log=daemon.log)
            for other in servers
        }  # fmt: skip
        return LocalBus(server, clients)

    def _sessions(self, configuration: Configuration, credentials: Credentials) -> Mesh:
        daemon, cluster = self.daemon, configuration.cluster
        port: int = getattr(cluster.ports, daemon.name)
        return Mesh(
            Identity(cluster.name, daemon.node, daemon.name, daemon.boot),
            cluster.node(daemon.node).addresses,
            {node.name: node.addresses for node in cluster.nodes},
            port,
            context=context_of(credentials),
            codec=MESH_CODECS[daemon.name],
            feed=self.feed,
            reactor=daemon.reactor,
            clock=daemon.clock,
            random=daemon.random,
            log=daemon.log,
        )


def _no_actions(action: Any) -> Any:
    raise AssertionError(f"a daemon without drivers was asked for {type(action).__name__}")


def _no_failure(action: Any, error: BaseException) -> Any:
    raise AssertionError(f"{type(action).__name__}: {error}")
