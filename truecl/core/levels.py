"""How the log grows new commands while nodes of two releases share it (docs/upgrade.md).

Each release knows commands up to a level of its own. Every node says its level with each request for a lease; once all
members of the log have said a higher one, the leader writes that into the log, and only after that entry may commands
of that level stand in it. The level never falls: a release that knows less cannot read the log any more, and stops.
"""

from collections.abc import Collection

from truecl.core.contract import Outdated
from truecl.model.ids import NodeName
from truecl.model.ledger import LEVELS, AnyCommand, Batch, Command, Ledger, RaiseLevel

OLD_RELEASE = (
    "not every node of the cluster has said that its release knows this; lha_node list shows which (docs/upgrade.md)"
)


def knows(ledger: Ledger, kind: type[Command]) -> bool:
    """May such a command stand in this log now?"""
    return LEVELS[kind] <= ledger.level


def common(said: dict[NodeName, int], members: Collection[NodeName], own: int) -> int:
    """The highest level that all members have said they know; 1 while one of them has said nothing."""
    return min((said.get(node, 1) for node in members), default=own)


def inadmissible(command: AnyCommand, ledger: Ledger, common: int) -> str:
    """Why this command must not be written into the log yet; '' if it may."""
    if isinstance(command, RaiseLevel):
        return "" if command.level <= common else f"not all members know level {command.level} of the log"
    needed = LEVELS[type(command)]
    if needed <= ledger.level:
        return ""
    return f"{type(command).__name__} needs level {needed} of the log, which is at {ledger.level}"


def check(batch: Batch, level: int) -> None:
    """Before it is applied here. Raises Outdated for what a release of `level` does not know."""
    for command in batch.commands:
        _check(command.level if isinstance(command, RaiseLevel) else LEVELS[type(command)], level)


def check_snapshot(ledger: Ledger, level: int) -> None:
    """Raises Outdated."""
    _check(ledger.level, level)


def _check(needed: int, level: int) -> None:
    if needed > level:
        raise Outdated(f"the cluster's log is at level {needed}, and this release knows level {level} at most")
