"""The power switch: one small process of the lab, outside the nodes; the fence device of each.

Run as a script: `power.py LAB`, in the switch's network namespace. It hears two sockets, a line each way:
- `power.sock`, seen inside every node as /lab/power.sock: `off NODE`, `on NODE`, `reboot NODE`, `status NODE`, `list`.
  Answers `ok on`, `ok off` or `error TEXT`; off only when the node is truly off. The mode (`Paths.mode_file`) can make
  it slow, or make it refuse.
- `control.sock`, for the lab's own commands: `cut NODE` whatever the mode; `spawn NODE` or, where nodes have kernels,
  `kernel NODE`, which hands the connection to the node's first process.

Each request is a process of its own, so a slow one holds up no other. Imports little: it must be up at once.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator

PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, PACKAGE)

from truecl.lab import cgroups, powercut  # noqa: E402
from truecl.lab.paths import Paths  # noqa: E402

REQUEST_TIMEOUT = 5.0
LIFETIME = 120
"""Seconds after which a request's process ends, whatever it waits for."""
VERBS = ("off", "on", "reboot", "status", "list")
FIRST = {"spawn": "init.py", "kernel": "vm/machine.py"}
"""A node's first process, by the verb that starts it."""


class Refused(Exception):
    """The answer is `error` and this text."""


def main() -> None:
    paths = Paths(sys.argv[1])
    mount_point = cgroups.mount_point()
    fence, control = _listen(paths.power_socket), _listen(paths.control_socket)
    print("ready", flush=True)
    os.dup2(2, 1)  # who waited for that line has gone
    from truecl.lab import kernel  # ctypes: after the sockets answer

    kernel.become_subreaper()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    poll = select.poll()
    poll.register(fence, select.POLLIN)
    poll.register(control, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            connection, _ = (fence if fd == fence.fileno() else control).accept()
            if os.fork() == 0:
                signal.alarm(LIFETIME)
                _serve(paths, mount_point, connection, fd == fence.fileno())
                os._exit(0)
            connection.close()


def _listen(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(64)
    return listener


def _serve(paths: Paths, mount_point: str, connection: socket.socket, fence: bool) -> None:
    connection.settimeout(REQUEST_TIMEOUT)
    started = time.monotonic()
    request = ""
    try:
        request = connection.recv(256).decode("ascii", "replace").strip()
        verb, _, node = request.partition(" ")
        if verb != "list" and node not in os.listdir(f"{paths.root}/nodes"):
            raise Refused(f"no node {node!r} in this lab")
        if not fence and verb in FIRST:
            _spawn(paths, node, FIRST[verb], connection)
        answer = _fence(paths, mount_point, verb, node) if fence else _control(paths, mount_point, verb, node)
    except (Refused, powercut.CutFailed, OSError) as problem:
        answer = f"error {problem}"
    took = (time.monotonic() - started) * 1000
    with open(paths.power_log, "a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%H:%M:%S')} {'switch' if fence else 'lab'}: {request}: {answer} ({took:.1f} ms)\n")
    with contextlib.suppress(OSError):
        connection.sendall(f"{answer}\n".encode())


def _control(paths: Paths, mount_point: str, verb: str, node: str) -> str:
    if verb != "cut":
        raise Refused(f"unknown verb {verb!r}")
    with node_lock(paths, node):
        powercut.cut(paths, node, mount_point, in_switch=True)
    return "ok off"


def _fence(paths: Paths, mount_point: str, verb: str, node: str) -> str:
    if verb not in VERBS:
        raise Refused(f"unknown verb {verb!r}: one of {', '.join(VERBS)}")
    if verb == "list":
        return "ok " + " ".join(sorted(os.listdir(f"{paths.root}/nodes")))
    group = paths.node_group(mount_point, node)
    mode, _, seconds = _mode(paths, node).partition(" ")
    if mode == "slow":
        time.sleep(float(seconds))
    if verb == "status":
        return "ok on" if cgroups.event(group, "populated") or _unfinished(paths, node) else "ok off"
    if mode == "refuse":
        raise Refused("the switch refuses")
    if verb in ("off", "reboot"):
        with node_lock(paths, node):
            powercut.cut(paths, node, mount_point, in_switch=True)
    if verb in ("on", "reboot"):
        _boot(paths, node, mount_point)
        return "ok on"
    return "ok off"


def _mode(paths: Paths, node: str) -> str:
    try:
        return cgroups.read(paths.mode_file(node)).strip()
    except FileNotFoundError:
        return "ok"


def _unfinished(paths: Paths, node: str) -> bool:
    """A cut that was interrupted: loop devices of the node may still write."""
    try:
        return bool(cgroups.read(paths.loops_file(node)).strip())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def node_lock(paths: Paths, node: str) -> Iterator[None]:
    """One change of a node's power at a time, over all processes."""
    fd = os.open(paths.node_lock(node), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _spawn(paths: Paths, node: str, script: str, connection: socket.socket) -> None:
    """Become the node's first process, with the connection as descriptor 0 and its log as the others."""
    log = os.open(paths.console(node), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(connection.fileno(), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.alarm(0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    arguments = ["-I", "-S", f"{PACKAGE}/truecl/lab/{script}", paths.name, node]
    os.execv(sys.executable, [sys.executable, *arguments])


def _boot(paths: Paths, node: str, mount_point: str) -> None:
    if cgroups.event(paths.node_group(mount_point, node), "populated"):
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    arguments = [sys.executable, "-m", "truecl.cli.lab", "boot", node, "--name", paths.name]
    environment = dict(os.environ, PYTHONPATH=PACKAGE)
    pid = os.posix_spawn(sys.executable, arguments, environment)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        raise Refused(f"{node} did not boot: see {paths.power_log}")


if __name__ == "__main__":
    main()
