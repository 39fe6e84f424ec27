"""Single values as an operator writes them. Each function returns the value or raises `Unfit` with what is expected."""

import ipaddress
import posixpath
import re
import shlex
from collections.abc import Mapping

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_SECONDS = 86400.0
MAX_SIZE = 1 << 60
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
MIN_PERIOD, MAX_PERIOD = 10.0, 52 * 7 * 86400.0
_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_PERIOD = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s?(s|m|h|d|w)")
_HOURS = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])\s?-\s?([01]?[0-9]|2[0-3]):([0-5][0-9])")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s?(ms|s|m|h)")
_SIZE = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?\s?([KMGT])(?:i?B)?")
_SIZE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SECTOR = 512
_BARE_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]+)?")
_NODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DEVICE = re.compile(r"/dev/[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
_BLOCK_DEVICE = re.compile(r"/dev/[A-Za-z0-9_.:+=@%-]+(?:/[A-Za-z0-9_.:+=@%-]+)*")
_LVM_NAME = re.compile(r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,63}")
_LVM_PREFIXES = ("snapshot", "pvmove")
_LVM_PARTS = (
    *("_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare"),
    *("_rdata", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig"),
)
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_SHELL_WORDS = frozenset(("|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1", "2>", "&>"))
_SYSTEM_DIRECTORIES = frozenset(
    ("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/proc")
    + ("/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/sbin")
    + ("/var", "/var/lib", "/var/log", "/var/run", "/var/tmp")
)
_TRUECL_DIRECTORIES = ("/dev", "/proc", "/sys", "/etc/truecl", "/run/truecl", "/var/lib/truecl")
_OPTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=/@%+-]{0,127}")
_OPTIONS_REFUSED = frozenset(("bind", "rbind", "move", "loop", "remount", "auto", "noauto", "_netdev"))


class Unfit(ValueError):
    """`expected` is the second half of a problem; `what`, where given, replaces its first."""

    def __init__(self, expected: str, what: str = "") -> None:
        super().__init__(expected)
        self.expected, self.what = expected, what


def duration(text: str) -> float:
    """Seconds, more than none and at most a day."""
    seconds = duration_or_zero(text)
    if seconds <= 0:
        raise Unfit("expected more than zero")
    return seconds


def duration_or_zero(text: str) -> float:
    """Seconds: '100ms', '5s', '2m', '1h'."""
    units = f"{text}s for seconds, or {text}ms, {text}m"
    value = _seconds(text, _DURATION, _UNITS, units, "a duration like 100ms, 5s, 2m or 1h")
    if value > MAX_SECONDS:
        raise Unfit("expected at most 24h")
    return value


def period(text: str) -> float:
    """Seconds of something that comes again and again: '12h', '7d', '4w'."""
    units = f"{text}d for days, or {text}h, {text}w"
    value = _seconds(text, _PERIOD, _PERIODS, units, "a period like 12h, 7d or 4w")
    if not MIN_PERIOD <= value <= MAX_PERIOD:
        raise Unfit("expected 10s to 52w")
    return value


def _seconds(text: str, pattern: re.Pattern[str], units: Mapping[str, float], examples: str, kind: str) -> float:
    """`pattern`: the number, then the unit."""
    matched = pattern.fullmatch(text)
    if matched is not None:
        return round(float(matched[1]) * units[matched[2]], 9)
    if _BARE_NUMBER.fullmatch(text):
        raise Unfit(f"expected a unit: {examples}", f"{text!r} has no unit")
    raise Unfit(f"expected {kind}")


def hours(text: str) -> tuple[int, int]:
    """Minutes of the day: '01:00-05:00'; over midnight, '22:00-04:00'."""
    matched = _HOURS.fullmatch(text)
    if matched is None:
        raise Unfit("expected two times of the day like 01:00-05:00")
    first, last = (60 * int(matched[place]) + int(matched[place + 1]) for place in (1, 3))
    if first == last:
        raise Unfit("expected two times that differ, like 01:00-05:00")
    return first, last


def size(text: str) -> int:
    """Bytes: '128M', '1.5G'. The units are powers of 1024, as LVM's; a whole number of sectors comes out."""
    matched = _SIZE.fullmatch(text)
    if matched is None:
        if _BARE_NUMBER.fullmatch(text):
            raise Unfit(f"expected a unit: {text}M, {text}G or {text}T, powers of 1024", f"{text!r} has no unit")
        raise Unfit("expected a size like 128M, 1.5G or 2T")
    millionths = int(matched[1] + (matched[2] or "").ljust(6, "0"))
    value = millionths * _SIZE_UNITS[matched[3]] // 1_000_000
    if not SECTOR <= value <= MAX_SIZE:
        raise Unfit("expected 1K to 1048576T")
    return -(-value // SECTOR) * SECTOR


def whole_seconds(text: str) -> float:
    """Of a watchdog: its devices take nothing finer."""
    seconds = duration(text)
    if seconds != int(seconds):
        raise Unfit("expected whole seconds, as a watchdog takes them: 10s")
    return seconds


def device(text: str) -> str:
    if not _DEVICE.fullmatch(text) or ".." in text:
        raise Unfit("expected a device, as /dev/watchdog")
    return text


def block_device(text: str) -> str:
    """Names as in /dev/disk/by-id and by-path."""
    if not _BLOCK_DEVICE.fullmatch(text) or ".." in text.split("/"):
        raise Unfit("expected a disk, as /dev/disk/by-id/...")
    return text


def volume_group(text: str) -> str:
    """As LVM takes them, at most 64 characters, so that group and volume fit into the device mapper's name."""
    if not _LVM_NAME.fullmatch(text) or text in (".", ".."):
        raise Unfit(
            "expected the name of a volume group: letters, digits and '+_.-', not beginning with '-', at most 64"
        )
    return text


def logical_volume(text: str) -> str:
    """Those that LVM keeps for its own parts are refused, as by LVM itself (lvm(8), VALID NAMES)."""
    if not _LVM_NAME.fullmatch(text) or text in (".", ".."):
        raise Unfit("expected the name of a volume: letters, digits and '+_.-', not beginning with '-', at most 64")
    kept = [each for each in _LVM_PREFIXES if text.startswith(each)] + [each for each in _LVM_PARTS if each in text]
    if kept:
        raise Unfit("expected another name", f"{text!r}: LVM keeps names with {kept[0]!r} for itself")
    return text


def integer(text: str, least: int = 0, most: int = 1 << 31) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
        raise Unfit(f"expected a whole number from {least} to {most}")
    return int(text)


def port(text: str) -> int:
    return integer(text, 1, 65535)


def boolean(text: str) -> bool:
    match text.lower():
        case "yes" | "true" | "on":
            return True
        case "no" | "false" | "off":
            return False
    raise Unfit("expected yes or no")


def node_name(text: str) -> str:
    """A DNS label in lower case: it goes into certificates and compares everywhere alike."""
    if not _NODE.fullmatch(text):
        raise Unfit("expected a node name: lower-case letters, digits and '-', at most 63")
    return text


def name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise Unfit("expected a name: letters, digits, '-' and '_', beginning with a letter or digit, at most 63")
    return text


def ip_address(text: str) -> str:
    """In canonical spelling, so that equal addresses are equal texts."""
    try:
        address: Ip = ipaddress.ip_address(text)
    except ValueError:
        hint = "; a prefix length has a key of its own" if "/" in text else ""
        raise Unfit(f"expected a numeric IPv4 or IPv6 address{hint}") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None or address.is_link_local:
            raise Unfit("expected an address that is not link-local")
        if address.ipv4_mapped is not None:
            raise Unfit(f"expected it as IPv4: {address.ipv4_mapped}")
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        raise Unfit("expected the address of one host")
    return str(address)


def floating_address(text: str) -> str:
    address = ip_address(text)
    if ipaddress.ip_address(address).is_loopback:
        raise Unfit("expected an address that others can reach, not a loopback one")
    return address


def interface(text: str) -> str:
    if not _INTERFACE.fullmatch(text) or text in (".", ".."):
        raise Unfit("expected the name of a network interface, at most 15 characters")
    return text


def path(text: str) -> str:
    """Absolute, without '..', doubled or trailing slashes."""
    if not text.startswith("/") or "\0" in text or "\n" in text or len(text) > 4095:
        raise Unfit("expected an absolute path")
    if ".." in text.split("/"):
        raise Unfit("expected an absolute path without '..'")
    return posixpath.normpath("/" + text.lstrip("/"))


def file_path(text: str) -> str:
    if text.endswith("/"):
        raise Unfit("expected the absolute path of a file")
    return path(text)


def mount_point(text: str) -> str:
    """A directory that nothing else of the system stands on."""
    directory = path(text)
    if directory in _SYSTEM_DIRECTORIES:
        raise Unfit("expected a directory of its own, as /srv/NAME", f"{directory} belongs to the system")
    for taken in _TRUECL_DIRECTORIES:
        if directory.startswith(taken + "/") or directory == taken:
            raise Unfit("expected a directory of its own, as /srv/NAME", f"{directory} lies in {taken}")
    return directory


def user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise Unfit("expected the name of a user")
    return text


def variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise Unfit("expected the name of an environment variable")
    return text


def mount_option(text: str) -> str:
    if not _OPTION.fullmatch(text):
        raise Unfit("expected a mount option like noatime")
    if text in _OPTIONS_REFUSED:
        raise Unfit("expected an option of the file system itself", f"the mount option {text!r} is truecl's own matter")
    return text


def agent(text: str) -> str:
    """A program by its absolute path, or by its name in the system's path."""
    if text.startswith("/"):
        return file_path(text)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,62}", text):
        raise Unfit("expected the name of a fence agent, as fence_ipmilan, or its absolute path")
    return text


def words(text: str) -> tuple[str, ...]:
    """One line to an argument list, quotes as in a shell; nothing else of a shell is there."""
    try:
        split = shlex.split(text)
    except ValueError as error:
        raise Unfit("expected quotes in pairs", f"{str(error).lower()} in {text[:60]!r}") from None
    for word in split:
        if word in _SHELL_WORDS:
            raise Unfit("expected [/bin/sh, -c, '...'] where a shell is meant", f"{word!r} needs a shell")
    return tuple(split)


def command(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """An argument list whose first is an absolute path: the environment has no PATH to search."""
    if not arguments:
        raise Unfit("expected a command", "the command is empty")
    if not arguments[0].startswith("/"):
        raise Unfit(f"expected the absolute path of {arguments[0][:60]!r}", "commands are run without a search path")
    if any("\0" in each for each in arguments):
        raise Unfit("expected no NUL character")
    return (file_path(arguments[0]), *arguments[1:])
