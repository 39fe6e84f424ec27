"""The key ring on the disk: three rings of a rotation, replaced whole, shown to nobody."""

from pathlib import Path

import pytest

from truecl.runtime.credentials import ring_keys, ring_text
from truecl.runtime.ring import RingFile
from truecl.wire.seal import MAX_KEYS, Seal, SealBroken

OLD = (7, b"o" * 32)


@pytest.fixture
def ring(tmp_path: Path) -> RingFile:
    (tmp_path / "keyring").write_bytes(ring_text((OLD,)))
    return RingFile(tmp_path)


def test_the_rings_of_a_rotation_open_then_seal_then_stand_alone(ring: RingFile) -> None:
    drawn = ring.draw()
    (new,) = ring_keys(drawn.rings[2].encode())
    assert new[0] == 8 and new[1] != OLD[1] and not drawn.reason
    assert [ring_keys(text.encode()) for text in drawn.rings] == [(OLD, new), (new, OLD), (new,)]
    assert ring.draw().rings[2] != drawn.rings[2], "each time another key"


def test_each_of_them_opens_what_is_sealed_with_the_one_before_and_the_last_not_what_the_first_sealed(
    ring: RingFile,
) -> None:
    rings = [ring.read()]
    for text in ring.draw().rings:
        assert ring.keep(text).reason == ""
        rings.append(ring.read())
    seals = [Seal(each, "demo", bytes(12)) for each in rings]
    for one, other in zip(seals, seals[1:], strict=False):
        assert other.open(one.seal(b"beat")) == b"beat" == one.open(other.seal(b"beat"))
    with pytest.raises(SealBroken, match="sealed with key 7; this node has 8"):
        seals[-1].open(seals[0].seal(b"beat"))


def test_what_is_kept_is_whole_and_for_its_owner_alone(ring: RingFile, tmp_path: Path) -> None:
    text = ring.draw().rings[0]
    (tmp_path / ".keyring.new").write_text("left by a crash")
    assert ring.keep(text).reason == ""
    file = tmp_path / "keyring"
    assert file.read_text() == text and file.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["keyring"]


def test_what_is_no_ring_is_refused_and_changes_nothing(ring: RingFile, tmp_path: Path) -> None:
    before = (tmp_path / "keyring").read_text()
    assert "line 1: expected" in ring.keep("1 secret").reason and "secret" not in ring.keep("1 secret").reason
    assert (tmp_path / "keyring").read_text() == before
    (tmp_path / "keyring").write_text("7 nonsense")
    assert "keyring: line 1" in ring.draw().reason and ring.draw().rings == ()
    (tmp_path / "keyring").unlink()
    assert "No such file" in ring.draw().reason


def test_a_full_ring_is_no_place_for_another_key(ring: RingFile, tmp_path: Path) -> None:
    keys = tuple((number, bytes([number]) * 32) for number in range(MAX_KEYS))
    (tmp_path / "keyring").write_bytes(ring_text(keys))
    assert f"holds {MAX_KEYS} keys" in ring.draw().reason
