"""A wall clock for each node, so that it can jump: a small library before the daemons' own (`clock.c`)."""

import shutil
import struct
import subprocess
from pathlib import Path

from truecl.lab.errors import LabError

SOURCE = Path(__file__).with_name("clock.c")
LIBRARY, OFFSET = "lab-clock.so", "lab-clock"
"""Their names in a node's /etc/truecl."""


class Clock:
    """The library, made once in `directory`. Raises LabError where there is no C compiler (tcc will do)."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("tcc")
        if compiler is None:
            raise LabError("no C compiler: without one the nodes' wall clocks cannot jump")
        self._library = directory / LIBRARY
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            raise LabError(f"{SOURCE}: {made.stderr.strip()}")

    def install(self, etc: Path) -> None:
        """Into a node's /etc/truecl, before its first boot."""
        shutil.copy(self._library, etc / LIBRARY)
        set_offset(etc, 0)

    @staticmethod
    def wrapped(service: tuple[str, ...]) -> tuple[str, ...]:
        """The service's command line, under the library."""
        settings = (f"LD_PRELOAD=/etc/truecl/{LIBRARY}", f"TRUECL_LAB_CLOCK=/etc/truecl/{OFFSET}")
        return ("/usr/bin/env", *settings, *service)


def set_offset(etc: Path, seconds: int) -> None:
    """Move a node's wall clock against the machine's, at once. The file is never made anew: it is mapped."""
    with (etc / OFFSET).open("r+b" if (etc / OFFSET).exists() else "wb") as file:
        file.write(struct.pack("=q", seconds))
