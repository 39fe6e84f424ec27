"""What DRBD says, as values: /proc/drbd of 8.4, `drbdsetup events2 --now` of both, and the refusals of its tools.

/proc/drbd is what 8.4 is looked at with: it takes no lock, so it answers while a promotion waits for its handler and
everything that goes over netlink waits behind it (seen: `events2 --now` 20 s). DRBD 9 has only the latter.
"""

import re
from dataclasses import dataclass

from truecl.drivers.contract import Result, StepFailed
from truecl.model.replica import Disk, Link, Role

_VERSION = re.compile(r"version: (\d+)\.(\d+)\.(\d+)")
_MINOR = re.compile(r"\s*(\d+): cs:(\w+)(?: ro:(\w+)/(\w+) ds:(\w+)/(\w+)\s+(?:[ABC]\s+)?([rs])\S*)?")
_BEHIND = re.compile(r"\boos:(\d+)")
_PROGRESS = re.compile(r"(?:sync'ed|verified):\s*[\d.]+% \((\d+)/(\d+)\)([KM])")
_FINISH = re.compile(r"finish: (\d+):(\d+):(\d+)")
_SPEED = re.compile(r"speed: ([\d,]+)")
_LEFT_OUT = " bytes left out]"
"""What the runner puts in the middle of an output that is too long."""
_KIB, _MIB = 1024, 1 << 20

_LINKS = {
    "StandAlone": Link.STANDALONE,
    "Connected": Link.CONNECTED,
    "Established": Link.CONNECTED,
    **dict.fromkeys(("StartingSyncS", "WFBitMapS", "SyncSource", "PausedSyncS", "Ahead"), Link.SYNC_SOURCE),
    **dict.fromkeys(
        ("StartingSyncT", "WFBitMapT", "WFSyncUUID", "SyncTarget", "PausedSyncT", "Behind"), Link.SYNC_TARGET
    ),
    **dict.fromkeys(("VerifyS", "VerifyT"), Link.VERIFYING),
    # On its way down it is not yet standing alone: what waits for that goes on waiting.
    **dict.fromkeys(
        ("Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure", "ProtocolError", "TearDown")
        + ("WFConnection", "WFReportParams", "Connecting"),
        Link.CONNECTING,
    ),
}
_DISKS = {
    "UpToDate": Disk.UP_TO_DATE,
    "Consistent": Disk.CONSISTENT,
    "Outdated": Disk.OUTDATED,
    "Inconsistent": Disk.INCONSISTENT,
    "Failed": Disk.FAILED,
    "Detaching": Disk.FAILED,
    "Diskless": Disk.DISKLESS,
}
_ROLES = {"Primary": Role.PRIMARY, "Secondary": Role.SECONDARY}


@dataclass(frozen=True, slots=True)
class Seen:
    """One minor. Sizes in bytes, times in seconds."""

    role: Role
    link: Link
    disk: Disk
    peer: Disk = Disk.UNKNOWN
    suspended: bool = False
    done: float = 100.0
    rate: int = 0
    left: float = 0.0
    behind: int = 0


def version(proc: str) -> tuple[int, int, int]:
    """Of the kernel's module. Raises StepFailed for a text that is not /proc/drbd's."""
    found = _VERSION.match(proc)
    if found is None:
        raise StepFailed("/proc/drbd does not name DRBD's version")
    major, minor, patch = (int(part) for part in found.groups())
    return major, minor, patch


# ---- 8.4 ------------------------------------------------------------------------------------------------------------


def proc_drbd(text: str) -> dict[int, Seen]:
    """/proc/drbd of 8.4: each minor that is configured."""
    blocks: dict[int, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if found := _MINOR.match(line):
            current = blocks.setdefault(int(found[1]), [])
        current.append(line)
    seen = {minor: _block(lines[0], " ".join(lines[1:])) for minor, lines in blocks.items()}
    return {minor: each for minor, each in seen.items() if each is not None}


def _block(head: str, rest: str) -> Seen | None:
    found = _MINOR.match(head)
    if found is None:
        return None
    if found[2] == "Unconfigured":  # there, with neither disk, nor peer, nor user
        return Seen(Role.SECONDARY, Link.STANDALONE, Disk.DISKLESS)
    _, state, role, _, disk, peer, flag = found.groups()
    done, rate, left = _progress(rest)
    behind = _BEHIND.search(rest)
    return Seen(
        _ROLES.get(role, Role.UNKNOWN),
        _LINKS.get(state, Link.UNKNOWN),
        _DISKS.get(disk, Disk.UNKNOWN),
        _DISKS.get(peer, Disk.UNKNOWN),
        flag == "s",
        done,
        rate,
        left,
        int(behind[1]) * _KIB if behind else 0,
    )


def _progress(text: str) -> tuple[float, int, float]:
    """Percent, bytes a second, seconds. From the two amounts: the percentage itself is in steps of an eighth."""
    progress, speed, finish = _PROGRESS.search(text), _SPEED.search(text), _FINISH.search(text)
    if progress is None:
        return 100.0, 0, 0.0
    left, total = int(progress[1]), int(progress[2])
    hours, minutes, seconds = (int(part) for part in finish.groups()) if finish else (0, 0, 0)
    rate = int(speed[1].replace(",", "")) * _KIB if speed else 0
    return 100.0 * (1 - left / total) if total else 100.0, rate, float(3600 * hours + 60 * minutes + seconds)


# ---- events2, of both -----------------------------------------------------------------------------------------------


def events(text: str) -> dict[str, dict[int, Seen]]:
    """`drbdsetup events2 --now --statistics`: each resource's minors. Raises StepFailed for half of it: what is not
    named would count as gone."""
    lines = text.splitlines()
    if not lines or lines[-1] != "exists -" or _LEFT_OUT in text:
        raise StepFailed("DRBD's account of itself is not whole")
    rows = [(words[1], _fields(words[2:])) for line in lines if len(words := line.split()) > 2]
    rows = [(kind, row) for kind, row in rows if "name" in row]
    resources: dict[str, dict[int, Seen]] = {}
    for kind, row in rows:
        if kind == "resource":
            resources[row["name"]] = {}
    for kind, row in rows:
        if kind == "device" and row["name"] in resources and row.get("minor", "").isdigit():
            resources[row["name"]][int(row["minor"])] = _device(row, rows)
    return resources


def _fields(words: list[str]) -> dict[str, str]:
    return dict(word.split(":", 1) for word in words if ":" in word)


def _device(device: dict[str, str], rows: list[tuple[str, dict[str, str]]]) -> Seen:
    name, volume = device["name"], device.get("volume")

    def of(kind: str) -> dict[str, str]:
        for other, row in rows:
            if other == kind and row.get("name") == name and row.get("volume", volume) == volume:
                return row
        return {}

    resource, connection, peer = of("resource"), of("connection"), of("peer-device")
    state = connection.get("connection", "StandAlone")  # a resource that never had a peer
    if state == "Connected":
        state = peer.get("replication", "")
    # 9, after `secondary --force`: somebody has it open still, and must close it before anything else becomes of it.
    failing = resource.get("force-io-failures") == "yes"
    return Seen(
        Role.UNKNOWN if failing else _ROLES.get(resource.get("role", ""), Role.UNKNOWN),
        _LINKS.get(state, Link.UNKNOWN),
        _DISKS.get(device.get("disk", ""), Disk.UNKNOWN),
        _DISKS.get(peer.get("peer-disk", ""), Disk.UNKNOWN),
        resource.get("suspended", "no") != "no",
        _number(peer.get("done"), 100.0),
        int(_number(peer.get("dbdt1"), 0.0) * _MIB),
        _number(peer.get("eta"), 0.0),
        int(_number(peer.get("out-of-sync"), 0.0)) * _KIB,
    )


def _number(text: str | None, otherwise: float) -> float:
    try:
        value = float(text) if text else otherwise
    except ValueError:
        return otherwise
    return value if value == value else otherwise  # an eta may be nan


# ---- the rest -------------------------------------------------------------------------------------------------------


def fencing(shown: str) -> tuple[str, ...]:
    """Every fencing policy that `drbdsetup show RESOURCE` names: of each volume (8.4), of each connection (9)."""
    return tuple(re.findall(r"^\s*fencing\s+([\w-]+);", shown, re.MULTILINE))


_WORDS = (
    ("No valid meta data", "there is no DRBD metadata on it: 'lha_buildapp' makes it"),
    ("No valid meta-data", "there is no DRBD metadata on it: 'lha_buildapp' makes it"),
    ("Refusing to be Primary while peer is not outdated", "the master does not call the other copy outdated"),
    ("Multiple primaries not allowed", "the other node's copy is primary"),
    ("Need access to UpToDate data", "neither copy is up to date as far as DRBD can see"),
    ("held open by someone", "something has it open"),
    ("Can not open backing device", "what lies beneath cannot be opened: it is not there, or in use"),
    ("already claimed", "what lies beneath is in use: mounted, or beneath another device"),
    ("Low.dev. smaller than requested", "what lies beneath is smaller than it was"),
    ("Local address(port) already in use", "its address and port are in use by another resource"),
)


def refusal(result: Result) -> str:
    """Why a tool of DRBD did not do it, for the operator."""
    said = f"{result.stderr.decode(errors='replace')} {result.stdout.decode(errors='replace')}"
    plain = next((words for text, words in _WORDS if text in said), "")
    if result.timed_out or result.stuck or not (plain or said.strip()):
        return f"{result.argv[0]} {result.ending()}"
    return f"{plain} ({result.last_lines(1)})" if plain else result.last_lines()
