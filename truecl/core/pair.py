"""Two nodes: when one may go on alone, and when it needs the other again (SAFETY.md section 1).

Neither of two voters decides anything without the other until it has *excluded* it: by an entry of the log, once a
fence device has confirmed that the other is off, or the operator vouches for it. Both could fence each other and come
back one after the other, each with a log that excludes the other; so only a *current* node may exclude, one that knows
that the other has not gone on alone in the meantime:

    current     since this lockd started, the other acknowledged it as a voter in a letter to its present life, or it
                led alone under its own exclusion. Volatile: it begins empty with every life
    an order    of a fence, and its confirmation, are void as soon as anything comes from the other
    included    again by another entry of the log, once the excluded node has everything; from then on it is needed

`Pair` stands between lockd and its `Raft`: it puts messages in letters, keeps currency, orders the fence, and asks Raft
for the exclusion and the inclusion. In a log with more or fewer than two voters it passes messages on and does nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from truecl.core.contract import Send
from truecl.core.outbox import Outbox
from truecl.core.raft import Raft
from truecl.model.config import ClusterConfig
from truecl.model.ids import REQD, BootId, Generation, Index, NodeName
from truecl.model.ledger import Batch, Excluded
from truecl.wire.messages import Confirmed, ConfirmOff, FenceResult, NodeView, OrderFenceOff
from truecl.wire.raft import Append, AppendAnswer, Letter, RaftMessage, SnapshotPart, VoteAnswer

ORDER_AGAIN = 1.0
"""Seconds from a fence that failed, or was void, to the next order."""
SILENCE = 2.0
"""Election timeouts without a word from the other's lockd, and without a leader, that count as hbd's verdict."""
JOURNAL = "exclusion"
"""Bucket of the fence order that is outstanding: what it will prove is on disk before the device is asked."""


class OrderRecord(msgspec.Struct, frozen=True):
    node: NodeName
    number: Index
    generations: tuple[Generation, ...]


@dataclass
class _Order:
    record: OrderRecord
    void: bool = False
    off: bool = False
    """The device has confirmed it."""


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
        self.reqd_joined = False
        self.cluster, self._out, self._granted = cluster, out, granted
        self._other = raft.other
        self._others_life = BootId("")
        self._order: _Order | None = None
        self._order_again_at = 0.0
        self._trouble = ""
        """What the device last said."""
        self._number = 0
        self._heard_at = 0.0
        """When the other's lockd last said anything."""
        self._dead_since: float | None = None
        """hbd's verdict."""
        self._hbd_hears = False
        self._left = False
        """The other said goodbye: it ends in good order, and is not fenced for that."""

    def start(self, now: float) -> None:
        self._heard_at = now
        self._number = int(now * 1e6)  # rises over the lives within a boot
        self._out.drop(JOURNAL)  # an order of an earlier life proves nothing

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
        self.raft.receive(node, message.message, now)
        if node == self.raft.other and message.to == self.life and self._acknowledges(node, message):
            self.current = True

    def _acknowledges(self, node: NodeName, letter: Letter) -> bool:
        """Whether this letter shows that its writer needed this node when it wrote it: as a leader that counts it, or
        by granting it a vote or taking its entries. Who was excluded here can show nothing."""
        raft, message = self.raft, letter.message
        if not letter.counts or raft.alone or not raft.is_elector:
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

    def heard(self, node: NodeName, now: float) -> None:
        """Anything at all came from the other: it is not off, or it has been on again since."""
        if node == self.raft.other:
            self._heard_at = now
            self.void()

    def void(self) -> None:
        if self._order is not None and not self._order.void:
            self._order.void = True
            self._out.drop(JOURNAL)

    # ---- what hbd and reqd say --------------------------------------------------------------------------------------

    def seen(self, view: tuple[NodeView, ...], now: float) -> None:
        for each in view:
            if each.node != self.raft.other:
                continue
            if each.alive and not self._hbd_hears:
                self.void()
            self._hbd_hears, self._left = each.alive, each.left
            dead = not each.alive and each.boot is not None and not each.left
            self._dead_since = (self._dead_since or now) if dead else None

    def blind(self) -> None:
        """hbd is gone."""
        self._hbd_hears, self._dead_since = False, None

    def reqd_left(self) -> None:
        """With it the answer to an order, if there is one."""
        self.reqd_joined = False
        self.void()
        self._order = None

    def fenced(self, result: FenceResult, now: float) -> None:
        order = self._order
        if order is None or order.record.number != result.index:
            return
        if result.off and not order.void:
            order.off = True
            return
        if not result.off and not result.over:
            return
        self._order, self._order_again_at = None, now + ORDER_AGAIN
        if not result.off:
            self._trouble = result.reason
            self._out.drop(JOURNAL)

    # ---- going on alone ---------------------------------------------------------------------------------------------

    @property
    def _may_exclude(self) -> bool:
        raft = self.raft
        bound = raft.other is None or raft.membership.together
        return not bound and raft.is_elector and not raft.alone and self.current

    def _silent_since(self) -> float | None:
        """From when the other counts as dead, which may be to come; None: it does not."""
        timing = self.cluster.timing
        if self._dead_since is not None:
            return max(self._dead_since, self._heard_at + timing.detection)
        if self._left or self.raft.leader is not None:
            return None
        return self._heard_at + SILENCE * timing.election

    def _order_at(self) -> float | None:
        """When the other is to be fenced; None: it is not."""
        if not self._may_exclude or self._order is not None or not self.reqd_joined:
            return None
        since, other = self._silent_since(), self.raft.other
        assert other is not None, "_may_exclude says so"
        if since is None or not self.cluster.node(other).fence:
            return None
        return max(since + self.cluster.fence_delay(other), self._order_again_at)

    def tend(self, now: float) -> float | None:
        """At the end of every event, before Raft's step is taken; returns when it wants to be woken."""
        if self.raft.other != self._other:
            self._meet(now)
        if self.raft.alone and self.raft.ready and self.raft.other is not None:
            self.current = True
            if self._hbd_hears and self.raft.caught_up:
                self.raft.include(now)
        order = self._order
        if order is not None and order.off:
            if order.void or not self._may_exclude:
                self._order = None
            elif not self._hbd_hears:  # else the device switched another node, or hbd will notice in a moment
                self._exclude(order.record.generations, now)
        at = self._order_at()
        if at is not None and now >= at:
            self._give_order(now)
            return None
        return at

    def _meet(self, now: float) -> None:
        """There is another other than before, or none any more: what was known of the last one is void."""
        self.void()
        self._other, self.current, self._others_life = self.raft.other, False, BootId("")
        self._heard_at, self._dead_since, self._hbd_hears, self._left = now, None, False, False

    def _give_order(self, now: float) -> None:
        other = self.raft.other
        assert other is not None, "only then is there an order to give"
        self._number += 1
        record = OrderRecord(other, Index(self._number), self._granted(other))
        self._order = _Order(record)
        self._out.put(JOURNAL, "order", msgspec.msgpack.encode(record))
        self._out.tell(REQD, OrderFenceOff(other, record.number))

    def _exclude(self, generations: tuple[Generation, ...], now: float, vouched: str = "") -> None:
        other = self.raft.other
        assert other is not None, "there is nobody else to exclude"
        batch = Batch((Excluded(other, generations, vouched),))
        bound = None if self.current else now
        self._order, self._trouble = None, ""
        self._out.drop(JOURNAL)
        self.raft.exclude((msgspec.msgpack.encode(batch),), now, bound)

    def vouch(self, word: ConfirmOff, now: float) -> Confirmed:
        """The operator's word in place of the device's; on a node that is not current it has to say more."""
        raft, other = self.raft, self.raft.other
        if other is None:
            return Confirmed(False, "this cluster has more than two voters: its master takes that word")
        if word.node != other:
            return Confirmed(False, f"{word.node} is not the other node, {other} is")
        if raft.membership.together:
            return Confirmed(False, "the nodes that vote were being changed: neither of the two goes on alone")
        if raft.alone:
            return Confirmed(True, f"{raft.me} goes on without {other} already")
        if not raft.is_elector:
            return Confirmed(
                False, f"{other} went on without {raft.me}, which lacks what happened since: start {other}"
            )
        silent = self._dead_since is not None or now >= self._heard_at + SILENCE * self.cluster.timing.election
        if self._hbd_hears or not silent:
            return Confirmed(False, f"{other} is heard: it is not off")
        if not self.current and not word.alone:
            return Confirmed(False, f"{raft.me} cannot know whether {other} went on alone since they last met", True)
        self._exclude(self._granted(other), now, word.operator)
        return Confirmed(True)

    # ---- for the operator -------------------------------------------------------------------------------------------

    def trouble(self) -> str:
        """One line: why this node waits for the other, or goes on without it; '' when there is nothing to say."""
        raft, other = self.raft, self.raft.other
        if other is None or (raft.leader is not None and not raft.alone):
            return ""
        if raft.alone:
            return f"{raft.me} goes on without {other}, which is needed again once it is up and has caught up"
        if self._hbd_hears:
            return ""
        if not raft.is_elector:
            return f"{other} went on without {raft.me}, which lacks what happened since: start {other}"
        if not self.current:
            return (
                f"{raft.me} cannot know whether {other} went on alone since they last met: start {other}; "
                f"or, if {other} is off for certain and did not: lha_fence {other} --confirm"
            )
        if self.cluster.node(other).fence:
            said = f"; the device: {self._trouble}" if self._trouble else ""
            return f"{other} is silent and is being fenced{said}; if it is off for certain: lha_fence {other} --confirm"
        return f"{other} is silent and has no fence device: power it off, then lha_fence {other} --confirm, or boot it"
