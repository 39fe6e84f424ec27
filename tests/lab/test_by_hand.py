"""Each daemon in the foreground, on a node where no service runs."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from subprocess import PIPE

import pytest
from clusterlib import SOURCE, until
from lablib import lab_name

from truecl.lab.cluster import Lab
from truecl.model.ids import DAEMONS

pytestmark = pytest.mark.lab


@pytest.fixture
def idle() -> Iterator[Lab]:
    """Configured, but nothing of truecl runs."""
    with Lab.up(3, name=lab_name("by-hand"), service=("/bin/sleep", "infinity")) as lab:
        yield lab


def test_every_daemon_runs_by_hand_once_and_ends_with_control_c(idle: Lab) -> None:
    def command(daemon: str) -> list[str]:
        return [f"{SOURCE}/daemons/{daemon}", "--foreground"]

    def lives(daemon: str) -> tuple[int, str]:
        """Start it, try a second one beside it, end it; its exit code and what it said."""

        def owner() -> str:
            """As the second one says it. (Before the first has the lock, the second might get it, and say nothing.)"""
            if idle.exec("n1", ["cat", f"/run/truecl/{daemon}.lock"]).out != "by hand\n":
                return ""
            refused = idle.exec("n1", command(daemon))
            assert refused.code == 75, refused
            found = re.search(rf"^{daemon}: {daemon} runs already \(process (\d+)\)$", refused.err, re.MULTILINE)
            assert found, refused
            return found[1]

        with idle.popen("n1", command(daemon), stdout=PIPE, stderr=PIPE) as first:
            pid = until(owner, f"{daemon} runs")
            reached = daemon == "netd" or until(
                lambda: not idle.exec("n1", ["test", "-S", f"/run/truecl/{daemon}.sock"]).code, f"{daemon}'s socket"
            )
            assert reached and first.poll() is None
            idle.exec("n1", ["kill", "-INT", pid])
            _, said = first.communicate(timeout=10)
            return first.returncode, said

    with ThreadPoolExecutor(len(DAEMONS)) as pool:
        ends = dict(zip(DAEMONS, pool.map(lives, DAEMONS), strict=True))
    assert {daemon: code for daemon, (code, _) in ends.items()} == dict.fromkeys(DAEMONS, 0), ends
    for daemon, (_, said) in ends.items():
        assert f"{daemon}[" in said and "ends with exit code 0" in said
        assert "Traceback" not in said and "ERROR" not in said
