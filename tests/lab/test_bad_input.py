"""What is wrong with a name, a file, an image, an address or a program is said, and nothing is left behind."""

import time
from collections.abc import Callable

import pytest
from clusterlib import NODES, Cluster, address, light, program, shell, web, webapp

from truecl.lab.cluster import Result

pytestmark = pytest.mark.lab

FIRST = ("n1",)
NOT_ON_N1 = "[ $TRUECL_NODE = n1 ] && exit 1; exec "
APPS = {
    "web": web(1),
    "busy": web(2, "busy", FIRST),
    "taken": light(3),
    "missing": web(4, "missing", FIRST),
    "broken": web(5, "broken", FIRST),
    "ends": program(run=shell("echo no luck >&2; exit 3")),
    "deaf": program(run=shell("trap '' TERM; while :; do sleep 0.1; done"), stop_timeout="500ms"),
    "hangs": program(start=shell("sleep 600"), stop=["/bin/true"], start_timeout="600ms"),
    "faulty": web(6, "faulty", programs={"web": {"run": shell(NOT_ON_N1 + " ".join(webapp("/srv/faulty", 6)))}}),
    "late": program(
        start=shell("[ $TRUECL_NODE = n1 ] && sleep 600; true"), stop=["/bin/true"], app={"start_timeout": "1s"}
    ),
}


def holds_nothing(cluster: Cluster, app: str, number: int = 0, mount: str = "") -> None:
    for node in NODES:
        assert cluster.holds(node, app, number, mount) == (), node


def failed(cluster: Cluster, app: str, *reasons: str) -> Result:
    """Its start is refused with the reasons, which lha_stat goes on showing."""
    result = cluster.start(app, node="n2", code=1)
    row = cluster.app(app, "n3")
    assert row["status"] == "FAILED" and row["node"] is None, row
    for reason in reasons:
        assert reason in result.err and reason in row["note"], (reason, result.err, row)
    assert f"lha_startapp -A {app}" in row["note"]
    return result


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["lha_startapp", "lha_stopapp", "lha_moveapp"])
def test_unknown_application(cluster: Cluster, command: str) -> None:
    refused = cluster.run("n2", command, "-A", "wbe", code=1)
    assert "unknown application 'wbe'" in refused.err and "did you mean 'web'?" in refused.err


def test_unknown_application_or_node_in_stat(cluster: Cluster) -> None:
    assert "did you mean 'web'?" in cluster.run("n2", "lha_stat", "-A", "wbe", code=1).err
    assert "unknown node 'n9'" in cluster.run("n2", "lha_stat", "-N", "n9", code=1).err


def test_unknown_or_unsuitable_node(cluster: Cluster) -> None:
    assert "'n9' is not one of the nodes of 'web': n1, n2, n3" in cluster.start("web", "-N", "n9", code=1).err
    assert "'n2' is not one of the nodes of 'busy': n1" in cluster.start("busy", "-N", "n2", code=1).err
    assert cluster.app("web")["status"] == "DOWN"


@pytest.mark.parametrize(
    "argv", [("lha_startapp",), ("lha_startapp", "-A"), ("lha_form", "now"), ("lha_stat", "-t", "0")]
)
def test_wrong_usage(cluster: Cluster, argv: tuple[str, ...]) -> None:
    assert "usage:" in cluster.run("n1", *argv, code=2).err


def test_who_is_not_root_may_not_act(cluster: Cluster) -> None:
    cluster.start("web")
    (pid,) = cluster.programs("n1", "web")

    for argv in (
        ("lha_stopapp", "-A", "web"),
        ("lha_startapp", "-A", "busy"),
        ("lha_dissolve", "--force"),
        ("lha_form",),
    ):
        refused = cluster.command_as_nobody("n1", *argv)
        assert "root" in refused.err, refused
    assert cluster.programs("n1", "web") == (pid,)
    # A member of the group may look, and no more.
    look = "--groups=truecl"
    assert "web" in cluster.command_as_nobody("n1", "lha_stat", groups=look, ends=0).out
    assert "only root" in cluster.command_as_nobody("n1", "lha_stopapp", "-A", "web", groups=look).err
    assert "only root" in cluster.command_as_nobody("n1", "lha_dissolve", "--force", groups=look).err
    assert cluster.programs("n1", "web") == (pid,)
    cluster.stop("web")


# ---- storage, file systems, addresses -------------------------------------------------------------------------------


def test_image_missing(cluster: Cluster) -> None:
    failed(cluster, "missing", "/shared/missing.img")
    holds_nothing(cluster, "missing", 4, "/srv/missing")


def test_mount_point_in_use(cluster: Cluster) -> None:
    cluster.run("n1", "mkdir", "-p", "/srv/busy")
    cluster.run("n1", "mount", "-t", "tmpfs", "tmpfs", "/srv/busy")
    failed(cluster, "busy", "mount point /srv/busy is in use")
    assert not attached(cluster, "n1", "busy.img")
    assert "tmpfs" in cluster.run("n1", "findmnt", "-n", "/srv/busy").out  # not ours, not touched
    cluster.run("n1", "umount", "/srv/busy")
    cluster.start("busy")  # repaired: it starts
    cluster.stop("busy")


def attached(cluster: Cluster, node: str, image: str) -> bool:
    script = "cat /sys/block/loop*/loop/backing_file 2>/dev/null || true"
    lab = cluster.lab.paths.name
    return any(lab in line and line.endswith(image) for line in cluster.run(node, *shell(script)).out.splitlines())


def test_address_on_the_network_already(cluster: Cluster) -> None:
    """Refused on a start, on every node; nobody takes it from its owner."""
    cluster.run("client", "ip", "address", "add", f"{address(3)}/24", "dev", "eth0")
    refused = failed(cluster, "taken", address(3))
    assert "02:77:01:00:00:c8" in refused.err  # whose it is: the client's interface
    holds_nothing(cluster, "taken", 3)
    cluster.run("client", "ip", "address", "del", f"{address(3)}/24", "dev", "eth0")
    cluster.start("taken")
    assert cluster.holds(cluster.app("taken")["node"], "taken", 3) == ("address", "programs")
    cluster.stop("taken")


def test_file_system_damaged_beyond_repair(cluster: Cluster) -> None:
    dd = "dd if=/dev/urandom of=/shared/broken.img bs=1M count=2 conv=notrunc"  # the superblock and all its copies
    cluster.run("n1", *shell(f"for at in 0 8 16 24 32 40 48 56; do {dd} seek=$at; done"))
    failed(cluster, "broken", "/srv/broken")
    assert not attached(cluster, "n1", "broken.img")
    cluster.run("n1", "mkfs.ext4", "-q", "-F", "/shared/broken.img")
    cluster.start("broken")
    cluster.stop("broken")


# ---- programs -------------------------------------------------------------------------------------------------------


def test_program_that_exits_at_once(cluster: Cluster) -> None:
    refused = failed(cluster, "ends", "exit code 3", "no luck")
    for node in NODES:  # tried on each
        assert f"{node}: program it" in refused.err
    holds_nothing(cluster, "ends")
    again = cluster.start("ends", code=1)  # another try, not the old word
    assert "exit code 3" in again.err
    cluster.stop("ends")
    assert cluster.app("ends")["status"] == "DOWN"


def test_program_that_ignores_term(cluster: Cluster) -> None:
    cluster.start("deaf")
    began = time.monotonic()
    cluster.stop("deaf")
    assert time.monotonic() - began >= 0.5  # it was asked first
    holds_nothing(cluster, "deaf")


def test_start_that_passes_its_timeout_on_all_nodes(cluster: Cluster) -> None:
    refused = failed(cluster, "hangs", "not finished within 0.6 s")
    for node in NODES:
        assert f"{node}: program it" in refused.err
    holds_nothing(cluster, "hangs")


def test_start_that_passes_the_applications_timeout_goes_to_the_next_node(cluster: Cluster) -> None:
    cluster.start("late")
    row = cluster.app("late")
    assert (row["status"], row["node"]) == ("UP", "n2"), row
    cluster.stop("late")
    holds_nothing(cluster, "late")


def test_a_failed_start_walks_back_and_the_next_node_takes_it(cluster: Cluster) -> None:
    """All that was up on the first node is down before the second begins."""
    with cluster.watched("faulty", 6, "/srv/faulty") as watch:
        cluster.start("faulty")
        assert cluster.app("faulty")["node"] == "n2"
        assert cluster.holds("n1", "faulty", 6, "/srv/faulty") == ()

    assert any(held["n1"] for _, held in watch.history), "n1 was tried first"
    cluster.stop("faulty")


def test_broken_yaml_in_a_formed_cluster(cluster: Cluster) -> None:
    """The running version goes on; whoever checks or forms is told file and line."""
    cluster.start("web")
    with spoiled(cluster, "n1", "apps/web.yaml", lambda text: text.replace("nodes:", "nodes: [n1", 1)):
        checked = cluster.run("n1", "lha_check", code=1)
        assert "/etc/truecl/apps/web.yaml:" in checked.err, checked
        refused = cluster.form(code=1)
        assert "apps/web.yaml:" in refused.err and "lha_check" in refused.err
        assert cluster.app("web")["status"] == "UP"
        (pid,) = cluster.programs("n1", "web")
        cluster.stop("web")
        cluster.start("web")
    cluster.form()
    cluster.stop("web")


class spoiled:
    """One file of one node's configuration changed by `change`, and put back at the end."""

    def __init__(self, cluster: Cluster, node: str, file: str, change: Callable[[str], str]) -> None:
        self._path = cluster.lab.description.node(node).etc / file
        self._change = change

    def __enter__(self) -> None:
        self._text = self._path.read_text()
        self._path.write_text(self._change(self._text))

    def __exit__(self, *_: object) -> None:
        self._path.write_text(self._text)
