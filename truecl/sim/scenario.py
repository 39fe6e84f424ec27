"""What the simulated clusters look like, and what their operators do."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from truecl.core.contract import Put
from truecl.core.lockd import Lockd
from truecl.model.config import (
    PROFILES,
    Address,
    AppConfig,
    ClusterConfig,
    Configuration,
    DrbdStorage,
    FenceConfig,
    FileStorage,
    FileSystem,
    LinkConfig,
    LvmStorage,
    NodeConfig,
    Profile,
    Program,
    Replication,
    Volume,
    WatchdogConfig,
)
from truecl.model.ids import CLUSTERD, DAEMONS, HBD, LOCKD, NETD, REQD, STATD, SYNCD, AppName, Index, LinkName, NodeName
from truecl.sim.cluster import Plan
from truecl.sim.drbd import VOLUME
from truecl.sim.histories import Histories
from truecl.sim.kernel import INTERFACE, NETWORK
from truecl.sim.reconfiguration import narrowed
from truecl.wire.messages import BuildWish, Confirmed, ConfirmOff, Reply, Request

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster

TIMINGS: tuple[tuple[Profile, float], ...] = (("normal", 0.75), ("normal", 0.75), ("normal", 0.66), ("fast", 0.375))
"""Profiles, and the lease with each."""

PLAN = Plan(
    daemons=DAEMONS,
    mesh=(REQD, LOCKD, SYNCD, STATD, CLUSTERD),
    datagrams=frozenset({HBD}),
    edges=(
        (LOCKD, HBD), (CLUSTERD, HBD), (STATD, HBD), (NETD, HBD),
        (REQD, LOCKD), (CLUSTERD, LOCKD), (STATD, LOCKD),
        (CLUSTERD, REQD), (STATD, REQD), (REQD, NETD),
        (REQD, SYNCD), (CLUSTERD, SYNCD), (CLUSTERD, STATD),
    ),
)  # fmt: skip
"""(client, server) as on real nodes."""

_NOTHING = Index(0)
_UPKEEP = 0.3
"""Share of the days on which operators set nodes aside."""
_REQUESTS = 8
"""Operators' commands that wait at a time."""


def configuration(random: Random, nodes: int, witness: bool = False, guarded: bool = False) -> Configuration:
    """`nodes` nodes on two links, with fence devices in most seeds, and three applications. `guarded`: no device,
    but quick watchdogs decide."""
    names = [NodeName(f"n{number}") for number in range(1, nodes + 1)]
    links = [LinkName("link1"), LinkName("link2")]
    allowance = random.choice((0.4, 0.4, 1.0, 5.0))
    uses: tuple[Literal["off", "automatic", "required"], ...] = ("off", "automatic", "automatic", "required")
    use = random.choice(uses)
    whens: tuple[Literal["stop", "freeze"], ...] = ("stop", "freeze")
    profile, lease = random.choice(TIMINGS)
    timeout = {0.4: 1.0, 1.0: 2.0, 5.0: 6.0}[allowance]
    if guarded:
        use, allowance, timeout = random.choice(uses[1:]), 0.4, random.choice((1.0, 2.0, 2.0))
    fenced = random.random() < (0.85 if nodes == 2 else 0.6 if use == "off" else 0.3)
    limit = random.choice((0.2, 0.4, 1.0)) if nodes == 2 else 20.0
    board = (FenceConfig(agent="fence_board", timeout=limit),)
    feeds = tuple(
        FenceConfig(agent="fence_feed", parameters={"feed": each}, retries=1, timeout=limit) for each in ("a", "b")
    )
    levels = random.choice(((board,), (board,), (feeds,), (board, feeds)))
    delays: list[float | None] = [None] * nodes
    if nodes == 2:  # most duels have a winner, some have two
        delays = [random.choice((None, None, 0.0)), None]
    return Configuration(
        cluster=ClusterConfig(
            name="simulated",
            profile=profile,
            on_quorum_loss=random.choice(whens),
            timing=replace(PROFILES[profile], lease=lease, stop_allowance=allowance),
            links=tuple(LinkConfig(name=link) for link in links),
            nodes=tuple(
                NodeConfig(
                    name=name,
                    addresses={link: f"10.{number}.0.{place}" for number, link in enumerate(links, 1)},
                    fence=levels if (fenced or random.random() < 0.2) and not guarded else (),
                    watchdog=WatchdogConfig(use=use, timeout=timeout, watchdog_survives_pause=random.random() < 0.12),
                    witness=witness and name == names[-1],
                    fence_delay=delays[place - 1],
                )
                for place, name in enumerate(names, 1)
            ),
        ),
        apps=_applications(names[:-1] if witness else names),
        digest="simulated",
    )


def _applications(names: list[NodeName]) -> tuple[AppConfig, ...]:
    """One of everything, one of an address alone, one of storage alone."""

    def storage(name: str) -> tuple[tuple[Volume, ...], tuple[FileSystem, ...]]:
        volume = Volume(name="data", storage=FileStorage(image=f"/images/{name}.img"))
        return (volume,), (FileSystem(type="ext4", mount=f"/srv/{name}"),)

    def program(name: str) -> Program:
        return Program(name=name, run=(f"/usr/bin/{name}",))

    def address(number: int) -> Address:
        return Address(address=f"{NETWORK}{number}", interface=INTERFACE)

    db, files = storage("db"), storage("files")
    return (
        AppConfig(
            name=AppName("db"),
            nodes=tuple(names),
            volumes=db[0],
            filesystems=db[1],
            addresses=(address(100),),
            programs=(program("db"),),
            start_timeout=5.0,
            stop_timeout=2.0,
        ),
        AppConfig(
            name=AppName("web"),
            nodes=tuple(reversed(names)),
            addresses=(address(101),),
            programs=(program("web"),),
            start_timeout=5.0,
            stop_timeout=2.0,
        ),
        AppConfig(
            name=AppName("files"),
            nodes=tuple(names[1:] + names[:1]),
            volumes=files[0],
            filesystems=files[1],
            start_timeout=5.0,
            stop_timeout=2.0,
        ),
    )


def with_replicated(configuration: Configuration, random: Random) -> Configuration:
    """And an application whose data is on two of the nodes."""
    able = [node.name for node in configuration.cluster.nodes if not node.witness]
    link = random.choice(configuration.cluster.links).name
    app = AppConfig(
        name=AppName("mail"),
        nodes=tuple(random.sample(able, 2)),
        volumes=(Volume(name=VOLUME, storage=DrbdStorage(on=LvmStorage(group="vg", volume="mail"))),),
        filesystems=(FileSystem(type="ext4", mount="/srv/mail"),),
        addresses=(Address(address=f"{NETWORK}102", interface=INTERFACE),),
        programs=(Program(name="mail", run=("/usr/bin/mail",)),),
        replication=Replication(link=link, verify=15.0),
        start_timeout=5.0,
        stop_timeout=2.0,
    )
    return replace(configuration, apps=(*configuration.apps, app))


def formed(cluster: "Cluster") -> None:
    """As lha_form left them: the daemons start with the node."""
    for machine in cluster.machines.values():
        if machine.name in cluster.outside:
            continue
        journal = machine.journals[REQD] = cluster.variant.journal()
        journal.write((Put("formed", "formed", b"1"),))
        journal.flush()


def begin_without(cluster: "Cluster", later: int) -> None:
    """The last machines are no nodes yet: they have nothing, and the others do not know them."""
    cluster.outside = cluster.names[-later:]
    first = narrowed(cluster.configuration, [name for name in cluster.names if name not in cluster.outside])
    for machine in cluster.machines.values():
        machine.configuration = first


class Operators:
    """Start everything, then ask for this and that at random."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._random = cluster.random
        self._number = 0
        self._on = True
        self._upkeep = Random(f"upkeep {cluster.seed}")
        """Apart, so that days without it stay as they are."""
        self._builds = Random(f"builds {cluster.seed}")
        self.histories = Histories(cluster)
        self._open: list[Callable[[], None]] = []
        self.answers: dict[int | None, int] = {}
        """Exit code to how many commands ended so."""

    def begin(self) -> None:
        for app in self._cluster.configuration.apps:
            self._ask_until_taken("start", app.name)
        self._next()
        if self._upkeep.random() < _UPKEEP:
            self._work_on_nodes()

    def end(self) -> None:
        self._on = False

    def _next(self) -> None:
        self._cluster.schedule.after(self._random.expovariate(self._cluster.faults.wishes), self._something)

    def _something(self) -> None:
        if not self._on:
            return
        if self._builds.random() < self._cluster.faults.builds:
            self._build()
        verb = self._random.choice(("start", "start", "stop", "move", "move"))
        dark = [name for name, machine in self._cluster.machines.items() if not machine.powered]
        if dark and self._random.random() < self._cluster.faults.vouches:
            self._vouch(dark)
            self._next()
            return
        if self._random.random() < 0.06:
            wish = self._random.choice(("off", "reboot", "on"))
            self._ask(wish, AppName(""), self._random.choice(self._cluster.names))
            self._next()
            return
        app = self._random.choice(self._cluster.configuration.apps)
        node = self._random.choice((None, *app.nodes)) if verb != "stop" else None
        self._ask(verb, app.name, node)
        self._next()

    def _vouch(self, dark: list[NodeName]) -> None:
        """An operator says only of a node that has no power that it is off, and what the log said when he looked."""
        if len(self._cluster.names) == 2 and self._random.random() < 0.8:
            self._vouch_for(dark[0])
            return
        cores = [each.processes[LOCKD].core for each in self._cluster.machines.values() if LOCKD in each.processes]
        lockds = [core for core in cores if isinstance(core, Lockd)]
        if lockds:
            seen = self._random.choice(lockds).ledger.index
            self._ask("confirm", AppName(""), self._random.choice(dark), seen)

    def _vouch_for(self, dark: NodeName) -> None:
        """At the other of two nodes, which says what it wants to be told, and is told the truth. (That a node did not
        go on alone, this operator never says: he has not been there all the time.)"""
        machine = next(each for each in self._cluster.machines.values() if each.name != dark)
        self._number += 1
        who = f"command-{self._number}"

        def read(message: Any) -> None:
            sure = isinstance(message, Confirmed) and not (message.reason or message.say_more or message.taken)
            if sure and not self._cluster.machines[dark].powered:
                self._number += 1
                word = ConfirmOff(dark, "operator", message.seen)
                self._cluster.note(f"command-{self._number}", f"{word}")
                machine.command(f"command-{self._number}", LOCKD, word, lambda answer: None)

        machine.command(who, LOCKD, ConfirmOff(dark, "operator"), read)

    def _work_on_nodes(self) -> None:
        """Sets nodes aside, lets them be used again, and calls things repaired."""
        if not self._on:
            return
        verb, node = (
            self._upkeep.choice(("standby", "standby", "resume", "clear")),
            self._upkeep.choice(self._cluster.names),
        )
        if verb == "clear":
            self._ask(verb, AppName(self._upkeep.choice((node, "web"))), None)
        else:
            self._ask(verb, AppName(""), node, keep=self._upkeep.random() < 0.3)
        self._cluster.schedule.after(self._upkeep.expovariate(0.5), self._work_on_nodes)

    def _build(self) -> None:
        machine = self._cluster.machines[self._builds.choice(self._cluster.names)]
        app = self._builds.choice(self._cluster.configuration.apps)
        self._number += 1
        who = f"command-{self._number}"
        wish = BuildWish(create=self._builds.random() < 0.5)
        request = Request(f"{machine.name}-{self._number}", "build", app.name, None, "operator", build=wish)

        def read(message: Any) -> None:
            if isinstance(message, Reply) and message.code is not None:
                self._cluster.met(f"lha_buildapp: {'done' if message.code == 0 else 'refused'}")
                self._cluster.schedule.after(0.0, machine.hang_up, who)

        if machine.command(who, CLUSTERD, request, read):
            self._cluster.note(who, f"{request}")

    def _ask_until_taken(self, verb: str, app: AppName) -> None:
        if self._on and not self._ask(verb, app, None):
            self._cluster.schedule.after(0.2, self._ask_until_taken, verb, app)

    def _ask(self, verb: str, app: AppName, node: NodeName | None, seen: Index = _NOTHING, keep: bool = False) -> bool:
        machine = self._cluster.machines[self._random.choice(self._cluster.names)]
        self._number += 1
        who = f"command-{self._number}"
        request = Request(f"{machine.name}-{self._number}", verb, app, node, "operator", seen, keep)

        def read(message: Any) -> None:
            if isinstance(message, Reply):
                wish.heard(message, self._cluster.schedule.now)
            if isinstance(message, Reply) and message.code is not None:
                self.answers[message.code] = self.answers.get(message.code, 0) + 1
                self._cluster.schedule.after(0.0, machine.hang_up, who)

        wish = self.histories.asked(who, verb, app)
        if not machine.command(who, CLUSTERD, request, read):
            wish.withdraw()
            return False
        self._cluster.note(who, f"{request}")
        self._open.append(lambda: machine.hang_up(who))
        if len(self._open) > _REQUESTS:
            self._open.pop(0)()
        return True
