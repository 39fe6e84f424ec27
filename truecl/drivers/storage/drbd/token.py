"""What the fence-peer handler may answer for: a small file between reqd's driver and the handler, which the kernel
starts. Quick to import: the handler is waited for.

A promotion that was given up must not succeed later (seen: a `drbdadm primary` that was killed became primary two
minutes later, when its handler answered). So the driver names the generation and the time before it promotes, takes the
file away when it gives up, and the handler looks again immediately before it answers.
"""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


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


def path(run: Path, resource: str) -> Path:
    return run / "drbd" / f"{resource}.token"


def split_path(run: Path, resource: str) -> Path:
    """There since DRBD found that both copies were written without the other."""
    return run / "drbd" / f"{resource}.split"


def read(run: Path, resource: str) -> Token | None:
    """None: there is none that can be read."""
    with suppress(OSError, ValueError, TypeError):
        return Token(**json.loads(path(run, resource).read_text()))
    return None


def write(run: Path, resource: str, token: Token) -> None:
    """Whole or not at all. It need not outlive a power cut. Raises OSError."""
    target = path(run, resource)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps(token._asdict()))
    fresh.replace(target)


def end(run: Path, resource: str) -> None:
    """No answer holds from here on. Raises OSError."""
    token = read(run, resource)
    write(run, resource, token._replace(over=True) if token is not None else Token(0, over=True))
