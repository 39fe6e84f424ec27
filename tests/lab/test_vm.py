"""Nodes that are kernels: every verb of the lab, the cage around them, LVM, DRBD and the watchdog in them, and truecl.

One lab for all, since a boot takes seconds. Tests leave the nodes on and healed; from the first that forms it on, the
cluster stays formed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from clusterlib import Cluster, until
from lablib import Net, assert_no_trace, lab_name

from truecl.lab import cgroups, sample
from truecl.lab.cluster import Lab
from truecl.lab.description import LabNode
from truecl.lab.errors import LabError
from truecl.lab.vm import packages

pytestmark = [pytest.mark.lab, pytest.mark.vm]

WATCHDOG = {"use": "required", "timeout": "6s", "watchdog_survives_pause": True}
WRITE = """
import os
for name in ("synced", "unsynced"):
    fd = os.open(f"/var/lib/truecl/{name}", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * 100000)
    if name == "synced":
        os.fsync(fd)
"""


def provide(nodes: Sequence[LabNode], links: Sequence[str]) -> None:
    """The sample application, and the watchdog on every node."""
    sample.provide(nodes, links)
    for node in nodes:
        path = node.etc / "cluster.yaml"
        configuration = yaml.safe_load(path.read_text())
        for entry in configuration["nodes"].values():
            entry["watchdog"] = dict(WATCHDOG)  # a copy: cluster.yaml knows no anchors
        path.write_text(yaml.safe_dump(configuration, sort_keys=False))


@pytest.fixture(scope="module")
def lab(kernels: None) -> Iterator[Lab]:
    name = lab_name("vm")
    with Lab.up(3, name=name, provide=provide, vm=True) as made:
        yield made
    assert_no_trace(name)


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Cluster:
    made = Cluster(lab)
    made.form()
    made.wait_up(seconds=60)
    return made


def shell(lab: Lab, node: str, script: str, timeout: float = 60.0) -> str:
    """What a script in the node prints. Raises LabError when it fails."""
    return lab.exec(node, ["/bin/sh", "-ec", script], timeout).check().out


def kernel_process(lab: Lab, node: str) -> int:
    """The machine's number of the node's kernel."""
    parent = lab.pid(node)
    return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])


def members(lab: Lab, node: str) -> list[int]:
    """The machine's numbers of all that belongs to a node."""
    return cgroups.members(lab.paths.node_group(cgroups.mount_point(), node))


def boots(lab: Lab, node: str) -> int:
    return next(status.boots for status in lab.status() if status.name == node)


# ---- what a node is --------------------------------------------------------------------------------------------------


def test_every_node_has_a_kernel_of_its_own(lab: Lab) -> None:
    look = "cat /proc/sys/kernel/random/boot_id; uname -r; uname -n; ls /sys/class/net"
    said = [shell(lab, node, look).split() for node in ("n1", "n2")]
    assert len({words[0] for words in said} | {Path("/proc/sys/kernel/random/boot_id").read_text().strip()}) == 3
    assert {words[1] for words in said} == {packages.Packages().release}
    assert [words[2:] for words in said] == [["n1", "eth0", "eth1", "lo"], ["n2", "eth0", "eth1", "lo"]]


def test_what_a_node_writes_stays_in_it_but_what_is_shared(lab: Lab) -> None:
    for path in ("/etc/here", "/usr/here", "/var/lib/truecl/here", "/tmp/here", "/run/here"):
        shell(lab, "n1", f"touch {path}")
        assert not Path(path).exists()
        assert lab.exec("n2", ["test", "-e", path]).code == 1
    shell(lab, "n1", "echo from-n1 >/shared/here; echo configured >/etc/truecl/here")
    assert shell(lab, "n2", "cat /shared/here") == "from-n1\n"
    assert (Path(lab.description.shared) / "here").read_text() == "from-n1\n"
    assert (lab.description.node("n1").etc / "here").read_text() == "configured\n"
    (lab.description.node("n1").etc / "here").write_text("changed outside\n")
    assert shell(lab, "n1", "cat /etc/truecl/here") == "changed outside\n"


def test_the_cage(lab: Lab) -> None:
    """What code that got loose would find."""
    pid = kernel_process(lab, "n1")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["CapBnd"] == status["CapEff"] == "000000000000000f"  # chown, the two of dac, fowner
    assert (status["NoNewPrivs"], status["Cpus_allowed_list"].isdigit()) == ("1", True)
    for kind in ("mnt", "pid", "net", "ipc", "uts"):
        assert Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    writable = {words[4] for words in mounts if "rw" in words[5].split(",")}
    assert writable == {lab.description.node("n1").directory, lab.description.shared, "/proc", "/dev/shm"}
    assert names(f"/proc/{pid}/root/dev") == ["null", "random", "shm", "urandom", "zero"]
    assert names(f"/proc/{pid}/root/run/truecl-lab/{lab.paths.name}/nodes") == ["n1"]


def names(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


# ---- commands --------------------------------------------------------------------------------------------------------


def test_a_command_has_its_input_output_errors_and_exit_code(lab: Lab) -> None:
    result = lab.exec("n1", ["sh", "-c", "cat; echo wrong >&2; exit 7"], stdin="given\n")
    assert (result.code, result.out, result.err) == (7, "given\n", "wrong\n")
    assert lab.exec("n1", ["no-such-command"]).code == 127
    assert lab.exec("n1", ["sh", "-c", "kill -9 $$"]).code == 137
    much = "x" * 3_000_000
    assert lab.exec("n1", ["cat"], stdin=much).out == much
    assert lab.exec("n1", ["true"], stdin=much).code == 0
    result = lab.exec("n1", ["head", "-c", "1000000", "/dev/zero"], stdin=much)  # input unread, output under way
    assert (result.code, len(result.out)) == (0, 1_000_000)
    started = time.monotonic()
    assert lab.exec("n1", ["sh", "-c", "sleep 30 & echo done"]).out == "done\n"
    assert time.monotonic() - started < 20
    assert "PATH" in lab.exec("n1", ["env"]).out


def test_a_command_whose_asker_is_killed_ends(lab: Lab) -> None:
    with lab.popen("n1", ["sleep", "987"], stdin=subprocess.DEVNULL) as process:
        until(lambda: lab.exec("n1", ["pgrep", "-fx", "sleep 987"]).code == 0, "the command runs")
        process.kill()
    until(lambda: lab.exec("n1", ["pgrep", "-fx", "sleep 987"]).code == 1, "it ends")


def test_a_terminal(lab: Lab) -> None:
    command = f"{sys.executable} -m truecl.cli.lab exec n1 --name {lab.paths.name} -- sh -c 'tty; stty size; exit 3'"
    script = ["script", "--quiet", "--return", "--command", f"stty rows 33 cols 99; {command}", "/dev/null"]
    done = subprocess.run(script, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (3, ["/dev/pts/0", "33", "99"])


# ---- network ---------------------------------------------------------------------------------------------------------


def test_cuts(lab: Lab) -> None:
    net = Net(lab)
    assert net.reaches("n1", "10.77.1.2") and net.reaches("client", "10.77.1.2") and net.reaches("n1", "fd77:2::2")
    lab.cut("n2", link=1)
    assert not net.reaches("n1", "10.77.1.2") and net.reaches("n1", "10.77.2.2")
    assert shell(lab, "n2", "echo the lab still reaches it") == "the lab still reaches it\n"
    lab.cut("n3", source="n1", one_way=True)
    assert not net.reaches("n1", "10.77.2.3") and net.reaches("n2", "10.77.2.3")
    assert lab.heal() == 4
    assert net.reaches("n1", "10.77.1.2") and net.reaches("n1", "10.77.2.3")
    with pytest.raises(LabError, match="without --unplug"):
        lab.cut("n1", link=1, unplug=True)


# ---- power -----------------------------------------------------------------------------------------------------------


def test_a_paused_node_does_nothing_while_its_kernel_answers(lab: Lab) -> None:
    net = Net(lab)
    count = "import time\nwhile True:\n    print(time.monotonic(), flush=True)\n    time.sleep(0.02)"
    with lab.popen("n2", [sys.executable, "-ISc", count], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        lab.pause("n2")
        assert lab.state("n2") == "paused"
        paused = time.monotonic()
        assert all(net.reaches("client", "10.77.1.2") for _ in range(10))
        with pytest.raises(LabError, match="lha_lab resume n2"):
            lab.exec("n2", ["true"])
        stood = time.monotonic() - paused
        lab.resume("n2")
        last = float(process.stdout.readline())
        gaps = []
        while not gaps or max(gaps) < stood:
            now = float(process.stdout.readline())
            gaps.append(now - last)
            last = now
        process.kill()
    lab.pause("n2", silent=True)
    assert lab.state("n2") == "paused" and not net.reaches("client", "10.77.1.2")
    lab.resume("n2")
    assert net.reaches("client", "10.77.1.2") and lab.cuts() == []
    assert shell(lab, "n2", "echo runs on") == "runs on\n"


def test_a_power_cut_loses_what_was_not_synced_and_keeps_what_was(lab: Lab) -> None:
    lab.exec("n2", [sys.executable, "-ISc", WRITE]).check()
    with lab.popen("n2", ["sleep", "600"]) as process:
        lab.kill("n2")
        assert process.wait(5) != 0
    assert lab.state("n2") == "off" and members(lab, "n2") == []
    assert not Net(lab).reaches("n1", "10.77.1.2")
    with pytest.raises(LabError, match="lha_lab boot n2"):
        lab.exec("n2", ["true"])
    lab.boot("n2")
    found = shell(lab, "n2", "find /var/lib/truecl -name '*synced' -size 100000c")
    assert found.split() == ["/var/lib/truecl/synced"]


def test_the_fence_agent_inside_asks_the_power_switch(lab: Lab) -> None:
    node = lab.description.node("n2")

    def fence(action: str) -> tuple[int, str]:
        given = {"action": action, **node.fence_parameters}
        result = lab.exec("n1", [node.fence_agent], stdin="".join(f"{key}={value}\n" for key, value in given.items()))
        return result.code, result.out + result.err

    assert fence("status") == (0, "Status: ON\n")
    assert fence("off")[0] == 0 and lab.state("n2") == "off"
    assert fence("status") == (2, "Status: OFF\n")
    lab.power("n2", "refuse")
    code, said = fence("off")
    assert code == 1 and "refuses" in said
    lab.power("n2", "ok")
    assert fence("list") == (0, "n1,\nn2,\nn3,\n")
    assert fence("on")[0] == 0 and lab.state("n2") == "on"


def test_a_reset_is_a_boot_that_keeps_the_disk_and_ends_what_hung_on_the_node(lab: Lab) -> None:
    before = boots(lab, "n3")
    shell(lab, "n3", "echo kept >/etc/kept; sync")
    with lab.popen("n3", ["sleep", "600"]) as process:
        with suppress(LabError):
            lab.exec("n3", ["sh", "-c", "echo b >/proc/sysrq-trigger"], timeout=2)
        until(lambda: boots(lab, "n3") == before + 1, "n3 booted again", 60)
        assert process.wait(10) == 255
    assert shell(lab, "n3", "cat /etc/kept") == "kept\n"


def test_a_kernel_that_dies_alone_takes_all_of_its_node_with_it(lab: Lab) -> None:
    shell(lab, "n3", "sleep 600 >/dev/null 2>&1 &")
    until(lambda: lab.exec("n3", ["pgrep", "-fx", "sleep 600"]).code == 0, "a process runs")
    processes = members(lab, "n3")
    os.kill(kernel_process(lab, "n3"), signal.SIGKILL)
    until(lambda: lab.state("n3") == "off", "n3 is off")
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists() and is_alive(pid)]
    lab.boot("n3")


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# ---- storage ---------------------------------------------------------------------------------------------------------

DRBD = """
resource r0 {
    protocol C; device /dev/drbd0; disk /dev/vg0/lv0; meta-disk internal;
    on n1 { address 10.77.2.1:7788; }
    on n2 { address 10.77.2.2:7788; }
}
"""


def test_drbd_on_lvm_replicates(lab: Lab) -> None:
    """The tools and modules are all there: written on one node, read on the other, gone from both."""
    make = "pvcreate -qq /dev/ubdb; vgcreate -qq vg0 /dev/ubdb; lvcreate -qq -y -Wn -Zn -n lv0 -L 32M vg0"
    make += "; vgmknodes -qq vg0"  # no udev is here to make them
    for node in ("n1", "n2"):
        shell(lab, node, f"modprobe -a dm-mod drbd; {make}; cat >/etc/drbd.d/r0.res <<'END'\n{DRBD}END")
        shell(lab, node, "drbdadm create-md --force r0; drbdadm up r0")
    until(lambda: shell(lab, "n1", "drbdadm cstate r0") == "Connected\n", "the two are connected", 30)
    use = "mount /dev/drbd0 /mnt; {}; umount /mnt; drbdadm secondary r0"
    shell(lab, "n1", "drbdadm new-current-uuid --clear-bitmap r0/0; drbdadm primary r0; mkfs.ext4 -q /dev/drbd0")
    shell(lab, "n1", use.format("echo replicated >/mnt/word"))
    assert shell(lab, "n2", "drbdadm primary r0; " + use.format("cat /mnt/word")) == "replicated\n"
    for node in ("n1", "n2"):
        shell(lab, node, "drbdadm down r0; rm /etc/drbd.d/r0.res; vgremove -qq -ff -y vg0; pvremove -qq /dev/ubdb")


# ---- truecl ----------------------------------------------------------------------------------------------------------


def test_an_application_fails_over_when_its_node_loses_power(lab: Lab, cluster: Cluster) -> None:
    cluster.start("web")
    with lab.probe(sample.TARGET) as probe:
        assert probe.wait_answer(20, node="n1") == "n1"
        lab.exec("client", ["curl", "-s", f"http://{sample.ADDRESS}/add?acknowledged"]).check()
        lab.kill("n1")
        survivor = until(lambda: next((n for n in probe_nodes(lab) if n != "n1"), ""), "another node answers", 30)
        probe.wait_answer(20, node=survivor)
    text = lab.exec("client", ["curl", "-s", f"http://{sample.ADDRESS}/"]).check().out
    assert f"served by {survivor}" in text and "acknowledged" in text
    assert probe.result.longest < 20
    lab.boot("n1")
    cluster.wait_up(at=survivor, seconds=60)
    cluster.stop("web", node=survivor)


def probe_nodes(lab: Lab) -> list[str]:
    """Who answers the application's address now."""
    said = lab.exec("client", ["curl", "-s", "-m", "1", f"http://{sample.ADDRESS}/"])
    words = said.out.split()
    return [words[2]] if said.code == 0 and words[:2] == ["served", "by"] else []


def test_a_stopped_reqd_ends_in_a_reset_and_the_application_runs_elsewhere(lab: Lab, cluster: Cluster) -> None:
    """The power switch refuses, and the node is cut off, so that it cannot report after its boot that all stopped: only
    the watchdog can have ended it, and only its proof can have moved the application."""
    cluster.start("web", "-N", "n2")
    for node in cluster.nodes:
        lab.power(node, "refuse")
    before = boots(lab, "n2")
    try:
        shell(lab, "n2", "pkill -STOP -x reqd")
        lab.cut("n2")
        until(lambda: boots(lab, "n2") > before or runs_at(cluster, "n1", "n3"), "n2 was reset", 60)
        assert boots(lab, "n2") == before + 1
        until(lambda: runs_at(cluster, "n1", "n3"), "the application runs elsewhere", 90)
        assert shell(lab, "n2", "grep -c /srv/web /proc/mounts || true") == "0\n"
    finally:
        for node in cluster.nodes:
            lab.power(node, "ok")
        lab.heal()
    cluster.wait_up(seconds=60)
    cluster.stop("web")


def runs_at(cluster: Cluster, *nodes: str) -> bool:
    row = cluster.app("web")
    return row["status"] == "UP" and row["node"] in nodes


def test_the_lab_tells_what_it_is(lab: Lab) -> None:
    command = [sys.executable, "-m", "truecl.cli.lab", "list", "--json", "--name", lab.paths.name]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said["kind"] == "kernels"
    assert [(node["name"], node["state"]) for node in said["nodes"]] == [("n1", "on"), ("n2", "on"), ("n3", "on")]
