"""Two nodes: when one may go on alone, and when it needs the other again (SAFETY.md section 1).

Neither of two voters decides anything without the other until it has *excluded* it: by an entry of the log, once a
fence device has confirmed that the other is off, or the operator vouches for it, or the other left in good order. Both
could fence each other and come back one after the other, each with a log that excludes the other; so only a *current*
node may exclude, one that knows that the other has not gone on alone in the meantime:

    current     since this lockd started, the other acknowledged it as a voter in a letter to its present life, or it
                led alone under its own exclusion. Volatile: it begins empty with every life
    an order    of a fence, and its confirmation, are void as soon as anything comes from the other (`core/duel.py`)
    leaving     a node that ends in good order is excluded in two entries (`Raft.let_go`)
    included    again by another entry of the log, once the excluded node has everything; from then on it is needed

`Pair` stands between lockd and its `Raft`: it puts messages in letters, keeps currency, has the other fenced, and asks
Raft for the exclusion and the inclusion. In a log with more or fewer than two voters it passes messages on and does
nothing.
"""

from collections.abc import Callable

import msgspec

from truecl.core.contract import Send
from truecl.core.duel import Duel
from truecl.core.outbox import Outbox
from truecl.core.raft import Raft
from truecl.model.config import ClusterConfig
from truecl.model.ids import LOCKD, STATD, BootId, Generation, NodeName
from truecl.model.ledger import Batch, Excluded
from truecl.model.report import EventRecord, Severity
from truecl.wire.messages import Confirmed, ConfirmOff, NodeView, Note
from truecl.wire.raft import Append, AppendAnswer, Letter, RaftMessage, SnapshotPart, VoteAnswer

SILENCE = 2.0
"""Election timeouts without a word from the other's lockd, and without a leader, that count as hbd's verdict."""


class Pair:
    """`life` names this life of lockd. `granted` tells what the whole log, committed or not, grants to a node."""

    def __init__(
        self,
        raft: Raft,
        life: BootId,
        cluster: ClusterConfig,
        out: Outbox,
        granted: Callable[[NodeName], tuple[Generation, ...]],
    ) -> None:
        self.raft, self.life = raft, life
        self.current = False
        self.duel = Duel(raft.me, cluster, out, granted)
        self._out, self._granted = out, granted
        self._other = raft.other
        self._others_life = BootId("")
        self._heard_at = 0.0
        """When the other's lockd last said anything."""
        self._dead_since: float | None = None
        """hbd's verdict."""
        self._hbd_hears = False
        self._left = False
        """The other said goodbye: it ended in good order, and is not fenced for that."""
        self._alone_told = False
        self.apart = False
        """Each of the two went on without the other: one was called off and was on. For this life."""

    @property
    def cluster(self) -> ClusterConfig:
        """The one in force."""
        return self.duel.cluster

    @cluster.setter
    def cluster(self, cluster: ClusterConfig) -> None:
        self.duel.cluster = cluster

    def start(self, now: float) -> None:
        self._heard_at = now
        self.duel.start(now)

    # ---- letters ----------------------------------------------------------------------------------------------------

    def enclose(self, send: Send) -> Send:
        """For the other of two voters: in a letter."""
        if send.node != self.raft.other:
            return send
        counts = self.raft.membership.excluded != send.node
        return Send(send.node, Letter(self.life, self._others_life, counts, send.message))

    def received(self, node: NodeName, message: Letter | RaftMessage, now: float) -> None:
        """Raises CommittedConflict."""
        self.heard(node, now)
        if not isinstance(message, Letter):
            self.raft.receive(node, message, now)
            return
        if node == self.raft.other:
            self._others_life = message.life
            if self._leads_as_well(message):
                self._part(now)
            if self.apart:
                return
        self.raft.receive(node, message.message, now)
        if node == self.raft.other and message.to == self.life and self._acknowledges(node, message):
            self.current = True

    def _acknowledges(self, node: NodeName, letter: Letter) -> bool:
        """Whether this letter shows that its writer needed this node when it wrote it: as a leader that counts it, or
        by granting it a vote or taking its entries. Who was excluded here can show nothing."""
        raft, message = self.raft, letter.message
        if not letter.counts or raft.alone or not raft.may_lead:
            return False
        match message:
            case Append() | SnapshotPart():
                return raft.leader == node and message.term == raft.term
            case VoteAnswer():
                return message.granted and message.term == raft.term
            case AppendAnswer():
                return message.accepted and message.term == raft.term and raft.leader == raft.me
            case _:
                return False

    def _leads_as_well(self, letter: Letter) -> bool:
        """Whether it shows that the other leads without this node, which goes on without the other. What it wrote in an
        earlier exclusion is of an older term: this node's began with a newer one than both had ever had."""
        leads = isinstance(letter.message, Append | SnapshotPart) and not letter.counts
        return self.raft.alone and leads and letter.message.term >= self.raft.term

    def _part(self, now: float) -> None:
        """Their logs differ, and neither knows what the other runs: whoever sees that first leads no more. The end of
        its leases does the rest."""
        if not self.apart:
            self.apart = True
            self.raft.retire(now)
            self._out.tell(STATD, Note(EventRecord(0.0, now, self.raft.me, LOCKD, Severity.ERROR, self.trouble())))

    # ---- what comes from the other, and what hbd says of it ---------------------------------------------------------

    def heard(self, node: NodeName, now: float) -> None:
        """Anything at all came from the other: it is not off, or it has been on again since."""
        if node == self.raft.other:
            self._heard_at = now
            self.duel.void(now)

    def seen(self, view: tuple[NodeView, ...], now: float) -> None:
        for each in view:
            if each.node != self.raft.other:
                continue
            if each.alive and not self._hbd_hears:
                self.duel.void(now)
            self._hbd_hears, self._left = each.alive, each.left
            if each.alive or each.boot is None or each.left:
                self._dead_since = None
            elif self._dead_since is None:
                self._dead_since = now

    def blind(self) -> None:
        """hbd is gone."""
        self._hbd_hears, self._dead_since = False, None

    def _silent_since(self) -> float | None:
        """From when the other counts as dead, which may be to come; None: it does not."""
        timing = self.cluster.timing
        if self._dead_since is not None:
            return max(self._dead_since, self._heard_at + timing.detection)
        if self._left or self.raft.leader is not None:
            return None
        return self._heard_at + SILENCE * timing.election

    # ---- going on alone ---------------------------------------------------------------------------------------------

    @property
    def _may_exclude(self) -> bool:
        raft = self.raft
        bound = raft.other is None or raft.membership.together
        return not bound and raft.may_lead and not raft.alone and self.current

    @property
    def needed(self) -> bool:
        """The other lives, and could decide nothing without this node: one that leaves gives it a moment."""
        return self.raft.other is not None and self.raft.membership.excluded is None and self._hbd_hears

    def tend(self, now: float, leaving: bool | None) -> float | None:
        """At the end of every event, before Raft's step is taken; returns when it wants to be woken. `leaving`: whether
        the other's service is ending, as its reqd says; None: it has said nothing since this node leads."""
        other = self.raft.other
        if other != self._other:
            self._meet(now)
        if other is None:
            return None
        if self.raft.ready:
            self._lead(other, leaving, now)
        if not self._may_exclude:
            self.duel.void(now)
            return None
        since = self._silent_since()
        ended = self.duel.step(other, since, self._hbd_hears, now)
        if ended is not None:
            self._exclude(other, ended, now)
            return None
        return self.duel.wake_at(other, since, self._hbd_hears, now)

    def _lead(self, other: NodeName, leaving: bool | None, now: float) -> None:
        """What of the other's state belongs into the log."""
        if self.raft.alone:
            self.current = True
            if self._hbd_hears and leaving is False and self.raft.caught_up:
                self.raft.include(now)
        elif leaving and not self._granted(other):
            self.raft.let_go(now)
        elif leaving is False:
            self.raft.keep(now)

    def _meet(self, now: float) -> None:
        """There is another other than before, or none any more: what was known of the last one is void."""
        self.duel.void(now)
        self._other, self.current, self._others_life = self.raft.other, False, BootId("")
        self._heard_at, self._dead_since, self._hbd_hears, self._left = now, None, False, False

    def _exclude(self, other: NodeName, ended: tuple[Generation, ...], now: float, vouched: str = "") -> None:
        batch = Batch((Excluded(other, ended, vouched),))
        self.duel.void(now)
        self.raft.exclude((msgspec.msgpack.encode(batch),), now, None if self.current else now)

    def vouch(self, word: ConfirmOff, now: float) -> Confirmed:
        """The operator's word in place of the device's; on a node that is not current it has to say more."""
        raft, other = self.raft, self.raft.other
        if other is None:
            return Confirmed(False, "the master takes that word, and there is none", pair=False)
        if raft.alone and word.node == other:
            return Confirmed(True, f"{raft.me} goes on without {other} already")
        reason = self._not_vouchable(other, word, now)
        if reason or word.seen is None or not (self.current or word.alone):
            return Confirmed(False, reason, not self.current, raft.log.last_index)
        self._exclude(other, self._granted(other), now, word.operator)
        return Confirmed(True)

    def _not_vouchable(self, other: NodeName, word: ConfirmOff, now: float) -> str:
        """Nobody can vouch for what they did not see, nor against what is heard."""
        if word.node != other:
            return f"{word.node} is not the other node, {other} is"
        if self.raft.membership.together:
            return "the nodes that vote were being changed: neither of the two goes on alone"
        if not self.raft.may_lead:
            return self._behind(other)
        if self._hbd_hears or not self._surely_silent(now):
            return f"{other} is heard, or was a moment ago: it is not off"
        if word.seen is not None and any(generation > word.seen for generation in self._granted(other)):
            return f"{other} was given more to run since you looked; look again whether it is off, and repeat"
        return ""

    def _surely_silent(self, now: float) -> bool:
        """Long enough that every lease which this node helped to give it is over."""
        timing = self.cluster.timing
        lapsed = now >= self._heard_at + timing.lease + timing.drift
        return lapsed and (self._dead_since is not None or now >= self._heard_at + SILENCE * timing.election)

    # ---- for the operator -------------------------------------------------------------------------------------------

    def tell_news(self, now: float) -> None:
        """To the history: from when to when it went on alone."""
        raft = self.raft
        alone = raft.other is not None and raft.alone and raft.leader == raft.me
        if alone == self._alone_told or raft.leader is None or raft.other is None:
            return
        self._alone_told = alone
        text = f"{raft.me} goes on without {raft.other}" if alone else f"{raft.other} is needed again"
        severity = Severity.WARN if alone else Severity.LOG
        self._out.tell(STATD, Note(EventRecord(0.0, now, raft.me, LOCKD, severity, text)))

    def trouble(self) -> str:
        """One line: why this node waits for the other, or goes on without it; '' when there is nothing to say."""
        raft, other = self.raft, self.raft.other
        if other is None or (raft.leader is not None and not raft.alone):
            return ""
        if self.apart:
            return (
                f"{raft.me} and {other} went on without each other, for one was called off and was on; {raft.me} "
                "stopped: docs/safety.md, 'Two nodes', says how to go on"
            )
        if raft.alone:
            return f"{raft.me} goes on without {other}, which is needed again once it is up and has caught up"
        if self._hbd_hears:
            return f"the fence device {self.duel.trouble}" if self.duel.trouble else ""
        if not raft.may_lead:
            return self._behind(other)
        if not self.current:
            return (
                f"{raft.me} cannot know whether {other} went on alone since they last met: start {other}; "
                f"or, if {other} is off for certain and did not: lha_fence {other} --confirm"
            )
        return self._waits(other)

    def _behind(self, other: NodeName) -> str:
        return f"{other} went on without {self.raft.me}, which lacks what happened since: start {other}"

    def _waits(self, other: NodeName) -> str:
        helps = f"if it is off for certain: lha_fence {other} --confirm"
        if self._left:
            return f"{other} left before {self.raft.me} could go on without it: start it again; or, {helps}"
        if not self.duel.levels(other):
            return (
                f"{other} is silent and has no fence device: power it off, then lha_fence {other} --confirm, or boot it"
            )
        if not self.duel.reqd_joined:
            return f"{other} is silent, and reqd of {self.raft.me} is not up to have it fenced; {helps}"
        said = f"; the device: {self.duel.trouble}" if self.duel.trouble else ""
        if self.duel.ordered or said:
            return f"{other} is silent and is being fenced{said}; {helps}"
        delay = self.cluster.fence_delay(other)
        return f"{other} is silent and will be fenced, {delay:g} s after it fell silent (fence_delay); {helps}"
