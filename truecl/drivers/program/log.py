"""The output of an application's programs: one file each application, bounded.

Programs write to the file itself (through a pipe they would die with reqd), so it is bounded by looking at it now and
then: what is beyond the limit is copied to APP.log.1, the file is cut to nothing, and the appending writers go on.
"""

import os
from pathlib import Path

from truecl.drivers.contract import StepFailed, last_lines
from truecl.model.ids import AppName

LIMIT = 1024 * 1024
"""Bytes; the end of the older part, as long, is kept beside it."""


class ProgramLog:
    def __init__(self, directory: Path, app: AppName) -> None:
        self.path = directory / f"{app}.log"

    def open(self) -> int:
        """A descriptor to append to, close-on-exec. Raises StepFailed."""
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except OSError as error:
            raise StepFailed(f"cannot write the program's log {self.path}: {error.strerror}") from None

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def since(self, start: int) -> str:
        """The last lines of what was written after the file was `start` bytes long, on one line."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(start, self.size() - 4096))
                return last_lines(file.read(4096))
        except OSError:
            return ""

    def rotate(self) -> None:
        """Raises OSError. A line written between copying and cutting is lost; the alternative is to block writers."""
        size = self.size()
        if size <= LIMIT:
            return
        with self.path.open("r+b") as file:
            file.seek(size - LIMIT)
            self.path.with_suffix(".log.1").write_bytes(file.read(LIMIT))
            file.truncate(0)
