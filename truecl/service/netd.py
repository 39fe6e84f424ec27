"""netd as a process: the kernel's interfaces and addresses, and frames on the wire."""

from truecl.core.contract import Noted
from truecl.core.interfaces import Interfaces
from truecl.drivers.address.interfaces import Watcher
from truecl.drivers.address.kernel import KernelAddresses, failed
from truecl.drivers.address.netlink import Monitor, Netlink
from truecl.runtime.loop import TwistedLoop
from truecl.runtime.process import CannotStart, Daemon
from truecl.service.joint import Joint


def main(daemon: Daemon) -> None:
    joint = Joint(daemon, has_mesh=False, serves=False)
    loop = TwistedLoop(daemon.reactor, daemon.clock, lambda name, text: daemon.log.error(f"{name}: {text}"))

    def changed(interfaces: Interfaces) -> None:
        joint.feed(Noted(interfaces))

    try:
        netlink, monitor = Netlink(), Monitor()
        # The monitor listens from here on, so nothing is missed between this picture and the first event.
        watcher = Watcher(netlink, monitor, changed, daemon.log.error)
        first = watcher.start()
    except OSError as error:
        raise CannotStart(f"netd cannot speak with the kernel's network (netlink): {error.strerror}") from error
    kernel = KernelAddresses(netlink, loop, watcher.macs, daemon.log.warning)

    def begin() -> None:
        changed(first)
        loop.watch(watcher.fileno(), watcher.readable)

    joint.run(kernel.perform, failed, on_start=begin)
