"""Whole configurations: what operators get wrong, all of it at once."""

import pathlib
import re

import pytest
from msgspec import structs

from truecl.config import samples
from truecl.config.reader import digest, read
from truecl.model.config import (
    PROFILES,
    Address,
    DiskStorage,
    DrbdStorage,
    FileStorage,
    FileSystem,
    LvmStorage,
    Ports,
    Program,
    Replication,
    Timing,
)
from truecl.model.ids import LinkName, NodeName

CLUSTER = """\
cluster: demo
links: [lan, ring]
nodes:
  n1: {lan: 10.0.0.1, ring: fd00::1}
  n2: {lan: 10.0.0.2, ring: fd00::2}
  w: {lan: 10.0.0.3, ring: fd00::3, witness: yes}
"""
APP = """\
nodes: [n1, n2]
addresses: [10.0.0.50]
"""


def problems_of(files: dict[str, str | bytes]) -> list[str]:
    configuration, problems = read(files)
    assert (configuration is None) == bool(problems)
    return [str(each) for each in problems]


def cluster_problems(cluster: str) -> list[str]:
    return problems_of({"cluster.yaml": cluster})


def app_problems(app: str, name: str = "web") -> list[str]:
    found = problems_of({"cluster.yaml": CLUSTER, f"apps/{name}.yaml": app})
    return [each.removeprefix(f"apps/{name}.yaml:") for each in found]


def test_samples_in_conf_are_those_that_lha_init_writes_and_are_good() -> None:
    names = [NodeName(f"n{number}") for number in range(1, 5)]
    nodes = [(name, (f"10.0.0.{number}", f"10.1.0.{number}")) for number, name in enumerate(names, 1)]
    cluster = samples.cluster_yaml("slackcl", nodes, (LinkName("lan"), LinkName("ring")))
    app = samples.app_yaml(names[:2], "10.0.0.50")
    conf = pathlib.Path(__file__).parents[2] / "conf"
    assert (conf / "cluster.yaml").read_text() == cluster
    assert (conf / "apps/web.yaml").read_text() == app
    assert problems_of({"cluster.yaml": cluster, "apps/web.yaml": app}) == []


def test_samples_are_good_with_their_comments_taken_away() -> None:
    """What stands there commented out is true as well."""
    conf = pathlib.Path(__file__).parents[2] / "conf"
    cluster, app = (
        re.sub(r"^( *)# ( *(?:- )?[a-z_]+:(?: |$))", r"\1\2", (conf / name).read_text(), flags=re.MULTILINE)
        for name in ("cluster.yaml", "apps/web.yaml")
    )
    # The node whose `witness: yes` has come to life runs no applications.
    app = app.replace("nodes: [n1, n2]", "nodes: [n2, n3]")
    configuration, problems = read({"cluster.yaml": cluster, "apps/web.yaml": app})
    assert [str(each) for each in problems] == []
    assert configuration is not None
    assert configuration.cluster.nodes[0].fence
    assert configuration.cluster.nodes[0].witness
    assert (configuration.cluster.timing, configuration.cluster.ports) == (Timing(), Ports())
    assert [each.name for each in configuration.apps[0].programs] == ["web", "database"]
    assert len(configuration.apps[0].addresses) == 2
    assert "\ntiming:" in cluster
    assert "\nports:" in cluster


def test_the_sample_of_replicated_storage_is_good() -> None:
    conf = pathlib.Path(__file__).parents[2] / "conf"
    database = (conf / "apps/database.yaml").read_text()
    bare = re.sub(r"^( *)# ( *[a-z_]+:(?: |$))", r"\1\2", database, flags=re.MULTILINE)
    assert bare != database
    for text in (database, bare):
        configuration, problems = read(
            {"cluster.yaml": (conf / "cluster.yaml").read_text(), "apps/database.yaml": text}
        )
        assert [str(each) for each in problems] == []
        assert configuration is not None
        (volume,) = configuration.apps[0].volumes
        assert isinstance(volume.storage, DrbdStorage)


@pytest.mark.parametrize(
    ("text", "timing"),
    [
        ("", Timing()),
        ("profile: normal\n", Timing()),
        ("profile: fast\n", PROFILES["fast"]),
        ("timing: {heartbeat: 40ms}\nprofile: fast\n", structs.replace(PROFILES["fast"], heartbeat=0.04)),
    ],
)
def test_a_profile_is_what_timing_is_written_upon(text: str, timing: Timing) -> None:
    configuration, problems = read({"cluster.yaml": CLUSTER + text})
    assert problems == () and configuration is not None
    assert configuration.cluster.timing == timing


def test_the_law_is_asked_of_what_comes_out_and_a_profile_must_be_known() -> None:
    (breach,) = problems_of({"cluster.yaml": CLUSTER + "profile: fast\ntiming: {heartbeat: 100ms}\n"})
    assert breach.startswith("cluster.yaml:8: detection (150ms) is less than three heartbeats")
    (unknown,) = problems_of({"cluster.yaml": CLUSTER + "profile: quick\n"})
    assert "'quick'" in unknown and "normal" in unknown and "fast" in unknown


def test_values() -> None:
    app = """\
nodes: [n2, n1]
autostart: yes
volumes:
  data: {type: file, image: /srv/img//a.img}
filesystems:
  - {type: xfs, mount: /srv/a/, options: "noatime,nodev", fsck: always}
addresses:
  - 10.0.0.50
  - {address: "fd00:0::50", prefix: 64, interface: eth0, conflict: warn}
programs:
  db:
    start: /bin/start 'a b'
    stop: [/bin/stop, "a | b"]
    user: db
    environment: {PORT: 0123, EMPTY: ""}
    settle: 0s
stop_timeout: 2m
"""
    configuration, problems = read({"cluster.yaml": CLUSTER, "apps/db.yaml": app})
    assert problems == ()
    assert configuration is not None
    (found,) = configuration.apps
    assert found.name == "db"
    assert found.nodes == ("n2", "n1")
    assert found.autostart
    assert found.volumes[0].storage == FileStorage(image="/srv/img/a.img")
    assert found.filesystems == (FileSystem(type="xfs", mount="/srv/a", options=("noatime", "nodev"), fsck="always"),)
    assert found.addresses == (
        Address(address="10.0.0.50"),
        Address(address="fd00::50", prefix=64, interface="eth0", conflict="warn"),
    )
    assert found.programs == (
        Program(
            name="db",
            start=("/bin/start", "a b"),
            stop=("/bin/stop", "a | b"),
            user="db",
            environment={"PORT": "0123", "EMPTY": ""},
            settle=0.0,
        ),
    )
    assert found.stop_timeout == 120
    assert configuration.cluster.nodes[2].witness


def test_missing_file() -> None:
    assert problems_of({}) == ["cluster.yaml: the file is missing; `lha_init` makes one; conf/cluster.yaml is a sample"]


def test_everything_shows_at_once() -> None:
    cluster = """\
cluster: my cluster
link: [lan]
links: [lan, ring, lan, fence]
nodes:
  n1: {lan: 10.0.0.1, ring: fd00::1, witnes: yes}
  N2: {lan: 10.0.0.2, ring: fd00::2}
  n3: {lan: 10.0.0.1, ring: 10.1.0.3}
  n4: {lan: fe80::1}
  n5:
on_quorum_loss: stp
timing: {heartbeat: 100, lease: 400ms}
ports: {reqd: 7421, lockd: 0}
"""
    assert cluster_problems(cluster) == [
        "cluster.yaml:1: 'cluster' is the text 'my cluster'; expected a name: letters, digits, '-' and '_', beginning"
        " with a letter or digit, at most 63",
        "cluster.yaml:2: unknown key 'link'; did you mean 'links'?",
        "cluster.yaml:3: 'lan' stands twice in 'links'; expected each once",
        "cluster.yaml:3: a link cannot be called 'fence', a key of nodes; expected another name",
        "cluster.yaml:5: unknown key 'witnes'; did you mean 'witness'?",
        "cluster.yaml:6: 'N2' in 'nodes'; expected a node name: lower-case letters, digits and '-', at most 63",
        "cluster.yaml:8: 'lan' is the text 'fe80::1'; expected an address that is not link-local",
        "cluster.yaml:8: node 'n4' has no address on link 'ring'; expected ring: ADDRESS",
        "cluster.yaml:9: 'n5' is empty; expected a mapping: lan, ring, fence, witness, observer, watchdog, fence_delay",
        "cluster.yaml:10: 'on_quorum_loss' is the text 'stp'; did you mean 'stop'?",
        "cluster.yaml:11: '100' has no unit; expected a unit: 100s for seconds, or 100ms, 100m",
        "cluster.yaml:12: 'lockd' is the text '0'; expected a whole number from 1 to 65535",
    ]


def test_addresses_of_nodes() -> None:
    cluster = CLUSTER.replace("10.0.0.2", "10.0.0.1").replace("ring: fd00::2", "ring: 10.9.0.1")
    assert cluster_problems(cluster) == [
        "cluster.yaml:5: 10.0.0.1 is already the address of node 'n1', link 'lan'; expected each address once",
        "cluster.yaml:5: 10.9.0.1 is IPv4, but link 'ring' is IPv6 on node 'n1'; expected one address family on a link",
    ]


def test_the_same_address_in_another_spelling_is_the_same() -> None:
    (problem,) = cluster_problems(CLUSTER.replace("fd00::2", "FD00:0::0001"))
    assert "fd00::1 is already the address of node 'n1'" in problem


def test_timing_law_is_asked_with_the_line() -> None:
    assert cluster_problems(CLUSTER + "timing:\n  lease: 1s\n  heartbeat: 200ms\n") == [
        "cluster.yaml:9: detection (300ms) is less than three heartbeats (200ms each); expected at least 600ms, or one"
        " lost packet looks like a dead node"
    ]


def test_ports_are_distinct() -> None:
    (problem,) = cluster_problems(CLUSTER + "ports: {syncd: 7421}\n")
    assert problem == "cluster.yaml:7: port 7421 of syncd is already that of lockd; expected a port for each daemon"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nodes: []\naddresses: [10.0.0.9]", ["1: 'nodes' is an empty list; expected node names, or no such key"]),
        (
            "nodes: n1\naddresses: [10.0.0.9]",
            ["1: 'nodes' is the text 'n1'; expected a list of node names: [..., ...]"],
        ),
        ("addresses: [10.0.0.9]", ["1: 'nodes' is missing in the file; expected it here"]),
        ("nodes: [n1]", [" application 'web' has nothing to run; expected volumes, addresses or programs"]),
        (APP + "nodess: [n1]", ["3: unknown key 'nodess'; did you mean 'nodes'?"]),
        (APP + "nodes: [n1]", ["3: 'nodes' was already given in line 1; expected each key once"]),
        (APP.replace("n2", "n3"), ["1: unknown node 'n3'; expected one of n1, n2, w"]),
        (APP.replace("n2", "w"), ["1: node 'w' is a witness; expected nodes that run applications"]),
        (APP.replace("n2", "n1"), ["1: 'n1' stands twice in 'nodes'; expected each once"]),
        (
            APP.replace("10.0.0.50", "10.0.0.1"),
            ["2: 10.0.0.1 already belongs to node 'n1' (cluster.yaml:4); expected one owner"],
        ),
        (
            APP.replace("10.0.0.50", "10.0.0.5, 10.0.0.5"),
            ["2: 10.0.0.5 was already given in line 2; expected each address once"],
        ),
        (APP + "autostart: 1", ["3: 'autostart' is the text '1'; expected yes or no"]),
        (APP + "start_timeout: [5s]", ["3: 'start_timeout' is a list; expected a duration like 100ms, 5s, 2m or 1h"]),
        (
            APP + "programs: {}",
            ["3: 'programs' is an empty mapping; expected program names to their commands, or no such key"],
        ),
        (APP + "programs: {a: {}}", ["3: program 'a' has no command; expected run, or start and stop"]),
        (APP + "programs: {a: {start: /bin/a}}", ["3: program 'a' has start but no stop; expected stop beside start"]),
        (
            APP + "programs: {a: {run: /bin/a, start: /bin/a, stop: /bin/a}}",
            ["3: program 'a' has both run and start; expected one of them"],
        ),
        (
            APP + "programs: {a: {run: python3}}",
            ["3: commands are run without a search path; expected the absolute path of 'python3'"],
        ),
        (
            APP + "programs: {a: {run: /a | /b}}",
            ["3: '|' needs a shell; expected [/bin/sh, -c, '...'] where a shell is meant"],
        ),
        (APP + "programs: {a: {run: [/bin/a, [b]]}}", ["3: a word of 'run' is a list; expected text"]),
        (
            APP + "programs: {a: {run: /a, environment: {1A: x}}}",
            ["3: '1A' in 'environment'; expected the name of an environment variable"],
        ),
        (APP + "programs: {a: {run: /a, environment: {A: }}}", ["3: 'A' in 'environment' is empty; expected text"]),
        (
            APP + "filesystems: [{type: ext4, mount: /srv/a}]",
            ["3: the file system on /srv/a does not say its volume; expected one in volumes:"],
        ),
        (
            APP + "volumes: {v: {type: none}}\nfilesystems: [{type: ext4, mount: /srv/a}]",
            ["4: volume 'v' has type none; expected storage under a file system"],
        ),
        (
            APP + "volumes: {v: {type: lmv}}",
            ["3: 'type' is the text 'lmv'; did you mean 'lvm'?"],
        ),
        (
            APP + "volumes: {v: {image: /a}}",
            ["3: 'type' is missing in 'v'; expected one of file, disk, lvm, drbd, none"],
        ),
        (
            APP + "volumes: {v: {type: lvm}}",
            ["3: 'group' is missing in 'v'; expected it here", "3: 'volume' is missing in 'v'; expected it here"],
        ),
        (
            APP + "volumes: {v: {type: lvm, group: -vg, volume: my lv}}",
            [
                "3: 'group' is the text '-vg'; expected the name of a volume group: letters, digits and '+_.-', not"
                " beginning with '-', at most 64",
                "3: 'volume' is the text 'my lv'; expected the name of a volume: letters, digits and '+_.-', not"
                " beginning with '-', at most 64",
            ],
        ),
        (
            APP + "volumes: {v: {type: lvm, group: vg, volume: a_tdata}, w: {type: lvm, group: vg, volume: snapshot1}}",
            [
                "3: 'a_tdata': LVM keeps names with '_tdata' for itself; expected another name",
                "3: 'snapshot1': LVM keeps names with 'snapshot' for itself; expected another name",
            ],
        ),
        (
            APP + "volumes: {v: {type: lvm, group: vg, volume: a, size: 128}}",
            ["3: '128' has no unit; expected a unit: 128M, 128G or 128T, powers of 1024"],
        ),
        (
            APP + "volumes: {v: {type: lvm, group: vg, volume: a, physical: [sdb]}}",
            ["3: 'physical' is the text 'sdb'; expected a disk, as /dev/disk/by-id/..."],
        ),
        (
            APP + "volumes: {v: {type: disk, device: /srv/disk}}",
            ["3: 'device' is the text '/srv/disk'; expected a disk, as /dev/disk/by-id/..."],
        ),
        (APP + "volumes: {v: {type: drbd}}", ["3: 'on' is missing in 'v'; expected it here"]),
        (
            APP + "volumes: {v: {type: drbd, on: {type: drbd}}}",
            ["3: 'type' is the text 'drbd'; expected one of file, disk, lvm"],
        ),
        (
            "nodes: [n1]\nvolumes: {v: {type: drbd, on: {type: disk, device: /dev/sdb}}}",
            ["1: volumes of type drbd have 2 copies, but the application has 1 node(s); expected 2 nodes"],
        ),
        (
            APP + "volumes: {v: {type: drbd, on: {type: disk, device: /dev/sdb}}}\nreplication: {link: rong}",
            ["4: unknown link 'rong'; did you mean 'ring'?"],
        ),
        (
            APP + "volumes: {v: {type: drbd, on: {type: disk, device: /dev/sdb}}}\nreplication: {rate: 10}",
            ["4: '10' has no unit; expected a unit: 10M, 10G or 10T, powers of 1024"],
        ),
        (
            APP + "volumes: {v: {type: drbd, on: {type: disk, device: /dev/sdb}}}\nreplication:\n  verify: 7\n"
            "  verify_between: 25:00-05:00",
            [
                "5: '7' has no unit; expected a unit: 7d for days, or 7h, 7w",
                "6: 'verify_between' is the text '25:00-05:00'; expected two times of the day like 01:00-05:00",
            ],
        ),
        (
            APP + "volumes: {v: {type: drbd, on: {type: disk, device: /dev/sdb}}}\n"
            "replication: {verify_between: 01:00-05:00}",
            ["4: verify_between stands without verify; expected verify beside it, like verify: 7d"],
        ),
        (
            APP + "volumes: {v: {type: file, image: /a}}\nreplication: {link: ring}",
            ["4: no volume is replicated; expected one of type drbd, or no such key"],
        ),
        (
            APP + "volumes: {v: {type: file, image: a.img}}",
            ["3: 'image' is the text 'a.img'; expected an absolute path"],
        ),
        (
            "nodes: [n1]\naddresses: [{address: 10.0.0.9, prefix: 33}]",
            ["2: prefix 33 of 10.0.0.9; expected 1 to 32 for IPv4"],
        ),
    ],
)
def test_application(text: str, expected: list[str]) -> None:
    assert app_problems(text + "\n") == expected


def test_volumes_and_file_systems_of_an_application() -> None:
    app = """\
nodes: [n1]
volumes:
  a: {type: file, image: /srv/a.img}
  b: {type: file, image: /srv/a.img}
filesystems:
  - {type: ext4, mount: /srv/a}
  - {type: ext4, mount: /srv/b, volume: c}
  - {type: ext5, mount: /srv/c, volume: a}
  - {type: ext4, mount: /srv/d, volume: a}
  - {type: ext4, mount: /srv/d/, volume: a}
"""
    assert app_problems(app) == [
        "4: /srv/a.img was already given in line 3; expected each image once",
        "6: the file system on /srv/a does not say its volume; expected volume: a or b",
        "7: unknown volume 'c'; expected one of a, b",
        "8: 'type' is the text 'ext5'; did you mean 'ext4'?",
        "10: /srv/d was already given in line 9; expected each mount once",
        "10: volume 'a' already holds /srv/d; expected one file system on a volume",
    ]


def test_kinds_of_storage() -> None:
    app = """\
nodes: [n1, n2]
volumes:
  lun: {type: disk, device: /dev/disk/by-path/pci-0000:00:1f.2-ata-1}
  plain: {type: lvm, group: vg+1, volume: data.1, size: 1.5G}
  copied:
    type: drbd
    on: {type: lvm, group: testvg, volume: test1, size: 128M, physical: [/dev/sdb, /dev/sdc]}
  logs: {type: drbd, on: {type: file, image: /var/lib/images/logs.img}}
filesystems: [{type: xfs, mount: /srv/db, volume: copied}]
replication: {link: ring, rate: 100M, disk_failure: move, verify: 7d, verify_between: 22:30-4:00}
"""
    configuration, problems = read({"cluster.yaml": CLUSTER, "apps/db.yaml": app})
    assert problems == ()
    assert configuration is not None
    (found,) = configuration.apps
    test1 = LvmStorage(group="testvg", volume="test1", size=128 << 20, physical=("/dev/sdb", "/dev/sdc"))
    assert [volume.storage for volume in found.volumes] == [
        DiskStorage(device="/dev/disk/by-path/pci-0000:00:1f.2-ata-1"),
        LvmStorage(group="vg+1", volume="data.1", size=3 << 29),
        DrbdStorage(on=test1),
        DrbdStorage(on=FileStorage(image="/var/lib/images/logs.img")),
    ]
    week, night = 7 * 86400.0, (22 * 60 + 30, 4 * 60)
    assert found.replication == Replication(
        link=LinkName("ring"), rate=100 << 20, disk_failure="move", verify=week, verify_between=night
    )


def test_a_volume_has_one_owner() -> None:
    app = """\
nodes: [n1, n2]
volumes:
  a: {type: lvm, group: vg, volume: a, physical: [/dev/sdb]}
  b: {type: lvm, group: vg, volume: a, physical: [/dev/sdb]}
  c: {type: disk, device: /dev/sdb}
  d: {type: drbd, on: {type: disk, device: /dev/sdb}}
"""
    assert app_problems(app) == [
        "4: vg/a was already given in line 3; expected each logical volume once",
        "5: /dev/sdb is of volume group 'vg' already; expected a disk of its own",
        "6: /dev/sdb is of volume group 'vg' already; expected a disk of its own",
        "6: /dev/sdb was already given in line 5; expected each device once",
    ]


@pytest.mark.parametrize(
    ("one", "other", "problem"),
    [
        ("n1, n2: lvm", "n2, n3: lvm", "vg/a already belongs to application 'a' (apps/a.yaml:2)"),
        ("n1, n2: lvm", "n3, n4: lvm", "vg/a already belongs to application 'a' (apps/a.yaml:2)"),
        ("n1, n2: drbd", "n2, n3: drbd", "vg/a already belongs to application 'a' (apps/a.yaml:2)"),
        ("n1, n2: drbd", "n3, n4: drbd", ""),
        ("n1, n2: drbd", "n3, n4: lvm", "vg/a already belongs to application 'a' (apps/a.yaml:2)"),
        ("n1, n2: lvm", "n1, n2: disk", "/dev/sdb is of volume group 'vg' already"),
    ],
)
def test_a_volume_beneath_a_replica_is_its_nodes_own(one: str, other: str, problem: str) -> None:
    def app(said: str) -> str:
        nodes, kind = said.split(": ")
        storage = "{type: lvm, group: vg, volume: a, physical: [/dev/sdb]}"
        written = {"lvm": storage, "drbd": f"{{type: drbd, on: {storage}}}", "disk": "{type: disk, device: /dev/sdb}"}
        return f"nodes: [{nodes}]\nvolumes: {{v: {written[kind]}}}\n"

    cluster = "cluster: demo\nlinks: [lan]\nnodes:\n" + "".join(f"  n{n}: {{lan: 10.0.0.{n}}}\n" for n in range(1, 5))
    found = problems_of({"cluster.yaml": cluster, "apps/a.yaml": app(one), "apps/b.yaml": app(other)})
    assert [each.split("; ")[0].removeprefix("apps/b.yaml:2: ") for each in found] == [problem] * bool(problem)


def test_a_volume_that_cannot_be_read_is_still_known_by_its_name() -> None:
    app = "nodes: [n1]\nvolumes: {a: {type: fil}}\nfilesystems: [{type: ext4, mount: /srv/a, volume: a}]\n"
    assert app_problems(app) == ["2: 'type' is the text 'fil'; did you mean 'file'?"]


def test_two_applications_share_nothing() -> None:
    one = """\
nodes: [n1]
volumes: {v: {type: file, image: /srv/one.img}}
filesystems: [{type: ext4, mount: /srv/one}]
addresses: [10.0.0.50]
"""
    files = {"cluster.yaml": CLUSTER, "apps/one.yaml": one}
    assert problems_of({**files, "apps/two.yaml": one}) == [
        "apps/two.yaml:2: /srv/one.img already belongs to application 'one' (apps/one.yaml:2); expected one owner",
        "apps/two.yaml:3: /srv/one is already used by application 'one'; expected a mount point of its own",
        "apps/two.yaml:4: 10.0.0.50 already belongs to application 'one' (apps/one.yaml:4); expected one owner",
    ]
    two = one.replace("one.img", "two.img").replace(".50", ".51").replace("/srv/one}", "/srv/one/inner}")
    assert problems_of({**files, "apps/two.yaml": two}) == [
        "apps/two.yaml:3: /srv/one/inner is nested with /srv/one of application 'one';"
        " expected a mount point of its own"
    ]
    elsewhere = two.replace("/srv/one/inner", "/srv/one").replace("n1", "n2")
    assert problems_of({**files, "apps/two.yaml": elsewhere}) == []


def test_file_names() -> None:
    assert problems_of({"cluster.yaml": CLUSTER, "apps/.x.yaml": APP, "x.yaml": APP}) == [
        "apps/.x.yaml: the file's name does not fit an application; expected a name: letters, digits, '-' and '_',"
        " beginning with a letter or digit, at most 63",
        "x.yaml: 'x.yaml' is no file of a configuration; expected cluster.yaml or apps/NAME.yaml",
    ]


def test_applications_are_read_when_the_cluster_cannot_be() -> None:
    found = problems_of({"cluster.yaml": "a: [", "apps/web.yaml": APP + "autostart: maybe\n"})
    assert [each.split(";")[0] for each in found] == [
        "apps/web.yaml:3: 'autostart' is the text 'maybe'",
        "cluster.yaml:1: this is not YAML: did not find expected node content while parsing a flow node",
    ]


def test_digest_tells_names_and_texts_apart() -> None:
    texts: list[dict[str, str | bytes]] = [
        {"cluster.yaml": "ab"},
        {"cluster.yaml": "a", "b": ""},
        {"cluster.yaml": "", "ab": ""},
        {"cluster.yamla": "b"},
    ]
    assert len({digest(each) for each in texts}) == len(texts)
    assert digest({"a": "x", "b": "y"}) == digest({"b": b"y", "a": b"x"})
    configuration, _ = read({"cluster.yaml": CLUSTER})
    assert configuration is not None
    assert configuration.digest == digest({"cluster.yaml": CLUSTER})
