"""The promises S1 to S4 and S6 of DESIGN.md section 1, looked at after every event. Raises Violation.

It looks from outside: at the kernels (ground truth), and at what each lockd holds to be committed. The cores know
nothing of it. `Log` watches the replicated log and the ledger, `World` what the kernels have in the light of that.
"""

from typing import TYPE_CHECKING

import msgspec

from truecl.core.contract import Event, Output, Put
from truecl.core.instances import InstanceRecord
from truecl.core.lockd import Lockd
from truecl.core.netd import FAST_LEASE
from truecl.core.raft import Raft, Role
from truecl.core.raft.journal import BALLOT, LOG, META, SNAPSHOT, Ballot
from truecl.core.reqd import Reqd
from truecl.model.config import DrbdStorage
from truecl.model.ids import DAEMONS, LOCKD, REQD, AppName, BootId, Generation, Index, NodeName, Term
from truecl.model.ledger import Ended, Ledger, Proof
from truecl.model.report import Phase
from truecl.model.step import Instance, Step, StepKind, addressed
from truecl.sim.cluster import Violation
from truecl.sim.kernel import Key
from truecl.wire.messages import Refused
from truecl.wire.raft import Entry

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine
    from truecl.sim.process import Process

_RECORD = msgspec.msgpack.Decoder(InstanceRecord)
_LONGEST_LEASE = 3.0
"""Of all that are activated here."""
_JUST = 0.5
"""Seconds after a node's user space goes on within which its guard must have acted."""


class Log:
    """S3 and the ledger's half of S4: one leader a term, one content an index, terms and tokens only rise."""

    def __init__(self, world: "World") -> None:
        self.ledger = Ledger()
        """The newest that any node holds to be committed."""
        self.committed = 0
        self.led = Term(0)
        """The highest term that had a leader."""
        self._world = world
        self._leaders: dict[Term, NodeName] = {}
        self._entries: dict[Index, Entry] = {}
        self._ledgers: dict[Index, Ledger] = {Index(0): Ledger()}
        self._seen: dict[NodeName, tuple[int, Term, Index]] = {}
        """Node to its lockd's life, term and commit index when it was last looked at."""
        self._durable: dict[NodeName, Term] = {}
        """The term of each node's lockd that is certainly on its disk."""

    def look(self, process: "Process") -> None:
        """After an event of this lockd."""
        core = process.core
        if not isinstance(core, Lockd):
            return
        name, raft = process.machine.name, core.raft
        life, term, commit = self._seen.get(name, (0, Term(0), Index(0)))
        if life != process.life:
            commit = Index(0)
            if raft.term < self._durable.get(name, 0):
                raise Violation(f"S3: {name} is back in term {raft.term}, it was in {self._durable[name]} durably")
        else:
            # That it takes this event proves that all its earlier outputs were saved.
            self._durable[name] = term
            if raft.term < term:
                raise Violation(f"S3: {name} went back from term {term} to {raft.term}")
        if raft.alone and (term, commit) != (raft.term, raft.log.commit) and not _saved(process, raft):
            # Who decides alone leads and commits with its own disk. Dies it between the decision and the disk, nobody
            # has heard of either, and its next life knows nothing of it.
            self._seen[name] = (process.life, term, commit)
            return
        if raft.role is Role.LEADER:
            self.led = max(self.led, raft.term)
            other = self._leaders.setdefault(raft.term, name)
            if other != name:
                raise Violation(f"S3: {other} and {name} both lead term {raft.term}")
        if raft.log.commit != commit:
            self._look_at_entries(name, core, commit)
        self._seen[name] = (process.life, raft.term, raft.log.commit)
        if core.ledger.index not in self._ledgers or self._ledgers[core.ledger.index] is not core.ledger:
            self._look_at_ledger(name, core.ledger)

    def _look_at_entries(self, name: NodeName, core: Lockd, known: Index) -> None:
        log = core.raft.log
        if log.commit < known:
            raise Violation(f"S3: {name} takes back what it committed: {known}, now {log.commit}")
        for number in range(max(known + 1, log.first), log.commit + 1):
            index, entry = Index(number), log.entry(Index(number))
            if self._entries.setdefault(index, entry) != entry:
                raise Violation(f"S3: {name} has another committed entry {index}: {entry} != {self._entries[index]}")
        self.committed = max(self.committed, log.commit)

    def _look_at_ledger(self, name: NodeName, ledger: Ledger) -> None:
        other = self._ledgers.setdefault(ledger.index, ledger)
        if other != ledger:
            raise Violation(f"S3: {name}'s ledger at {ledger.index} is {ledger}, another's is {other}")
        if ledger.index > self.ledger.index:
            before, self.ledger = self.ledger, ledger
            self._rises(before, ledger)
            self._world.changed(before, ledger)

    def _rises(self, before: Ledger, after: Ledger) -> None:
        for lock, held in after.locks.items():
            old = before.locks.get(lock)
            if old is not None and held.token < old.token:
                raise Violation(f"S4: the token of {lock} fell from {old.token} to {held.token}")
            if old is not None and held.token == old.token and held.holder != old.holder:
                raise Violation(f"S4: {old.holder} and {held.holder} both hold {lock} by token {held.token}")
        for app, state in after.apps.items():
            if app not in before.apps:
                continue
            last, new = before.apps[app].grant, state.grant
            if last is not None and new is not None and new != last and new.generation <= last.generation:
                raise Violation(f"S4: the generation of {app} went from {last} to {new}")


def _saved(process: "Process", raft: Raft) -> bool:
    records = process.machine.journals[LOCKD].read()
    ballot = records.get(META, {}).get(BALLOT)
    commit = raft.log.commit
    on_disk = commit in records.get(LOG, {}) or commit in records.get(SNAPSHOT, {})
    return on_disk and ballot is not None and msgspec.msgpack.decode(ballot, type=Ballot).term >= raft.term


class World:
    """S1, S2, S6 and the nodes' half of S4: what the kernels have, and who was granted it."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.log = Log(self)
        self._first_start: dict[tuple[AppName, Generation], tuple[NodeName, BootId]] = {}
        self._started_at: dict[tuple[AppName, Generation], float] = {}
        self._closed: set[tuple[NodeName, AppName, Generation]] = set()
        self._ended_expired: dict[tuple[AppName, NodeName], Generation] = {}
        """The newest generation of an application on a node that was ended by 'expired'."""
        self._had: set[tuple[str, Generation, BootId]] = set()
        self._overlaps: dict[str, float] = {}
        """Address to since when two nodes have it, by the documented exception."""
        lease = cluster.configuration.cluster.timing.lease
        always_fast = lease < FAST_LEASE and not cluster.faults.reconfigurations
        self._beyond = (1.0 if always_fast else 2.0) + _JUST
        """Seconds that an address may be in a kernel beyond the lease: rounding, the margin, the kernel's own timer. So
        long S2's exception may last."""
        self.starts = 0
        self.grants = 0
        self.overlaps = 0

    # ---- Check ------------------------------------------------------------------------------------------------------

    def started(self, process: "Process", output: Output) -> None:
        if process.daemon == LOCKD:
            self.log.look(process)

    def handled(self, process: "Process", event: Event, output: Output) -> None:
        for told in output.tell:
            if isinstance(told.message, Refused) and told.who in DAEMONS and "does not take" in told.message.reason:
                raise Violation(f"{process} refuses what {told.who} says: {told.message.reason}")
        if process.daemon == LOCKD:
            self.log.look(process)
            self._look_at_leases(process)
        elif process.daemon == REQD:
            if output.save:
                self._note_closed(process.machine.name, output)
            self._look_at_guard(process)
        if self._overlaps:
            self._bound_overlaps()

    def powered_off(self, machine: "Machine") -> None:
        """What it had is gone."""

    def _note_closed(self, name: NodeName, output: Output) -> None:
        """What a node records as closed is closed for good."""
        for save in output.save:
            if isinstance(save, Put) and save.bucket == "instances":
                record = _RECORD.decode(save.value)
                if not record.open:
                    self._closed.add((name, AppName(str(save.key)), record.generation))

    def _look_at_leases(self, process: "Process") -> None:
        """SAFETY.md 2: no node's lease outlasts the leader's view of it, whatever their clocks do but to stand still.

        A leader that was deposed and does not know it may be wrong: nothing that it proposes is committed.
        """
        core, now = process.core, self._cluster.schedule.now
        if not isinstance(core, Lockd) or not core.raft.ready or core.raft.term < self.log.led:
            return
        for machine in self._cluster.machines.values():
            left = self._lease_left(machine)
            if left > 0.0 and machine.suspended is None:
                over = process.machine.true_time(core._leases_of_term(process.machine.clock()).over(machine.name))
                beyond = now + left / machine.rate - over - machine.lag
                if beyond > 1e-6:
                    raise Violation(f"S6: {machine.name}'s lease outlasts {process}'s view of it by {beyond:.3f} s")

    def _lease_left(self, machine: "Machine") -> float:
        process = machine.processes.get(REQD)
        if process is None or not isinstance(process.core, Reqd):
            return 0.0
        return process.core._lease.end - machine.clock()

    def _look_at_guard(self, process: "Process") -> None:
        """SAFETY.md 2 and 6: whoever may act and has no lease is stopping everything, or has stopped it."""
        core = process.core
        if not isinstance(core, Reqd) or core._lease.end > process.machine.clock():
            return
        for line in core._report:
            if line.phase in (Phase.STARTING, Phase.RUNNING):
                raise Violation(f"S6: {process} has no lease and does not stop {line}")

    # ---- Witness ----------------------------------------------------------------------------------------------------

    def starting(self, machine: "Machine", instance: Instance, step: Step) -> None:
        """S4: the token is looked at where it takes effect. S6: at the first step, everything older is gone."""
        name, app = machine.name, instance.app
        state = self.log.ledger.apps.get(app)
        grant = state.grant if state is not None else None
        if machine.lag and instance.generation <= self._ended_expired.get((app, name), 0):
            return  # 'expired' rests on clocks that do not stand still: its address and programs may go on for a lease
        if grant is None or (grant.node, grant.generation) != (name, instance.generation):
            raise Violation(f"S4: {name} starts {step.name} of {instance}, but the grant is {state}")
        if (name, app, instance.generation) in self._closed:
            raise Violation(f"S4: {name} starts {step.name} of {instance}, which it has closed")
        key = (app, instance.generation)
        where = (name, machine.boot)
        first = self._first_start.setdefault(key, where)
        self._started_at.setdefault(key, self._cluster.schedule.now)
        if first != where:
            raise Violation(f"S4: {instance} is started on {where} and was on {first}")
        for other in self._cluster.machines.values():
            if other is not machine:
                self._gone(other, app, f"S6: {name} starts {step.name} of {instance}, while")
        held = machine.journals[REQD].read().get("instances", {}).get(app)
        if held is None or _RECORD.decode(held).generation != instance.generation:
            raise Violation(f"S4: {name} starts {step.name} of {instance} without a durable record of it")
        for (other_app, active), generation in machine.kernel.active.items():
            if other_app == app and generation != instance.generation:
                raise Violation(f"S4: {name} starts {step.name} of {instance} beside {active} of {generation}")
        self.starts += 1

    def activated(self, machine: "Machine", key: Key, step: Step) -> None:
        """S1, at the moment that a step became active."""
        app, name = key
        for other in self._cluster.machines.values():
            if other is machine or not other.powered or key not in other.kernel.active:
                continue
            loose = step.kind is StepKind.PROGRAM or self._replicated(app)
            if loose and (self._left_behind(app, other) or self._left_behind(app, machine)):
                continue
            raise Violation(f"S1: {name} of {app} is active on {other.name} and on {machine.name}")

    def address_up(self, machine: "Machine", address: str) -> None:
        """S2, at the moment that an address was configured."""
        for other in self._cluster.machines.values():
            if other is not machine and other.powered and address in other.kernel.addresses:
                self._overlap(address, machine, other)
        app = self._app_of(address)
        state = self.log.ledger.apps.get(app)
        if (
            state is None
            or state.grant is None
            or (state.ended is not None and state.ended.proof is not Proof.RELEASED)
        ):
            return
        since, now = self._started_at.get((app, state.grant.generation)), self._cluster.schedule.now
        fresh = (address, state.grant.generation, machine.boot) not in self._had
        self._had.add((address, state.grant.generation, machine.boot))
        if fresh and since is not None and all(self._cluster.stranger(address, when) for when in (since, now)):
            raise Violation(f"S2: {machine.name} took {address}, which a stranger has had since before its start")

    def address_until(self, machine: "Machine", address: str, lifetime: int) -> None:
        """SAFETY.md 7: the kernel's lifetime is the rest of the lease, rounded up, and a second at most on top."""
        if REQD in machine.processes and lifetime > max(self._lease_left(machine), 0.0) + self._beyond:
            raise Violation(f"S2: {machine.name} has {address} for {lifetime} s, far longer than its lease")

    # ---- the ledger moved on ----------------------------------------------------------------------------------------

    def changed(self, before: Ledger, after: Ledger) -> None:
        """S6 at its root: a grant ended by a proof must have ended in the world as well."""
        for app, state in after.apps.items():
            old = before.apps.get(app)
            if state.grant is not None and (old is None or old.grant != state.grant):
                self.grants += 1
            if state.ended is not None and (old is None or old.ended != state.ended):
                self._ended(app, state.ended)

    def _ended(self, app: AppName, ended: Ended) -> None:
        self._cluster.met(f"proof: {ended.proof}")
        if ended.proof is Proof.EXPIRED:
            config = self._cluster.configuration.app(app)
            if config is not None and config.volumes and not self._replicated(app):
                raise Violation(f"S6: {app} has storage and was taken on 'expired'")
            self._ended_expired[app, ended.node] = ended.generation
            timing = self._cluster.configuration.cluster.timing
            if config is not None and addressed(config):
                # What leads to it is gone (looked at below); the guard has the rest of its time for the programs.
                rest = timing.stop_allowance - timing.address_allowance
                self._cluster.schedule.after(rest, self._expired, app, ended)
            else:
                self._expired(app, ended)
        self._gone(self._cluster.machines[ended.node], app, f"S6: {app} ended as {ended}, while", ended.generation)

    def _expired(self, app: AppName, ended: Ended) -> None:
        """The node's own lease must be over, and its guard, had it the time, must have killed the programs."""
        machine = self._cluster.machines[ended.node]
        if REQD not in machine.processes:
            return
        timing, faults = self._cluster.configuration.cluster.timing, self._cluster.faults
        unhindered = self._cluster.schedule.now - machine.stood_still() > timing.stop_allowance + timing.lease
        if timing.stop_allowance < 3.0 or not unhindered or faults.driver_fails or faults.driver_hangs:
            return
        if any(each.key[0] == app for each in machine.kernel.stuck):
            return  # of a bad moment before all was healed: no KILL ends it, and its watchdog decides
        for (active, name), generation in machine.kernel.active.items():
            if active == app and generation <= ended.generation and app not in machine.kernel.frozen:
                raise Violation(f"S6: {app} ended as {ended}, and {machine.name}'s guard left {name}")

    def _gone(self, machine: "Machine", app: AppName, what: str, upto: Generation | None = None) -> None:
        """Nothing of the application is on that node (of generations up to `upto`), but for S2's exception."""
        if not machine.powered:
            return
        for (active, name), generation in machine.kernel.active.items():
            if active != app or (upto is not None and generation > upto):
                continue
            loose = name.startswith("program ") or self._replicated(app)
            if loose and generation <= self._ended_expired.get((app, machine.name), 0):
                continue
            raise Violation(f"{what} {name} of generation {generation} is active on {machine.name}")
        for address in self._addresses(app):
            if address in machine.kernel.addresses and not self._excepted(app, machine):
                raise Violation(f"{what} {address} is configured on {machine.name}")

    # ---- S2's exception ---------------------------------------------------------------------------------------------

    def _overlap(self, address: str, machine: "Machine", other: "Machine") -> None:
        app = self._app_of(address)
        if not (self._excepted(app, other) or self._excepted(app, machine)):
            raise Violation(f"S2: {address} is configured on {other.name} and on {machine.name}")
        self._overlaps.setdefault(address, self._cluster.schedule.now)
        self.overlaps += 1

    def _bound_overlaps(self) -> None:
        now = self._cluster.schedule.now
        for address, since in list(self._overlaps.items()):
            have = [each.name for each in self._cluster.machines.values() if self._has(each, address)]
            if len(have) < 2:
                del self._overlaps[address]
            elif any(self._cluster.machines[name].suspended is not None for name in have):
                self._overlaps[address] = now  # who stands still answers nobody: it counts from when it goes on
            elif now - since > self._beyond + max(self._lags(self._cluster.machines[name]) for name in have):
                raise Violation(f"S2: {address} has been configured on {have} for {now - since:.2f} s")

    def _has(self, machine: "Machine", address: str) -> bool:
        return machine.powered and address in machine.kernel.addresses

    def _excepted(self, app: AppName, machine: "Machine") -> bool:
        """Taken from there on 'expired', and that node's guard stands still or has just begun to go on."""
        taken = (app, machine.name) in self._ended_expired
        return taken and self._cluster.schedule.now - machine.stood_still() < _JUST + self._lags(machine)

    def _lags(self, machine: "Machine") -> float:
        """A clock that stood still shows the end of a lease so much too late, but for no longer than a lease."""
        return min(machine.lag, _LONGEST_LEASE)

    # ---- what is known of applications ------------------------------------------------------------------------------

    def _left_behind(self, app: AppName, machine: "Machine") -> bool:
        """Is all that it has of this application of a generation that was ended by 'expired'?

        Two copies of a program without storage are allowed then, for as long as the old node's user space hangs.
        """
        upto = self._ended_expired.get((app, machine.name), 0)
        return all(generation <= upto for (each, _), generation in machine.kernel.active.items() if each == app)

    def _replicated(self, app: AppName) -> bool:
        """What is left of it on a node that it was taken from on 'expired' is frozen, or cannot acknowledge a write
        (truecl.sim.drbd looks at that)."""
        config = self._cluster.configuration.app(app)
        volumes = config.volumes if config is not None else ()
        return bool(volumes) and all(isinstance(volume.storage, DrbdStorage) for volume in volumes)

    def _app_of(self, address: str) -> AppName:
        return next(each.name for each in self._cluster.configuration.apps if address in self._addresses(each.name))

    def _addresses(self, app: AppName) -> tuple[str, ...]:
        config = self._cluster.configuration.app(app)
        return tuple(each.address for each in config.addresses) if config is not None else ()
