import msgspec
import pytest

from truecl.config.law import breaches
from truecl.config.reader import read
from truecl.model.config import PROFILES, Profile, Timing


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_obey(profile: Profile) -> None:
    assert list(breaches(PROFILES[profile])) == []


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
        ({"stop_allowance": 0.099}, ("address_allowance", "stop_allowance")),
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
        {"stop_allowance": 0.1},
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


@pytest.mark.parametrize(
    ("watchdog", "says"),
    [
        ("required", ""),
        ("{use: automatic, device: /dev/watchdog1, timeout: 6s, watchdog_survives_pause: yes}", ""),
        ("{use: off, timeout: 1s}", ""),
        ("{use: required, timeout: 5s}", "leaves no time for a forced stop; expected more than stop_allowance + 500ms"),
        ("{use: required, timeout: 7500ms}", "expected whole seconds"),
        ("{use: required, device: watchdog}", "expected a device, as /dev/watchdog"),
        ("always", "expected one of off, automatic, required"),
    ],
)
def test_a_watchdog_leaves_time_for_the_forced_stop(watchdog: str, says: str) -> None:
    text = f"cluster: c\nlinks: [lan]\nnodes:\n  n1:\n    lan: 10.0.0.1\n    watchdog: {watchdog}\n"
    configuration, problems = read({"cluster.yaml": text})
    assert (configuration is not None) == (says == "")
    assert not says or (len(problems) == 1 and says in str(problems[0])), problems
