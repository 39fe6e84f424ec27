"""Where a node's kernel runs: namespaces in which code of the node that got loose can do nothing.

User-mode Linux runs a node's processes as processes of the machine, which only the kernel's process holds back. If that
one alone dies (out of memory), they go on as root of the machine, natively. In the cage they find nothing to write but
the node's own files, no device, no network and hardly a capability, and all die with the cage's first process.
"""

import os
from collections.abc import Mapping, Sequence

from truecl.lab import kernel

NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
CAPABILITIES = (kernel.CAP_CHOWN, kernel.CAP_DAC_OVERRIDE, kernel.CAP_DAC_READ_SEARCH, kernel.CAP_FOWNER)
"""What the node's root needs on files that it shares with the machine."""
COVERED = ("/run", "/dev", "/sys")
"""What of the machine is not seen: its sockets, devices and settings."""
NICE = -10
"""A machine of its own would have a processor of its own; and what hbd asks of its kernel, that kernel cannot pass on
to this machine's."""
DEVICES = {"null": 3, "zero": 5, "random": 8, "urandom": 9}
"""Minor numbers of major 1."""


def start(argv: Sequence[str], environment: Mapping[str, str], writable: Sequence[str], cpu: int, log: int) -> int:
    """Start a program in a cage: its process number.

    `writable`: directories below /run that it sees, and may write. `cpu`: the only one that it runs on, as a kernel
    whose processes move between two is five times slower. `log`: descriptor of its output. Raises OSError.
    """
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    kernel.unshare(kernel.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        kernel.setns(own, kernel.CLONE_NEWPID)  # else this process could start no thread any more
        os.close(own)
        return pid
    try:
        os.setsid()
        kernel.die_with_parent()
        kernel.unshare(NAMESPACES)
        _hide(writable)
        os.sched_setaffinity(0, {cpu})
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        kernel.keep_capabilities(CAPABILITIES)
        os.execve(argv[0], list(argv), environment)
    except OSError as problem:
        os.write(log, f"{argv[0]}: {problem}\n".encode())
    os._exit(127)


def _hide(writable: Sequence[str]) -> None:
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.make_read_only("/")
    held = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in writable}
    for path in COVERED:
        kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID, "mode=755")
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    for name, minor in DEVICES.items():
        os.mknod(f"/dev/{name}", 0o020666, os.makedev(1, minor))
    os.mkdir("/dev/shm")
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    for path, fd in held.items():
        os.makedirs(path, exist_ok=True)
        kernel.mount(f"/proc/self/fd/{fd}", path, flags=kernel.MS_BIND)
        kernel.make_writable(path)
        os.close(fd)
    for path in COVERED:
        kernel.make_read_only(path, below=False)
