"""One follower (or observer) as the leader sees it: what it has, what is on the way, how it is fed.

PROBE      where its log ends is not known: one Append with entries, then empty ones with each heartbeat
REPLICATE  its log fits: Appends are sent ahead of the answers, within a window
SNAPSHOT   what it needs is compacted: parts of a snapshot, one at a time

(After etcd-io/raft's tracker of the same states.)
"""

from collections import deque
from enum import StrEnum

from truecl.core.raft.journal import StoredSnapshot
from truecl.model.ids import Index, NodeName

WINDOW_MESSAGES = 16
WINDOW_BYTES = 2 * 1024 * 1024
"""Bounds of what is on the way to one follower, unanswered."""


class Flow(StrEnum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    __slots__ = (
        "node", "flow", "match", "next", "heard_at", "round", "commit_sent", "probed", "snapshot", "snapshot_offset",
        "part_sent_at", "_window", "_window_bytes",
    )  # fmt: skip

    def __init__(self, node: NodeName, next_index: Index, now: float) -> None:
        self.node = node
        self.flow = Flow.PROBE
        self.match = Index(0)
        """The logs are known to be equal up to here."""
        self.next = next_index
        """The next entry to send; always more than `match`."""
        self.heard_at = now
        """When it last answered in this term."""
        self.round = 0
        """The latest round that it acknowledged."""
        self.commit_sent = Index(0)
        self.probed = False
        self.snapshot: StoredSnapshot | None = None
        self.snapshot_offset = 0
        self.part_sent_at = 0.0
        self._window: deque[tuple[Index, int]] = deque()
        self._window_bytes = 0

    @property
    def may_send(self) -> bool:
        """Whether entries may be sent now."""
        if self.flow is Flow.REPLICATE:
            return len(self._window) < WINDOW_MESSAGES and self._window_bytes < WINDOW_BYTES
        return self.flow is Flow.PROBE and not self.probed

    def sent(self, last: Index, size: int) -> None:
        """Entries up to `last` are on the way."""
        if self.flow is Flow.REPLICATE:
            self.next = Index(last + 1)
            self._window.append((last, size))
            self._window_bytes += size
        else:
            self.probed = True

    def accepted(self, index: Index, first: Index) -> bool:
        """It has everything up to `index`; `first` begins the leader's log. Returns whether that is news."""
        news = index > self.match
        if news:
            self.match = index
            while self._window and self._window[0][0] <= index:
                self._window_bytes -= self._window.popleft()[1]
        if self.flow is Flow.SNAPSHOT:
            if self.match + 1 < first and (self.snapshot is None or self.match < self.snapshot.index):
                return news
            # It has this snapshot. If the log was compacted beyond it since, the next feed begins with the newer one.
            self._become(Flow.REPLICATE, Index(self.match + 1))
        elif self.flow is Flow.PROBE and index == self.match:
            self._become(Flow.REPLICATE, Index(self.match + 1))
        elif self.next <= self.match:
            self.next = Index(self.match + 1)
        return news

    def rejected(self, index: Index, hint: Index) -> None:
        """The entry before the ones sent, at `index`, did not fit; `hint` is the last place that may.

        Late and doubled rejections change nothing: what was acknowledged since, stands.
        """
        if self.flow is Flow.SNAPSHOT or index <= self.match:
            return
        if self.flow is Flow.PROBE and index != self.next - 1:
            return
        self._become(Flow.PROBE, Index(max(self.match + 1, min(index, hint + 1))))

    def begin_snapshot(self, snapshot: StoredSnapshot) -> None:
        self._become(Flow.SNAPSHOT, self.next)
        self.snapshot = snapshot

    def _become(self, flow: Flow, next_index: Index) -> None:
        self.flow = flow
        self.next = next_index
        self.probed = False
        self.snapshot = None
        self.snapshot_offset = 0
        self._window.clear()
        self._window_bytes = 0
