import os
import pathlib

import pytest

from truecl.config.tree import MAX_BYTES
from truecl.runtime.files import Unreadable, gather


def test_gathers_the_configuration_and_nothing_else(tmp_path: pathlib.Path) -> None:
    apps = tmp_path / "apps"
    apps.mkdir()
    (tmp_path / "cluster.yaml").write_bytes(b"c")
    (tmp_path / "keyring").write_bytes(b"secret")
    for name in ("web.yaml", "db.yaml", "web.yaml.sample", "web.yaml~", ".web.yaml.swp", ".hidden.yaml"):
        (apps / name).write_text(name)
    assert gather(tmp_path) == {"cluster.yaml": b"c", "apps/db.yaml": b"db.yaml", "apps/web.yaml": b"web.yaml"}


def test_what_is_missing_is_left_out(tmp_path: pathlib.Path) -> None:
    assert gather(tmp_path) == {}
    assert gather(tmp_path / "none") == {}


def test_a_huge_file_is_read_only_as_far_as_it_is_refused(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "cluster.yaml").open("wb") as file:
        file.truncate(100 << 30)
    assert len(gather(tmp_path)["cluster.yaml"]) == MAX_BYTES + 1


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_does_not_block(tmp_path: pathlib.Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "cluster.yaml")
    with pytest.raises(Unreadable, match=r"cluster\.yaml: is no file"):
        gather(tmp_path)


def test_a_dangling_application_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps/web.yaml").symlink_to("nowhere")
    with pytest.raises(Unreadable, match=r"apps/web\.yaml: No such file"):
        gather(tmp_path)
