"""What the commands' tests share with pytest's help; the rest is in told.py."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The goldens' local time."""
    with monkeypatch.context() as context:
        context.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(autouse=True)
def etc(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands take for /etc/truecl: of a node of a cluster."""
    made = tmp_path_factory.mktemp("etc")
    (made / "cluster.yaml").touch()
    monkeypatch.setenv("TRUECL_ETC", str(made))
    return made
