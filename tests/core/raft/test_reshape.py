"""What membership may follow what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.core.quorum import electors, has_quorum
from truecl.core.raft.reshape import not_one_step, without_excluded
from truecl.model.ids import NodeName
from truecl.model.membership import Membership

A, B, C, D = NAMES = tuple(NodeName(name) for name in "abcd")
BOUND = Membership((A, B), (), None, True)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (Membership((A, B, C)), Membership((A, B, C), (D,)), ""),
        (Membership((A, B, C), (D,)), Membership((A, B, C, D)), ""),
        (Membership((A, B, C)), Membership((A, B), (C,), None, True), ""),
        (Membership((A, B, C)), Membership((A, B), (C,)), "bound"),
        (Membership((A, B), (C,)), Membership((A, B, C)), "bound"),
        (Membership((A, B), (C,), None, True), Membership((A, B, C)), ""),
        (Membership((A, B)), BOUND, ""),
        (BOUND, Membership((A, B)), ""),
        (BOUND, Membership((A,), (B,)), ""),
        (Membership((A, B)), Membership((A,), (B,)), "bound"),
        (Membership((A,), (B,)), BOUND, ""),
        (Membership((A, B), (), B), Membership((A,)), ""),
        (Membership((A, B), (), B), Membership((B,)), "excluded"),
        (Membership((A, B), (), B), Membership((A, B), (C,), B), "excluded"),
        (Membership((A, B)), Membership((A, B), (), B), "excluded"),
        (Membership((A, B, C)), Membership((B, A, C)), ""),
        (Membership((A, B, C)), Membership((A, B, C, D)), "in between"),
        (Membership((A, B, C), (D,)), Membership((A, B), (C,)), "more than one"),
        (Membership((A,)), Membership((), (A,)), "nobody"),
    ],
)
def test_steps(old: Membership, new: Membership, why: str) -> None:
    found = not_one_step(old, new)
    assert why in found if why else found == ""


memberships = st.builds(
    lambda places, together: Membership(
        voters := tuple(name for name, place in zip(NAMES, places, strict=True) if place == 2),
        tuple(name for name, place in zip(NAMES, places, strict=True) if place == 1),
        None,
        together and len(voters) == 2,
    ),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.booleans(),
)


@given(memberships, memberships, st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)))
def test_quorums_of_two_that_follow_each_other_share_a_node(
    old: Membership, new: Membership, one: set[NodeName], other: set[NodeName]
) -> None:
    if not_one_step(old, new) == "" and has_quorum(old, one) and has_quorum(new, other):
        assert one & other & {*electors(old)} & {*electors(new)}


@given(memberships, memberships, st.sampled_from(NAMES), st.booleans())
def test_who_may_exclude_shares_no_step_with_a_majority_that_forgets_it(
    old: Membership, new: Membership, survivor: NodeName, knows: bool
) -> None:
    """One of two voters, by whichever of two memberships it knows, goes on alone; the other one it excluded, and who
    else there is, decide by the other membership. They must not have a quorum without the survivor."""
    if not_one_step(old, new) != "":
        return
    mine, theirs = (new, old) if knows else (old, new)
    if len(mine.voters) != 2 or mine.together or survivor not in mine.voters or theirs.voters == mine.voters:
        return
    assert not has_quorum(theirs, [node for node in theirs.nodes if node != survivor])


def test_without_the_excluded() -> None:
    assert without_excluded(Membership((A, B), (C,), A)) == Membership((B,), (C,))
