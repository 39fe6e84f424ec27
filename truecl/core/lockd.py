"""lockd: the one truth. The replicated log, the ledger it leads to, and the leases.

What it refuses although the master's clusterd asks for it: an end of a grant whose proof it cannot see itself, and
anything asked in another term than that which it leads.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from truecl.core import ledger as ledgers
from truecl.core import levels, proofs
from truecl.core.contract import Connected, Event, Joined, Left, Noted, Outdated, Output, Received, Records, Told
from truecl.core.leases import Leases
from truecl.core.outbox import Outbox
from truecl.core.pair import Pair
from truecl.core.quorum import may_lead
from truecl.core.raft import Raft, Role
from truecl.core.raft.log import RETAINED_ENTRIES
from truecl.core.reports import Reports
from truecl.model.config import Configuration
from truecl.model.ids import (
    CLUSTERD,
    HBD,
    LOCKD,
    REQD,
    STATD,
    SYNCD,
    AppName,
    BootId,
    Generation,
    Index,
    NodeName,
    Term,
)
from truecl.model.ledger import LEVEL, AnyCommand, Batch, EndGrant, GiveGrant, Grant, Ledger, Proof, SettleTiming
from truecl.model.membership import Membership
from truecl.model.report import EventRecord, Phase, Severity
from truecl.wire.messages import (
    Applied,
    Campaign,
    ConfirmOff,
    FenceResult,
    FencesSeen,
    Leadership,
    Members,
    NewConfiguration,
    Nodes,
    Note,
    Propose,
    Proposed,
    Refused,
    Renew,
    Renewed,
    Reshape,
    Revoke,
    StepDown,
    Subscribe,
    View,
)

COMPACT_EVERY = 1000
"""Applied entries between two snapshots."""
_BATCH = msgspec.msgpack.Decoder(Batch)


@dataclass(frozen=True, slots=True)
class DiskFull:
    """`contract.Noted`: the disk under the journal is full. Its reserve holds what was to be saved and little more:
    when that is gone too, this process ends."""


def membership_of(configuration: Configuration, founder: bool) -> Membership:
    """The founding membership: the voters, witnesses last in the succession, and all others following the log. Who came
    later knows none before the leader tells it: a few new nodes that took themselves for founders could elect a leader
    of their own."""
    if not founder:
        return Membership()
    cluster = configuration.cluster
    voters = tuple(sorted(cluster.voters, key=lambda name: cluster.node(name).witness))
    return Membership(voters, tuple(node.name for node in configuration.cluster.nodes if node.name not in voters))


class Lockd:
    """The whole core of lockd. `founder`: this node is of those that the cluster began with. `level`: the newest level
    of the log that it is to know, of an older release in tests.

    Raises JournalDamaged, ForeignJournal for records that it cannot trust; `start` and `handle` raise Outdated.
    """

    _apply = staticmethod(ledgers.apply)

    def __init__(
        self,
        me: NodeName,
        configuration: Configuration,
        records: Records,
        random: Random,
        boot: BootId,
        founder: bool = True,
        level: int = LEVEL,
    ) -> None:
        self.me = me
        self._level = level
        self._boot = boot
        self._cluster = configuration.cluster
        self._timing = configuration.cluster.timing
        founding = membership_of(configuration, founder)
        self.raft = Raft(me, configuration.cluster.name, founding, records, random, self._timing)
        self.ledger = Ledger()
        self._out = Outbox()
        self.pair = Pair(self.raft, boot, configuration.cluster, self._out, self._granted)
        self._acting: dict[str, None] = {}
        """Commands that may change anything."""
        self._leases: Leases | None = None
        self._leases_term = Term(0)
        self._settling = (Term(0), Index(0))
        """The `Configure` whose older timings this leader has proposed to forget."""
        self._reports = Reports()
        self._heard: dict[NodeName, BootId] = {}
        """The nodes that hbd hears, and their boots."""
        self._outlived: dict[tuple[NodeName, Generation], None] = {}
        """Those of which their node is heard after the time in which its watchdog must have reset it."""
        self._early: dict[NodeName, Renew] = {}
        self._named: dict[NodeName, tuple[tuple[AppName, Generation], ...]] = {}
        """What each node was told last, as far as that surely arrived."""
        self._asked: Renew | None = None
        """This node's latest request to another that leads, not answered yet."""
        self._subscribers: dict[str, None] = {}
        self._leadership = Leadership(Term(0), None, False)
        self._members = Members(self.raft.membership, self.raft.log.settled)
        self._nodes = Nodes({}, ())
        self._applied_told = self.ledger
        self.compact_every, self.retained = COMPACT_EVERY, RETAINED_ENTRIES

    # ---- contract ---------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Output:
        self.pair.life = BootId(f"{self._boot}+{now:.6f}")
        self.pair.start(now)
        self.raft.start(now)
        if self.raft.voted_for == self.me:
            # It may have led until it ended, and while others wait for its word leases run out: it stands at once, and
            # is refused if somebody else leads by now.
            self.raft.campaign(now)
        return self._finish(now)

    def handle(self, event: Event, now: float) -> Output:
        match event:
            case Received(node, Renew() as message):
                self.pair.heard(node, now)
                if message.node == node:
                    self._renew(message, now)
            case Received(node, Renewed() as message):
                self.pair.heard(node, now)
                if self._asked is not None and message.number >= self._asked.number:
                    self._asked = None
                self._out.tell(REQD, message)
            case Connected(node):
                self._reconnected(node)
            case Received(node, message):
                self.pair.received(node, message, now)
            case Told(who, message):
                self._told(who, message, now)
            case Joined(who, root):
                if root:
                    self._acting[who] = None
                if who in (HBD, SYNCD):
                    self._out.tell(who, Subscribe())
                elif who == REQD:
                    self.pair.duel.reqd_joined = True
            case Noted(DiskFull()):
                self._disk_full(now)
            case Left(who):
                self._subscribers.pop(who, None)
                self._acting.pop(who, None)
                if who == HBD:
                    self._heard = {}
                    self.pair.blind()
                elif who == REQD:
                    self.pair.duel.reqd_left()
            case _:
                pass
        self.raft.wake(now)
        return self._finish(now)

    def _told(self, who: str, message: Any, now: float) -> None:
        match message:
            case Renew() if who == REQD:
                self._renew_here(message, now)
            case View() if who == HBD:
                self._view(message, now)
            case Propose() if who == CLUSTERD:
                self._out.tell(CLUSTERD, self._propose(message, now))
            case Reshape() if who == CLUSTERD:
                self._out.tell(CLUSTERD, self._reshape(message, now))
            case Revoke() if who == CLUSTERD:
                self._revoke(message, now)
            case NewConfiguration() if who == SYNCD:
                self._cluster = self.pair.cluster = message.configuration.cluster
            case Subscribe():
                self._subscribers[who] = None
                self._out.tell(who, Applied(self.ledger))
                self._out.tell(who, self._leadership)
                self._out.tell(who, self._members)
                if who == CLUSTERD and self._leadership.ready:
                    self._out.tell(CLUSTERD, self._nodes)
            case Campaign() if who == REQD:
                self.raft.campaign(now)
            case StepDown() if who in (REQD, CLUSTERD):
                self._step_down(now)
            case FenceResult() if who == REQD:
                self.pair.duel.fenced(message, now)
            case FencesSeen() if who == REQD:
                self.pair.duel.seen(message, now)
            case ConfirmOff():
                self._confirm_off(who, message, now)
            case Refused():
                pass  # who refuses is not refused in turn, for ever
            case _:
                self._out.tell(who, Refused(f"lockd does not take {type(message).__name__} from {who}"))

    def _view(self, view: View, now: float) -> None:
        self._heard = {each.node: each.boot for each in view.nodes if each.alive and each.boot is not None}
        self.pair.seen(view.nodes, now)
        for node in view.nodes:
            if node.alive:
                self.raft.peer_lives(node.node, now)
            elif node.boot is not None:  # heard before, and now silent: a verdict, not mere ignorance
                self.raft.peer_died(node.node, now)

    def _confirm_off(self, who: str, word: ConfirmOff, now: float) -> None:
        if who not in self._acting:
            self._out.tell(who, Refused("only root vouches for a node"))
            return
        answer = self.pair.vouch(word, now)
        if answer.taken and word.seen is not None:
            text = f"{word.operator} vouches that {word.node} is off" + (
                ", did not run alone and will not be started before it can reach this node" if word.alone else ""
            )
            self._out.tell(STATD, Note(EventRecord(0.0, now, self.me, LOCKD, Severity.WARN, text)))
        self._out.tell(who, answer)

    def _granted(self, node: NodeName) -> tuple[Generation, ...]:
        """What the whole log gives to it: if this node leads without another, all of it will be committed."""
        ledger = self.ledger
        for entry in self.raft.not_applied():
            ledger = ledgers.apply(ledger, entry.index, entry.term, self._batch(entry.payload))
        return tuple(sorted(generation for _, generation in ledgers.granted_to(ledger, node)))

    def _disk_full(self, now: float) -> None:
        """Another node is to lead while this one can still say so, and not when its leases have run out."""
        text = "the disk under the journal is full: another node is to lead; make room in /var/lib/truecl"
        self._out.tell(STATD, Note(EventRecord(0.0, now, self.me, LOCKD, Severity.ERROR, text)))
        self._step_down(now)

    def _step_down(self, now: float, fit: Callable[[NodeName], bool] = lambda node: True) -> None:
        """To the elector that is furthest, in the order of succession, of those that answer and are `fit`. One attempt
        at a time: while it lasts nothing can be proposed."""
        membership, silent = self.raft.membership, now - self._timing.election
        living = [
            each
            for each in self.raft.followers
            if may_lead(membership, each.node) and each.heard_at >= silent and fit(each.node)
        ]
        if living and not self.raft.transferring:
            best = max(living, key=lambda each: (not self._is_witness(each.node), each.node in self._heard, each.match))
            self.raft.transfer(best.node, now)

    # ---- leases -----------------------------------------------------------------------------------------------------

    def _renew_here(self, message: Renew, now: float) -> None:
        message = msgspec.structs.replace(message, level=self._level)
        self._asked = None
        if self.raft.role is Role.LEADER:
            self._renew(message, now)
        elif self.raft.leader is not None:
            self._asked = message
            self._out.send(self.raft.leader, message)

    def _reconnected(self, node: NodeName) -> None:
        """What was on the way is lost, on a link that has died. Neither the next request nor the next round is waited
        for: the lease may be over by then."""
        self._named.pop(node, None)
        if node == self.raft.leader and self._asked is not None:
            self._out.send(node, self._asked)

    def _renew(self, message: Renew, now: float) -> None:
        """A leader that is not ready answers nothing: it does not yet know the fate of every older entry. The latest
        request of each node waits for that moment."""
        if not self.raft.ready:
            if self.raft.role is Role.LEADER and message.node in self.raft.membership.nodes:
                self._early[message.node] = message
            return
        leases = self._leases_of_term(now)
        node, last = message.node, self._reports.number(message.node)
        if node not in self.raft.membership.nodes:
            return
        if not self._reports.take(message, lambda boot: self._another_boot_counts(node, boot, leases, now)):
            return
        leases.reported(message, self._live())
        leases.requested(message, self.raft.next_round, now)
        in_order = last is not None and message.number == last + 1
        if not in_order or self._named.get(node) != ledgers.named_to(self.ledger, node):
            # An order waits for this answer; or its reqd has started again, or requests or answers were lost, and its
            # lease may be nearly over. Otherwise the next heartbeat's round will do.
            self.raft.start_round(now)

    def _another_boot_counts(self, node: NodeName, last: BootId, leases: Leases, now: float) -> bool:
        if self._heard.get(node) == last:
            return False  # late, of a boot before that; or hbd will hear of the new one in a moment
        return now >= self._free_from(node, leases)

    def _free_from(self, node: NodeName, leases: Leases) -> float:
        """When the word of another boot of the node counts. A copy of it with its addresses silences it, and looks like
        its reboot: what it was granted it runs until its lease is over, unless its device said that it is off."""
        fence = self.ledger.fences.get(node)
        if not ledgers.granted_to(self.ledger, node) or (fence is not None and fence.confirmed):
            return -math.inf
        return leases.surely_over(node)

    def _live(self) -> tuple[tuple[AppName, Generation], ...]:
        apps = self.ledger.apps.items()
        return tuple((app, state.grant.generation) for app, state in apps if state.grant is not None)

    def _leases_of_term(self, now: float) -> Leases:
        bound = self.raft.lease_bound
        if self._leases is None or self._leases_term != self.raft.term:
            assert bound is not None, "asked only while leading"
            self._leases, self._leases_term = Leases(self.ledger.timings, bound, now), self.raft.term
            self._named.clear()  # who leads alone from now on led before: the first request of each node gets a round
        return self._leases

    def _answer(self, completed_round: int) -> None:
        timings = self.ledger.timings
        if not self.raft.ready or self._leases is None or self._leases_term != self.raft.term or not timings:
            return
        for request in self._leases.completed(completed_round):
            named = ledgers.named_to(self.ledger, request.node)
            self._named[request.node] = named
            answer = Renewed(
                request.node, request.boot, request.number, self.raft.term, self.ledger.index, named, timings[0].lease
            )
            if request.node == self.me:
                self._out.tell(REQD, answer)
            else:
                self._out.send(request.node, answer)

    def _revoke(self, message: Revoke, now: float) -> None:
        """Only of who says itself that it cannot stop this very generation, which is its own; and never of this node,
        whose lockd leads."""
        node, app, generation = message.node, message.app, message.generation
        if not self.raft.ready or message.term != self.raft.term or node == self.me:
            return
        grant, report = ledgers.app_state(self.ledger, app).grant, self._reports.of(node, app, generation)
        owns = grant is not None and (grant.node, grant.generation) == (node, generation)
        leases = self._leases_of_term(now)
        if owns and report is not None and report.phase is Phase.NEEDS_FENCE and node not in leases.unrenewed:
            leases.revoke(node, app, generation)
            text = f"application '{app}' cannot be stopped on {node}: its lease is renewed no more, for its watchdog"
            self._out.tell(STATD, Note(EventRecord(0.0, now, self.me, LOCKD, Severity.WARN, text, app)))

    # ---- proposals --------------------------------------------------------------------------------------------------

    def _propose(self, message: Propose, now: float) -> Proposed:
        if not self.raft.ready or message.term != self.raft.term:
            return Proposed(message.number, None, "not the leader of this term")
        for command in message.commands:
            problem = self._inadmissible(command, now)
            if problem:
                return Proposed(message.number, None, problem)
        index = self.raft.propose((msgspec.msgpack.encode(Batch(message.commands)),), now)
        if index is None:
            return Proposed(message.number, None, "too much waits for a quorum")
        for command in message.commands:
            if isinstance(command, EndGrant) and command.proof in (Proof.EXPIRED, Proof.EXPIRED_WATCHDOG):
                grant = ledgers.app_state(self.ledger, command.app).grant
                if grant is not None:
                    self._leases_of_term(now).revoke(grant.node, command.app, command.generation)
        return Proposed(message.number, index)

    def _reshape(self, message: Reshape, now: float) -> Proposed:
        """Nobody leaves who may own something: neither by the ledger, nor by an entry that is not applied yet."""
        if not self.raft.ready or message.term != self.raft.term:
            return Proposed(message.number, None, "not the leader of this term")
        gone = [node for node in self.raft.membership.nodes if node not in message.membership.nodes]
        if gone and self.raft.applied < self.raft.log.last_index:
            return Proposed(message.number, None, "entries of the log wait for a quorum")
        for node in gone:
            if ledgers.granted_to(self.ledger, node):
                return Proposed(message.number, None, f"{node} owns applications")
        problem = self.raft.reshape(message.membership, now)
        return Proposed(message.number, None if problem else self.raft.log.last_index, problem)

    def _inadmissible(self, command: AnyCommand, now: float) -> str:
        """Why not all members could read it, a node may not be given a grant, or the proof that ends one does not hold
        here; '' if all is well."""
        if problem := levels.inadmissible(command, self.ledger, self._common_level()):
            return problem
        if isinstance(command, GiveGrant) and command.node not in self.raft.membership.nodes:
            return f"{command.node} is no member of the cluster"
        if not isinstance(command, EndGrant):
            return ""
        leases = self._leases_of_term(now)
        self._see_who_outlives(proofs.overdue(self.ledger, leases, now))
        return proofs.missing(command, self.ledger, self._reports, leases, self._outlived, now)

    def _common_level(self) -> int:
        """By what the members said to this leader."""
        return levels.common(self._reports.levels, self.raft.membership.nodes, self._level)

    # ---- the end of every call --------------------------------------------------------------------------------------

    def _finish(self, now: float) -> Output:
        self._witness_hands_over(now)
        other = self.raft.other
        order_at = self.pair.tend(now, self._reports.leaving.get(other) if other is not None else None)
        wake_at = self._advance(now)
        if self.raft.ready and (self._early or self._may_settle(now)):
            early, self._early = self._early, {}
            for message in early.values():
                self._renew(message, now)
            self._settle(now)
            wake_at = self._advance(now)
        self._tell_news(now)
        self._compact()
        return self._out.take(wake_at, order_at, self._next_expiry(now))

    def _witness_hands_over(self, now: float) -> None:
        """A witness leads only until another voter can: it keeps the whole log, and runs nothing."""
        if self.raft.ready and self._is_witness(self.me) and not self.raft.transferring:
            self._step_down(now, lambda node: not self._is_witness(node))

    def _is_witness(self, node: NodeName) -> bool:
        return any(each.name == node and each.witness for each in self._cluster.nodes)

    def _may_settle(self, now: float) -> bool:
        """Is every lease over that was given with an older timing?"""
        ledger = self.ledger
        if len(ledger.timings) < 2 or self._settling == (self.raft.term, ledger.configured):
            return False
        return now >= self._leases_of_term(now).settled_at(ledgers.slowest_watchdog(ledger))

    def _settle(self, now: float) -> None:
        if self._may_settle(now):
            command = SettleTiming(self.ledger.configured)
            if self.raft.propose((msgspec.msgpack.encode(Batch((command,))),), now) is not None:
                self._settling = (self.raft.term, command.index)

    def _advance(self, now: float) -> float | None:
        """Carry out what the log says now; returns when it wants to be woken."""
        step = self.raft.take()
        self._out.saves(step.saves)
        for send in step.sends:
            enclosed = self.pair.enclose(send)
            self._out.send(enclosed.node, enclosed.message)
        if step.snapshot is not None:
            self.ledger = ledgers.decode(step.snapshot.data)
            levels.check_snapshot(self.ledger, self._level)
        for entry in step.committed:
            self.ledger = self._apply(self.ledger, entry.index, entry.term, self._batch(entry.payload))
        if self._leases is not None:
            self._leases.retime(self.ledger.timings, now)
        if step.completed_round:
            self._answer(step.completed_round)
        return step.wake_at

    def _batch(self, payload: bytes) -> Batch:
        """Raises Outdated."""
        try:
            batch = _BATCH.decode(payload)
        except msgspec.ValidationError as error:
            raise Outdated(f"the cluster's log holds a command that this release does not know ({error})") from error
        levels.check(batch, self._level)
        return batch

    def _tell_news(self, now: float) -> None:
        self.pair.tell_news(now)
        leadership = Leadership(
            self.raft.term, self.raft.leader, self.raft.ready, self.pair.trouble(), self.pair.needed
        )
        if self.raft.role is not Role.LEADER:
            self._forget_tenure()
        if self.ledger is not self._applied_told:
            self._applied_told = self.ledger
            self._tell_all(Applied(self.ledger))
        if leadership != self._leadership:  # after the ledger: a new master plans with the first word that it leads
            self._leadership = leadership
            self._tell_all(leadership)
        self._tell_members()
        if leadership.ready:
            self._reports.keep(self.raft.membership.nodes)
            nodes = self._nodes_now(now)
            if nodes != self._nodes:
                self._nodes = nodes
                self._out.tell(CLUSTERD, nodes)
        else:
            self._nodes = Nodes({}, ())  # the next master has forgotten what this one was told

    def _tell_members(self) -> None:
        raft = self.raft
        caught_up = tuple(node for node in raft.membership.observers if raft.has_caught_up(node))
        members = Members(raft.membership, raft.log.settled, caught_up)
        if members != self._members:
            self._members = members
            self._tell_all(members)

    def _nodes_now(self, now: float) -> Nodes:
        leases, said = self._leases_of_term(now), self._reports
        overdue = proofs.overdue(self.ledger, leases, now)
        self._see_who_outlives(overdue)
        return Nodes(
            dict(said.tables),
            proofs.expired(self.raft.membership.nodes, leases, now),
            tuple(node for node, leaves in sorted(said.leaving.items()) if leaves),
            dict(said.watchdogs),
            proofs.reset(overdue, self._outlived),
            proofs.lapsed(self.ledger, leases, now),
            self._common_level(),
            dict(said.replicas),
            leases.unrenewed,
        )

    def _forget_tenure(self) -> None:
        """What was true while this node led."""
        self._leases = None
        self._named.clear()
        self._early.clear()
        self._reports.forget()
        self._outlived.clear()

    def _tell_all(self, message: Any) -> None:
        for who in self._subscribers:
            self._out.tell(who, message)

    def _see_who_outlives(self, overdue: tuple[Grant, ...]) -> None:
        """A node that is heard in the boot in which it said that it has this generation was not reset, whatever its
        watchdog is worth: it ends nothing then, also when the node falls silent later."""
        known = [(each.node, each.generation) for each in overdue]
        self._outlived = {each: None for each in known if each in self._outlived}
        for app, state in sorted(self.ledger.apps.items()):
            grant = state.grant
            if grant not in overdue or self._heard.get(grant.node) != self._reports.boot(grant.node):
                continue
            report = self._reports.of(grant.node, app, grant.generation)
            if report is not None and report.phase is not Phase.CLOSED:
                self._outlived[grant.node, grant.generation] = None

    def _next_expiry(self, now: float) -> float | None:
        if not self.raft.ready:
            return None
        return proofs.next_change(self.raft.membership.nodes, self.ledger, self._leases_of_term(now), now)

    def _compact(self) -> None:
        if self.raft.applied - self.raft.log.snapshot.index >= self.compact_every:
            data = ledgers.encode(self.ledger)
            self.raft.compact(self.raft.applied, data, self.retained)  # its saves come with the next step
