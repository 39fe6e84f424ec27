"""Collects what one `handle` call puts out, so that the parts of a core can each add their share."""

from collections.abc import Iterable
from typing import Any

from truecl.core.contract import Do, Drop, Output, Put, Save, Send, Tell
from truecl.model.ids import NodeName


class Outbox:
    """Mutable while a core handles one event; `take` freezes it into an `Output`. Action ids count up for life."""

    def __init__(self) -> None:
        self._next_id = 1
        self._saves: list[Save] = []
        self._sends: list[Send] = []
        self._dos: list[Do] = []
        self._tells: list[Tell] = []

    def put(self, bucket: str, key: int | str, value: bytes) -> None:
        self._saves.append(Put(bucket, key, value))

    def drop(self, bucket: str, first: int | str | None = None, last: int | str | None = None) -> None:
        self._saves.append(Drop(bucket, first, last))

    def saves(self, saves: Iterable[Save]) -> None:
        self._saves.extend(saves)

    def send(self, node: NodeName, message: Any) -> None:
        self._sends.append(Send(node, message))

    def number(self) -> int:
        """An id for an action that is put out later."""
        number = self._next_id
        self._next_id += 1
        return number

    def do(self, action: Any, number: int | None = None) -> int:
        """The id that `Done` will carry: `number`, or a new one."""
        number = self.number() if number is None else number
        self._dos.append(Do(number, action))
        return number

    def tell(self, who: str, message: Any) -> None:
        self._tells.append(Tell(who, message))

    def take(self, *wakes: float | None) -> Output:
        """Everything since the last call; the timer is the earliest of `wakes`, None for none."""
        times = [wake for wake in wakes if wake is not None]
        output = Output(
            save=tuple(self._saves),
            send=tuple(self._sends),
            do=tuple(self._dos),
            tell=tuple(self._tells),
            wake_at=min(times) if times else None,
        )
        self._saves, self._sends, self._dos, self._tells = [], [], [], []
        return output
