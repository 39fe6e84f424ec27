"""The quorum, against dumb twins of itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.core.quorum import has_quorum, quorum_reached
from truecl.model.ids import NodeName
from truecl.model.membership import Membership

NAMES = tuple(NodeName(name) for name in "abcdefg")


def members(count: int) -> Membership:
    return Membership(NAMES[:count], (NodeName("x"), NodeName("y")))


@pytest.mark.parametrize(
    ("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]
)  # fmt: skip
def test_a_majority_decides(voters: int, needed: int) -> None:
    membership = members(voters)
    assert has_quorum(membership, NAMES[:needed])
    assert not has_quorum(membership, NAMES[: needed - 1])


def test_who_is_no_voter_does_not_count() -> None:
    assert not has_quorum(members(3), ("a", "x", "y", "z"))
    assert quorum_reached(members(3), {"a": 5, "x": 9, "y": 9}, 0) == 0


def test_without_voters_nobody_decides() -> None:
    assert not has_quorum(Membership(), NAMES)
    assert quorum_reached(Membership(), {"a": 5}, 0) == 0


@given(st.integers(1, 7), st.data())
def test_two_quorums_share_a_voter(voters: int, data: st.DataObject) -> None:
    membership = members(voters)
    one = data.draw(st.sets(st.sampled_from(NAMES)))
    other = data.draw(st.sets(st.sampled_from(NAMES)))
    if has_quorum(membership, one) and has_quorum(membership, other):
        assert one & other & set(membership.voters)


@given(st.integers(1, 7), st.dictionaries(st.sampled_from((*NAMES, "x")), st.integers(0, 12)))
def test_what_a_quorum_reached_is_what_counting_finds(voters: int, values: dict[NodeName, int]) -> None:
    membership = members(voters)
    dumb = 0
    for value in range(13):
        if has_quorum(membership, [voter for voter in membership.voters if values.get(voter, 0) >= value]):
            dumb = value
    assert quorum_reached(membership, values, 0) == dumb


def test_membership_is_bounded_and_names_nobody_twice() -> None:
    with pytest.raises(ValueError, match="8 voters"):
        Membership((*NAMES, NodeName("h")))
    with pytest.raises(ValueError, match="twice"):
        Membership(NAMES[:2], NAMES[1:3])


@pytest.mark.parametrize("voters", [1, 3, 4])
def test_only_one_of_exactly_two_can_be_excluded(voters: int) -> None:
    with pytest.raises(ValueError, match="cannot be excluded"):
        Membership(NAMES[:voters], excluded=NAMES[0])
    with pytest.raises(ValueError, match="cannot be excluded"):
        Membership(NAMES[:2], NAMES[2:3], excluded=NAMES[2])
