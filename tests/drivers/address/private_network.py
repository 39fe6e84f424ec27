"""Two network namespaces of the test's own, joined by veth pairs; they go when their descriptors are closed."""

import ctypes
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Namespace:
    """A network namespace without a name, so nothing can be left behind."""

    def __init__(self) -> None:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            checked(LIBC.unshare(CLONE_NEWNET))
            try:
                self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                checked(LIBC.setns(here, CLONE_NEWNET))
        finally:
            os.close(here)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets opened and programs started here belong to the namespace, and stay so."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            checked(LIBC.setns(self.descriptor, CLONE_NEWNET))
            try:
                yield
            finally:
                checked(LIBC.setns(here, CLONE_NEWNET))
        finally:
            os.close(here)

    def ip(self, *words: str) -> str:
        with self.inside():
            done = subprocess.run(("ip", *words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
        return done.stdout

    def addresses(self, interface: str = "") -> dict[str, dict[str, Any]]:
        """What `ip` says: address/prefix to its facts."""
        shown = json.loads(self.ip("-j", "addr", "show", *(["dev", interface] if interface else [])))
        return {
            f"{each['local']}/{each['prefixlen']}": each | {"dev": link["ifname"]}
            for link in shown
            for each in link.get("addr_info", [])
            if "local" in each
        }

    def mac(self, interface: str) -> str:
        return str(json.loads(self.ip("-j", "link", "show", interface))[0]["address"])

    def close(self) -> None:
        os.close(self.descriptor)


class Network:
    """`node` is where truecl's drivers run; `others` is the rest of the network. Two links: eth0 and eth1."""

    def __init__(self) -> None:
        self.node = Namespace()
        self.others = Namespace()
        path = f"/proc/{os.getpid()}/fd/{self.others.descriptor}"
        for link in ("eth0", "eth1"):
            self.node.ip("link", "add", link, "type", "veth", "peer", "name", link, "netns", path)
        for place, last in ((self.node, 1), (self.others, 2)):
            place.ip("link", "set", "lo", "up")
            place.ip("addr", "add", f"10.9.0.{last}/24", "dev", "eth0")
            place.ip("addr", "add", f"fd00:9::{last}/64", "dev", "eth0", "nodad")
            for link in ("eth0", "eth1"):
                place.ip("link", "set", link, "up")
        eventually(lambda: "LOWER_UP" in self.node.ip("link", "show", "eth0"))

    def close(self) -> None:
        self.node.close()
        self.others.close()


class BlockingLoop:
    """`truecl.drivers.contract.Loop` for one coroutine that runs to its end: sleeping serves the descriptors."""

    def __init__(self) -> None:
        self._watched: dict[int, Callable[[], None]] = {}

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        self.serve(seconds)

    def serve(self, seconds: float) -> None:
        end = self.now() + seconds
        while (rest := end - self.now()) > 0:
            for descriptor in select.select(list(self._watched), [], [], rest)[0]:
                self._watched[descriptor]()

    def watch(self, descriptor: int, readable: Callable[[], None]) -> Callable[[], None]:
        self._watched[descriptor] = readable
        return lambda: self._watched.pop(descriptor, None) and None

    def launch(self, name: str, work: Coroutine[Any, Any, None]) -> Callable[[], None]:
        run(work)
        return lambda: None


def run(work: Coroutine[Any, Any, T]) -> T:
    """To the end of a coroutine that never really waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> float:
    """How long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "not within the deadline"
        select.select([], [], [], 0.01)
    return time.monotonic() - start
