"""Lets the drawn faults happen: each kind at its own rate, each ended after a drawn time."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from truecl.core.lockd import Lockd
from truecl.core.raft import Role
from truecl.model.actions import ServiceStopping
from truecl.model.config import WATCHDOG_FEED
from truecl.model.ids import LOCKD, REQD, DaemonName, LinkName, NodeName
from truecl.sim.membership import Growth
from truecl.sim.reconfiguration import Reconfiguration

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine
    from truecl.sim.process import Process


class Chaos:
    """Works on one cluster from `begin` to `end`; `end` heals all that is not healed by itself."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._random = cluster.random
        self._schedule = cluster.schedule
        self._on = False
        self._round = 0
        self._undo: dict[int, Callable[[], None]] = {}
        self._number = 0
        self._reconfiguration = Reconfiguration(cluster)
        self.growth = Growth(cluster, self._reconfiguration)
        faults = cluster.faults
        self._kinds: list[tuple[float, Callable[[], None]]] = [
            (faults.cuts, self._cut),
            (faults.power_cuts, self._power_cut),
            (faults.kills, self._kill),
            (faults.kills / 4, self._kill_parent),
            (faults.pauses, self._pause),
            (faults.hangs, self._hang),
            (faults.suspends, self._suspend),
            (faults.massacres, self._massacre),
            (faults.quick_reboots, self._quick_reboot),
            (faults.full_disks, self._full_disk),
            (faults.service_stops, self._service_stop),
            (faults.late_feeds, self._late_feed),
            (faults.slow_disks, self._slow_disk),
            (faults.reconfigurations, self._reconfiguration.activate),
            (faults.memberships, self.growth.change),
        ]
        cluster.on_power_cut = self._boot_later

    def begin(self) -> None:
        self._on = True
        for rate, fault in self._kinds:
            if rate > 0.0:
                self._next(rate, fault)

    def end(self) -> None:
        """Heal everything: links, pauses, power."""
        self._on = False
        cluster = self._cluster
        cluster.gap = 0.0
        for machine in cluster.machines.values():
            machine.before_feed = None
        for number in sorted(self._undo):
            self._undo.pop(number)()
        cluster.network.heal_all()
        self.growth.end()
        self._reconfiguration.end()
        for machine in cluster.machines.values():
            if not machine.powered and machine.name not in cluster.outside:
                cluster.power_on(machine)

    # ---- when -------------------------------------------------------------------------------------------------------

    def _next(self, rate: float, fault: Callable[[], None]) -> None:
        self._schedule.after(self._random.expovariate(rate), self._happen, rate, fault)

    def _happen(self, rate: float, fault: Callable[[], None]) -> None:
        if self._on:
            fault()
            self._next(rate, fault)

    def _for(self, mean: float, undo: Callable[[], None]) -> None:
        """Undo after a drawn time, or when all is healed."""
        self._number += 1
        self._undo[self._number] = undo
        self._schedule.after(self._random.expovariate(1.0) * mean, self._undone, self._number)

    def _undone(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            undo()

    def _machine(self) -> "Machine":
        if self._random.random() < self._cluster.faults.at_master:
            return self._cluster.machines[self._master()]
        return self._cluster.machines[self._random.choice(self._cluster.names)]

    def _master(self) -> NodeName:
        """The node that leads the latest term; any, while none does."""
        leaders = [
            (process.core.raft.term, machine.name)
            for machine in self._cluster.machines.values()
            if (process := machine.processes.get(LOCKD)) is not None
            and isinstance(process.core, Lockd)
            and process.core.raft.role is Role.LEADER
        ]
        return max(leaders)[1] if leaders else self._random.choice(self._cluster.names)

    def _owner(self) -> "Machine":
        """One that has storage active, where there is any and a coin says so: there something can go wrong."""
        primaries = self._cluster.drivers.primaries() if self._cluster.faults.at_primary else []
        if primaries and self._random.random() < self._cluster.faults.at_primary:
            return self._random.choice(primaries)
        owners = [
            each
            for each in self._cluster.machines.values()
            if each.powered
            and each.kernel is not None
            and any(name.startswith("volume ") for _, name in each.kernel.active)
        ]
        return self._random.choice(owners) if owners and self._random.random() < 0.7 else self._machine()

    # ---- what -------------------------------------------------------------------------------------------------------

    def _cut(self) -> None:
        cluster, random = self._cluster, self._random
        names = list(cluster.names)
        random.shuffle(names)
        side = names[: random.randint(1, max(1, len(names) // 2))]
        rest = [each for each in names if each not in side]
        if random.random() < cluster.faults.at_master:
            side = [self._master()]
            rest = [each for each in names if each != side[0]]
        if random.random() < cluster.faults.one_pair:
            side, rest = side[:1], rest[:1]
        links = list(cluster.network.links)
        if random.random() < cluster.faults.one_link:
            links = [random.choice(links)]
        one_way = random.random() < cluster.faults.one_way
        cluster.met(f"cut {'one way' if one_way else 'both ways'}, {'one link' if len(links) == 1 else 'all links'}")
        gone: list[tuple[NodeName, NodeName, LinkName]] = []
        for here in side:
            for there in rest:
                for link in links:
                    gone.append((here, there, link))
                    if not one_way:
                        gone.append((there, here, link))
        for source, target, link in gone:
            cluster.network.cut(source, target, link)
        cluster.note("network", f"CUT {side} {'->' if one_way else '<->'} {rest} on {links}")

        def heal() -> None:
            cluster.note("network", f"HEAL {side} and {rest} on {links}")
            for source, target, link in gone:
                cluster.network.heal(source, target, link)

        self._for(cluster.faults.cut_length, heal)

    def _power_cut(self) -> None:
        machine = self._machine()
        if machine.powered:
            self._cluster.met("power cut")
            self._cluster.power_cut(machine)

    def _quick_reboot(self) -> None:
        """Off and on again within less than any detection time."""
        machine, cluster = self._owner(), self._cluster
        if not machine.powered:
            return
        cluster.met("reboot quicker than detection")
        cluster.note(machine.name, "QUICK REBOOT")
        machine.power_off()
        self._schedule.after(0.005 + 0.2 * self._random.random(), cluster.power_on, machine)

    def _boot_later(self, machine: "Machine") -> None:
        self._for(self._cluster.faults.off_length or 1.0, lambda: self._cluster.power_on(machine))

    def _kill(self) -> None:
        process = self._process(self._cluster.faults.killed)
        if process is not None:
            self._cluster.met(f"kill of {process.daemon}")
            self._cluster.note(repr(process), "KILL")
            process.machine.kill(process.daemon)

    def _massacre(self) -> None:
        """What an out-of-memory killer or an operator's pkill does."""
        machine, random = self._owner(), self._random
        alive = list(machine.processes.values())
        if not alive:
            return
        victims = alive if random.random() < 0.3 else random.sample(alive, random.randint(1, len(alive)))
        self._cluster.met("kill of several at once")
        self._cluster.note(machine.name, f"KILL {victims}")
        if random.random() < 0.7:
            self._cluster.supervision.parent_killed(machine)
        for process in victims:
            machine.kill(process.daemon)

    def _kill_parent(self) -> None:
        self._cluster.met("kill of the parent")
        self._cluster.supervision.parent_killed(self._machine())

    def _pause(self) -> None:
        machine = self._owner()
        if not machine.powered:
            return
        boot = machine.boot
        self._cluster.met("pause of a node")
        self._cluster.note(machine.name, "PAUSE")
        machine.stall()

        def resume() -> None:
            if machine.powered and machine.boot == boot:
                self._cluster.note(machine.name, "RESUME")
                machine.resume()

        self._for(self._cluster.faults.pause_length or 1.0, resume)

    def _suspend(self) -> None:
        machine, cluster = self._owner(), self._cluster
        if not machine.powered or not machine.virtual or machine.suspended is not None:
            return
        boot = machine.boot
        declared = cluster.configuration.cluster.node(machine.name).watchdog.watchdog_survives_pause
        clock_ran = declared or self._random.random() >= cluster.faults.lagging
        cluster.met(f"standstill, the clock {'counts' if clock_ran else 'does not count'} it")
        cluster.note(machine.name, "SUSPEND")
        machine.suspend()

        def wake() -> None:
            if machine.powered and machine.boot == boot:
                cluster.note(machine.name, f"WAKES, its clock {'ran' if clock_ran else 'stood still'}")
                machine.wake(clock_ran)

        self._for(cluster.faults.pause_length or 1.0, wake)

    def _hang(self) -> None:
        process = self._process()
        if process is None:
            return
        victim = process
        self._cluster.met("hang of a daemon")
        self._cluster.note(repr(victim), "HANG")
        victim.hold()

        def resume() -> None:
            if victim.alive:
                self._cluster.note(repr(victim), "GOES ON")
                victim.machine.let_go(victim)

        self._for(self._cluster.faults.pause_length or 1.0, resume)

    def _service_stop(self) -> None:
        machine = self._owner()
        self._cluster.met("service stop")
        self._cluster.note(machine.name, "SERVICE STOPS")
        machine.noted(REQD, ServiceStopping())

    def _late_feed(self) -> None:
        """The worst that can come between a check and a feed (docs/safety.md): a node is cut off, and the last feed
        before its lease ends is held until just before the reset; then its guard dies just before the next, or not."""
        machine, random = self._owner(), self._random
        timeout = self._cluster.configuration.cluster.node(machine.name).watchdog.timeout
        patience = timeout * 0.97 / machine.rate
        self._cut_off(machine.name, 4.0 * timeout)

        def held(feed: Callable[[], None]) -> None:
            boot = machine.boot
            self._cluster.met("held before a feed")
            self._cluster.note(machine.name, "HELD BEFORE A FEED")
            machine.stall()
            self._schedule.after(patience - WATCHDOG_FEED, feed)
            if random.random() < 0.6:
                self._schedule.after(2 * patience - WATCHDOG_FEED, self._kill_guard, machine, boot)

            def resume() -> None:
                if machine.powered and machine.boot == boot:
                    machine.resume()

            self._for(8.0 * timeout, resume)

        machine.before_feed = held

    def _cut_off(self, name: NodeName, mean: float) -> None:
        network = self._cluster.network
        others = [each for each in self._cluster.names if each != name]
        gone = [pair for other in others for pair in ((name, other), (other, name))]
        cuts = [(source, target, link) for source, target in gone for link in network.links]
        self._cluster.note("network", f"CUT {name} off")
        for cut in cuts:
            network.cut(*cut)

        def heal() -> None:
            for cut in cuts:
                network.heal(*cut)

        self._for(mean, heal)

    def _kill_guard(self, machine: "Machine", boot: str) -> None:
        if self._on and machine.powered and machine.boot == boot:
            self._cluster.note(machine.name, "KILL of its guard")
            machine.kill(REQD)

    def _slow_disk(self) -> None:
        machine = self._machine()
        self._cluster.met("slow disk")
        machine.slow_disk = True

        def heal() -> None:
            machine.slow_disk = False

        self._for(3.0, heal)

    def _full_disk(self) -> None:
        machine = self._owner()
        self._cluster.met("full disk")
        self._cluster.note(machine.name, "DISK FULL")
        machine.full_disk = True

        def heal() -> None:
            self._cluster.note(machine.name, "ROOM ON THE DISK")
            machine.full_disk = False

        self._for(3.0, heal)

    def _process(self, daemon: DaemonName | None = None) -> "Process | None":
        alive = [each for each in self._machine().processes.values() if daemon in (None, each.daemon)]
        return self._random.choice(alive) if alive else None
