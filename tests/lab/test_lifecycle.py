"""up and down: what a node is, several labs, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lablib import Net, assert_no_trace, lab_name, traces, wait_until

from truecl.config.reader import read
from truecl.lab import cgroups, loops
from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError, NoLab
from truecl.runtime.credentials import Credentials

pytestmark = pytest.mark.lab


def bare(name: str, count: int = 2) -> Lab:
    return Lab.up(count, name=name, bare=True)


def test_down_leaves_nothing() -> None:
    name = lab_name("down")
    lab = bare(name)
    try:
        lab.exec("n1", ["truncate", "--size=8M", "/shared/a.img"]).check()
        lab.exec("n1", ["losetup", "--find", "/shared/a.img"]).check()
        lab.exec("n1", ["truncate", "--size=8M", "/var/lib/truecl/b.img", "/tmp/c.img"]).check()
        lab.exec("n1", ["losetup", "--find", "/var/lib/truecl/b.img"]).check()
        lab.exec("n1", ["losetup", "--find", "/tmp/c.img"]).check()
        with lab.popen("client", ["sleep", "600"]), lab.popen("n2", ["sleep", "600"]):
            lab.pause("n2")
            assert all(traces(name).values())
            numbers = set(loops.attached())
            assert Lab.down(name)
        assert_no_trace(name)
        assert not [n for n in numbers & set(loops.attached()) if loops.attached()[n] in ("/tmp/c.img", "/b.img")]
        assert not Lab.down(name)
    finally:
        Lab.down(name)


def test_down_clears_a_half_dead_lab() -> None:
    name = lab_name("half")
    lab = bare(name)
    try:
        room = Path(f"{lab.paths.group(cgroups.mount_point())}/room/cgroup.procs").read_text().split()
        os.kill(int(room[0]), signal.SIGKILL)
        os.kill(lab.pid("n1"), signal.SIGKILL)
        Path(lab.paths.lab_file).unlink()
        with pytest.raises(LabError, match=f"lha_lab down --name {name}"):
            Lab.open(name)
    finally:
        Lab.down(name)
    assert_no_trace(name)


def test_an_up_that_fails_leaves_nothing() -> None:
    def fail(*arguments: object) -> None:
        raise LabError("no configuration")

    name = lab_name("fail")
    with pytest.raises(LabError, match="no configuration"):
        Lab.up(2, name=name, bare=True, provide=fail)
    assert_no_trace(name)


def test_two_labs_do_not_meet(lab: Lab, net: Net) -> None:
    name = lab_name("other")
    with bare(name) as other:
        assert name in Lab.names() and lab.paths.name in Lab.names()
        assert other.exec("n1", ["hostname"]).check().out == "n1\n"
        other.kill("n2")
        assert not Net(other).reaches("n1", "10.77.1.2")
        assert net.reaches("n1", "10.77.1.2")
        assert lab.state("n2") == "on"
    assert_no_trace(name)
    with pytest.raises(NoLab):
        other.kill("n1")


def test_the_same_lab_twice_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="lha_lab down"):
        bare(lab.paths.name)
    lab.exec("n1", ["true"]).check()


@pytest.mark.parametrize(
    ("kind", "inside"),
    [("mnt", True), ("net", True), ("pid", True), ("uts", True), ("ipc", True), ("cgroup", True), ("user", False)],
)
def test_each_node_has_namespaces_of_its_own(lab: Lab, kind: str, inside: bool) -> None:
    own = str(Path(f"/proc/self/ns/{kind}").readlink())
    seen = {lab.exec(node, ["readlink", f"/proc/self/ns/{kind}"]).check().out.strip() for node in ("n1", "n2")}
    assert (own not in seen and len(seen) == 2) is inside


def test_a_node_has_private_directories_and_a_machine_it_cannot_write(lab: Lab) -> None:
    for path in ("/etc/truecl", "/run", "/var/lib", "/tmp", "/srv", "/var/log"):
        lab.exec("n1", ["touch", f"{path}/here"]).check()
        assert not Path(f"{path}/here").exists()
        assert lab.exec("n2", ["test", "-e", f"{path}/here"]).code == 1
    assert lab.exec("n1", ["touch", "/usr/here"]).code != 0
    assert lab.exec("n1", ["touch", "/etc/passwd"]).code != 0
    lab.exec("n1", ["touch", "/shared/here"]).check()
    lab.exec("n2", ["test", "-e", "/shared/here"]).check()


def test_a_node_sees_its_own_cgroup_as_the_root_of_v2(lab: Lab) -> None:
    lab.exec("n1", ["mkdir", "/sys/fs/cgroup/app"]).check()
    move = "echo 0 > /sys/fs/cgroup/app/cgroup.procs && grep -q ^0::/app$ /proc/self/cgroup"
    lab.exec("n1", ["sh", "-c", move]).check()
    assert lab.exec("n2", ["test", "-e", "/sys/fs/cgroup/app"]).code == 1
    assert lab.exec("n1", ["findmnt", "-no", "FSTYPE", "/sys/fs/cgroup"]).check().out == "cgroup2\n"


def test_the_service_is_started_again_when_it_dies() -> None:
    name = lab_name("service")
    command = ("/bin/sh", "-c", "echo started >> /run/starts; exec sleep 600")
    with Lab.up(1, name=name, service=command, provide=lambda nodes, links: None) as lab:

        def starts() -> int:
            return lab.exec("n1", ["cat", "/run/starts"]).out.count("started")

        wait_until(lambda: starts() == 1)
        wait_until(lambda: lab.exec("n1", ["pkill", "-x", "sleep"]).code == 0)
        wait_until(lambda: starts() == 2)


def test_every_node_is_configured_with_the_switch_as_its_fence() -> None:
    name = lab_name("config")
    service = ("/bin/sleep", "600")
    with Lab.up(2, name=name, witness=True, service=service) as lab:
        texts = {lab.exec(node, ["cat", "/etc/truecl/cluster.yaml"]).check().out for node in ("n1", "n2", "witness")}
        assert len(texts) == 1
        configuration, problems = read({"cluster.yaml": texts.pop()})
        assert configuration is not None and problems == ()
        for node in configuration.cluster.nodes:
            assert node.witness is (node.name == "witness")
            ((device,),) = node.fence
            given = "".join(f"{key}={value}\n" for key, value in {**device.parameters, "action": "status"}.items())
            assert lab.exec("n1", [device.agent], stdin=given).code == 0
            own = Path(lab.description.node(node.name).etc)
            assert Credentials.load(own, time.time()).node == node.name


def test_orphans_are_reaped(lab: Lab) -> None:
    lab.exec("n1", ["sh", "-c", "(sleep 0.01 &) ; exit 0"]).check()
    wait_until(lambda: not lab.exec("n1", ["ps", "-eo", "stat="]).out.count("Z"))


def test_witness_and_names() -> None:
    name = lab_name("names")
    seen = []

    def provide(nodes: object, links: object) -> None:
        seen.append((nodes, links))

    with Lab.up(name=name, names=["a", "b"], witness=True, links=1, bare=True, provide=provide) as lab:
        assert [(n.name, n.witness) for n in lab.description.nodes] == [("a", False), ("b", False), ("witness", True)]
        assert lab.exec("a", ["ls", "/sys/class/net"]).check().out.split() == ["eth0", "lo"]
        assert lab.exec("a", ["getent", "hosts", "witness"]).check().out.split()[0] in ("10.77.1.3", "fd77:1::3")
    assert seen == [(lab.description.nodes, ["link1"])]


def test_the_command_tells_what_is_wrong(lab: Lab) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "truecl.cli.lab", *arguments]
        return subprocess.run(command, text=True, capture_output=True, check=False)

    command = [sys.executable, "-m", "truecl.cli.lab", "list"]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    done = subprocess.run(nobody, text=True, capture_output=True, check=False)
    assert (done.returncode, "root" in done.stderr) == (1, True), done

    name = lab.paths.name
    assert run("list", "--name", name).returncode == 0
    assert '"nodes"' in run("list", "--json", "--name", name).stdout
    for arguments, code, words in (
        (("kill", "n1", "--name", "no-such"), 3, "lha_lab up"),
        (("up", "--bare", "--name", name), 1, "lha_lab down"),
        (("kill", "n9", "--name", name), 1, "n9"),
        (("cut", "n1", "--link", "x", "--name", name), 2, "link"),
        (("up", "--names", "A_b", "--bare", "--name", "bad"), 1, "A_b"),
        (("exec", "n1", "--name", name, "--", "sh", "-c", "exit 7"), 7, ""),
    ):
        done = run(*arguments)
        assert (done.returncode, words in done.stderr) == (code, True), done
        assert "Traceback" not in done.stderr
