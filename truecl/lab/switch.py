"""The commands' way to the lab's power switch (`truecl.lab.power`), and how it is started."""

import socket
import subprocess
import sys
from pathlib import Path

from truecl.lab.errors import LabError
from truecl.lab.locks import locked
from truecl.lab.paths import Paths

REPLY_TIMEOUT = 60.0
ENTER = 'echo 0 >"$0" && exec "$@"'
"""A shell that joins the cgroup $0 and becomes the command."""


class PowerSwitch:
    """The switch of one lab; started again when it is found dead."""

    def __init__(self, paths: Paths, mount_point: str) -> None:
        self._paths = paths
        self._mount_point = mount_point

    def connect(self) -> socket.socket:
        """A connection to the control socket. Raises OSError, LabError."""
        for again in (False, True):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(REPLY_TIMEOUT)
            try:
                connection.connect(self._paths.control_socket)
                return connection
            except OSError:
                connection.close()
                if again:
                    raise
                self.start()
        raise AssertionError("unreachable: the second attempt returns or raises")

    def ask(self, request: str) -> str:
        """One order and its answer. Raises LabError with the words of a refusal.

        Asked once more when the switch dies over it: orders that are given here may be repeated.
        """
        answer = ""
        for _ in range(2):
            try:
                with self.connect() as connection, connection.makefile("rw", encoding="utf-8") as talk:
                    talk.write(f"{request}\n")
                    talk.flush()
                    answer = talk.readline().strip()
            except ConnectionError:
                continue
            except OSError as problem:
                raise LabError(f"the lab's power switch does not answer: {problem}") from None
            if answer:
                break
        word, _, rest = answer.partition(" ")
        if word != "ok":
            raise LabError(rest or f"the lab's power switch died over it, twice: see {self._paths.power_log}")
        return rest

    def start(self) -> None:
        """The power switch, in the lab's cgroup and the switch's namespace; returns when it hears."""
        with locked(f"{self._paths.control_socket}.lock"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
                if trial.connect_ex(self._paths.control_socket) == 0:
                    return  # somebody else was faster
            group = f"{self._paths.group(self._mount_point)}/room/cgroup.procs"
            script = str(Path(__file__).with_name("power.py"))
            python = [sys.executable, "-I", "-S", script, self._paths.name]
            enter = ["nsenter", f"--net={self._paths.switch_namespace}", *python]
            command = ["setsid", "--fork", "/bin/sh", "-c", ENTER, group, *enter]
            with Path(self._paths.power_log).open("a", encoding="utf-8") as log:
                null, pipe = subprocess.DEVNULL, subprocess.PIPE
                process = subprocess.Popen(command, stdin=null, stdout=pipe, stderr=log, cwd="/", text=True)
            assert process.stdout is not None
            with process.stdout as said:
                heard = said.readline().strip()
            process.wait()
            if heard != "ready":
                raise LabError(f"the lab's power switch did not start: see {self._paths.power_log}")
