import msgspec
import pytest

from truecl.config.law import breaches
from truecl.model.config import Timing


def test_defaults_obey() -> None:
    assert list(breaches(Timing())) == []


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"heartbeat": 0.101}, ("detection", "heartbeat")),
        ({"detection": 0.299}, ("detection", "heartbeat")),
        ({"lease": 0.899}, ("renewal", "lease")),
        ({"lease": 0.6, "detection": 0.401, "renewal": 0.2}, ("lease", "detection", "renewal")),
        ({"renewal": 0.334}, ("renewal", "lease")),
        ({"election": 0.599}, ("election", "detection")),
        ({"drift": 0.0009}, ("drift", "lease")),
        ({"drift": 1.001}, ("drift", "lease")),
    ],
)
def test_each_law_is_broken_alone_just_past_its_edge(change: dict[str, float], keys: tuple[str, ...]) -> None:
    (breach,) = breaches(msgspec.structs.replace(Timing(), **change))
    assert breach.keys == keys


@pytest.mark.parametrize(
    "change",
    [
        {"heartbeat": 0.1, "detection": 0.3},
        {"lease": 0.9},
        {"lease": 0.6, "detection": 0.4, "renewal": 0.2},
        {"renewal": 1 / 3},
        {"election": 0.6},
        {"drift": 0.001},
        {"drift": 1.0},
    ],
)
def test_edges_themselves_obey(change: dict[str, float]) -> None:
    assert list(breaches(msgspec.structs.replace(Timing(), **change))) == []


def test_breaches_show_at_once_and_say_what_to_write() -> None:
    found = list(breaches(Timing(heartbeat=0.2, lease=0.4)))
    assert [breach.expected for breach in found] == [
        "expected at least 600ms, or one lost packet looks like a dead node",
        "expected at least 600ms, or a change of master stops applications",
        "expected renewal of at most 133.333ms, or one lost answer stops applications",
    ]
