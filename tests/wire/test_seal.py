"""Sealed heartbeats: only holders of the cluster's current keys can make one, and a nonce is never used twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.wire.frame import FrameTooLarge
from truecl.wire.seal import HEADER_BYTES, MAX_DATAGRAM, TAG_BYTES, KeyRing, Seal, SealBroken

OLD, NEW = b"o" * 32, b"n" * 32


def seal(keys: dict[int, bytes] | None = None, current: int = 1, cluster: str = "prod", start: int = 0) -> Seal:
    return Seal(KeyRing(keys or {1: OLD}, current), cluster, start.to_bytes(12, "big"))


@given(st.binary(max_size=2000))
def test_what_was_sealed_opens(payload: bytes) -> None:
    datagram = seal().seal(payload)
    assert len(datagram) == len(payload) + HEADER_BYTES + TAG_BYTES
    assert seal(start=77).open(datagram) == payload


@given(st.data())
def test_a_changed_bit_anywhere_breaks_it(data: st.DataObject) -> None:
    datagram = bytearray(seal().seal(b"heartbeat"))
    datagram[data.draw(st.integers(0, len(datagram) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealBroken):
        seal().open(bytes(datagram))


@given(st.binary(max_size=100), st.booleans())
def test_no_other_bytes_open(data: bytes, magic: bool) -> None:
    with pytest.raises(SealBroken):
        seal().open((b"TCL\x01\x00\x00\x00\x01" if magic else b"") + data)


def test_another_cluster_with_the_same_key_does_not_open() -> None:
    with pytest.raises(SealBroken, match="not sealed with this cluster's key"):
        seal(cluster="test").open(seal().seal(b"heartbeat"))


def test_a_nonce_is_never_used_twice_and_wraps() -> None:
    sender = seal(start=2**96 - 3)
    nonces = [sender.seal(b"")[8:20] for _ in range(6)]
    assert len(set(nonces)) == 6


def test_keys_rotate_in_three_steps_without_a_lost_heartbeat() -> None:
    one, two = seal(), seal(start=500)
    rings = [KeyRing({1: OLD, 2: NEW}, 1), KeyRing({1: OLD, 2: NEW}, 2), KeyRing({2: NEW}, 2)]
    for ring in rings:
        for each in (one, two):
            each.rotate(ring)
            assert two.open(one.seal(b"one")) == b"one"
            assert one.open(two.seal(b"two")) == b"two"
    with pytest.raises(SealBroken, match="sealed with key 1; this node has 2"):
        one.open(seal().seal(b"old"))


@pytest.mark.parametrize(
    ("keys", "current"), [({}, 1), ({1: OLD}, 2), ({1: b"short"}, 1), ({2**32: OLD}, 2**32), ({-1: OLD}, -1)]
)
def test_a_key_ring_that_cannot_be(keys: dict[int, bytes], current: int) -> None:
    with pytest.raises(ValueError, match="key"):
        KeyRing(keys, current)


def test_size_is_bounded_both_ways() -> None:
    with pytest.raises(FrameTooLarge):
        seal().seal(b"x" * MAX_DATAGRAM)
    with pytest.raises(SealBroken):
        seal().open(b"TCL\x01" + b"x" * MAX_DATAGRAM)
    with pytest.raises(ValueError, match="nonce"):
        Seal(KeyRing({1: OLD}, 1), "prod", b"short")
