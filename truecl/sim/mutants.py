"""Guards that can be left out, one at a time, to prove that the checks would see it.

A mutant is another host (`Variant`), or another function that builds the cores: the production one with one method
overridden in a subclass. The cores know nothing of either.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from msgspec.structs import replace

from truecl.core import assemble
from truecl.core.clusterd import Clusterd
from truecl.core.contract import Core, Output, Records
from truecl.core.fencing import Course, Fences, Verdict
from truecl.core.instance import InstanceMachine
from truecl.core.leases import WATCHDOG_TIMES, Leases
from truecl.core.lockd import Lockd
from truecl.core.netd import Netd
from truecl.core.pair import Pair
from truecl.core.raft import Raft, Role
from truecl.core.raft.tenure import Tenure
from truecl.core.reqd import Reqd
from truecl.core.watchdog import Watchdog
from truecl.model.actions import (
    Action,
    FenceOutcome,
    Leave,
    StepResult,
    WatchdogArmed,
    WatchdogFed,
    WatchdogTrouble,
)
from truecl.model.config import AppConfig, Configuration
from truecl.model.ids import (
    CLUSTERD,
    LOCKD,
    NETD,
    REQD,
    STATD,
    SYNCD,
    BootId,
    DaemonName,
    Generation,
    Index,
    NodeName,
    Term,
)
from truecl.model.report import Phase
from truecl.model.step import Probe, Step
from truecl.sim import faults
from truecl.sim.cluster import Assemble
from truecl.sim.faults import Faults
from truecl.sim.journal import UnsyncedJournal
from truecl.sim.process import PROPER, Variant
from truecl.sim.scenario import Quiet
from truecl.wire.messages import FenceResult, LeaseExtended, Order, Renew
from truecl.wire.raft import PreVote, RaftMessage, Vote, VoteAnswer


def production(
    daemon: DaemonName,
    me: NodeName,
    configuration: Configuration,
    boot: BootId,
    records: Records,
    random: Random,
    now: float,
) -> Core:
    """The cores that run in production, but for the two that only report and copy files."""
    if daemon in (STATD, SYNCD):
        return Quiet()
    core = assemble.build(daemon, me, configuration, boot, records, random, now)
    return _few_turns(core, random)


def _few_turns(core: Core, random: Random) -> Core:
    """Three applications would hardly ever wait for one another."""
    if isinstance(core, Reqd):
        core.turns.limit = random.randint(1, 3)
    return core


@dataclass(frozen=True)
class Mutant:
    """`breaks`: the rule that it leaves out (SAFETY.md's section)."""

    name: str
    breaks: str
    variant: Variant = PROPER
    assemble: Assemble = production
    adjust: Callable[[Faults], Faults] | None = None
    """Aims the faults at the gap that the mutant opens."""
    nodes: int | None = None
    """In clusters of this size; None: drawn."""


def instead(daemon: DaemonName, build: Callable[..., Core]) -> Assemble:
    """The production cores, but `daemon`'s from `build`, with the same arguments."""

    def assembled(
        which: DaemonName,
        me: NodeName,
        configuration: Configuration,
        boot: BootId,
        records: Records,
        random: Random,
        now: float,
    ) -> Core:
        if which == daemon:
            return _few_turns(build(me, configuration, boot, records, random, now), random)
        return production(which, me, configuration, boot, records, random, now)

    return assembled


# ---- lockd and its log ----------------------------------------------------------------------------------------------


class _VotesTwice(Raft):
    def _on_vote(self, node: NodeName, message: Vote) -> bool:
        self.voted_for = None
        return super()._on_vote(node, message)


class _CountsStaleVotes(Raft):
    """Without pre-votes as well, which leave candidates hardly a chance to meet."""

    def _become_pre_candidate(self) -> None:
        super()._become_pre_candidate()
        if self.role is Role.PRE_CANDIDATE:
            self._become_candidate(False)

    def receive(self, node: NodeName, message: RaftMessage, now: float) -> None:
        if isinstance(message, VoteAnswer) and message.term < self.term:
            message = replace(message, term=self.term)
        super().receive(node, message, now)


class _AnyLogWillDo(Raft):
    def _on_pre_vote(self, node: NodeName, message: PreVote) -> bool:
        return super()._on_pre_vote(node, replace(message, last_term=Term(1 << 40), last_index=Index(1 << 40)))

    def _on_vote(self, node: NodeName, message: Vote) -> bool:
        return super()._on_vote(node, replace(message, last_term=Term(1 << 40), last_index=Index(1 << 40)))


class _CommitsAlone(Raft):
    def _advance_commit(self, tenure: Tenure) -> None:
        self.log.commit = self.log.last_index


class _ForgetsOthersLeases(Raft):
    def _on_vote_answer(self, node: NodeName, message: VoteAnswer) -> None:
        super()._on_vote_answer(node, replace(message, age=1e6))

    def _become_leader(self) -> None:
        super()._become_leader()
        if self._tenure is not None:
            self._tenure.lease_bound = self._now - 1e6


def _lockd(raft: type[Raft]) -> Assemble:
    def build(me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random,
              now: float) -> Core:  # fmt: skip
        core = Lockd(me, configuration, records, random, boot)
        core.raft.__class__ = raft
        return core

    return instead(LOCKD, build)


class _AnswersWithoutARound(Lockd):
    def _renew(self, message: Renew, now: float) -> None:
        super()._renew(message, now)
        self._answer(1 << 40)


class _ForgetsMargins(Leases):
    def surely_over(self, node: NodeName) -> float:
        return super().surely_over(node) - self._timing.drift - self._timing.stop_allowance


class _OneTimeout(Leases):
    def surely_reset(self, node: NodeName, timeout: float) -> float:
        return super().surely_reset(node, timeout / WATCHDOG_TIMES)


class _TwoTimeouts(Leases):
    """Without the feed of the kernel, when the process that has the device open dies."""

    def surely_reset(self, node: NodeName, timeout: float) -> float:
        return super().surely_reset(node, 2 * timeout / WATCHDOG_TIMES)


def _with_leases(kind: type[Leases]) -> type[Lockd]:
    class Other(Lockd):
        def _leases_of_term(self) -> Leases:
            leases = super()._leases_of_term()
            leases.__class__ = kind
            return leases

    return Other


def _other_lockd(lockd: type[Lockd]) -> Assemble:
    return instead(LOCKD, lambda me, configuration, boot, records, random, now: lockd(
        me, configuration, records, random, boot))  # fmt: skip


def _pair(pair: type[Pair]) -> Assemble:
    def build(me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random,
              now: float) -> Core:  # fmt: skip
        core = Lockd(me, configuration, records, random, boot)
        core.pair.__class__ = pair
        return core

    return instead(LOCKD, build)


class _NeedsNoCurrency(Pair):
    def tend(self, now: float) -> float | None:
        self.current = True
        return super().tend(now)


class _BelievesAnyExclusion(Pair):
    def fenced(self, result: FenceResult, now: float) -> None:
        super().fenced(replace(result, off=True), now)


class _IncludesTooEarly(Raft):
    @property
    def caught_up(self) -> bool:
        return self.ready and self.log.membership.excluded is not None


# ---- reqd -----------------------------------------------------------------------------------------------------------


class _NoGuard(Reqd):
    def _guard(self, now: float) -> None:
        """The lease may end, nothing follows from it."""


class _IgnoresTokens(Reqd):
    def _order(self, order: Order, now: float) -> None:
        record = self._records.get(order.app)
        if record is not None and order.verb == "start" and not record.open:
            self._records[order.app] = replace(record, generation=Generation(0))
        super()._order(order, now)


class _Trusting(InstanceMachine):
    def _down_done(self, step: Step | None, result: StepResult, now: float) -> None:
        super()._down_done(step, StepResult(Probe.INACTIVE), now)


class _Impatient(InstanceMachine):
    def _all_stages_done(self, now: float) -> None:
        self._up.clear()
        self._look_again = False
        super()._all_stages_done(now)


class _Hasty(InstanceMachine):
    """Takes the tools of an earlier life for ended."""

    def _await_tools(self, now: float) -> None:
        self._tools_done(StepResult(Probe.INACTIVE), now)

    def _tools_first(self) -> list[list[Action]]:
        return []


class _Lazy(InstanceMachine):
    def clear(self, now: float, reason: str) -> None:
        """Whatever an earlier life left is taken for gone."""
        self.phase, self.reason = Phase.CLOSED, reason


class _FeedsAfterALapse(Watchdog):
    def step(self, may_feed: bool, now: float) -> None:
        super().step(True, now)


class _CountsAny(Watchdog):
    def counts(self) -> bool:
        return True


class _BelievesAnOlderBoot(Watchdog):
    """Whatever it has now, it was armed once."""

    def done(self, id: int, result: WatchdogArmed | WatchdogFed | WatchdogTrouble, now: float) -> None:
        if isinstance(result, WatchdogTrouble) and self._armed is None:
            self._tried, self._armed = True, WatchdogArmed("of an older boot", self._config.timeout)
        super().done(id, WatchdogFed() if isinstance(result, WatchdogTrouble) else result, now)


def _with_watchdog(watchdog: type[Watchdog]) -> Assemble:
    def build(me: NodeName, configuration: Configuration, boot: BootId, records: Records, random: Random,
              now: float) -> Core:  # fmt: skip
        core = Reqd(me, configuration, boot, records, now)
        core._watchdog.__class__ = watchdog
        return core

    return instead(REQD, build)


class _LeavesAtOnce(Reqd):
    def _leave(self, now: float) -> None:
        if self._leaving_since is not None and not self._left:
            self._left = True
            self._watchdog.disarm()
            self._out.do(Leave())


def _with_machine(machine: type[InstanceMachine]) -> Assemble:
    class Other(Reqd):
        def _machine(self, config: AppConfig, generation: Generation) -> InstanceMachine:
            made = super()._machine(config, generation)
            made.__class__ = machine
            return made

    return _other_reqd(Other)


def _other_reqd(reqd: type[Reqd]) -> Assemble:
    return instead(REQD, lambda me, configuration, boot, records, random, now: reqd(
        me, configuration, boot, records, now))  # fmt: skip


class _OneFeedWillDo(Course):
    """Whatever the other power feed of the node does."""

    def done(self, id: int, outcome: FenceOutcome, now: float) -> Verdict | None:
        verdict = super().done(id, outcome, now)
        return Verdict(True, "") if outcome.done else verdict


class _OneFeedFences(Fences):
    _course = _OneFeedWillDo


class _OneFeedReqd(Reqd):
    def start(self, now: float) -> Output:
        self._fences.__class__ = _OneFeedFences
        return super().start(now)


# ---- clusterd and netd ----------------------------------------------------------------------------------------------


class _BelievesAnyFence(Clusterd):
    def _fenced(self, message: FenceResult) -> None:
        super()._fenced(replace(message, off=True))


class _KeepsAddresses(Netd):
    def _extend(self, extension: LeaseExtended, now: float) -> None:
        super()._extend(replace(extension, until=extension.until + 5.0), now)


# ---- all ------------------------------------------------------------------------------------------------------------


MUTANTS = (
    Mutant("send before save", "DESIGN.md 5", Variant(order=("send", "save", "do", "tell")), adjust=faults.gaps),
    Mutant("do before save", "DESIGN.md 5", Variant(order=("do", "save", "send", "tell")), adjust=faults.gaps),
    Mutant("skip fsync", "DESIGN.md 5", Variant(journal=UnsyncedJournal, flush=5.0)),
    Mutant("vote twice in a term", "SAFETY.md 1", assemble=_lockd(_VotesTwice), adjust=faults.elections),
    Mutant("count a stale vote", "SAFETY.md 1", assemble=_lockd(_CountsStaleVotes), adjust=faults.elections),
    Mutant("vote for any log", "SAFETY.md 1", assemble=_lockd(_AnyLogWillDo), adjust=faults.elections),
    Mutant("commit alone", "SAFETY.md 1", assemble=_lockd(_CommitsAlone)),
    Mutant("forget leases of earlier leaders", "SAFETY.md 2", assemble=_lockd(_ForgetsOthersLeases),
           adjust=faults.unfenced),
    Mutant("answer a lease without a round", "SAFETY.md 2", assemble=_other_lockd(_AnswersWithoutARound),
           adjust=faults.unfenced),
    Mutant("forget drift and stop allowance", "SAFETY.md 2", assemble=_other_lockd(_with_leases(_ForgetsMargins)),
           adjust=faults.unfenced),
    Mutant("exclude without being current", "SAFETY.md 1", assemble=_pair(_NeedsNoCurrency), adjust=faults.duels,
           nodes=2),
    Mutant("exclude on any fence", "SAFETY.md 1", assemble=_pair(_BelievesAnyExclusion), adjust=faults.duels, nodes=2),
    Mutant("include before it has caught up", "SAFETY.md 1", assemble=_lockd(_IncludesTooEarly), adjust=faults.duels,
           nodes=2),
    Mutant("no guard", "SAFETY.md 6", assemble=_other_reqd(_NoGuard), adjust=faults.unfenced),
    Mutant("ignore the token", "SAFETY.md 4", assemble=_other_reqd(_IgnoresTokens), adjust=faults.repeated),
    Mutant("assume a failed stop worked", "SAFETY.md 4", assemble=_with_machine(_Trusting), adjust=faults.failing),
    Mutant("close before a start has ended", "SAFETY.md 4", assemble=_with_machine(_Impatient), adjust=faults.failing),
    Mutant("begin beside the tools of an earlier life", "SAFETY.md 4", assemble=_with_machine(_Hasty),
           adjust=faults.restarts),
    Mutant("take leftovers for gone", "SAFETY.md 4", assemble=_with_machine(_Lazy)),
    Mutant("believe any fence", "SAFETY.md 3", assemble=instead(
        CLUSTERD, lambda me, configuration, *_: _BelievesAnyFence(me, configuration)), adjust=faults.failing),
    Mutant("one power feed will do", "SAFETY.md 3", assemble=_other_reqd(_OneFeedReqd), adjust=faults.failing),
    Mutant("accept one timeout of a watchdog", "SAFETY.md 3", assemble=_other_lockd(_with_leases(_OneTimeout)),
           adjust=faults.watched),
    Mutant("accept two timeouts of a watchdog", "SAFETY.md 3", assemble=_other_lockd(_with_leases(_TwoTimeouts)),
           adjust=faults.watched),
    Mutant("feed after a lapse", "SAFETY.md 3", assemble=_with_watchdog(_FeedsAfterALapse), adjust=faults.stuck),
    Mutant("count any watchdog as hardware", "SAFETY.md 3", assemble=_with_watchdog(_CountsAny), adjust=faults.watched),
    Mutant("believe a watchdog of an older boot", "SAFETY.md 3", assemble=_with_watchdog(_BelievesAnOlderBoot),
           adjust=faults.watched),
    Mutant("disarm while something is left", "SAFETY.md 3", assemble=_other_reqd(_LeavesAtOnce), adjust=faults.watched),
    Mutant("keep addresses past the lease", "SAFETY.md 7", assemble=instead(
        NETD, lambda me, configuration, *_: _KeepsAddresses(configuration.cluster.timing)), adjust=faults.unfenced),
)  # fmt: skip
