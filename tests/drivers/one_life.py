"""A life of reqd as far as its tools are concerned, in a process of its own: `one_life.py ROOT [TOOL PROGRAM]`.

With a tool and a program (shell scripts) it starts both, says 'ready' and waits to be killed. Without, it is the next
life: it prints what is left of the earlier ones, as a Python literal, and whether its wait was short.
"""

import signal
import sys
import time
from pathlib import Path

from realhost import RealHost

from truecl.drivers.program.cgroup import Groups
from truecl.drivers.tools import Tools
from truecl.model.ids import AppName, Generation
from truecl.model.step import Instance

INSTANCE = Instance(AppName("web"), Generation(5))
PATIENCE = 0.5


def main(root: Path, scripts: list[str]) -> None:
    real = RealHost()
    groups = Groups(real.loop, root)
    tools = Tools(groups, root / "reqd" / "here")
    tools.enter()
    if not scripts:
        before = time.monotonic()
        print(repr(real.do(tools.ended(PATIENCE))), time.monotonic() - before < 2 * PATIENCE, flush=True)
        return
    group = groups.program(INSTANCE, "p")
    groups.create(group)
    real.loop.launch("tool", _run(real, scripts[0], None))
    real.loop.launch("program", _run(real, scripts[1], group.path))
    real.until(group.populated)
    print("ready", flush=True)
    while True:
        signal.pause()


async def _run(real: RealHost, script: str, group: Path | None) -> None:
    await real.runner.run(("/bin/sh", "-c", script), timeout=60, cgroup=group)


main(Path(sys.argv[1]), sys.argv[2:])
