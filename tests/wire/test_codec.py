"""Frames survive any cutting; anything else ends in a ProtocolFault and nothing but."""

from typing import Union

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.wire.codec import BadMessage, Codec
from truecl.wire.frame import Framer, FrameTooLarge, ProtocolFault, brief, frame


class Ping(msgspec.Struct, frozen=True, tag=True, array_like=True):
    number: int
    names: tuple[str, ...] = ()


class Pong(msgspec.Struct, frozen=True, tag=True, array_like=True):
    table: dict[str, bytes]


CODEC = Codec(Union[Ping, Pong])
MESSAGES = st.one_of(
    st.builds(Ping, st.integers(-(2**63), 2**63 - 1), st.lists(st.text()).map(tuple)),
    st.builds(Pong, st.dictionaries(st.text(), st.binary())),
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(st.lists(MESSAGES), st.lists(st.integers(0, 40)))
def test_messages_survive_any_cutting(messages: list[object], sizes: list[int]) -> None:
    stream = b"".join(CODEC.encode(each) for each in messages)
    framer = Framer()
    payloads = [payload for piece in cut(stream, sizes) for payload in framer.feed(piece)]
    assert [CODEC.decode(payload) for payload in payloads] == messages
    assert framer.waiting == 0


@given(st.binary(), st.lists(st.integers(0, 8)))
def test_any_bytes_give_frames_or_a_protocol_fault(data: bytes, sizes: list[int]) -> None:
    framer = Framer(limit=64)
    try:
        for piece in cut(data, sizes):
            for payload in framer.feed(piece):
                assert len(payload) <= 64
                CODEC.decode(payload)
    except ProtocolFault as fault:
        assert str(fault).isprintable()


@given(st.binary())
def test_any_payload_is_a_message_or_bad(payload: bytes) -> None:
    try:
        CODEC.decode(payload)
    except BadMessage:
        return


@given(MESSAGES, st.data())
def test_a_changed_byte_is_a_message_or_bad(message: object, data: st.DataObject) -> None:
    payload = bytearray(CODEC.pack(message))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        CODEC.decode(bytes(payload))
    except BadMessage:
        return


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,  # nested a hundred thousand times
        b"\xdd\xff\xff\xff\xff",  # an array that claims 2**32 members
        msgspec.msgpack.encode(["Ping", 1, ["a"], [[[]]]])[:-1],
        msgspec.msgpack.encode(["Nobody", 1]),
        msgspec.msgpack.encode(["Ping", "one"]),
        msgspec.msgpack.encode(["Ping", 1]) + b"\x00",
    ],
)
def test_what_is_no_message_is_bad(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        CODEC.decode(payload)


def test_a_long_frame_is_refused_by_its_length_alone() -> None:
    framer = Framer(limit=100)
    assert framer.feed(b"\x00\x00\x00\x64" + b"x" * 100) == [b"x" * 100]
    with pytest.raises(FrameTooLarge):
        framer.feed(b"\x00\x00\x00\x65")
    with pytest.raises(FrameTooLarge):
        framer.take()


def test_own_messages_are_bounded_too() -> None:
    with pytest.raises(FrameTooLarge):
        Codec(Union[Ping, Pong], limit=10).encode(Pong({"key": b"x" * 20}))
    with pytest.raises(FrameTooLarge):
        frame(b"12345", limit=4)


def test_brief_is_one_bounded_printable_line() -> None:
    assert brief(ValueError("a\nb\x1b[2J" + "x" * 500)) == ("a?b?[2J" + "x" * 500)[:200]
    assert brief(KeyboardInterrupt()) == "KeyboardInterrupt"
