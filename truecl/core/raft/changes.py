"""Changes of the membership, by entries of the log: nodes added and removed, and one of two voters left out. A part of
`Raft`."""

import msgspec
from msgspec.structs import replace

from truecl.core.quorum import has_quorum
from truecl.core.raft.following import Following
from truecl.core.raft.progress import Progress
from truecl.core.raft.reshape import not_one_step, promoted
from truecl.core.raft.tenure import Tenure
from truecl.model.ids import NodeName
from truecl.model.membership import Membership
from truecl.wire.raft import Entry, EntryKind


class Changes(Following):
    """To be used as `Raft`."""

    @property
    def ready(self) -> bool:
        """Leads, and an entry of its own term is committed and applied: only now may it answer or order anything."""
        return self._tenure is not None and self.applied >= self._tenure.term_start

    @property
    def followers(self) -> tuple[Progress, ...]:
        """While leading: everybody's progress, to be looked at only."""
        return self._tenure.describe() if self._tenure is not None else ()

    def reshape(self, membership: Membership, now: float) -> str:
        """Appends another membership, which is in force from here on. Returns why it does not; '' if it did.

        Only while leading, with an entry of its own term committed (Ongaro's correction of 2015: the one before may be
        another leader's, unfinished), after the latest change is committed, and where the voters to come can decide.
        """
        self._now = now
        if self._tenure is None or not self.ready:
            return "this node does not lead, or does not know yet what earlier leaders committed"
        problem = self._unfit_membership(self._tenure, membership)
        if not problem:
            self._change(membership)
        return problem

    def _unfit_membership(self, tenure: Tenure, new: Membership) -> str:
        """Why `new` cannot be the membership from now on; '' if it can."""
        old = self.log.membership
        if tenure.transfer_to is not None:
            return "the leadership is being handed over"
        if not self.log.settled:
            return "the change before this one is not committed yet"
        problem = not_one_step(old, new)
        if problem:
            return problem
        if self.me not in new.voters:
            return f"{self.me} leads: another node has to lead first"
        for node in promoted(old, new):
            if not self.has_caught_up(node):
                return f"{node} has not caught up with the log"
        answering = [each.node for each in self.followers if self._now - each.heard_at < self._timing.election]
        if not has_quorum(new, [self.me, *answering]):
            return f"of the voters {', '.join(new.voters)} fewer than a majority would answer"
        return ""

    def has_caught_up(self, node: NodeName) -> bool:
        """While leading: `node` answers, and has all that was committed at the latest heartbeat."""
        return self._tenure is not None and self._tenure.has_caught_up(node, self._now)

    # ---- of two voters ----------------------------------------------------------------------------------------------

    @property
    def other(self) -> NodeName | None:
        """Of exactly two voters, of which this node is one, the other."""
        voters = self.log.membership.voters
        if len(voters) != 2 or self.me not in voters:
            return None
        return voters[0] if voters[1] == self.me else voters[1]

    def exclude(self, payloads: tuple[bytes, ...], now: float, lease_bound: float | None = None) -> None:
        """The other of two voters is surely off: go on without it, as leader of a new term.

        Whether it may, the caller has seen to (`truecl.core.pair`). `payloads` are commands that follow the exclusion
        in the log. `lease_bound`: from when the leases of earlier leaders count; None: from this node's own latest
        acknowledgement of one, as after any vote. Raises ValueError where there is nobody to exclude.
        """
        self._now = now
        if self.other is None or not self.may_lead or self.alone:
            raise ValueError(f"{self.me} cannot exclude anybody from {self.log.membership}")
        if lease_bound is not None:
            self.acknowledged_at = lease_bound
        self._become_sole_leader(replace(self.log.membership, excluded=self.other, leaving=None), payloads)

    def let_go(self, now: float) -> None:
        """The other of two voters leaves in good order: bring it out of the quorum, in two entries.

        The first says that it is leaving: both still count, and who has it excludes nobody any more. It is committed
        when both have it; only then does the second exclude the other. (An exclusion at once would be in force here and
        unknown there: the other could still have this node fenced, and go on without what was decided here meanwhile.)
        Harmless when repeated; nothing on a node that does not lead.
        """
        self._now = now
        membership = self.log.membership
        if not self.ready or self.other is None or membership.excluded is not None or membership.together:
            return
        if not self.log.settled:
            return  # one change at a time, this one's own first step too
        if membership.leaving is None:
            self._change(replace(membership, leaving=self.other))
        elif membership.leaving == self.other:
            self._change(replace(membership, excluded=self.other, leaving=None))

    def keep(self, now: float) -> None:
        """The other of two voters was about to leave and stays."""
        self._now = now
        if self.ready and self.log.membership.leaving is not None and self.log.settled:
            self._change(replace(self.log.membership, leaving=None))

    def _change(self, membership: Membership) -> None:
        self.log.append([Entry(self.term, EntryKind.MEMBERSHIP, msgspec.msgpack.encode(membership))])

    @property
    def caught_up(self) -> bool:
        """Leads without the other of two voters, and that one has every entry: it can be included again."""
        excluded = self.log.membership.excluded
        return self.ready and any(
            each.node == excluded and each.match == self.log.last_index for each in self.followers
        )

    def include(self, now: float) -> bool:
        """Need the other of two voters again, from this entry on. False: it has not caught up."""
        self._now = now
        if not self.caught_up:
            return False
        self._change(replace(self.log.membership, excluded=None))
        return True
