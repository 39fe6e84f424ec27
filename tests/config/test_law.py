import msgspec
import pytest

from truecl.config.law import breaches, lease_of_survivor
from truecl.config.reader import read
from truecl.model.config import PROFILES, ClusterConfig, FenceConfig, FenceLevel, NodeConfig, Profile, Timing
from truecl.model.ids import NodeName


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_obey(profile: Profile) -> None:
    assert list(breaches(PROFILES[profile])) == []


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"heartbeat": 0.101}, ("detection", "heartbeat")),
        ({"detection": 0.299}, ("detection", "heartbeat")),
        ({"lease": 0.659}, ("renewal", "lease")),
        ({"lease": 0.6, "detection": 0.401, "renewal": 0.2}, ("lease", "detection", "renewal")),
        ({"renewal": 0.251}, ("renewal", "lease")),
        ({"election": 0.599}, ("election", "detection")),
        ({"drift": 0.0007}, ("drift", "lease")),
        ({"drift": 0.751}, ("drift", "lease")),
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
        {"lease": 0.66},
        {"lease": 0.6, "detection": 0.4, "renewal": 0.2},
        {"renewal": 0.25},
        {"election": 0.6},
        {"drift": 0.00075},
        {"drift": 0.75},
        {"stop_allowance": 0.1},
    ],
)
def test_edges_themselves_obey(change: dict[str, float]) -> None:
    assert list(breaches(msgspec.structs.replace(Timing(), **change))) == []


def test_breaches_show_at_once_and_say_what_to_write() -> None:
    found = list(breaches(Timing(heartbeat=0.2, lease=0.4)))
    assert [breach.expected for breach in found] == [
        "expected at least 600ms, or one lost packet looks like a dead node",
        "expected at least 520ms, or a change of master stops applications",
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


@pytest.mark.parametrize(
    ("delays", "third", "says"),
    [
        (("", ""), "", ""),
        (("", "8s"), "", ""),
        (("8s", ""), "", ""),
        (("8s", "1600ms"), "", ""),
        (("8s", "2s"), "", "each other off at the same time; expected a fence_delay of n1 above 8.3s"),
        (("6s", ""), "", "each other off at the same time; expected a fence_delay of n1 above 6.3s"),
        (("", "0s"), "", ""),
        (("0s", "0s"), "", "expected a fence_delay of"),
        (("0s", "0s"), "  n3: {lan: 10.0.0.3}\n", ""),
    ],
)  # fmt: skip
def test_of_two_nodes_one_is_off_before_the_other_is_asked_for(delays: tuple[str, str], third: str, says: str) -> None:
    """The worst time of the device: its delay and both attempts of each level, one after the other."""
    text = "cluster: c\nlinks: [lan]\nnodes:\n"
    for number, delay in enumerate(delays, 1):
        fence = "[{agent: fence_a, timeout: 1s, retries: 1, delay: 1s}, {agent: fence_b, timeout: 3s}]"
        text += f"  n{number}:\n    lan: 10.0.0.{number}\n    fence: {fence}\n"
        text += f"    fence_delay: {delay}\n" if delay else ""
    configuration, problems = read({"cluster.yaml": text + third})
    assert (configuration is not None) == (says == ""), problems
    assert not says or (len(problems) == 1 and says in str(problems[0])), problems


def test_the_first_of_two_nodes_is_waited_for_unless_the_operator_chose() -> None:
    device = ((FenceConfig(agent="f", timeout=5.0, retries=1, delay=1.0),),)

    def delays(one: float | None, two: float | None, fence: tuple[FenceLevel, ...] = device) -> tuple[float, float]:
        nodes = (
            NodeConfig(name=NodeName("n1"), addresses={}, fence=device, fence_delay=one),
            NodeConfig(name=NodeName("n2"), addresses={}, fence=fence, fence_delay=two),
        )
        cluster = ClusterConfig(name="c", links=(), nodes=nodes)
        return cluster.fence_delay(NodeName("n1")), cluster.fence_delay(NodeName("n2"))

    assert delays(None, None) == (12.0, 0.0)
    assert delays(None, 30.0) == (0.0, 30.0)
    assert delays(None, 0.0) == (12.0, 0.0)
    assert delays(40.0, None) == (40.0, 0.0)
    assert delays(None, None, ()) == (0.0, 0.0), "who has no device cannot be switched off"


@pytest.mark.parametrize(
    ("lease", "times", "witness", "expected"),
    [
        (0.75, (20.0, 5.0), False, 21),
        (0.75, (5.0, 20.0), False, 21),
        (20.74, (20.0,), False, None),
        (20.73, (20.0,), False, 21),
        (0.75, (), False, None),
        (0.75, (20.0, 20.0), True, None),
    ],
)
def test_the_lease_that_a_survivor_of_two_needs(
    lease: float, times: tuple[float, ...], witness: bool, expected: float | None
) -> None:
    """detection 0.3 and two renewals of 0.22 beyond the slower device."""
    levels = [((FenceConfig(agent="f", timeout=each),),) for each in times] + [()] * (2 - len(times))
    nodes = [NodeConfig(NodeName(f"n{number}"), {}, fence=each) for number, each in enumerate(levels, 1)]
    if witness:
        nodes.append(NodeConfig(NodeName("w"), {}, witness=True))
    cluster = ClusterConfig(name="c", links=(), nodes=tuple(nodes), timing=Timing(lease=lease))
    assert lease_of_survivor(cluster) == expected
