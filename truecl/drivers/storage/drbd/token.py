"""What the fence-peer handler may answer for: a small file between reqd's driver and the handler, which the kernel
starts. Quick to import (no pathlib): the handler is waited for.

A promotion that was given up must not succeed later (seen: a `drbdadm primary` that was killed became primary two
minutes later, when its handler answered). So the driver names the generation and the time before it promotes, takes the
file away when it gives up, and the handler looks again immediately before it answers.
"""

import json
import os
import time
from contextlib import suppress
from typing import NamedTuple

Directory = str | os.PathLike[str]


class Token(NamedTuple):
    """`generation`: which instance is primary, or is being made so. `until`: CLOCK_BOOTTIME at which a promotion under
    way is given up; None: it is primary. `over`: it is primary no more."""

    generation: int
    until: float | None = None
    over: bool = False

    def stands(self, now: float) -> bool:
        return not self.over and (self.until is None or now < self.until)


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def path(run: Directory, resource: str) -> str:
    return f"{os.fspath(run)}/drbd/{resource}.token"


def split_path(run: Directory, resource: str) -> str:
    """There since DRBD found that both copies were written without the other."""
    return f"{os.fspath(run)}/drbd/{resource}.split"


def read(run: Directory, resource: str) -> Token | None:
    """None: there is none that can be read."""
    with suppress(OSError, ValueError, TypeError), open(path(run, resource), encoding="utf-8") as file:
        return Token(**json.load(file))
    return None


def write(run: Directory, resource: str, token: Token) -> None:
    """Whole or not at all. It need not outlive a power cut. Raises OSError."""
    target = path(run, resource)
    os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
    fresh = f"{os.fspath(run)}/drbd/{resource}.new"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(token._asdict(), file)
    os.replace(fresh, target)


def note_split(run: Directory, resource: str) -> None:
    """For the driver to report. Raises OSError."""
    target = split_path(run, resource)
    os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
    with open(target, "w"):
        pass


def end(run: Directory, resource: str) -> None:
    """No answer holds from here on. Raises OSError."""
    token = read(run, resource)
    write(run, resource, token._replace(over=True) if token is not None else Token(0, over=True))
