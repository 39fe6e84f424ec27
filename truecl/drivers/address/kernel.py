"""Carries out what netd's core asks for (`truecl.core.hold`): the kernel's addresses, and frames on the wire.

Everything but the conflict probe is done when `perform` first runs, without waiting for anything.
"""

import errno
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from truecl.core.hold import (
    LAPSED,
    Announce,
    AskConflict,
    Configure,
    Conflict,
    NetAction,
    Outcome,
    Remove,
    Warn,
    lifetime,
)
from truecl.drivers.address.arp import Announcer
from truecl.drivers.address.conflict import other_owner
from truecl.drivers.address.netlink import AddressMessage, Netlink
from truecl.drivers.contract import Loop

MAX_PREPARED = 1024
"""Renewal messages kept."""


class KernelAddresses:
    """`macs`: this node's hardware addresses; `warn`: a line for the log."""

    def __init__(
        self, netlink: Netlink, loop: Loop, macs: Callable[[], Iterable[bytes]], warn: Callable[[str], None]
    ) -> None:
        self._netlink = netlink
        self._loop = loop
        self._macs = macs
        self._warn = warn
        self._announcer = Announcer()
        self._prepared: dict[tuple[int, str, int], AddressMessage] = {}

    def close(self) -> None:
        """Its own sockets; the netlink one is its maker's."""
        self._announcer.close()

    async def perform(self, action: NetAction) -> Outcome | Conflict:
        """Never raises OSError: what the kernel refuses is the outcome's reason."""
        try:
            match action:
                case Configure():
                    return self._configure(action)
                case Remove():
                    return self._remove(action)
                case Announce():
                    self._announcer.announce(action.interface, action.address)
                case Warn():
                    self._warn(action.text)
                case AskConflict():
                    return Conflict(await other_owner(action.address, action.interface, self._macs(), self._loop))
                case _:
                    raise TypeError(f"{type(action).__name__} is nothing that netd does")
        except OSError as error:
            return failed(action, error)
        return Outcome()

    def _configure(self, action: Configure) -> Outcome:
        try:
            index = socket.if_nametoindex(action.interface)
        except OSError:
            return Outcome(f"this node has no interface {action.interface}")
        message = self._message(index, action.address, action.prefix)
        # The clock right before, and again right after: this process may have been stopped anywhere in between.
        valid = lifetime(action.until, self._loop.now(), action.margin)
        if valid <= 0:
            return Outcome(LAPSED)
        try:
            self._netlink.configure(message, valid)
        finally:
            over = self._loop.now() >= action.until
            if over:
                self._netlink.delete(index, action.address, action.prefix)
        return Outcome(LAPSED) if over else Outcome()

    def _message(self, index: int, address: str, prefix: int) -> AddressMessage:
        key = (index, address, prefix)
        message = self._prepared.get(key)
        if message is None:
            if len(self._prepared) >= MAX_PREPARED:
                del self._prepared[next(iter(self._prepared))]
            message = self._prepared[key] = AddressMessage(index, address, prefix)
        return message

    def _remove(self, action: Remove) -> Outcome:
        wanted = str(ip_address(action.address))
        names = {link.index: link.name for link in self._netlink.links()}

        def left() -> list[tuple[int, int, bool]]:
            return [
                (each.index, each.prefix, each.ours)
                for each in self._netlink.addresses()
                if each.address == wanted and action.interface in ("", names.get(each.index, ""))
            ]

        for index, prefix, ours in left():
            if ours:
                self._netlink.delete(index, wanted, prefix)
        remaining = left()
        if not remaining:
            return Outcome()
        index, _, ours = remaining[0]
        who = "still" if ours else "by somebody else"
        return Outcome(f"{wanted} is configured on {names.get(index, index)} {who}")


def failed(action: NetAction, error: BaseException) -> Outcome | Conflict:
    """The result of an action that ended in an exception."""
    reason = _in_words(action, error)
    return Conflict(reason=reason) if isinstance(action, AskConflict) else Outcome(reason)


def _in_words(action: NetAction, error: BaseException) -> str:
    where = f" on {action.interface}" if isinstance(action, Configure | Announce | AskConflict) else ""
    what = f"{type(action).__name__.lower()} {getattr(action, 'address', '')}{where}"
    if isinstance(error, OSError) and error.errno == errno.EPERM:
        return f"{what}: not permitted; netd needs CAP_NET_ADMIN and CAP_NET_RAW"
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return f"{what}: {text or type(error).__name__}"
