"""Is a pair ever stuck after one of the two is gone? The moves of `test_two_nodes`, but for those that would be a
second failure: b may crash, be switched off, and be booted again; a lives, and its device answers.

Stuck is a state from which nobody ever leads again with all that it has committed, alone or with the other up.
"""

from collections.abc import Callable, Iterator

import pytest

from truecl.core.pair import Pair
from truecl.core.raft import Role

from .search import stuck
from .test_two_nodes import MET, Bounds, Rules, World, along, moves_by

SECOND_FAILURES = (
    "a crashes",
    "b orders",
    "the device switches a",
    "its word is lost",
    # These change nothing here, and make the world larger:
    "a appends",
    "b appends",
    "a lets",
    "b lets",
)


BACK = "b is booted"
FOR_GOOD = Bounds(term=5, entries=7, lives=2, depth=1 << 30)
ONCE = Bounds(term=4, entries=6, lives=2, depth=1 << 30)


def moves_after_one_failure(rules: Rules, bounds: Bounds) -> Callable[[World], Iterator[tuple[str, World]]]:
    moves, without = moves_by(rules, bounds), SECOND_FAILURES if bounds is ONCE else (*SECOND_FAILURES, BACK)
    return lambda world: ((name, after) for name, after in moves(world) if not name.startswith(without))


def well(world: World) -> bool:
    for node, other in (world.nodes, world.nodes[::-1]):
        raft = node.raft
        leads = node.up and raft.role is Role.LEADER and raft.log.commit == raft.log.last_index
        if leads and (node.alone or other.up):
            return True
    return False


def edge_of(bounds: Bounds) -> Callable[[World], bool]:
    """Too little room for another term, with its entries."""
    return lambda world: any(
        node.raft.term >= bounds.term - 1 or node.raft.log.last_index >= bounds.entries - 2 for node in world.nodes
    )


@pytest.mark.parametrize("bounds", [FOR_GOOD, ONCE], ids=["b is lost for good", "b comes back once"])
def test_one_of_two_goes_on(bounds: Bounds) -> None:
    rules = Rules()
    states, way = stuck(along(rules, MET), moves_after_one_failure(rules, bounds), well, edge_of(bounds))
    assert way is None, way
    assert states > 4000, states


class NeverExcludes(Pair):
    @property
    def _may_exclude(self) -> bool:
        return False


def test_it_would_be_stuck_without_exclusions() -> None:
    rules = Rules(pair=NeverExcludes)
    assert stuck(along(rules, MET), moves_after_one_failure(rules, FOR_GOOD), well, edge_of(FOR_GOOD))[1] is not None
