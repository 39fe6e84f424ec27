"""A watchdog device: open it, which arms it; feed it; close it so that it stops.

No call here waits, so the core's decision to feed and the feed are one step of this process. The descriptor is
close-on-exec, and every fork of this process closes what it does not need before anything else (`drivers/spawn.py`): a
copy in a child that hangs could keep the device busy for the next life of this daemon.
"""

import errno

from truecl.drivers.contract import StepFailed
from truecl.drivers.watchdog import api
from truecl.model.actions import WatchdogArmed

MAGIC = b"V"
_HELP = {
    errno.ENOENT: "there is no such device; load its module (softdog, where there is no hardware)",
    errno.ENXIO: "there is no such device; load its module (softdog, where there is no hardware)",
    errno.ENODEV: "there is no such device; load its module (softdog, where there is no hardware)",
    errno.EBUSY: "another program has it open (systemd's RuntimeWatchdogSec, watchdogd, wd_keepalive?)",
    errno.ENOTTY: "it is no watchdog",
}


class WatchdogDriver:
    """`virtual`: what says that this is a virtual machine ('' : nothing does)."""

    def __init__(self, calls: api.Calls, virtual: str) -> None:
        self._calls = calls
        self._virtual = virtual
        self._descriptor = -1

    def arm(self, device: str, timeout: int, armed_before: bool) -> WatchdogArmed:
        """Open it, set its timeout unless that is what it has, and read back what it took. Raises StepFailed, and then
        it is as it was: armed only if it was `armed_before`."""
        try:
            if self._descriptor < 0:
                self._descriptor = self._calls.open(device)
            options, identity = api.support(self._calls, self._descriptor)
            if not options & api.HAS_MAGICCLOSE:
                raise StepFailed(f"{device} ({identity}): it would stop when reqd dies (no magic close); use another")
            if options & api.HAS_SETTIMEOUT and api.timeout(self._calls, self._descriptor) != timeout:
                api.set_timeout(self._calls, self._descriptor, timeout)
            taken = api.timeout(self._calls, self._descriptor)
        except (OSError, StepFailed) as error:
            self._close(b"" if armed_before else MAGIC)
            if isinstance(error, StepFailed):
                raise
            raise StepFailed(f"{device}: {_HELP.get(error.errno or 0, error.strerror)}") from None
        return WatchdogArmed(identity, float(taken), self._virtual)

    def feed(self) -> None:
        """Raises StepFailed."""
        try:
            api.feed(self._calls, self._descriptor)
        except OSError as error:
            raise StepFailed(f"it cannot be fed: {error.strerror}") from None

    def disarm(self) -> None:
        """Harmless when it is not open. A device with `nowayout` goes on, and resets the node."""
        self._close(MAGIC)

    def _close(self, last: bytes) -> None:
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if last:
                self._calls.write(descriptor, last)
        except OSError:
            pass  # a plain file, or a device that is gone: there is nothing to stop
        finally:
            self._calls.close(descriptor)
