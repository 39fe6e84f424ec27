"""lockd as a process: the replicated log with its journal."""

from truecl.core.contract import Noted
from truecl.core.lockd import DiskFull
from truecl.runtime.process import Daemon
from truecl.service.joint import Joint


def main(daemon: Daemon) -> None:
    Joint(daemon, durable=True, when_full=Noted(DiskFull())).run()
