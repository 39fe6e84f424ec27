"""netd's core: floating addresses on orders, never longer than the lease."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.core.announce import BURST, ROUND_AFTER, ROUNDS, SPACING, Announcements, healed, schedule
from truecl.core.contract import Do, Done, Event, Joined, Left, Noted, Told, Woke
from truecl.core.hold import (
    TRANSITIONS,
    WANTED,
    Announce,
    AskConflict,
    Configure,
    Conflict,
    Outcome,
    Phase,
    Remove,
    Sign,
    Warn,
    lifetime,
    step,
)
from truecl.core.interfaces import Configured, Interface, Interfaces, Place, place
from truecl.core.netd import Netd
from truecl.model.config import PROFILES, Address, Timing
from truecl.model.ids import AppName, Generation, LinkName, NodeName
from truecl.wire.messages import (
    AddressState,
    HoldAddress,
    LeaseExtended,
    LinkView,
    NodeView,
    ProbeAddress,
    Refused,
    ReleaseAddress,
    Subscribe,
    View,
)

APP, OTHER_APP = AppName("web"), AppName("mail")
GEN = Generation(7)
IP = "10.0.0.50"
OWN = Configured("10.0.0.1", 24, True)
MAC = "02:00:00:00:00:09"


def interfaces(*floating: str, carrier: tuple[bool, bool] = (True, True)) -> Interfaces:
    ours = tuple(Configured(each, 32, False) for each in floating)
    return Interfaces(
        (
            Interface("eth0", True, carrier[0], (OWN, *ours)),
            Interface("eth1", True, carrier[1], (Configured("10.0.0.2", 24, True),)),
        )
    )


def hold(until: float, generation: int = GEN, address: str = IP, app: AppName = APP, **more: Any) -> Told:
    return Told("reqd", HoldAddress(app, Generation(generation), Address(address=address), until, **more))


def release(generation: int = GEN, app: AppName = APP, number: int = 0) -> Told:
    return Told("reqd", ReleaseAddress(app, Generation(generation), IP, number))


def extend(until: float, generation: int = GEN) -> Told:
    return Told("reqd", LeaseExtended(until, (Generation(generation),)))


class Desk:
    """A netd whose drivers answer by `answer`, at once, unless it says None; its timer is kept by `until`."""

    def __init__(
        self, *, known: bool = True, answer: Callable[[Any], Any] | None = None, timing: Timing = PROFILES["normal"]
    ) -> None:
        self.now = 100.0
        self.core = Netd(timing)
        self.core.start(self.now)
        self.answer = answer or (lambda action: Conflict() if isinstance(action, AskConflict) else Outcome())
        self.done: list[tuple[float, Any]] = []
        self.told: list[Any] = []
        self.open: list[Do] = []
        self.wake_at: float | None = None
        if known:
            self.feed(Noted(interfaces()))

    def feed(self, *events: Event) -> None:
        waiting = list(events)
        while waiting:
            output = self.core.handle(waiting.pop(0), self.now)
            ends: list[Event] = []
            self.wake_at = output.wake_at
            self.told += [tell.message for tell in output.tell]
            for do in output.do:
                self.done.append((self.now, do.action))
                result = self.answer(do.action)
                if result is None:
                    self.open.append(do)
                else:
                    ends.append(Done(do.id, result))
            waiting = ends + waiting

    def finish(self, result: Any) -> None:
        self.feed(Done(self.open.pop(0).id, result))

    def until(self, at: float) -> None:
        while self.wake_at is not None and self.wake_at <= at:
            self.now = max(self.now, self.wake_at)
            self.feed(Woke())
        self.now = at

    def actions(self, kind: type) -> list[Any]:
        return [action for _, action in self.done if isinstance(action, kind)]

    def times(self, kind: type) -> list[float]:
        return [round(at - 100, 3) for at, action in self.done if isinstance(action, kind)]

    @property
    def answers(self) -> list[tuple[bool, str]]:
        return [(each.held, each.reason) for each in self.told if isinstance(each, AddressState) and not each.probed]


# ---- tables and pure functions --------------------------------------------------------------------------------------


@given(st.sampled_from(Phase), st.sampled_from(Sign))
def test_every_pair_is_in_the_table_or_changes_nothing(phase: Phase, sign: Sign) -> None:
    after = step(phase, sign)
    assert after is TRANSITIONS.get((phase, sign), phase)
    if phase in WANTED and sign is Sign.UNWANTED:
        assert after not in WANTED
    if phase not in WANTED:
        assert after not in WANTED, "once unwanted, never configured again"


@given(st.floats(0.0, 1e6), st.floats(-5.0, 100.0), st.sampled_from([0, 1]))
def test_lifetime_is_the_rest_rounded_up(now: float, rest: float, margin: int) -> None:
    valid = lifetime(now + rest, now, margin)
    if (now + rest) - now <= 0:
        assert valid == 0
    else:
        assert rest - 1e-6 <= valid - margin < rest + 1 + 1e-6


def test_announcements_come_in_two_bursts_and_at_once() -> None:
    times = schedule(10.0)
    assert times[:BURST] == tuple(10.0 + SPACING * place for place in range(BURST))
    assert (len(times), times[BURST]) == (ROUNDS * BURST, 10.0 + ROUND_AFTER)
    left = Announcements()
    left.begin(10.0)
    assert left.due(10.0)
    assert not left.due(10.0)
    assert left.due(17.0), "one for all that were missed"
    assert left.next is None


def view(alive: bool, *up: bool) -> View:
    links = tuple(LinkView(LinkName(name), each) for name, each in zip("AB", up, strict=True))
    return View((NodeView(NodeName("b"), None, alive, links),))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, view(True, True, True), False),
        (view(True, True, True), view(True, True, False), False),
        (view(True, True, False), view(True, True, True), True),
        (view(False, False, False), view(True, True, False), True),
        (view(True, True, False), view(False, False, False), False),
    ],
)
def test_healed(before: View | None, after: View, expected: bool) -> None:
    assert healed(before, after) is expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Address(address=IP), Place("eth0", 32)),
        (Address(address=IP, prefix=24), Place("eth0", 32)),
        (Address(address=IP, interface="eth1"), Place("eth1", 32)),
        (Address(address="10.7.0.1"), None),
        (Address(address="10.7.0.1", interface="eth0", prefix=16), Place("eth0", 16, "eth0 has no address of its own")),
        (Address(address=IP, interface="eth9"), None),
        (Address(address="fd00::1"), None),
    ],
)
def test_place(wanted: Address, expected: Place | None) -> None:
    chosen = place(wanted, interfaces().all)
    if expected is None:
        assert isinstance(chosen, str)
    else:
        assert isinstance(chosen, Place)
        assert (chosen.interface, chosen.prefix) == (expected.interface, expected.prefix)
        assert chosen.warning.startswith(expected.warning) and bool(chosen.warning) == bool(expected.warning)


def test_a_live_interface_goes_before_a_dead_one() -> None:
    chosen = place(Address(address=IP), interfaces(carrier=(False, True)).all)
    assert isinstance(chosen, Place)
    assert chosen.interface == "eth1"


# ---- taking ---------------------------------------------------------------------------------------------------------


def test_probed_then_taken_announced_and_answered() -> None:
    desk = Desk()
    desk.feed(hold(101.0))
    assert [type(action) for _, action in desk.done] == [AskConflict, Configure, Announce]
    assert desk.actions(Configure) == [Configure(IP, 32, "eth0", 101.0, 1)]
    assert desk.answers == [(True, "")]


def test_a_duplicate_refuses_with_its_hardware_address() -> None:
    desk = Desk(answer=lambda action: Conflict(MAC) if isinstance(action, AskConflict) else Outcome())
    desk.feed(hold(101.0))
    assert not desk.actions(Configure)
    state = desk.told[-1]
    assert (state.held, state.conflict) == (False, MAC)
    assert MAC in state.reason


def test_warn_takes_it_all_the_same_and_says_so() -> None:
    desk = Desk(answer=lambda action: Conflict(MAC) if isinstance(action, AskConflict) else Outcome())
    desk.feed(Told("reqd", HoldAddress(APP, GEN, Address(address=IP, conflict="warn"), 101.0)))
    assert desk.answers == [(True, f"{MAC} answers for it as well")]
    assert desk.actions(Warn)


def test_a_takeover_waits_for_no_probe_and_announces_longer() -> None:
    desk = Desk(answer=lambda action: None if isinstance(action, AskConflict) else Outcome())
    desk.feed(hold(200.0, takeover=True))
    assert desk.answers == [(True, "")]
    desk.finish(Conflict(MAC))
    desk.until(130.0)
    assert len(desk.actions(Announce)) >= 6 * BURST


def test_a_clean_early_probe_spares_the_second() -> None:
    desk = Desk()
    desk.feed(Told("reqd", ProbeAddress(APP, GEN, Address(address=IP))))
    assert desk.told == [AddressState(APP, GEN, IP, False, probed=True)]
    desk.feed(hold(101.0))
    assert len(desk.actions(AskConflict)) == 1
    desk.feed(release(), hold(101.0, generation=8))
    assert len(desk.actions(AskConflict)) == 2, "another generation is asked for anew"


def test_an_order_joins_a_probe_under_way() -> None:
    desk = Desk(answer=lambda action: None if isinstance(action, AskConflict) else Outcome())
    desk.feed(Told("reqd", ProbeAddress(APP, GEN, Address(address=IP))), hold(101.0))
    assert not desk.actions(Configure)
    desk.finish(Conflict())
    assert len(desk.actions(AskConflict)) == 1
    assert desk.answers == [(True, "")]


def test_orders_wait_for_the_first_picture() -> None:
    desk = Desk(known=False)
    desk.feed(hold(101.0))
    assert desk.done == []
    desk.feed(Noted(interfaces()))
    assert desk.answers == [(True, "")]


def test_the_old_netds_address_is_taken_over_without_probe() -> None:
    desk = Desk(known=False)
    desk.feed(Noted(interfaces(IP)), hold(101.0))
    assert [type(action) for _, action in desk.done] == [Configure, Announce]


def test_a_foreign_address_on_this_node_is_refused() -> None:
    desk = Desk()
    desk.feed(hold(101.0, address="10.0.0.2"))
    assert desk.answers == [(False, "somebody else configured it on eth1; remove it there first")]


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (hold(100.0), "the lease is over"),
        (hold(101.0, address="10.9.9.9"), "no interface that is up has an address in the network of 10.9.9.9"),
        (hold(101.0, address="nonsense"), "'nonsense' is no address"),
    ],
)
def test_refused(order: Told, reason: str) -> None:
    desk = Desk()
    desk.feed(order)
    assert len(desk.answers) == 1
    assert desk.answers[0][0] is False
    assert desk.answers[0][1].startswith(reason)


def test_older_generations_and_other_applications_are_refused() -> None:
    desk = Desk()
    desk.feed(hold(101.0), hold(101.0, generation=6), hold(101.0, generation=9, app=OTHER_APP))
    assert desk.answers[1:] == [(False, "held for web, generation 7")] * 2


def test_what_could_not_be_taken_is_removed_and_reported() -> None:
    desk = Desk(answer=lambda action: Outcome("no") if isinstance(action, Configure) else Outcome())
    desk.feed(hold(101.0, check=False))
    assert desk.actions(Remove)
    assert desk.answers == [(False, "no")]


def test_an_address_that_is_tried_again_is_not_called_gone_for_good() -> None:
    """reqd must not take that word for the end of a release which is on its way."""
    desk = Desk()
    desk.feed(hold(110.0, check=False, number=1))
    desk.answer = lambda action: Outcome("no such device") if isinstance(action, Configure) else Outcome()
    desk.feed(extend(120.0))
    desk.until(101.0)
    assert [(each.held, each.number) for each in desk.told] == [(True, 1), *[(False, 1)] * (len(desk.told) - 1)]
    desk.feed(release(number=2))
    assert (desk.told[-1].held, desk.told[-1].number) == (False, 2)


def test_a_removal_that_fails_is_tried_again_within_the_address_allowance() -> None:
    """With proof 'expired' the next owner waits no longer: a first attempt that failed must not be the last by then."""
    desk = Desk()
    desk.feed(hold(101.0, check=False))
    desk.answer = lambda action: Outcome("busy") if isinstance(action, Remove) else Outcome()
    desk.until(101.0)
    tried = len(desk.actions(Remove))
    desk.until(101.0 + Timing().address_allowance / 2)
    assert len(desk.actions(Remove)) >= tried + 2


def test_an_order_that_came_too_late_says_nothing_of_what_is_still_configured() -> None:
    """reqd repeats what is to be held when it restarts. If the lease ends before netd sees that, a release is already
    on its way, and is answered only when the address is gone."""
    desk = Desk()
    desk.feed(hold(101.0, check=False, number=1))
    desk.answer = lambda action: None if isinstance(action, Remove) else Outcome()
    desk.until(101.0)
    desk.feed(hold(101.0, number=2), release(number=3))
    assert [(each.held, each.number) for each in desk.told] == [(True, 1), (False, 2)]
    desk.finish(Outcome("busy"))
    assert (desk.told[-1].held, desk.told[-1].number) == (True, 3)
    desk.answer = lambda action: Outcome()
    desk.until(102.0)
    assert (desk.told[-1].held, desk.told[-1].number) == (False, 3)


def test_what_was_gone_before_an_order_came_is_said_without_its_number() -> None:
    """A hold that follows brings the address back, and the release after that is answered for itself."""
    desk = Desk()
    desk.feed(hold(101.0, check=False, number=1))
    desk.until(101.0)
    assert (desk.told[-1].held, desk.told[-1].number) == (False, 1)
    desk.answer = lambda action: None if isinstance(action, Remove) else Outcome()
    desk.feed(hold(110.0, check=False, number=2), release(number=3))
    assert [each.number for each in desk.told[2:] if not each.held] == []
    desk.finish(Outcome())
    assert (desk.told[-1].held, desk.told[-1].number) == (False, 3)


# ---- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pace", "times"),
    [
        (0.2, [0.0, 0.6, 1.2, 1.8]),
        (0.3, [0.0, 0.6, 1.2, 1.8]),
        (0.5, [0.0, 0.5, 1.0, 1.5, 2.0]),
        (0.9, [0.0, 0.9, 1.8]),
    ],
)
def test_renewed_with_the_lease_and_twice_a_second_at_the_most(pace: float, times: list[float]) -> None:
    desk = Desk()
    desk.feed(hold(101.0, check=False))
    for turn in range(1, int(2 / pace) + 1):
        desk.until(100.0 + turn * pace)
        desk.feed(extend(desk.now + 1.0))
    desk.until(102.0)
    assert desk.times(Configure) == pytest.approx(times)
    untils = [action.until for action in desk.actions(Configure)]
    assert untils == sorted(untils)


def test_an_extension_that_came_too_early_is_not_forgotten() -> None:
    """If none follows, the kernel's lifetime covers it nevertheless."""
    desk = Desk()
    desk.feed(hold(101.0, check=False))
    desk.until(100.3)
    desk.feed(extend(101.3))
    desk.until(101.2)
    assert desk.times(Configure) == pytest.approx([0.0, 0.7])


def test_never_renewed_without_an_extension() -> None:
    desk = Desk()
    desk.feed(hold(110.0, check=False))
    desk.until(109.0)
    assert desk.times(Configure) == [0.0]


def test_removed_the_moment_the_lease_is_over() -> None:
    desk = Desk()
    desk.feed(hold(101.0, check=False))
    desk.until(105.0)
    assert desk.times(Remove) == [1.0]
    assert desk.answers == [(True, ""), (False, "the lease is over")]


def test_a_lapse_is_final_whatever_comes_first() -> None:
    desk = Desk()
    desk.feed(hold(101.0, check=False))
    desk.now = 101.0
    desk.feed(extend(102.0))
    assert desk.answers[-1] == (False, "the lease is over")


def test_a_renewal_that_ended_after_the_lease_is_undone() -> None:
    """SAFETY.md section 7: an RTM_NEWADDR creates an address that is gone."""
    desk = Desk(answer=lambda action: None if isinstance(action, Configure) else Outcome())
    desk.feed(hold(101.0, check=False))
    desk.now = 101.2
    desk.finish(Outcome())
    assert desk.times(Remove) == [1.2]
    assert desk.answers == [(False, "the lease is over")]


def test_without_reqd_kept_to_the_end_and_not_renewed() -> None:
    desk = Desk()
    desk.feed(hold(101.0, check=False), extend(101.5), Left("reqd"))
    desk.until(105.0)
    assert desk.times(Configure) == [0.0]
    assert desk.times(Remove) == [1.5]


@pytest.mark.parametrize(
    ("timing", "margin", "renewed_at"),
    [(PROFILES["normal"], 1, 0.7), (Timing(lease=0.74), 0, 0.25), (PROFILES["fast"], 0, 0.25)],
)
def test_a_short_lease_is_renewed_faster_and_has_no_margin(timing: Timing, margin: int, renewed_at: float) -> None:
    desk = Desk(timing=timing)
    desk.feed(hold(100.0 + timing.lease, check=False))
    desk.until(100.2)
    desk.feed(extend(desk.now + timing.lease))
    desk.until(100.0 + timing.lease)
    assert desk.times(Configure) == pytest.approx([0.0, renewed_at])
    assert [action.margin for action in desk.actions(Configure)] == [margin, margin]


# ---- going ----------------------------------------------------------------------------------------------------------


def test_released() -> None:
    desk = Desk()
    desk.feed(hold(101.0), release())
    assert desk.actions(Remove) == [Remove(IP)]
    assert desk.answers == [(True, ""), (False, "")]
    desk.until(110.0)
    assert desk.times(Announce) == [0.0]


def test_release_of_what_netd_does_not_know_asks_the_kernel() -> None:
    desk = Desk()
    desk.feed(release())
    assert desk.actions(Remove) == [Remove(IP)]
    assert desk.answers == [(False, "")]


def test_release_while_it_is_being_taken_waits_and_then_removes() -> None:
    desk = Desk(answer=lambda action: None if isinstance(action, Configure) else Outcome())
    desk.feed(hold(101.0, check=False), release())
    assert desk.answers == []
    desk.finish(Outcome())
    assert desk.answers == [(False, "")]


def test_a_removal_that_fails_is_reported_as_held_and_tried_again() -> None:
    outcomes = [Outcome("still there"), Outcome()]
    desk = Desk(answer=lambda action: outcomes.pop(0) if isinstance(action, Remove) else Outcome())
    desk.feed(hold(105.0, check=False), release())
    assert desk.answers[-1] == (True, "still there")
    desk.until(101.0)
    assert desk.answers[-1][0] is False


def test_the_next_generation_waits_until_the_last_is_gone() -> None:
    desk = Desk(answer=lambda action: None if isinstance(action, Remove) else Outcome())
    desk.feed(hold(105.0, check=False), release(), hold(106.0, generation=8, check=False))
    assert len(desk.actions(Configure)) == 1
    desk.finish(Outcome())
    assert desk.told[-1].generation == 8
    assert desk.told[-1].held


# ---- the network changes --------------------------------------------------------------------------------------------


def held() -> Desk:
    desk = Desk()
    desk.feed(hold(200.0, check=False), Noted(interfaces(IP)))
    desk.until(110.0)
    return desk


def test_a_vanished_address_is_put_back_and_logged() -> None:
    desk = held()
    desk.feed(Noted(interfaces()))
    assert desk.times(Configure) == [0.0, 10.0]
    assert desk.actions(Warn) == [Warn(f"{IP} of web: vanished from eth0, put back")]


def test_a_fight_over_an_address_is_slow() -> None:
    desk = held()
    for _ in range(100):
        desk.feed(Noted(interfaces()), Noted(interfaces(IP)))
    assert len(desk.actions(Configure)) <= 3
    desk.until(111.0)
    assert desk.answers[-1] == (True, "")


def test_moves_to_the_sister_interface_when_its_link_dies() -> None:
    desk = held()
    announced = len(desk.actions(Announce))
    desk.feed(Noted(interfaces(IP, carrier=(False, True))))
    assert desk.actions(Configure)[-1].interface == "eth1"
    assert desk.actions(Remove) == [Remove(IP, "eth0")]
    assert desk.actions(Announce)[announced:] == [Announce(IP, "eth1")]


def test_stays_where_it_is_when_no_interface_is_better() -> None:
    desk = held()
    desk.feed(Noted(interfaces(IP, carrier=(False, False))))
    assert desk.times(Configure) == [0.0]


def test_announced_again_after_a_healed_partition() -> None:
    desk = held()
    announced = len(desk.actions(Announce))
    desk.feed(Told("hbd", view(False, False, False)), Told("hbd", view(True, True, False)))
    desk.until(120.0)
    assert len(desk.actions(Announce)) == announced + ROUNDS * BURST


def test_subscribes_to_the_view_whenever_hbd_is_there() -> None:
    desk = Desk()
    desk.feed(Joined("hbd"))
    assert desk.told == [Subscribe()]


def test_only_reqd_gives_orders_and_refusals_are_not_answered() -> None:
    desk = Desk()
    desk.feed(Told("command-1", HoldAddress(APP, GEN, Address(address=IP), 101.0)))
    assert [type(each) for each in desk.told] == [Refused]
    desk.feed(Told("reqd", Refused("no")))
    assert len(desk.told) == 1


# ---- drawn events ---------------------------------------------------------------------------------------------------

EVENTS = st.one_of(
    st.builds(
        lambda rest, generation, check, takeover: (
            "hold",
            rest,
            {"generation": generation, "check": check, "takeover": takeover},
        ),
        st.floats(-0.5, 2.0),
        st.integers(1, 3),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(lambda rest, generation: ("extend", rest, generation), st.floats(0.0, 2.0), st.integers(1, 3)),
    st.builds(lambda generation: ("release", generation), st.integers(1, 3)),
    st.sampled_from([("look",), ("vanish",), ("left",), ("finish", True), ("finish", False), ("wake",)]),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0.0, 0.7)), max_size=50))
def test_nothing_is_configured_past_its_lease_and_all_ends(events: list[tuple[Any, float]]) -> None:
    """Against a dumb twin: the latest end of a lease that any order or extension ever named."""
    desk = Desk(answer=lambda action: None if isinstance(action, Configure | Remove | AskConflict) else Outcome())
    latest = 0.0
    for event, pause in events:
        desk.until(desk.now + pause)
        match event:
            case ("hold", rest, more):
                latest = max(latest, desk.now + rest)
                desk.feed(hold(desk.now + rest, **more))
            case ("extend", rest, generation):
                latest = max(latest, desk.now + rest)
                desk.feed(extend(desk.now + rest, generation))
            case ("release", generation):
                desk.feed(release(generation))
            case ("look",):
                desk.feed(Noted(interfaces(IP)))
            case ("vanish",):
                desk.feed(Noted(interfaces()))
            case ("left",):
                desk.feed(Left("reqd"))
            case ("finish", well) if desk.open:
                conflict = isinstance(desk.open[0].action, AskConflict)
                reason = "" if well else "no"
                desk.finish(Conflict(reason=reason) if conflict else Outcome(reason))
            case _:
                desk.feed(Woke())
        assert sum(isinstance(do.action, Configure | Remove) and do.action.address == IP for do in desk.open) <= 1
    assert all(at < action.until <= latest for at, action in desk.done if isinstance(action, Configure))
    # The lease ends and the drivers answer: the last word is a removal, and nothing is left to wake for.
    for _ in range(20):
        desk.until(desk.now + 1.0)
        while desk.open:
            asked = isinstance(desk.open[0].action, AskConflict)
            desk.finish(Conflict() if asked else Outcome())
    kernel = [action for _, action in desk.done if isinstance(action, Configure | Remove)]
    assert not kernel or isinstance(kernel[-1], Remove)
    assert desk.wake_at is None
