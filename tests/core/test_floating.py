"""Address steps of an instance: every action is answered, and netd's no is not forgotten."""

from truecl.core.floating import FloatingAddresses
from truecl.core.hold import LAPSED
from truecl.core.outbox import Outbox
from truecl.model.actions import StepDown, StepProbe, StepUp
from truecl.model.config import Address
from truecl.model.ids import AppName, Generation
from truecl.model.step import Instance, Probe, Step, StepKind
from truecl.wire.messages import AddressState, HoldAddress, ReleaseAddress

ADDRESS = Address(address="10.9.0.100")
STEP = Step("address 10.9.0.100", StepKind.ADDRESS, ADDRESS)
INSTANCE = Instance(AppName("web"), Generation(7))


def _state(held: bool, number: int, reason: str = "") -> AddressState:
    where = "eth0" if held else ""
    return AddressState(
        INSTANCE.app, INSTANCE.generation, "10.9.0.100", held, reason=reason, interface=where, number=number
    )


def _number(out: Outbox) -> int:
    """Of the latest order to netd."""
    orders = [told.message for told in out.take().tell if isinstance(told.message, HoldAddress | ReleaseAddress)]
    return orders[-1].number


def test_a_stop_that_overtakes_a_start_answers_it() -> None:
    """Else the instance waits for the end of its start for ever, and its generation is never closed."""
    out = Outbox()
    floating = FloatingAddresses(out, 0.0)
    up = floating.ask(StepUp(INSTANCE, STEP, 5.0), ADDRESS, 10.0, False, 0.0)
    down = floating.ask(StepDown(INSTANCE, STEP, 5.0), ADDRESS, 10.0, False, 0.1)
    floating.state(_state(held=False, number=_number(out)), 0.2)
    results = {id: result.probe for id, result in floating.take_results()}
    assert results == {up: Probe.UNKNOWN, down: Probe.INACTIVE}


def test_an_address_that_netd_gave_up_is_found_inactive_and_asked_for_again() -> None:
    out = Outbox()
    floating = FloatingAddresses(out, 0.0)
    floating.ask(StepUp(INSTANCE, STEP, 5.0), ADDRESS, 10.0, False, 0.0)
    floating.state(_state(held=True, number=_number(out)), 0.1)
    probe = StepProbe(INSTANCE, STEP)
    floating.ask(probe, ADDRESS, 10.0, False, 1.0)
    floating.state(_state(held=False, number=0, reason="somebody else configured it"), 2.0)
    out.take()
    floating.ask(probe, ADDRESS, 10.0, False, 3.0)
    answers = [result for _, result in floating.take_results()]
    assert [each.probe for each in answers] == [Probe.ACTIVE, Probe.ACTIVE, Probe.INACTIVE]
    assert [each.facts for each in answers] == [{"interface": "eth0"}, {"interface": "eth0"}, {}]
    assert answers[-1].reason == "somebody else configured it"
    assert [type(told.message) for told in out.take().tell] == [HoldAddress]


def test_what_netd_said_before_it_saw_a_release_is_no_answer_to_it() -> None:
    """Otherwise the generation counts as released while the kernel has its address, and another node takes it."""
    out = Outbox()
    floating = FloatingAddresses(out, 0.0)
    floating.ask(StepUp(INSTANCE, STEP, 5.0), ADDRESS, 10.0, False, 9.9)
    held = _number(out)
    down = floating.ask(StepDown(INSTANCE, STEP, 5.0), ADDRESS, 10.0, False, 10.0)
    floating.take_results()
    released = _number(out)
    floating.state(_state(held=False, number=held, reason="the lease is over"), 10.1)
    floating.state(_state(held=False, number=held), 10.1)
    assert floating.take_results() == []
    floating.state(_state(held=False, number=released), 10.2)
    assert [(id, result.probe) for id, result in floating.take_results()] == [(down, Probe.INACTIVE)]


def test_orders_of_two_lives_have_different_numbers() -> None:
    """netd may still have something to say to the reqd before this one."""
    numbers = set()
    for born in (1.0, 1.5):
        out = Outbox()
        FloatingAddresses(out, born).ask(StepDown(INSTANCE, STEP, 5.0), ADDRESS, 10.0, False, born)
        numbers.add(_number(out))
    assert len(numbers) == 2


def test_netd_s_late_word_that_the_lease_is_over_fails_no_start_while_it_is_not() -> None:
    """It stood still for longer than the lease that the order named; what extended it was still to be read."""
    out = Outbox()
    floating = FloatingAddresses(out, 0.0)
    up = floating.ask(StepUp(INSTANCE, STEP, 9.0), ADDRESS, 1.0, False, 0.2)
    first = _number(out)
    floating.extend(2.5)
    out.take()
    floating.state(_state(held=False, number=first, reason=LAPSED), 1.7)
    (again,) = [told.message for told in out.take().tell]
    assert floating.take_results() == []
    assert isinstance(again, HoldAddress) and again.until == 2.5 and again.check, "nobody was asked for a conflict yet"
    floating.state(_state(held=False, number=first, reason=LAPSED), 1.8)
    assert out.take().tell == (), "of the first order"
    floating.state(_state(held=True, number=again.number), 1.9)
    assert [(id, result.probe) for id, result in floating.take_results()] == [(up, Probe.ACTIVE)]
    floating.state(_state(held=False, number=again.number, reason=LAPSED), 2.4)
    (back,) = [told.message for told in out.take().tell]
    assert isinstance(back, HoldAddress) and not back.check, "it was running: put back without waiting for a look"
    floating.state(_state(held=False, number=back.number, reason=LAPSED), 2.6)
    assert out.take().tell == (), "now it is over here too"
