"""The hello: every field that can be wrong is refused, in every state, whatever the bytes."""

from dataclasses import replace
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.model.ids import HBD, LOCKD, BootId, NodeName
from truecl.wire.codec import Codec
from truecl.wire.frame import MAX_HELLO, VERSIONS, FrameTooLarge, ProtocolFault
from truecl.wire.session import (
    HELLO,
    TRANSITIONS,
    Hello,
    Identity,
    Input,
    NoCommonFormat,
    Refusal,
    Role,
    Session,
    SessionRefused,
    State,
    WrongUse,
    agreed_version,
)

A, B, C = NodeName("a"), NodeName("b"), NodeName("c")
MEMBERS = (A, B)
OWN = Identity("prod", A, LOCKD, BootId("boot-a"))
PEER = Identity("prod", B, LOCKD, BootId("boot-b"))


def server(certificate: str = "b") -> Session:
    return Session(Role.SERVER, OWN, MEMBERS, certificate)


def client() -> Session:
    session = Session(Role.CLIENT, OWN, MEMBERS, "b", expected=B)
    session.greet()
    return session


def test_both_sides_open_and_then_carry_payloads() -> None:
    ours = Session(Role.CLIENT, OWN, MEMBERS, "b", expected=B)
    theirs = Session(Role.SERVER, PEER, MEMBERS, "a")
    theirs.put(ours.greet())
    assert theirs.take() == OWN.hello()
    ours.put(theirs.answer() + b"\x00\x00\x00\x05hello")
    assert ours.take() == PEER.hello()
    assert (ours.state, theirs.state, ours.version) == (State.OPEN, State.OPEN, VERSIONS[1])
    assert ours.take() == b"hello"
    assert ours.take() is None
    big = b"x" * (MAX_HELLO + 1)
    theirs.put(len(big).to_bytes(4, "big") + big)
    assert theirs.take() == big


WRONG = {
    "protocol": "smtp",
    "lowest": VERSIONS[1] + 1,
    "cluster": "test",
    "node": "c",
    "daemon": "hbd",
}


@pytest.mark.parametrize("field", sorted(WRONG))
@pytest.mark.parametrize("side", [server, client])
def test_each_wrong_field_is_refused(side: type, field: str) -> None:
    session = side()
    changes = {field: WRONG[field]} | ({"highest": VERSIONS[1] + 1} if field == "lowest" else {})
    session.put(HELLO.encode(msgspec.structs.replace(PEER.hello(), **changes)))
    with pytest.raises(SessionRefused):
        session.take()
    assert session.state is State.CLOSED
    session.put(HELLO.encode(PEER.hello()))
    assert session.take() is None


@pytest.mark.parametrize(
    ("certificate", "name", "what"),
    [("c", "c", "not a node"), ("a", "a", "own name"), ("c", "b", "certificate of 'c'"), ("b", "a", "certificate")],
)
def test_names_must_be_members_and_match_the_certificate(certificate: str, name: str, what: str) -> None:
    session = server(certificate)
    session.put(HELLO.encode(msgspec.structs.replace(PEER.hello(), node=name)))
    with pytest.raises(SessionRefused, match=what):
        session.take()


def test_another_member_at_the_dialled_address_is_refused() -> None:
    session = Session(Role.CLIENT, OWN, (A, B, C), "c", expected=B)
    session.greet()
    session.put(HELLO.encode(Identity("prod", C, LOCKD, BootId("boot-c")).hello()))
    with pytest.raises(SessionRefused, match="answered at an address of 'b'"):
        session.take()


def test_a_refusal_reaches_the_client_as_one_printable_line() -> None:
    session = client()
    session.put(server().refusal("no\x1b[2J\nsuch cluster"))
    with pytest.raises(SessionRefused, match=r"b refused this node: no\?\[2J\?such cluster"):
        session.take()


def test_a_server_takes_no_refusal() -> None:
    session = server()
    session.put(HELLO.encode(Refusal("no")))
    with pytest.raises(SessionRefused):
        session.take()


def test_a_large_first_frame_is_refused_unread() -> None:
    session = server()
    session.put((MAX_HELLO + 1).to_bytes(4, "big"))
    with pytest.raises(FrameTooLarge):
        session.take()
    assert session.state is State.CLOSED


@given(st.lists(st.binary(max_size=80), max_size=5), st.sampled_from([server, client]))
def test_no_bytes_open_a_session_but_a_hello(chunks: list[bytes], side: type) -> None:
    session = side()
    try:
        for chunk in chunks:
            session.put(chunk)
            while session.take() is not None:
                pass
    except ProtocolFault:
        assert session.state is State.CLOSED
    assert session.peer is None


@given(st.builds(Hello, *[st.text(min_size=1, max_size=4)], *[st.integers(0, 9)] * 2, *[st.text(min_size=1)] * 4))
def test_no_drawn_hello_opens(hello: Hello) -> None:
    session = server()
    session.put(Codec(Hello).encode(hello))
    with pytest.raises(ProtocolFault):
        session.take()


@given(st.tuples(st.integers(0, 9), st.integers(0, 9)), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_the_agreed_version_is_the_highest_that_both_speak(own: tuple[int, int], other: tuple[int, int]) -> None:
    both = set(range(own[0], own[1] + 1)) & set(range(other[0], other[1] + 1))
    if own[0] <= own[1] and other[0] <= other[1]:
        assert agreed_version(own, other) == (max(both) if both else None)


def test_every_pair_of_state_and_input_is_in_the_table_or_changes_nothing() -> None:
    for state, given_input in product(State, Input):
        session = server()
        session.state = state
        if (state, given_input) in TRANSITIONS:
            continue
        operation = {Input.GREET: session.greet, Input.CLOSE: session.close}.get(given_input)
        if operation is not None:
            with pytest.raises(WrongUse):
                operation()
        assert session.state is state


def test_only_an_open_server_answers() -> None:
    for session in (server(), client()):
        with pytest.raises(WrongUse):
            session.answer()


def test_versions_of_the_wire() -> None:
    old = Session(Role.SERVER, Identity("prod", A, HBD, BootId("x"), (2, 5)), MEMBERS, "b")
    old.put(HELLO.encode(Identity("prod", B, HBD, BootId("y"), (1, 3)).hello()))
    assert isinstance(old.take(), Hello)
    assert old.version == 3


@pytest.mark.parametrize(
    ("own", "theirs", "text"),
    [
        ((1, 3), (4, 5), "b speaks formats 4 to 5, this node 1 to 3: upgrade this node"),
        ((4, 5), (1, 3), "b speaks formats 1 to 3, this node 4 to 5: upgrade b"),
    ],
)
def test_both_sides_say_which_of_them_is_to_be_upgraded(
    own: tuple[int, int], theirs: tuple[int, int], text: str
) -> None:
    """The client by the refusal, which carries what the server speaks."""
    here = Session(Role.CLIENT, _speaking(OWN, own), MEMBERS, "b", expected=B)
    there = Session(Role.SERVER, _speaking(PEER, theirs), MEMBERS, "a")
    there.put(here.greet())
    with pytest.raises(NoCommonFormat) as refused:
        there.take()
    assert refused.value.node == A
    here.put(there.refusal(str(refused.value)))
    with pytest.raises(NoCommonFormat, match=text) as told:
        here.take()
    assert told.value.node == B


@pytest.mark.parametrize(("own", "theirs", "agreed"), [((1, 3), (2, 5), 3), ((2, 5), (1, 3), 3), ((1, 1), (1, 9), 1)])
def test_the_newest_common_format_is_spoken(own: tuple[int, int], theirs: tuple[int, int], agreed: int) -> None:
    here = Session(Role.CLIENT, _speaking(OWN, own), MEMBERS, "b", expected=B)
    there = Session(Role.SERVER, _speaking(PEER, theirs), MEMBERS, "a")
    there.put(here.greet())
    there.take()
    here.put(there.answer())
    here.take()
    assert (here.version, there.version) == (agreed, agreed)


def test_an_older_server_s_refusal_says_no_formats_and_is_taken_as_it_is() -> None:
    here = client()
    here.put(Codec(Refusal, MAX_HELLO).encode(Refusal("busy")))
    with pytest.raises(SessionRefused, match="b refused this node: busy") as refused:
        here.take()
    assert not isinstance(refused.value, NoCommonFormat)


def _speaking(identity: Identity, versions: tuple[int, int]) -> Identity:
    return replace(identity, versions=versions)
