"""How fast this machine's clock is steered, and what `lha_check` says of it: leases are counted with that clock.

chronyd corrects a large offset by the length of the kernel's ticks (adjtimex(2)), which CLOCK_BOOTTIME follows too.
"""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from truecl.commands.finding import Finding, warning
from truecl.model.config import Timing

CHRONY_DEFAULT = 1e6 / 12
"""Parts per million: what chronyd may slew by where `maxslewrate` says nothing (chrony.conf(5))."""
_FILES = ("etc/chrony/chrony.conf", "etc/chrony.conf")
"""Debian's place, and that of most others."""
_MAX_INCLUDES = 10
"""Files within files, as chronyd has it."""


class Steering(NamedTuple):
    file: str = ""
    """chronyd's configuration; '': there is none."""
    allowed: float = 0.0
    """Parts per million by which chronyd may slew."""
    now: float = 0.0
    """Parts per million by which the kernel runs the clock faster now than its oscillator says."""


def clock(steering: Steering, timing: Timing) -> Iterator[Finding]:
    """Two clocks may be steered in opposite directions, so each has half of what `drift` covers."""
    covered = timing.drift / timing.lease / 2 * 1e6
    text = f"and `drift` covers {covered:,.0f}: a lease may end here later than others think"
    if steering.allowed > covered:
        what = f"{steering.file}: chronyd may slew the clock by {steering.allowed:,.0f} parts per million"
        yield warning(f"{what}, {text}; `maxslewrate 500` there, and `makestep 1 3` for the start")
    if abs(steering.now) > covered:
        what = f"the kernel steers this node's clock by {steering.now:+,.0f} parts per million now"
        yield warning(f"{what}, {text}; `chronyc tracking` shows when it is over, `adjtimex --tick 10000` ends it")


def steering(root: Path) -> Steering:
    file = next((name for name in _FILES if (root / name).is_file()), None)
    if file is None:
        return Steering(now=_now())
    rates = list(_rates(root, root / file, _MAX_INCLUDES))
    return Steering(f"/{file}", rates[-1] if rates else CHRONY_DEFAULT, _now())


def _rates(root: Path, file: Path, depth: int) -> Iterator[float]:
    """Of each `maxslewrate`, in chronyd's order: the last one counts."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0][0] in "#!;%":
            continue
        match words[0].lower():
            case "maxslewrate":
                try:
                    yield float(words[1])
                except ValueError:
                    continue  # with this line chronyd does not start
            case "include" | "confdir" if depth:
                confdir = words[0].lower() == "confdir"
                patterns = [f"{word}/*.conf" for word in words[1:]] if confdir else words[1:]
                for pattern in patterns:
                    for included in sorted(root.glob(pattern.lstrip("/"))):
                        yield from _rates(root, included, depth - 1)


# ---- the kernel ------------------------------------------------------------------------------------------------------


class _Timex(ctypes.Structure):
    """struct timex, as far as it is read, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("constant", "precision", "tolerance", "second", "microsecond", "tick")),
        ("rest", ctypes.c_char * 256),
    )


def _now() -> float:
    """Parts per million. With no mode set adjtimex only reads, which anybody may; 0.0 where it is refused."""
    timex = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        return 0.0
    nominal = 1e6 / os.sysconf("SC_CLK_TCK")
    return float((timex.tick / nominal - 1) * 1e6 + timex.freq / (1 << 16))
