"""Orders to DRBD's tools, as argument lists.

drbdadm for what it knows best (attaching: it applies the activity log first; connecting: all options). drbdsetup, which
drbdadm would call, for roles: of a drbdadm that is killed the drbdsetup stays in the kernel, and nobody knows of it.
"""

from collections.abc import Iterable

ADM = "/sbin/drbdadm"
SETUP = "/sbin/drbdsetup"
"""Where the kernel itself calls drbdadm."""

Argv = tuple[str, ...]
MAKE_8 = ("new-resource", "new-minor", "attach")
MAKE_9 = ("new-resource", "new-minor", "new-peer", "new-path", "peer-device-options", "attach")
"""drbdadm's verbs that make a resource, all but its connection: those of `drbdadm up`, in its order."""


def look() -> Argv:
    return SETUP, "events2", "--now", "--statistics"


def show(resource: str) -> Argv:
    return SETUP, "show", resource


def read() -> Argv:
    """Reads all of drbdadm's files, says what is wrong with them, and does nothing."""
    return ADM, "sh-nop"


def adm(verb: str, resource: str, *options: str) -> Argv:
    return ADM, verb, *options, resource


def role(verb: str, major: int, resource: str, minors: Iterable[int]) -> tuple[Argv, ...]:
    """`primary` or `secondary`: of each volume by itself before DRBD 9."""
    return tuple((SETUP, verb, name) for name in _names(major, resource, minors))


def force_secondary(resource: str) -> Argv:
    """DRBD 9: what waits and what comes is answered with an error."""
    return SETUP, "secondary", resource, "--force"


def resume(minors: Iterable[int]) -> tuple[Argv, ...]:
    return tuple((SETUP, "resume-io", str(minor)) for minor in minors)


def load() -> Argv:
    return "/sbin/modprobe", "drbd"


def _names(major: int, resource: str, minors: Iterable[int]) -> tuple[str, ...]:
    return (resource,) if major >= 9 else tuple(str(minor) for minor in minors)


def resize(resource: str, number: int, clean: bool) -> Argv:
    """`clean`: what it grows by need not be sent to the peer. drbdadm hands that on without knowing it."""
    return ADM, *(("--", "--assume-clean") if clean else ()), "resize", f"{resource}/{number}"


def note_size(minor: int) -> Argv:
    """Have the tools note how large the disk beneath is: at its end are the metadata. Nothing is resized. (drbdadm
    resize does that on its own node alone.)"""
    return SETUP, "check-resize", str(minor)


def meta(nine: bool, minor: int, path: str, verb: str, *words: str, node: int | None = None) -> Argv:
    """drbdmeta on a volume whose resource is down; `node`: whose part of the metadata, on DRBD 9. It asks nothing: what
    is there was looked at before."""
    of = ("--node-id", str(node)) if node is not None else ()
    return META, "--force", str(minor), "v09" if nine else "v08", path, "internal", verb, *of, *words


META = "/sbin/drbdmeta"
