"""lha_stat's tables of volumes and copies."""

from collections.abc import Iterator
from typing import Any

from truecl.cli.table import table

Row = dict[str, Any]
NONE = "-"


def volumes(app: Row, width: int | None) -> str:
    """In the announcement's look: what lies where, how large it is, how it is doing."""
    rows = [_volume(app, volume) for volume in app["volumes"]]
    return table(("VG/LV", "Type", "Mount Point", "Size", "Status"), rows, right=(3,), width=width)


def _volume(app: Row, volume: Row) -> tuple[str, ...]:
    mounted = _step(app, f"file system {volume['mount']}") if volume["mount"] else None
    beneath = _step(app, f"volume {volume['name']}") or _replica(app, volume["name"])
    facts = (mounted or beneath or {}).get("facts", {})
    size = facts.get("size", "")
    return (
        volume["place"],
        volume["type"] or NONE,
        volume["mount"] or NONE,
        str(int(size) // 1024) if size.isdigit() else NONE,
        ",".join(_words(app, volume, mounted or beneath)),
    )


def _replica(app: Row, name: str) -> Row | None:
    """Its step, unless the kernels do not know the volume: it may be in the file and not be made yet."""
    known = [report["name"] for copy in app["copies"] for report in _reports(copy)]
    return _step(app, f"replica {app['name']}") if name in known or not known else None


def _step(app: Row, name: str) -> Row | None:
    return next((step for step in app["steps"] if step["name"] == name), None)


def _words(app: Row, volume: Row, step: Row | None) -> Iterator[str]:
    yield (step["state"].capitalize() or "Pending") if step is not None else "Inactive"
    yield from _synchronisation(app, volume)
    facts = step["facts"] if step is not None else {}
    if "used" in facts:
        yield f"{facts['used']}% used"
    if "note" in facts:
        yield facts["note"]


def _synchronisation(app: Row, volume: Row) -> Iterator[str]:
    """As the owner sees it, or else who says anything of it."""
    working = [copy for copy in app["copies"] if copy["link"] in ("sync source", "sync target", "verifying")]
    owners = [copy for copy in working if copy["node"] == app["node"]] or working
    for copy in owners[:1]:
        for report in _reports(copy):
            if report["name"] == volume["name"] and report["done"] < 100.0:
                word = "Verifying" if copy["link"] == "verifying" else "Syncing"
                yield f"{word}[{report['rate'] // 1024}Kb/Sec]"
                yield f"{report['done']:.1f}%"
                if report["left"]:
                    yield f"{_duration(report['left'])} left"


def _reports(copy: Row) -> list[Row]:
    """`truecl.model.replica.VolumeReport`, which goes as a list."""
    names = ("name", "disk", "peer", "done", "rate", "left", "behind")
    return [dict(zip(names, each, strict=False)) if isinstance(each, list) else each for each in copy["volumes"]]


def copies(app: Row, now: float, width: int | None) -> str:
    """What each node's copy is worth, by the log; and what its kernel does."""
    rows = [
        (
            copy["node"],
            copy["state"],
            _duration(now - copy["since"]) if 0.0 < copy["since"] <= now else NONE,
            copy["role"] or NONE,
            copy["link"] or NONE,
            copy["disk"] or NONE,
            ",".join(_remarks(copy)) or NONE,
        )
        for copy in app["copies"]
    ]
    return table(("Node", "Copy", "Since", "Role", "Connection", "Disk", "Notes"), rows, width=width)


def _remarks(copy: Row) -> Iterator[str]:
    if copy["suspended"]:
        yield "FROZEN"
    if copy["behind"]:
        yield f"{-(-copy['behind'] // 1024)} KiB out of sync"
    if copy["trouble"]:
        yield copy["trouble"]


def alone(app: Row) -> Iterator[str]:
    """A sentence about data that one more failure would lose."""
    lacking = [f"that of {copy['node']} is {copy['state']}" for copy in app["copies"] if copy["state"] != "current"]
    whole = [copy["node"] for copy in app["copies"] if copy["state"] == "current"]
    if lacking and whole and not any(splits(app)):
        yield f"WARN {app['name']}: {whole[0]} has the only current copy: {', '.join(lacking)}"


def comparison(app: Row, now: float) -> Iterator[str]:
    """When the copies were last compared, and what that found."""
    verified = app["verified"]
    if verified is None:
        return
    when = f"{_duration(now - verified['at'])} ago" if 0.0 < verified["at"] <= now else "at a time that is not known"
    found = ", ".join(f"{-(-size // 1024)} KiB of {name}" for name, size in verified["differing"].items())
    yield f"{app['name']}: copies last compared {when}: {f'{found} differed' if found else 'equal'}"


def differences(app: Row) -> Iterator[str]:
    """A sentence about copies that are connected, and not equal."""
    connected = [copy for copy in app["copies"] if copy["link"] == "connected" and copy["behind"]]
    owners = [copy for copy in connected if copy["node"] == app["node"]] or connected
    for copy in owners[:1]:
        found = [f"{-(-each['behind'] // 1024)} KiB of {each['name']}" for each in _reports(copy) if each["behind"]]
        name = app["name"]
        yield (
            f"WARN {name}: the copies differ: {', '.join(found)}; to copy that again from where it runs: "
            f"lha_buildapp -A {name} --resync"
        )


def splits(app: Row) -> Iterator[str]:
    """A sentence about copies that were both written without the other."""
    if any(copy["split"] for copy in app["copies"]):
        names, name = " and ".join(copy["node"] for copy in app["copies"]), app["name"]
        yield (
            f"{name}: SPLIT BRAIN: the copies of {names} were each written without the other, and both are kept; "
            f"to throw one away: lha_buildapp -A {name} --resolve --keep NODE"
        )


def _duration(seconds: float) -> str:
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours}h"
    return f"{hours}:{minutes:02d}:{whole % 60:02d}"
