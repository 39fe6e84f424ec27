"""What the kernel grants is taken, what it refuses is said; either way the daemon goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

APPLY = """
import os, resource
from truecl.model.ids import *
from truecl.runtime import priority
warned = []
priority.apply(DaemonName('NAME'), warned.append)
policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
locked = int(open('/proc/self/status').read().split('VmLck:')[1].split()[0])
nice = os.getpriority(os.PRIO_PROCESS, 0)
print(policy == os.SCHED_RR, nice, locked > 0, resource.getrlimit(15)[1], *warned, sep='|')
"""


def applied(name: str) -> list[str]:
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    code = APPLY.replace("NAME", name)
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip().split("|")


@pytest.mark.root
def test_hbd_runs_in_real_time_with_a_limit_or_says_why_not() -> None:
    realtime, nice, locked, limit, *warned = applied("hbd")
    if realtime == "True":
        assert limit == "2000000"
    else:
        assert nice == "-15"
        assert any("no real-time priority" in each for each in warned)
    assert (locked == "True") != any("memory is not locked" in each for each in warned)


@pytest.mark.root
def test_daemons_that_hold_leases_are_urgent_and_others_are_not() -> None:
    assert [applied(name)[:2] for name in ("lockd", "reqd", "netd")] == [["False", "-15"]] * 3
    usual = str(os.getpriority(os.PRIO_PROCESS, 0))
    assert [applied(name)[:2] for name in ("statd", "syncd", "clusterd")] == [["False", usual]] * 3
