import ipaddress
import pathlib

import pytest

from truecl.commands.check import Checked, Environment, check
from truecl.commands.clock import CHRONY_DEFAULT, Steering
from truecl.commands.init import Environment as InitEnvironment
from truecl.commands.init import InitRequest, init, parse_nodes
from truecl.commands.machine import Machine, WatchdogFacts, this_machine
from truecl.drivers.fence.parse import Metadata, Parameter
from truecl.model.ids import NodeName
from truecl.model.report import Severity
from truecl.runtime.authority import VALIDITY_DAYS

DEVICE = Metadata(
    (
        Parameter("action", True, ""),
        Parameter("ip", True, "ipaddr"),
        Parameter("ipaddr", True, ""),
        Parameter("password", False, ""),
        Parameter("plug", False, "port"),
        Parameter("port", False, ""),
    ),
    ("off", "on", "status", "metadata"),
)
NOW = 1_800_000_000.0
NODES = "n1=10.0.0.1+10.1.0.1,n2=10.0.0.2+10.1.0.2,n3=10.0.0.3+10.1.0.3"


def machine(
    missing: tuple[str, ...] = (),
    users: tuple[str, ...] = ("root", "truecl"),
    addresses: tuple[str, ...] = ("10.0.0.1/24", "10.1.0.1/24"),
    networkd: tuple[str, ...] = (),
    agents: dict[str, Metadata | str] = {},  # noqa: B006
    watchdog: WatchdogFacts = WatchdogFacts(False),  # noqa: B008
    steering: Steering = Steering(),  # noqa: B008
) -> Machine:
    return Machine(
        program=lambda name: name not in missing,
        fence_agent=lambda name: agents.get(name, DEVICE),
        user=lambda name: users.index(name) * 1000 if name in users else None,
        interfaces=lambda: tuple(ipaddress.ip_interface(each) for each in addresses),
        dropping_networkd=lambda: networkd,
        watchdog=lambda device: watchdog,
        steering=lambda: steering,
    )


@pytest.fixture
def etc(tmp_path: pathlib.Path) -> pathlib.Path:
    """A node without a fault: three nodes, two links, fence devices, one application."""
    directory = tmp_path / "etc"
    init(InitEnvironment(directory, NOW, owner=None), InitRequest("demo", parse_nodes(NODES), NodeName("n1")))
    fence = "fence: {agent: fence_x, parameters: {ip: 10.2.0.1}}"
    lines = "\n".join(f"  n{n}: {{lan: 10.0.0.{n}, ring: 10.1.0.{n}, {fence}}}" for n in (1, 2, 3))
    (directory / "cluster.yaml").write_text(f"cluster: demo\nlinks: [lan, ring]\nnodes:\n{lines}\n")
    (tmp_path / "web.img").write_bytes(b"")
    (directory / "apps/web.yaml").write_text(
        f"nodes: [n1, n2]\naddresses: [10.0.0.50]\nvolumes: {{data: {{type: file, image: {tmp_path}/web.img}}}}\n"
        f"filesystems: [{{type: xfs, mount: {tmp_path}/web}}]\n"
        f"programs: {{web: {{run: /bin/web}}, own: {{run: {tmp_path}/web/bin/own}}}}\n"
    )
    for node in ("n2", "n3"):
        (directory / f"bundles/{node}.tar").unlink()
    return directory


def run(directory: pathlib.Path, asked: Machine | None = None, now: float = NOW) -> Checked:
    return check(Environment(directory, now, asked or machine()))


def texts(checked: Checked, severity: Severity) -> list[str]:
    parent = str(pathlib.Path(checked.directory).parent)
    return [each.text.replace(parent, "@") for each in checked.findings if each.severity is severity]


def errors(checked: Checked) -> list[str]:
    assert not checked.ok
    return texts(checked, Severity.ERROR)


def warnings(checked: Checked) -> list[str]:
    assert checked.ok
    return texts(checked, Severity.WARN)


def edit(path: pathlib.Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_nothing_to_say(etc: pathlib.Path) -> None:
    checked = run(etc, machine(missing=(f"{etc.parent}/web/bin/own",)))
    assert checked.findings == ()
    assert checked.ok
    assert (checked.cluster, checked.node, checked.nodes, checked.apps) == ("demo", "n1", 3, 1)
    assert len(checked.digest) == 64


def test_problems_of_the_files_carry_their_place(etc: pathlib.Path) -> None:
    edit(etc / "apps/web.yaml", "n2", "n9")
    edit(etc / "cluster.yaml", "links", "linkz")
    assert errors(run(etc)) == [
        "@/etc/apps/web.yaml:1: unknown node 'n9'; expected one of n1, n2, n3",
        "@/etc/cluster.yaml:1: 'links' is missing in the file; expected it here",
        "@/etc/cluster.yaml:2: unknown key 'linkz'; did you mean 'links'?",
        *(
            f"@/etc/cluster.yaml:{line}: unknown key '{key}'; "
            "expected one of fence, witness, observer, watchdog, fence_delay"
            for line in (4, 5, 6)
            for key in ("lan", "ring")
        ),
    ]


def test_an_empty_directory(tmp_path: pathlib.Path) -> None:
    checked = run(tmp_path / "etc")
    assert errors(checked) == [
        "@/etc/cluster.yaml: the file is missing; `lha_init` makes one; conf/cluster.yaml is a sample"
    ]
    assert texts(checked, Severity.WARN) == [
        "@/etc: no credentials, so this machine is no node yet; `lha_init` makes them"
    ]


def test_a_configuration_that_others_may_write(etc: pathlib.Path) -> None:
    (etc / "apps/web.yaml").chmod(0o664)
    (problem,) = errors(run(etc))
    assert problem.startswith(
        "@/etc/apps/web.yaml: others may write it (mode 0664), and it names commands; `chmod go-w "
    )


@pytest.mark.parametrize("name", ["keyring", "node-key.pem", "ca-key.pem"])
def test_open_secrets(etc: pathlib.Path, name: str) -> None:
    (etc / name).chmod(0o644)
    (problem,) = errors(run(etc))
    assert problem.startswith(f"@/etc/{name}: others may read it (mode 0644); `chmod 600 ")


def test_lost_credentials(etc: pathlib.Path) -> None:
    (etc / "node.pem").unlink()
    (problem,) = errors(run(etc))
    assert problem == "@/etc/node.pem: missing; `lha_init` makes it, `lha_init --join FILE` unpacks it"


def test_certificates_near_their_end(etc: pathlib.Path) -> None:
    end = NOW + VALIDITY_DAYS * 86400
    assert warnings(run(etc, now=end - 86400 * 7)) == [
        "the certificates of node 'n1' expire in 7 days; `lha_init --force` makes new ones"
    ]
    assert len(errors(run(etc, now=end))) == 2


def test_certificate_and_configuration_of_different_clusters(etc: pathlib.Path) -> None:
    edit(etc / "cluster.yaml", "cluster: demo", "cluster: other")
    edit(etc / "cluster.yaml", "  n1:", "  n4:")
    edit(etc / "apps/web.yaml", "n1", "n4")
    assert errors(run(etc)) == [
        "node.pem is of cluster 'demo', cluster.yaml of 'other'",
        "node.pem says that this is node 'n1'; cluster.yaml has n4, n2, n3",
    ]


def test_bundles_left_behind(etc: pathlib.Path) -> None:
    (etc / "bundles/n2.tar").write_bytes(b"")
    assert warnings(run(etc)) == ["@/etc/bundles/n2.tar: holds a node's key; remove it once that node has joined"]


def test_one_link_no_fence_two_nodes(etc: pathlib.Path) -> None:
    (etc / "cluster.yaml").write_text(
        "cluster: demo\nlinks: [lan]\nnodes:\n  n1: {lan: 10.0.0.1}\n  n2: {lan: 10.0.0.2}\n"
    )
    assert [each.split(":")[0] for each in warnings(run(etc))] == [
        "there is one link, 'lan'",
        "no fence device for n1, n2",
        "there are two nodes",
    ]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("", ["lease: 21s"]),
        ("timing: {lease: 21s}\n", []),
        ("on_quorum_loss: freeze\n", []),
        ("timing: {lease: 750ms}\n", ["lease: 21s"]),
    ],
)
def test_a_survivor_of_two_that_would_stop_its_own(etc: pathlib.Path, more: str, says: list[str]) -> None:
    nodes = "".join(f"  n{n}: {{lan: 10.0.0.{n}, ring: 10.1.0.{n}, fence: {{agent: fence_x}}}}\n" for n in (1, 2))
    (etc / "cluster.yaml").write_text(f"cluster: demo\nlinks: [lan, ring]\nnodes:\n{nodes}{more}")
    asked = machine(agents={"fence_x": Metadata((), ("off", "status"))})
    first, *others = warnings(run(etc, asked))
    assert first.startswith("there are two nodes")
    assert len(others) == len(says) and all(said in other for said, other in zip(says, others, strict=True)), others


def test_an_even_number_of_voters(etc: pathlib.Path) -> None:
    with (etc / "cluster.yaml").open("a") as file:
        file.write("  n4: {lan: 10.0.0.4, ring: 10.1.0.4, fence: {agent: fence_x, parameters: {ipaddr: 10.2.0.4}}}\n")
    (warning,) = warnings(run(etc))
    assert warning.startswith("an even number of voters: 4 survive the loss of 1, as 3 would")


def test_a_password_that_everybody_can_read(etc: pathlib.Path) -> None:
    edit(
        etc / "cluster.yaml",
        "10.1.0.2, fence: {agent: fence_x, parameters: {",
        "10.1.0.2, fence: {agent: fence_x, parameters: {password: s3cret, ",
    )
    (warning,) = warnings(run(etc))
    assert warning.startswith("the fence device of node 'n2' has its password in cluster.yaml")
    assert "s3cret" not in warning


def fence_of_n2(etc: pathlib.Path, parameters: str, more: str = "") -> None:
    old = "10.1.0.2, fence: {agent: fence_x, parameters: {ip: 10.2.0.1}}"
    edit(etc / "cluster.yaml", old, f"10.1.0.2, fence: {{agent: fence_x, parameters: {{{parameters}}}{more}}}")


def test_parameters_of_a_fence_agent_are_held_against_its_metadata(etc: pathlib.Path) -> None:
    fence_of_n2(etc, "pasword_script: /x, plug: 3")
    assert errors(run(etc)) == [
        "fence agent 'fence_x' of node 'n2': unknown parameter 'pasword_script'; did you mean 'password'?",
        "fence agent 'fence_x' of node 'n2': parameter 'ip' is missing",
    ]


def test_a_required_parameter_may_have_its_old_name(etc: pathlib.Path) -> None:
    fence_of_n2(etc, "ipaddr: 10.2.0.2, port: 3")
    assert run(etc).ok


def test_an_agent_that_cannot_be_verified_or_describes_nothing(etc: pathlib.Path) -> None:
    mute = Metadata(DEVICE.parameters, ("off", "on"))
    found = errors(run(etc, machine(agents={"fence_x": mute})))
    assert "fence agent 'fence_x' of node 'n1' cannot do 'status'; its actions: off, on" in found
    said = warnings(run(etc, machine(agents={"fence_x": "exit code 1: Traceback"})))
    assert said[0] == (
        "fence agent 'fence_x' of node 'n1' does not describe itself (action=metadata): exit code 1: Traceback"
    )


def test_a_secret_that_is_missing_or_read_by_others(etc: pathlib.Path) -> None:
    secret = etc.parent / "secret"
    fence_of_n2(etc, "ip: 10.2.0.2", f", secrets: {{password: {secret}}}")
    (problem,) = errors(run(etc))
    assert "secret 'password': @/secret: No such file or directory" in problem
    secret.write_text("s3cret\n")
    secret.chmod(0o640)
    (problem,) = errors(run(etc))
    assert "others may read @/secret (mode 0640); `chmod 600 @/secret`" in problem and "s3cret" not in problem
    secret.chmod(0o600)
    assert run(etc).ok


def test_what_a_hanging_or_babbling_agent_says_of_itself(tmp_path: pathlib.Path) -> None:
    asked = this_machine().fence_agent
    agent = tmp_path / "agent"
    for script, said in (("echo rubbish", "is no XML"), ("echo why >&2; exit 3", "exit code 3: why")):
        agent.write_text(f"#!/bin/sh\n{script}\n")
        agent.chmod(0o755)
        answer = asked(str(agent))
        assert isinstance(answer, str) and said in answer
    assert asked(str(tmp_path / "none")) == "No such file or directory"


def test_no_user(etc: pathlib.Path) -> None:
    (problem,) = errors(run(etc, machine(users=("root",))))
    assert problem.startswith("there is no user 'truecl', who runs the daemons without privilege; `useradd ")


def test_missing_tools(etc: pathlib.Path) -> None:
    checked = run(etc, machine(missing=("losetup", "xfs_repair", "mkfs.xfs", "fence_x", "/bin/web")))
    assert errors(checked) == [
        "losetup is missing; install mount",
        "xfs_repair is missing, for xfs of 'web'; install xfsprogs",
        "application 'web', program 'web': /bin/web cannot be run on this node",
    ]
    assert "mkfs.xfs is missing, which makes xfs; install xfsprogs" in texts(checked, Severity.WARN)


def test_tools_of_applications_that_run_elsewhere_are_not_asked_for(etc: pathlib.Path) -> None:
    edit(etc / "apps/web.yaml", "[n1, n2]", "[n2, n3]")
    (etc.parent / "web.img").unlink()
    assert warnings(run(etc, machine(missing=("losetup", "xfs_repair", "/bin/web")))) == []


def test_storage_of_this_node(etc: pathlib.Path) -> None:
    (etc.parent / "web.img").unlink()
    (etc.parent / "web").mkdir()
    (etc.parent / "web/forgotten").write_text("")
    assert warnings(run(etc)) == [
        "application 'web': image @/web.img: No such file or directory; it must be there before a start (NFS mounted?)",
        "application 'web': mount point @/web is not empty; a mount hides what is in it",
    ]


def test_storage_that_can_never_be(etc: pathlib.Path) -> None:
    (etc.parent / "web.img").unlink()
    (etc.parent / "web.img").mkdir()
    (etc.parent / "web").write_text("")
    assert errors(run(etc)) == [
        "application 'web': image @/web.img is no regular file",
        "application 'web': mount point @/web: Not a directory",
    ]


VM = "QEMU Standard PC"
COUNTS_NOT = "it counts in no proof unless watchdog_survives_pause says that its clock never stops"
DECLARED = (
    "watchdog_survives_pause says that its clock runs on while the machine is paused or saved; "
    "if it does not, a node that is resumed writes to storage that another has taken over"
)


@pytest.mark.parametrize(
    ("facts", "declared", "text"),
    [
        (WatchdogFacts(True, "iTCO_wdt"), False, ""),
        (WatchdogFacts(True, "iTCO_wdt"), True, ""),
        (WatchdogFacts(True, "iTCO_wdt", virtual=VM), False, f"this is a virtual machine ({VM}): {COUNTS_NOT}"),
        (WatchdogFacts(True, "iTCO_wdt", virtual=VM), True, f"this is a virtual machine ({VM}): {DECLARED}"),
        (WatchdogFacts(True, "Software Watchdog"), False, f"it is softdog: {COUNTS_NOT}"),
        (WatchdogFacts(True, "Software Watchdog"), True, f"it is softdog: {DECLARED}"),
        (
            WatchdogFacts(True, "iTCO_wdt", True),
            True,
            "it cannot be stopped (nowayout): stopping the service resets this node",
        ),
        (WatchdogFacts(False), True, "is missing on this node"),
    ],
)
def test_what_the_watchdog_is_and_what_is_declared_of_it(
    etc: pathlib.Path, facts: WatchdogFacts, declared: bool, text: str
) -> None:
    file = etc / "cluster.yaml"
    watchdog = f"watchdog: {{use: automatic, watchdog_survives_pause: {str(declared).lower()}}}"
    file.write_text(file.read_text().replace("n1: {", f"n1: {{{watchdog}, "))
    found = [line for line in warnings(run(etc, machine(watchdog=facts))) if "watchdog" in line]
    assert len(found) == bool(text) and all(text in line for line in found), found


def test_addresses_of_this_node(etc: pathlib.Path) -> None:
    assert warnings(run(etc, machine(addresses=("192.0.2.1/24", "10.1.0.1/24")))) == [
        "this is node 'n1', but no interface here has its address 10.0.0.1 (lan);"
        " if this machine is a copy: 'lha_node add' gives it a name of its own",
        "application 'web': no interface of this node has an address in the network of 10.0.0.50;"
        " `interface:` names one",
    ]


def test_networkd_that_drops_addresses(etc: pathlib.Path) -> None:
    assert warnings(run(etc, machine(networkd=("/etc/systemd/network/a.network",)))) == [
        "/etc/systemd/network/a.network: systemd-networkd drops floating addresses; set KeepConfiguration=yes"
    ]


def test_programs_that_nobody_watches_and_applications_that_nobody_takes_over(etc: pathlib.Path) -> None:
    (etc / "apps/web.yaml").write_text(
        "nodes: [n1]\nprograms: {db: {start: /bin/a, stop: /bin/b, user: db}}\n"
        f"volumes: {{data: {{type: file, image: {etc.parent}/web.img}}}}\n"
    )
    checked = run(etc)
    assert errors(checked) == ["application 'web', program 'db': there is no user 'db' on node 'n1'"]
    assert texts(checked, Severity.WARN) == [
        "application 'web' may run on 'n1' alone: nothing takes it over",
        "program 'db' of 'web' has no monitor: nobody notices its death",
        "volume 'data' of 'web' holds no file system",
    ]


# ---- the machine's own answers --------------------------------------------------------------------------------------


def test_this_machine() -> None:
    here = this_machine()
    assert here.program("sh")
    assert here.program("/bin/sh")
    assert not here.program("/etc/passwd")
    assert not here.program("no-such-program")
    assert here.user("root") == 0
    assert here.user("no-such-user") is None
    assert ipaddress.ip_interface("127.0.0.1/8") in here.interfaces()


@pytest.mark.parametrize(
    ("network", "dropin", "drops"),
    [
        ("[Network]\n", "", True),
        ("[Network]\nKeepConfiguration=static\n", "", True),
        ("[Network]\nKeepConfiguration = yes\n", "", False),
        ("[Network]\n", "[Network]\nKeepConfiguration=yes\n", False),
        ("[Network]\nKeepConfiguration=yes\n", "[Network]\nKeepConfiguration=no\n", True),
    ],
)
def test_networkd(tmp_path: pathlib.Path, network: str, dropin: str, drops: bool) -> None:
    links = tmp_path / "run/systemd/netif/links"
    links.mkdir(parents=True)
    (links / "1").write_text("ADMIN_STATE=unmanaged\n")
    (links / "2").write_text("ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/a.network\n")
    directory = tmp_path / "etc/systemd/network"
    (directory / "a.network.d").mkdir(parents=True)
    (directory / "a.network").write_text(network)
    (directory / "a.network.d/x.conf").write_text(dropin)
    expected = ("/etc/systemd/network/a.network",) if drops else ()
    assert this_machine(tmp_path).dropping_networkd() == expected


def test_a_clock_that_is_steered_faster_than_drift_covers(etc: pathlib.Path) -> None:
    missing = (f"{etc.parent}/web/bin/own",)
    chrony = Steering("/etc/chrony.conf", CHRONY_DEFAULT, -83333.0)
    later = "and `drift` covers 20,000: a lease may end here later than others think"
    assert warnings(run(etc, machine(missing, steering=chrony))) == [
        f"/etc/chrony.conf: chronyd may slew the clock by 83,333 parts per million, {later}; "
        "`maxslewrate 500` there, and `makestep 1 3` for the start",
        f"the kernel steers this node's clock by -83,333 parts per million now, {later}; "
        "`chronyc tracking` shows when it is over, `adjtimex --tick 10000` ends it",
    ]
    assert warnings(run(etc, machine(missing, steering=Steering("/etc/chrony.conf", 20000.0, 19000.0)))) == []
    (etc / "cluster.yaml").write_text((etc / "cluster.yaml").read_text() + "timing: {drift: 130ms}\n")
    assert warnings(run(etc, machine(missing, steering=chrony))) == []
