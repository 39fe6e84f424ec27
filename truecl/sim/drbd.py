"""One DRBD resource on two simulated kernels: what is written, copied, acknowledged, frozen and brought up to date.

After DRBD 8.4 as it was measured (SAFETY.md section 5), in its most dangerous reading. Protocol C with `fencing
resource-and-stonith`: a write is acknowledged when both disks have it; a primary that loses its peer freezes at that
moment, and asks its handler; a frozen primary goes on by itself as soon as its peer is there again, whatever that is.
Who is ahead when two meet, they tell by generation identifiers, as DRBD does; the kernels know nothing of the log.

It checks S1 and S5: two primaries never acknowledge, and whoever is promoted, or copied from, has every write that was
acknowledged. Writes are numbers, a disk the set of those that it has.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from truecl.model.ids import NO_GENERATION, AppName, Generation, LinkName, NodeName
from truecl.model.replica import Disk, Link, ReplicaReport, Role, VolumeReport
from truecl.sim.cluster import Violation

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine

TICK = 0.1
VOLUME = "data"


@dataclass
class Token:
    """What the handler may answer for (truecl.drivers.storage.drbd.token)."""

    generation: Generation = NO_GENERATION
    over: bool = True


@dataclass(eq=False)
class Half:
    """One node's part. The first fields are on its disk, the rest is its kernel's and goes with the power."""

    machine: "Machine"
    blocks: set[int] = field(default_factory=set)
    current: int = 1
    """Generation identifier of its data, and that of the data that its peer was last seen to have."""
    bitmap: int = 0
    history: list[int] = field(default_factory=list)
    consistent: bool = True
    outdated: bool = False
    was_primary: bool = False
    """When it was last there: writes that nobody acknowledged may be on it."""

    present: bool = False
    attached: bool = False
    primary: bool = False
    looking: bool = False
    """It looks for its peer; otherwise, without a session, it is standalone."""
    session: "Session | None" = None
    suspended: bool = False
    alone_known: bool = False
    """A handler answered since they parted: the peer counts as outdated, and it goes on without."""
    proven: bool = False
    """Its disk is up to date and no longer merely consistent, as far as this kernel knows."""
    split: bool = False
    partings: int = 0
    pending: set[int] = field(default_factory=set)
    """Written here, on their way to the peer."""
    parked: int = 0
    """Writes that wait at the frozen device."""
    token: Token = field(default_factory=Token)

    @property
    def name(self) -> NodeName:
        return self.machine.name

    @property
    def runs(self) -> bool:
        """Its kernel does something."""
        return self.machine.powered and self.machine.suspended is None

    @property
    def disk(self) -> Disk:
        if not self.attached:
            return Disk.DISKLESS
        if not self.consistent:
            return Disk.INCONSISTENT
        if self.outdated:
            return Disk.OUTDATED
        return Disk.UP_TO_DATE if self.proven else Disk.CONSISTENT

    def goes_with_the_power(self) -> None:
        self.was_primary = self.was_primary or self.primary
        self.present = self.attached = self.primary = self.looking = self.suspended = False
        self.alone_known = self.proven = self.split = False
        self.session, self.parked, self.token = None, 0, Token()
        self.pending = set()


class Session:
    """Their connection. Each end believes in it until it notices."""

    def __init__(self, halves: tuple[Half, Half], now: float) -> None:
        self.halves = halves
        self.heard = {half.name: now for half in halves}
        self.source: Half | None = None
        """Of a synchronisation under way."""
        self.comparing = False
        self.differing = 0
        """Bytes that the last comparison found; they are brought when the two meet the next time."""

    @property
    def whole(self) -> bool:
        return all(half.session is self for half in self.halves)

    def other(self, half: Half) -> Half:
        return self.halves[1] if half is self.halves[0] else self.halves[0]


class Resource:
    """The resource of one application. `ask` has the handler run for a frozen half, which may then go on."""

    def __init__(
        self, cluster: "Cluster", app: AppName, nodes: tuple[NodeName, ...], link: LinkName, ask: Callable[[Half], None]
    ) -> None:
        self._cluster, self._schedule = cluster, cluster.schedule
        self._random = Random(f"drbd {cluster.seed}")
        self.app, self._link, self._ask = app, link, ask
        self.halves = {node: Half(cluster.machines[node]) for node in nodes}
        self.acknowledged: set[int] = set()
        self.written = 0
        self._identifier = 1
        self._patience = self._random.choice((0.4, 0.8, 1.5))
        """Seconds after which a half gives up a peer that it does not hear."""
        self._schedule.after(TICK, self._tick)

    def other(self, half: Half) -> Half:
        one, two = self.halves.values()
        return two if half is one else one

    # ---- the connection ---------------------------------------------------------------------------------------------

    def _reaches(self, source: Half, target: Half) -> bool:
        return source.runs and target.runs and self._cluster.network.open(source.name, target.name, self._link)

    def _meet(self) -> bool:
        one, two = self.halves.values()
        return self._reaches(one, two) and self._reaches(two, one)

    def _tick(self) -> None:
        self._schedule.after(TICK, self._tick)
        together = self._meet()
        for half in self.halves.values():
            session = half.session
            if session is None or not half.runs:
                continue
            if together and session.whole:
                session.heard[half.name] = self._schedule.now
            elif self._schedule.now >= session.heard[half.name] + self._patience:
                self._lose(half, session)
        looking = all(half.present and half.looking and half.session is None for half in self.halves.values())
        if together and looking and self._random.random() < 0.3:
            self._shake_hands(*self.halves.values())

    def close(self, half: Half) -> None:
        """It leaves the connection; its peer hears of that, if it can."""
        session, half.session = half.session, None
        if session is not None:
            self._interrupt(session)
            peer = session.other(half)
            if self._reaches(half, peer):
                self._schedule.after(0.001 + 0.02 * self._random.random(), self._lose, peer, session)

    def _lose(self, half: Half, session: Session) -> None:
        """It notices. A primary freezes in the same moment."""
        if half.session is not session or not half.machine.powered:
            return
        if not half.runs:
            self._schedule.after(TICK, self._lose, half, session)
            return
        self._interrupt(session)
        half.session = None
        half.partings += 1
        half.alone_known = False
        if half.primary:
            self._cluster.met("replica frozen")
            half.suspended = True
            self._ask(half)

    def _interrupt(self, session: Session) -> None:
        if session.source is not None:
            session.source = None
            self._cluster.met("synchronisation broken off")
        if session.comparing:
            session.comparing = False
            self._cluster.met("comparison broken off")

    def _shake_hands(self, one: Half, two: Half) -> None:
        both = (one, two)
        if one.primary and two.primary:
            for half in both:  # the worst that is imaginable: it goes on before it is refused
                self._thaw(half, half.pending)
                half.looking = False
            self._look_at_primaries()
            return
        if not (one.attached and two.attached):
            return
        source, apart = _ahead(one, two)
        target = None if source is None else two if source is one else one
        if apart or (target is not None and target.primary):
            for half in both:
                half.looking, half.split = False, apart
            return
        session = Session(both, self._schedule.now)
        one.session = two.session = session
        for half in both:
            half.split, half.partings = False, half.partings + 1
        if source is not None and target is not None:
            self._synchronise(session, source, target)
        for half in both:
            if half.primary:
                self._thaw(half, half.pending)
            half.proven = half.proven or source is not target
            half.was_primary = half.primary
            if source is None:
                half.outdated, half.proven = False, True

    # ---- synchronisation --------------------------------------------------------------------------------------------

    def _synchronise(self, session: Session, source: Half, target: Half) -> None:
        """What comes of it is the source's data: that must be all that was acknowledged."""
        self._whole(source, f"is copied to {target.name}")
        self._cluster.met("synchronisation")
        session.source, target.consistent = source, False
        source.proven = True
        self._schedule.after(0.1 + self._random.expovariate(1.0), self._synchronised, session, source, target)

    def _synchronised(self, session: Session, source: Half, target: Half) -> None:
        if session.source is not source or not session.whole or not self._meet():
            if session.source is source and session.whole:
                self._schedule.after(0.3, self._synchronised, session, source, target)
            return
        session.source = None
        target.blocks = set(source.blocks)
        target.current, target.history = source.current, list(source.history)
        source.bitmap = target.bitmap = 0
        target.consistent, target.outdated, target.proven = True, False, True

    # ---- comparison -------------------------------------------------------------------------------------------------

    def compare(self, half: Half) -> str:
        """Why it cannot begin; '' where it does."""
        session = half.session
        if session is None or not session.whole or session.source is not None or session.comparing:
            return "copies are compared only while they are connected and equal"
        session.comparing = True
        # One that is shorter would be its order's answer.
        self._schedule.after(2.0 + self._random.expovariate(0.5), self._compared, session)
        return ""

    def _compared(self, session: Session) -> None:
        if not session.comparing:
            return
        if not session.whole or not self._meet():
            self._schedule.after(0.3, self._compared, session)
            return
        session.comparing, session.differing = False, self._random.choice((0, 0, 4096, 12288))
        self._cluster.met("copies compared")
        if session.differing:
            self._schedule.after(5.0 * self._random.random(), self._bring, session)

    def _bring(self, session: Session) -> None:
        """lha_buildapp --resync: the secondary leaves in good order; by the master's word they meet again."""
        for half in session.halves:
            if half.session is session and session.whole and session.other(half).primary and half.runs:
                self._cluster.met("secondary left in good order")
                self._leave(half)
                half.looking, half.proven = False, False
                return

    # ---- writes -----------------------------------------------------------------------------------------------------

    def write(self, half: Half) -> None:
        """The program writes, and waits for the answer where it is frozen."""
        if half.suspended:
            half.parked += 1
            return
        if not half.primary or not half.attached:
            return
        self.written += 1
        number = self.written
        half.blocks.add(number)
        if half.session is None:
            self._acknowledge(half, {number})
        else:
            half.pending.add(number)
            self._schedule.after(self._flight(), self._arrive, half.session, half, number)

    def _flight(self) -> float:
        return 0.0002 + 0.01 * self._random.random()

    def _arrive(self, session: Session, half: Half, number: int) -> None:
        peer = session.other(half)
        if peer.session is not session or half.session is not session:
            return
        if not self._reaches(half, peer):  # sent again, as long as they believe in the connection
            self._schedule.after(TICK, self._arrive, session, half, number)
            return
        if peer.attached:
            peer.blocks.add(number)
        self._schedule.after(self._flight(), self._answered, session, half, number)

    def _answered(self, session: Session, half: Half, number: int) -> None:
        peer = session.other(half)
        if half.session is not session or number not in half.pending:
            return
        if not self._reaches(peer, half):
            self._schedule.after(TICK, self._answered, session, half, number)
            return
        self._acknowledge(half, {number})

    def _acknowledge(self, half: Half, numbers: set[int]) -> None:
        self.acknowledged |= numbers
        half.pending = half.pending - numbers

    # ---- freezing and going on --------------------------------------------------------------------------------------

    def go_on(self, half: Half) -> None:
        """Without its peer: the handler has answered. What follows is another generation of the data."""
        self._parted(half)
        self._thaw(half, set(half.pending))
        self._look_at_primaries()

    def _parted(self, half: Half) -> None:
        half.alone_known = half.proven = True
        if half.bitmap == 0:
            half.bitmap = half.current
        else:
            half.history.append(half.current)
        self._identifier += 1
        half.current = self._identifier

    def _thaw(self, half: Half, done: set[int]) -> None:
        """What was under way is done. What waited is written now."""
        half.suspended = False
        peer = half.session.other(half) if half.session is not None else None
        if peer is not None and peer.attached:
            peer.blocks |= done
        self._acknowledge(half, done)
        parked, half.parked = half.parked, 0
        for _ in range(parked):
            self.write(half)

    def sever(self, half: Half) -> None:
        """Where it is frozen: disconnect, detach, resume. What was under way fails."""
        half.token.over = True
        if not half.suspended:
            return
        self._cluster.met("replica severed")
        half.looking, half.attached = False, False
        self.close(half)
        self.resume_io(half)

    def resume_io(self, half: Half) -> None:
        """By hand: without a disk what waits fails, with one it is acknowledged."""
        if half.attached:
            self._thaw(half, set(half.pending))
            self._look_at_primaries()
        half.suspended, half.parked, half.pending = False, 0, set()

    # ---- roles ------------------------------------------------------------------------------------------------------

    def promote(self, half: Half) -> None:
        """The kernel has agreed."""
        half.primary = half.was_primary = True
        half.proven = True
        self._whole(half, "is promoted")
        self._look_at_primaries()

    def promote_without_peer(self, half: Half) -> None:
        """Its handler has answered."""
        self._parted(half)
        self.promote(half)

    def demote(self, half: Half) -> None:
        half.primary = half.was_primary = False
        half.token.over = True

    def up(self, half: Half) -> None:
        half.present = half.attached = True

    def down(self, half: Half) -> None:
        """In good order."""
        self._leave(half)
        half.present = half.attached = half.looking = half.suspended = half.proven = half.split = False

    def _leave(self, half: Half) -> None:
        """A secondary that leaves its primary in good order knows that it is outdated from then on, and the primary
        knows it too and goes on."""
        session = half.session
        if session is not None and session.whole and self._meet():
            primary = session.other(half)
            self._interrupt(session)
            half.session = primary.session = None
            primary.partings += 1
            if primary.primary:
                half.outdated = True
                self._parted(primary)
                self._acknowledge(primary, set(primary.pending))
        else:
            self.close(half)

    # ---- what must hold ---------------------------------------------------------------------------------------------

    def _whole(self, half: Half, what: str) -> None:
        missing = self.acknowledged - half.blocks
        if missing:
            raise Violation(f"S5: {half.name}'s copy of {self.app} {what} without {len(missing)} acknowledged writes")

    def _look_at_primaries(self) -> None:
        able = [half.name for half in self.halves.values() if self._acknowledges(half)]
        if len(able) > 1:
            raise Violation(f"S1: {' and '.join(able)} are both primary of {self.app}, and write")

    def _acknowledges(self, half: Half) -> bool:
        if not half.machine.powered or not half.primary or half.suspended:
            return False
        return half.attached if half.session is None else half.session.whole

    # ---- reports ----------------------------------------------------------------------------------------------------

    def report(self, half: Half) -> ReplicaReport:
        if not half.present:
            return ReplicaReport(self.app, Role.DOWN)
        session, peer = half.session, Disk.UNKNOWN
        if session is not None:
            peer = session.other(half).disk
        elif half.alone_known:
            peer = Disk.OUTDATED
        role = Role.PRIMARY if half.primary else Role.SECONDARY
        differing = session.differing if session is not None else 0
        volumes = (VolumeReport(VOLUME, half.disk, peer, behind=differing),)
        return ReplicaReport(self.app, role, _link(half), half.suspended, volumes, half.split)


def _link(half: Half) -> Link:
    if half.session is None:
        return Link.CONNECTING if half.looking else Link.STANDALONE
    if half.session.source is None:
        return Link.VERIFYING if half.session.comparing else Link.CONNECTED
    return Link.SYNC_SOURCE if half.session.source is half else Link.SYNC_TARGET


def _ahead(one: Half, two: Half) -> tuple[Half | None, bool]:
    """Whose data the other one needs, None: they are the same; and whether each was written without the other."""
    if not one.consistent or not two.consistent:
        if one.consistent == two.consistent:
            return None, True
        return (one if one.consistent else two), False
    if one.current == two.current:
        if one.was_primary == two.was_primary:
            return None, False
        return (one if one.was_primary else two), False
    for here, there in ((one, two), (two, one)):
        if there.current == here.bitmap or there.current in here.history:
            return here, False
    return None, True
