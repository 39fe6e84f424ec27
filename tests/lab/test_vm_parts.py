"""What a lab of kernels consists of, as far as no kernel is needed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.lab.errors import LabError, Unavailable
from truecl.lab.vm import packages
from truecl.lab.vm.frames import MOST, REQUEST, Broken, Frames, pack
from truecl.lab.vm.kernels import check_seen

FRAMES = st.lists(st.tuples(st.sampled_from([b"q", b"i", b"w", b"o", b"e", b"x"]), st.binary(max_size=300)), max_size=8)


@given(FRAMES, st.lists(st.integers(0, 2000), max_size=20))
def test_frames_are_the_same_however_they_are_cut(sent: list[tuple[bytes, bytes]], places: list[int]) -> None:
    stream = b"".join(pack(kind, data) for kind, data in sent)
    ends = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    frames = Frames()
    got = [frame for start, end in zip(ends, ends[1:], strict=False) for frame in frames.feed(stream[start:end])]
    assert got == sent


def test_a_frame_that_is_too_long_is_refused_by_its_head() -> None:
    assert Frames().feed(pack(REQUEST, bytes(MOST))) == [(REQUEST, bytes(MOST))]
    with pytest.raises(Broken):
        Frames().feed(pack(REQUEST, bytes(MOST + 1))[:5])


@pytest.mark.parametrize("place", ["/tmp/clone/truecl/lab/vm", "/run/venv", "/srv/../tmp/x"])
def test_a_checkout_that_nodes_do_not_see_is_refused(place: str) -> None:
    check_seen(Path("/srv/truecl"), Path("/tmpfiles"))
    with pytest.raises(LabError, match="not seen by nodes with a kernel"):
        check_seen(Path("/srv/truecl"), Path(place))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is first in the path."""
    directory = tmp_path / "tools"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def test_packages_that_cannot_be_had_are_told_in_the_tool_s_words_and_leave_nothing(
    tmp_path: Path, tools: Path
) -> None:
    apt = tools / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package lvm2' >&2; exit 100\n")
    apt.chmod(0o755)
    place = tmp_path / "cache"
    with pytest.raises(Unavailable, match="apt-get .*Unable to locate package lvm2"):
        packages.prepare(place / "vm")
    assert [path.name for path in place.iterdir()] == ["vm.lock"]


def test_old_lists_are_brought_up_to_date_once(tmp_path: Path, tools: Path) -> None:
    apt = tools / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\ncase "$*" in *update*) exit 0;; esac; exit 100\n')
    apt.chmod(0o755)
    with pytest.raises(Unavailable):
        packages.prepare(tmp_path / "cache" / "vm")
    said = (tmp_path / "asked").read_text().splitlines()
    assert [words.split()[-1] for words in said] == [packages.TOOLS[-1], "update", packages.TOOLS[-1]]
