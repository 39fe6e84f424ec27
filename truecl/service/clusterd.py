"""clusterd as a process: no journal, no drivers; what it must remember is in the log."""

from truecl.runtime.process import Daemon
from truecl.service.joint import Joint


def main(daemon: Daemon) -> None:
    Joint(daemon).run()
