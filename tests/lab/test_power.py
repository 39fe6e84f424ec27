"""Power: cuts that lose what was not synced, boots, pauses, and the switch as a fence device."""

import time
from pathlib import Path

import pytest
from lablib import Net, wait_until

from truecl.lab import loops
from truecl.lab.cluster import Lab
from truecl.lab.errors import LabError

pytestmark = pytest.mark.lab

WRITE = """
import os, sys
directory = sys.argv[1]
for name in ("synced", "unsynced"):
    fd = os.open(f"{directory}/{name}", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * 100000)
    if name == "synced":
        os.fsync(fd)
        parent = os.open(directory, os.O_RDONLY)
        os.fsync(parent)
print("written", flush=True)
"""


def write_two_files(lab: Lab, node: str, directory: str) -> None:
    lab.exec(node, ["/usr/bin/env", "python3", "-c", WRITE, directory]).check()


def whole_files(lab: Lab, node: str, directory: str) -> list[str]:
    """Names of the files that hold all that was written."""
    return lab.exec(node, ["find", directory, "-type", "f", "-size", "100000c"]).check().out.split()


def mount_shared(lab: Lab, node: str) -> int:
    """Attach and mount /shared/app.img; returns the loop device's number."""
    made = lab.exec(node, ["losetup", "--find", "--show", "/shared/app.img"]).check().out.strip()
    lab.exec(node, ["mkdir", "-p", "/srv/app"]).check()
    lab.exec(node, ["mount", made, "/srv/app"]).check()
    return int(made.removeprefix("/dev/loop"))


def make_shared(lab: Lab) -> None:
    image = Path(lab.description.shared) / "app.img"
    lab.exec("n1", ["truncate", "--size=32M", "/shared/app.img"]).check()
    lab.exec("n1", ["mkfs.ext4", "-qF", "-E", "lazy_itable_init=0", "/shared/app.img"]).check()
    assert image.stat().st_size == 32 << 20


def test_a_power_cut_loses_what_was_not_synced_and_keeps_what_was(lab: Lab) -> None:
    write_two_files(lab, "n1", "/var/lib/truecl")
    assert len(whole_files(lab, "n1", "/var/lib/truecl")) == 2
    lab.kill("n1")
    assert lab.state("n1") == "off"
    lab.boot("n1")
    assert whole_files(lab, "n1", "/var/lib/truecl") == ["/var/lib/truecl/synced"]


def test_without_a_power_cut_both_files_stay(lab: Lab) -> None:
    """The test above measures the cut, not a disk that forgets."""
    directory = "/var/lib/truecl/calm"
    lab.exec("n3", ["mkdir", directory]).check()
    write_two_files(lab, "n3", directory)
    lab.exec("n3", ["sync"]).check()
    lab.kill("n3")
    lab.boot("n3")
    assert len(whole_files(lab, "n3", directory)) == 2


def test_an_application_image_loses_unsynced_data_and_is_free_for_the_next_node(lab: Lab) -> None:
    make_shared(lab)
    number = mount_shared(lab, "n1")
    write_two_files(lab, "n1", "/srv/app")
    lab.kill("n1")
    assert number not in loops.attached()
    mount_shared(lab, "n2")
    assert whole_files(lab, "n2", "/srv/app") == ["/srv/app/synced"]
    lab.kill("n2")
    lab.boot("n1")
    lab.boot("n2")


@pytest.mark.namespaces
def test_a_file_system_that_no_mount_shows_is_cut_off_too(lab: Lab) -> None:
    """Unmounted lazily while a process holds a file open: no mount table has it, and it could still be written."""
    make_shared(lab)
    number = mount_shared(lab, "n1")
    hold = "import os, sys, time\n" + WRITE + "\nos.open('/srv/app', os.O_RDONLY)\ntime.sleep(600)"
    with lab.popen("n1", ["/usr/bin/env", "python3", "-c", hold, "/srv/app"], stdout=-1) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "written\n"
        lab.exec("n1", ["umount", "--lazy", "/srv/app"]).check()
        assert Path(f"/sys/fs/ext4/loop{number}").exists()
        lab.kill("n1")
    assert number not in loops.attached()
    lab.boot("n1")
    mount_shared(lab, "n1")
    assert whole_files(lab, "n1", "/srv/app") == ["/srv/app/synced"]
    lab.exec("n1", ["umount", "/srv/app"]).check()
    lab.exec("n1", ["losetup", "--detach-all"])
    lab.kill("n1")
    lab.boot("n1")


@pytest.mark.namespaces
def test_a_node_tells_its_own_loop_devices_by_the_path(lab: Lab) -> None:
    """Loop devices are the machine's: every node sees all. The same image on two nodes must not look the same."""
    make_shared(lab)
    seen = {}
    for node in ("n1", "n2"):
        made = lab.exec(node, ["losetup", "--find", "--show", "/shared/app.img"]).check().out.strip().rpartition("/")[2]
        seen[node] = f"/sys/block/{made}/loop/backing_file"
    real = {node: lab.exec(node, ["realpath", "/shared/app.img"]).check().out for node in ("n1", "n2")}
    for reader in ("n1", "n2"):
        for owner, path in seen.items():
            said = lab.exec(reader, ["cat", path]).check().out
            assert said == real[owner]
            assert (said == real[reader]) is (reader == owner)
    for node in ("n1", "n2"):
        lab.kill(node)
        lab.boot(node)
    assert not [file for file in loops.attached().values() if file.startswith(f"/shared.{lab.paths.name}.")]


def test_processes_started_from_outside_die_with_the_power(lab: Lab) -> None:
    with lab.popen("n2", ["sleep", "600"]) as process:
        lab.kill("n2")
        assert process.wait(5) != 0
    lab.boot("n2")


def test_a_dead_node_answers_nothing_and_boots_again(lab: Lab, net: Net) -> None:
    lab.kill("n2")
    lab.kill("n2")
    assert not net.reaches("n1", "10.77.1.2")
    with pytest.raises(LabError, match="lha_lab boot n2"):
        lab.exec("n2", ["true"])
    lab.boot("n2")
    wait_until(lambda: net.reaches("n1", "10.77.1.2"))
    with pytest.raises(LabError, match="already"):
        lab.boot("n2")


@pytest.mark.namespaces
def test_a_paused_node_does_nothing_while_its_kernel_answers(lab: Lab, net: Net) -> None:
    count = "import time\nwhile True:\n    print(time.monotonic(), flush=True)\n    time.sleep(0.005)"
    with lab.popen("n2", ["/usr/bin/env", "python3", "-c", count], stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        lab.pause("n2")
        assert lab.state("n2") == "paused"
        paused = time.monotonic()
        assert net.reaches("n1", "10.77.1.2")
        with pytest.raises(LabError, match="lha_lab resume n2"):
            lab.exec("n2", ["true"])
        resumed = time.monotonic()
        lab.resume("n2")
        # Nothing was printed in between, and the clock ran on.
        while (printed := float(process.stdout.readline())) < paused:
            pass
        assert printed >= resumed
        process.kill()
        lab.exec("n2", ["pkill", "-f", "time.monotonic"])


def test_a_silent_pause_is_that_of_a_stopped_machine(lab: Lab, net: Net) -> None:
    lab.pause("n2", silent=True)
    assert not net.reaches("n1", "10.77.1.2")
    assert lab.heal() == 0
    lab.resume("n2")
    assert net.reaches("n1", "10.77.1.2")
    assert lab.cuts() == []


def test_a_paused_node_can_lose_its_power(lab: Lab, net: Net) -> None:
    lab.pause("n2", silent=True)
    lab.kill("n2")
    lab.boot("n2")
    assert lab.state("n2") == "on"
    assert net.reaches("n2", "10.77.1.1")


def fence(lab: Lab, action: str, plug: str, by: str = "n1") -> tuple[int, str]:
    node = lab.description.node("n1")
    given = {"action": action, **node.fence_parameters, "plug": plug}
    result = lab.exec(by, [node.fence_agent], stdin="".join(f"{key}={value}\n" for key, value in given.items()))
    return result.code, result.out + result.err


def test_the_fence_agent_follows_the_conventions(lab: Lab) -> None:
    assert fence(lab, "status", "n2")[0] == 0
    assert fence(lab, "off", "n2")[0] == 0
    assert lab.state("n2") == "off"
    assert fence(lab, "status", "n2")[0] == 2
    assert fence(lab, "off", "n2")[0] == 0
    assert fence(lab, "on", "n2")[0] == 0
    assert lab.state("n2") == "on"
    assert fence(lab, "reboot", "n2")[0] == 0
    assert fence(lab, "status", "n2")[0] == 0
    assert fence(lab, "list", "")[1] == "n1,\nn2,\nn3,\n"
    assert "<resource-agent" in fence(lab, "metadata", "")[1]
    code, said = fence(lab, "off", "n9")
    assert code == 1 and "n9" in said
    assert fence(lab, "explode", "n2")[0] == 1


def test_the_switch_can_refuse_and_be_slow(lab: Lab) -> None:
    lab.power("n2", "refuse")
    code, said = fence(lab, "off", "n2")
    assert code == 1 and "refuses" in said
    assert lab.state("n2") == "on"
    lab.power("n2", "slow 0.3")
    started = time.monotonic()
    assert fence(lab, "off", "n2")[0] == 0
    assert time.monotonic() - started >= 0.3
    lab.power("n2", "ok")
    lab.boot("n2")


def test_the_switch_outlives_its_own_death(lab: Lab) -> None:
    """Nodes keep the way to it: the directory is bound, not the socket."""
    found = [int(pid) for pid in Path(f"{lab.paths.group(lab._mount_point)}/room/cgroup.procs").read_text().split()]
    assert len(found) == 1
    lab.exec("client", ["kill", "-9", str(found[0])]).check()
    lab.kill("n3")
    lab.boot("n3")
    assert fence(lab, "status", "n3")[0] == 0
