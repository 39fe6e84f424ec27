"""Every ledger command's meaning, and that an overtaken one changes nothing."""

from hypothesis import given
from hypothesis import strategies as st

from truecl.core import ledger as ledgers
from truecl.model.ids import AppName, BootId, Generation, Index, NodeName, Term
from truecl.model.ledger import (
    AnyCommand,
    Batch,
    CancelFence,
    ConfirmFence,
    EndGrant,
    FreeLock,
    GiveGrant,
    Ledger,
    OrderFence,
    Proof,
    RecordBoot,
    SetWanted,
    TakeLock,
    Wanted,
)

WEB = AppName("web")
N1, N2 = NodeName("n1"), NodeName("n2")


def after(*entries: AnyCommand, term: int = 1, ledger: Ledger | None = None) -> Ledger:
    """The ledger after these entries, one command each, at indexes 1, 2, …"""
    state = ledger or Ledger()
    for command in entries:
        state = ledgers.apply(state, Index(state.index + 1), Term(term), Batch((command,)))
    return state


START = (SetWanted(WEB, Wanted.RUNNING), GiveGrant(WEB, N1))


def test_a_grant_s_generation_is_its_log_index() -> None:
    ledger = after(*START)
    assert ledgers.granted_to(ledger, N1) == ((WEB, Generation(2)),)
    assert ledgers.granted_to(ledger, N2) == ()


def test_a_second_grant_needs_the_end_of_the_first() -> None:
    ledger = after(*START, GiveGrant(WEB, N2))
    assert ledgers.granted_to(ledger, N2) == ()
    ended = after(EndGrant(WEB, Generation(2), Proof.RELEASED), ledger=ledger)
    assert ledgers.granted_to(after(GiveGrant(WEB, N2), ledger=ended), N2) == (), (
        "it must name the generation it follows"
    )
    assert ledgers.granted_to(after(GiveGrant(WEB, N2, Generation(2)), ledger=ended), N2) == ((WEB, Generation(5)),)


def test_an_end_that_names_another_generation_ends_nothing() -> None:
    ledger = after(*START, EndGrant(WEB, Generation(1), Proof.RELEASED))
    assert ledgers.granted_to(ledger, N1) == ((WEB, Generation(2)),)


def test_fenced_ends_only_what_a_confirmed_order_named() -> None:
    end = EndGrant(WEB, Generation(2), Proof.FENCED)
    unconfirmed = after(*START, OrderFence(N1, (Generation(2),)), end)
    other = after(*START, OrderFence(N1, (Generation(9),)), ConfirmFence(N1, Index(3)), end)
    late = after(*START, OrderFence(N1, (Generation(2),)), OrderFence(N1, ()), ConfirmFence(N1, Index(3)), end)
    cancelled = after(
        *START, OrderFence(N1, (Generation(2),)), CancelFence(N1, Index(3)), ConfirmFence(N1, Index(3)), end
    )
    older = after(*START, OrderFence(N1, ()), OrderFence(N1, (Generation(2),)), ConfirmFence(N1, Index(3)), end)
    for ledger in (unconfirmed, other, late, older, cancelled):
        assert ledgers.granted_to(ledger, N1) == ((WEB, Generation(2)),)
    proven = after(*START, OrderFence(N1, (Generation(2),)), ConfirmFence(N1, Index(3)), end)
    assert ledgers.granted_to(proven, N1) == ()


def test_no_grant_for_what_is_not_wanted() -> None:
    ledger = after(*START, SetWanted(WEB, Wanted.STOPPED), EndGrant(WEB, Generation(2), Proof.RELEASED))
    assert ledgers.granted_to(after(GiveGrant(WEB, N2, Generation(2)), ledger=ledger), N2) == ()


def test_a_lock_has_one_holder_and_a_rising_token() -> None:
    ledger = after(TakeLock("a", "one"), TakeLock("a", "two"))
    assert ledger.locks["a"].holder == "one"
    assert after(FreeLock("a", Index(9)), ledger=ledger).locks["a"].holder == "one", "a stale token frees nothing"
    again = after(FreeLock("a", ledger.locks["a"].token), TakeLock("a", "two"), ledger=ledger)
    assert again.locks["a"].token > ledger.locks["a"].token


def test_a_new_master_s_first_entry_frees_the_locks_of_older_terms() -> None:
    ledger = after(TakeLock("a", "one"))
    assert after(RecordBoot(N1, BootId("b")), term=2, ledger=ledger).locks == {}


def test_a_failed_generation_is_remembered_until_the_next_start() -> None:
    ledger = after(*START, EndGrant(WEB, Generation(2), Proof.RELEASED, "no image", failed=True))
    assert [(each.node, each.reason) for each in ledgers.app_state(ledger, WEB).failures] == [(N1, "no image")]
    assert ledgers.app_state(after(SetWanted(WEB, Wanted.RUNNING), ledger=ledger), WEB).failures == ()


commands = st.one_of(
    st.builds(SetWanted, st.just(WEB), st.sampled_from(Wanted), st.sampled_from([N1, N2, None]), st.booleans()),
    st.builds(GiveGrant, st.just(WEB), st.sampled_from([N1, N2]), st.integers(0, 30).map(Generation)),
    st.builds(EndGrant, st.just(WEB), st.integers(0, 30).map(Generation), st.sampled_from(Proof)),
    st.builds(OrderFence, st.just(N1), st.tuples(st.integers(0, 30).map(Generation))),
    st.builds(ConfirmFence, st.just(N1), st.integers(0, 30).map(Index)),
    st.builds(TakeLock, st.just("a"), st.sampled_from(["one", "two"])),
    st.builds(FreeLock, st.just("a"), st.integers(0, 30).map(Index)),
)


@given(st.lists(commands, max_size=30))
def test_generations_only_rise_and_a_snapshot_is_the_ledger(entries: list[AnyCommand]) -> None:
    ledger, highest, token = Ledger(), 0, 0
    for command in entries:
        before = ledger
        ledger = after(command, ledger=ledger)
        grant = ledgers.app_state(ledger, WEB).grant
        if grant is not None and grant != ledgers.app_state(before, WEB).grant:
            assert grant.generation > highest
            assert ledgers.app_state(before, WEB).grant is None
            highest = grant.generation
        lock = ledger.locks.get("a")
        if lock is not None and lock != before.locks.get("a"):
            assert lock.token > token
            token = lock.token
        assert ledgers.decode(ledgers.encode(ledger)) == ledger


def test_a_lease_does_not_name_what_a_fence_order_names() -> None:
    ordered = after(*START, OrderFence(N1, (Generation(2),)))
    assert ledgers.named_to(after(*START), N1) == ((WEB, Generation(2)),)
    assert ledgers.named_to(ordered, N1) == ()
    assert ledgers.named_to(after(ConfirmFence(N1, Index(3)), ledger=ordered), N1) == ()
    assert ledgers.named_to(after(CancelFence(N1, Index(3)), ledger=ordered), N1) == ((WEB, Generation(2)),)
