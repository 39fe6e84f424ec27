"""The first process of a node that has a kernel: `init.py DIRECTORY`, the node's directory on the machine.

It builds the root, loads modules, sets the network up, starts the agent (`truecl.lab.vm.agent`), says `up` on the
serial line, keeps truecl's service running and reaps orphans, as `truecl.lab.init` does in namespaces.
"""

import json
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))))

from truecl.lab import cgroups, init, kernel  # noqa: E402
from truecl.lab.paths import AGENT_GROUP, SCOPE  # noqa: E402
from truecl.lab.vm import root  # noqa: E402

CGROUPS = "/sys/fs/cgroup"
SOFTDOG = "watchdog1"
"""What its module makes beside a watchdog that was there first."""
SERIAL = "/dev/ttyS0"
"""Of which `truecl.lab.vm.machine` has the other end."""


def main() -> None:
    kernel.mount("proc", "/proc", "proc")
    with open(f"{sys.argv[1]}/boot.json", encoding="utf-8") as file:
        boot = json.load(file)
    os.environ.clear()
    os.environ.update(boot["environment"])
    root.build(boot)
    socket.sethostname(boot["name"])
    for group in (SCOPE, AGENT_GROUP):
        os.mkdir(f"{CGROUPS}/{group}")
    cgroups.write(f"{CGROUPS}/{SCOPE}/cgroup.procs", "0")
    subprocess.run(["modprobe", "--all", *boot["modules"]], check=True)
    # User-mode Linux has a watchdog of its own by that name, which needs a program outside.
    os.unlink("/dev/watchdog")
    os.symlink(SOFTDOG, "/dev/watchdog")
    init.set_network()
    subprocess.run(["ip", "-batch", "-"], input="".join(f"{line}\n" for line in boot["inside"]), text=True, check=True)
    start_agent(boot)
    serial = os.open(SERIAL, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    init.run(boot["service"], boot["environment"], lambda: announce(serial))


def start_agent(boot: dict[str, object]) -> None:
    """Returns when it listens."""
    ready, said = os.pipe()
    os.set_inheritable(said, True)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent.py")
    link = [str(boot[word]) for word in ("interface", "inner", "outer")]
    os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", script, str(said), *link], os.environ)
    os.close(said)
    if os.read(ready, 16) != b"ready":
        raise SystemExit("the agent did not start")
    os.close(ready)


def announce(serial: int) -> None:
    os.write(serial, b"up\n")


if __name__ == "__main__":
    main()
