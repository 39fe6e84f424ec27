"""What follows from the nodes' looks at an application: the next step of lha_buildapp, as a pure function.

Each step is followed by another look, so that a build goes on from whatever is there: after its master was lost, or
when it is asked for again.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from truecl.core import assignment, validation
from truecl.core.layouts import layout
from truecl.core.ledger import app_state
from truecl.model.build import Initialise, Make, Question, Seen, Work
from truecl.model.config import AppConfig, ClusterConfig
from truecl.model.ids import AppName, NodeName
from truecl.model.ledger import AnyCommand, Build, Format, Ledger, SetMirror, Wanted
from truecl.model.mirror import CopyState, Mirror
from truecl.model.report import Progress, Severity
from truecl.model.step import replicated, volume_of
from truecl.wire.messages import BuildWish

VOLUME, METADATA, FILESYSTEM, TOOL = "volume ", "metadata ", "file system ", "tool "
NONE, OTHER = "none", "other "
"""What a build's generation found in the place of a file system (`Format`)."""


@dataclass(frozen=True)
class Given:
    """All that a decision depends on."""

    app: AppConfig
    cluster: ClusterConfig
    ledger: Ledger
    wish: BuildWish
    seen: dict[NodeName, Seen]
    """Of the nodes that are up."""
    token: str
    """Of the operator's lock: new file systems get their UUIDs by it."""
    found: dict[str, str] | None = None
    """What this build's generation found: volume to UUID, 'none' or 'other …'. None: there was none yet."""
    at: float = 0.0
    """Wall clock, for people."""

    @property
    def running(self) -> bool:
        state = app_state(self.ledger, self.app.name)
        return state.wanted is Wanted.RUNNING or state.grant is not None

    @property
    def mirror(self) -> Mirror | None:
        return self.ledger.mirrors.get(self.app.name)


@dataclass(frozen=True)
class Next:
    """An end (`refusal`, `ready`, `done`), a question, works for nodes, commands for the log, or file systems."""

    lines: tuple[Progress, ...] = ()
    refusal: str = ""
    question: Question | None = None
    works: dict[NodeName, Work] = field(default_factory=dict)
    commands: tuple[AnyCommand, ...] = ()
    formats: tuple[Format, ...] = ()
    ready: bool = False
    done: str = ""
    """The end of what needs no record."""
    word: str = ""
    """What an operator decided by this, for the history: who, and what."""


def assess(given: Given) -> Next:
    lines = tuple(_lines(given))
    helps = f"lha_buildapp -A {given.app.name}"
    if any(line.severity is Severity.ERROR for line in lines):
        return Next(lines, f"Application '{given.app.name}' is not ready [RC=1].")
    for step in (_volumes, _mirror, _metadata, _filesystems):
        found = step(given, helps)
        if found is not None:
            return replace(found, lines=lines + found.lines)
    return Next(lines, ready=True)


def _lines(given: Given) -> Iterator[Progress]:
    """Problems of nodes, and how they differ."""
    for node, seen in given.seen.items():
        yield from (Progress(f"{node} : {each}", Severity.ERROR, verbose=False) for each in seen.problems)
        yield from (Progress(f"{node} : {each}", Severity.WARN, verbose=False) for each in seen.warnings)
    names = dict.fromkeys(name for seen in given.seen.values() for name in seen.facts)
    for name in names:
        values = {
            node: seen.facts.get(name, "nothing")
            for node, seen in given.seen.items()
            if seen.facts and name not in seen.missing
        }
        if len(dict.fromkeys(values.values())) > 1:
            # Tools are upgraded one node after another.
            severity = Severity.WARN if name.startswith(TOOL) else Severity.ERROR
            text = ", ".join(f"{node} {_short(value)}" for node, value in values.items())
            yield Progress(f"{name} differs: {text}", severity, verbose=False)


def systems(recorded: Build | None) -> dict[str, str]:
    """Volumes to the UUIDs of the file systems on them, as recorded."""
    facts = recorded.facts if recorded is not None else {}
    return {name.removeprefix(FILESYSTEM): uuid for name, uuid in facts.items() if name.startswith(FILESYSTEM)}


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value


def kept(given: Given) -> dict[str, str]:
    """The facts that are kept with the record."""
    facts = {name: value for seen in given.seen.values() for name, value in seen.facts.items()}
    kept = {name: value for name, value in facts.items() if name.startswith("script ")}
    recorded = given.ledger.builds.get(given.app.name)
    systems = {f"{FILESYSTEM}{volume}": uuid for volume, uuid in (given.found or {}).items()}
    if given.found is None and recorded is not None:
        names = [FILESYSTEM + volume_of(given.app, each) for each in given.app.filesystems]
        systems = {name: recorded.facts[name] for name in names if name in recorded.facts}
    return kept | validation.parts(given.app) | systems


# ---- volumes --------------------------------------------------------------------------------------------------------


def _missing(given: Given, kind: str) -> dict[NodeName, dict[str, str]]:
    """Node to names of volumes and what is missing of each."""
    found = {}
    for node, seen in given.seen.items():
        names = {name.removeprefix(kind): what for name, what in seen.missing.items() if name.startswith(kind)}
        if names:
            found[node] = names
    return found


def _volumes(given: Given, helps: str) -> Next | None:
    missing = _missing(given, VOLUME)
    if not missing:
        return None
    if lost := _lost(given, missing):
        text = f"{lost} has lost its copy: lha_buildapp -A {given.app.name} --replace {lost}, if it has a new disk"
        return Next(_listed(missing), text)
    if refused := _not_now(given, missing, helps):
        return refused
    places = {node: {VOLUME + name for name in names} for node, names in missing.items()}
    in_the_way, agreed = _data(given, places)
    if in_the_way is not None:
        return in_the_way
    missing = _where(given, missing)
    text = "; ".join(f"{node} : {', '.join(names.values())}" for node, names in missing.items())
    works: dict[NodeName, Work] = {
        node: Make(tuple(names), agreed.get(node, {}), sizes(given, tuple(names))) for node, names in missing.items()
    }
    return Next((Progress(f"Creating {text}"),), works=works)


def _where(given: Given, missing: dict[NodeName, dict[str, str]]) -> dict[NodeName, dict[str, str]]:
    """What all nodes share is made on one of them."""
    copied, first = replicated(given.app), next(iter(missing))
    shared = {
        node: {name: what for name, what in names.items() if name in copied or node == first}
        for node, names in missing.items()
    }
    return {node: names for node, names in shared.items() if names}


def sizes(given: Given, volumes: tuple[str, ...]) -> dict[str, int]:
    """What nodes have of these, in bytes: the largest."""
    found: dict[str, int] = {}
    for seen in given.seen.values():
        for name in volumes:
            has = seen.facts.get(VOLUME + name, "")
            if has.isdigit():
                found[name] = max(int(has), found.get(name, 0))
    return found


def _lost(given: Given, missing: dict[NodeName, dict[str, str]]) -> NodeName | None:
    """A node whose volumes are gone, of copies that hold something."""
    mirror = given.mirror
    if mirror is None or all(copy.state is CopyState.INCONSISTENT for copy in mirror.copies.values()):
        return None
    names = {volume.name for volume in mirror.volumes}
    return next((node for node, each in missing.items() if names <= each.keys() and len(missing) == 1), None)


def _listed(missing: dict[NodeName, dict[str, str]]) -> tuple[Progress, ...]:
    return tuple(
        Progress(f"{node} : missing: {what}", Severity.ERROR, verbose=False)
        for node, names in missing.items()
        for what in names.values()
    )


def _not_now(given: Given, missing: dict[NodeName, dict[str, str]], helps: str) -> Next | None:
    if given.wish.create and not given.running:
        return None
    lines = _listed(missing)
    if given.running:
        stop = f"lha_stopapp -A {given.app.name}"
        return Next(lines, f"what is missing is made only while '{given.app.name}' is stopped: {stop}")
    return Next(lines, f"something is missing: {helps} --create makes it")


def _data(given: Given, places: "dict[NodeName, set[str]]") -> tuple[Next | None, dict[NodeName, dict[str, str]]]:
    """What stands in the places that would be written to: it is named, and the operator has to agree."""
    data = {
        node: {name: what for name, what in sorted(given.seen[node].data.items()) if name in names}
        for node, names in places.items()
    }
    lines = tuple(f"{node} : {name}: {what}" for node, found in data.items() for name, what in found.items())
    return _agreement(given, lines, "is there, and would be lost"), data


def _agreement(given: Given, lines: tuple[str, ...], what: str) -> Next | None:
    if not lines:
        return None
    told = tuple(Progress(line, Severity.WARN, verbose=False) for line in lines)
    if not given.wish.force or not given.wish.create:
        return Next(told, f"what {what}, is not touched without --create --force")
    question = Question(tuple(f"{line}, which would be lost" for line in lines), token_of(given.app.name, lines))
    return None if given.wish.agreed == question.token else Next(told, question=question)


def token_of(app: AppName, lines: tuple[str, ...]) -> str:
    """Names what the operator was shown."""
    return hashlib.sha256("\n".join((app, *lines)).encode()).hexdigest()[:32]


# ---- replicas -------------------------------------------------------------------------------------------------------


def _mirror(given: Given, helps: str) -> Next | None:
    if assignment.fits(given.app, given.mirror):
        return None
    if given.running:
        text = f"replicated volumes change only while '{given.app.name}' is stopped: lha_stopapp -A {given.app.name}"
        return Next(refusal=text)
    if not given.wish.create:
        return Next(refusal=f"the replicated volumes are not those that were built: {helps} --create assigns them")
    if not replicated(given.app):
        return Next((Progress("No volume is replicated any more"),), commands=(SetMirror(given.app.name, None),))
    known = {volume.name for volume in given.mirror.volumes} if given.mirror is not None else set(replicated(given.app))
    added = [name for name in replicated(given.app) if name not in known]
    away = [node for node in given.app.nodes if node not in given.seen]
    if added and away:
        return Next(refusal=f"{', '.join(away)} must be up for volume {', '.join(added)} to be added")
    try:
        mirror = assignment.assigned(given.app, given.cluster, given.ledger)
    except ValueError as error:
        return Next(refusal=str(error))
    minors = ", ".join(f"{each.name} minor {each.minor}" for each in mirror.volumes)
    return Next(
        (Progress(f"Assigned to '{given.app.name}': port {mirror.port}, {minors}"),),
        commands=(SetMirror(given.app.name, mirror),),
    )


def _metadata(given: Given, helps: str) -> Next | None:
    mirror = given.mirror
    if mirror is None:
        return None
    if all(copy.state is CopyState.INCONSISTENT for copy in mirror.copies.values()):
        return _initialise(given, mirror, helps)
    if strange := _parted(given, mirror):
        text = f"the copies of volume {', '.join(strange)} differ, though the log calls both current"
        why = f"was it out of '{given.app.name}' for a while?"
        return Next(refusal=f"{text} ({why}): {helps} --resolve --keep NODE, of the one that has what counts")
    missing = _missing(given, METADATA)
    if not missing:
        return None
    everywhere = len(missing) == len(mirror.nodes) and len(dict.fromkeys(map(tuple, missing.values()))) == 1
    whole = any(len(names) == len(mirror.volumes) for names in missing.values())
    if not everywhere or whole:
        node = next(iter(missing))
        new = f"{helps} --replace {node}, if its disk was replaced or repaired"
        return Next(refusal=f"{node} has not {', '.join(missing[node].values())}: {new}")
    if any(copy.state is not CopyState.CURRENT for copy in mirror.copies.values()):
        return Next(refusal="a volume is added only while both copies are current: lha_stat -A shows them")
    if raw := [name for name in missing[mirror.nodes[0]] if name not in _filled_through_drbd(given)]:
        text = (
            f"volume {', '.join(raw)} has no file system in its file, so what its two disks hold now would stay unlike"
        )
        return Next(refusal=f"{text}; give it one, or make it an application of its own")
    return _not_now(given, missing, helps) or _write_metadata(given, mirror, missing, identifier_of(given, mirror, 1))


def _filled_through_drbd(given: Given) -> set[str]:
    """Volumes that get a file system: what no file system has written, none reads."""
    return {volume_of(given.app, each) for each in given.app.filesystems}


def _parted(given: Given, mirror: Mirror) -> list[str]:
    """Volumes whose copies, by their own metadata, are of different generations although the log calls both current: it
    knows nothing of what became of a volume that was taken out and is back. The lowest bit says only 'primary'."""
    nodes = [node for node, copy in mirror.copies.items() if copy.state is CopyState.CURRENT and node in given.seen]
    found = []
    for volume in mirror.volumes:
        identifiers = [given.seen[node].identifiers.get(volume.name, "") for node in nodes]
        if len({int(each, 16) & ~1 for each in identifiers if each}) > 1:
            found.append(volume.name)
    return found


def _initialise(given: Given, mirror: Mirror, helps: str) -> Next | None:
    """No copy holds anything yet. Where each volume is to get a file system, all copies begin as equals. Otherwise the
    first node's is copied to the others."""
    names = {volume.name: f"metadata of DRBD for volume {volume.name}" for volume in mirror.volumes}
    mine = identifier_of(given, mirror, 0)
    begin_equal = _filled_through_drbd(given) >= {*names}
    first = mirror.nodes[0]
    wanted = {node: mine if begin_equal or node == first else "" for node in mirror.nodes}
    away = [node for node in mirror.nodes if node not in given.seen]
    if away:
        return Next(refusal=f"{', '.join(away)} must be up for its copy to be made")
    todo = {
        node: {name: what for name, what in names.items() if not _has(given.seen[node], name, wanted[node])}
        for node in mirror.nodes
    }
    todo = {node: missing for node, missing in todo.items() if missing}
    if todo:
        return _not_now(given, todo, helps) or _write_metadata(
            given, mirror, todo, mine, () if begin_equal else (first,)
        )
    states = {node: CopyState.CURRENT if wanted[node] else CopyState.INCONSISTENT for node in mirror.nodes}
    text = "Both copies begin as equals: no initial synchronisation is needed"
    if not begin_equal:
        text = f"The copy of {first} will be brought to the other node when the application starts"
    fresh = SetMirror(given.app.name, assignment.with_copies(mirror, states, given.at))
    return Next((Progress(text),), commands=(SetMirror(given.app.name, None), fresh))


def _has(seen: Seen, volume: str, identifier: str) -> bool:
    """Its metadata are those of this build."""
    return seen.identifiers.get(volume, NONE) in ((identifier,) if identifier else JUST_CREATED)


JUST_CREATED = ("0000000000000004",)
"""What DRBD's tools write into metadata of a copy that holds nothing."""


def _write_metadata(
    given: Given, mirror: Mirror, missing: dict[NodeName, dict[str, str]], identifier: str,
    current: tuple[NodeName, ...] = (),
) -> Next:  # fmt: skip
    """`current`: the nodes whose copies are up to date from the beginning; (): all."""
    places = {node: {METADATA + name for name in names} for node, names in missing.items()}
    in_the_way, agreed = _data(given, places)
    if in_the_way is not None:
        return in_the_way
    made = layout(given.cluster, given.app, mirror)
    if made is None:
        return Next(refusal=f"a node of '{given.app.name}' has no address on the link of its replication")
    works: dict[NodeName, Work] = {
        node: Initialise(
            made,
            tuple(names),
            identifier if node in (current or mirror.nodes) else "",
            agreed[node],
            equal=not current,
        )
        for node, names in missing.items()
    }
    return Next((Progress(f"Initialising DRBD on {','.join(works)} ..."),), works=works)


def identifier_of(given: Given, mirror: Mirror, number: int) -> str:
    """Of a generation of data that a build begins: the same for all copies, another one for every build. Never the
    value that means 'just created', and even: the last bit is DRBD's own."""
    index = max(copy.index for copy in mirror.copies.values())
    text = f"{given.cluster.name}/{given.app.name}/{mirror.port}/{index}/{len(mirror.volumes)}/{number}"
    return f"{int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) & ~1 | 1 << 62:016X}"


# ---- file systems ---------------------------------------------------------------------------------------------------


def _filesystems(given: Given, helps: str) -> Next | None:
    """They are found, or made, by a generation of the build's own: nothing else may write to a volume."""
    if given.running or not given.app.filesystems:
        return None
    if given.found is None:
        return Next(formats=tuple(_formats(given, {})))
    recorded = given.ledger.builds.get(given.app.name)
    others = {volume: found.removeprefix(OTHER) for volume, found in given.found.items() if found.startswith(OTHER)}
    if others:
        lines = tuple(f"volume {volume}: {what}" for volume, what in others.items())
        in_the_way = _agreement(given, lines, "is there in the place of a file system, and would be lost")
        return in_the_way or Next(formats=tuple(_formats(given, others)))
    for volume, found in given.found.items():
        known = recorded.facts.get(FILESYSTEM + volume) if recorded is not None else None
        if found == NONE:
            lost = f" (there was {known})" if known else ""
            force = " --force" if known else ""
            return Next(refusal=f"there is no file system on volume {volume}{lost}: {helps} --create{force} makes one")
        if known not in (None, found) and not given.wish.force:
            text = f"the file system on volume {volume} is {found}, and not {known}, which was built"
            return Next(refusal=f"{text}; if that is meant: {helps} --force")
    return None


def _formats(given: Given, agreed: dict[str, str]) -> Iterator[Format]:
    """`agreed`: what is there, by volume, and may be lost."""
    recorded = given.ledger.builds.get(given.app.name)
    for each in given.app.filesystems:
        volume = volume_of(given.app, each)
        known = recorded is not None and FILESYSTEM + volume in recorded.facts
        make = given.wish.create and (not known or given.wish.force)
        yield Format(volume, each.type, uuid_of(given, volume), make, agreed.get(volume, ""))


def uuid_of(given: Given, volume: str) -> str:
    """A name-based UUID (RFC 9562, version 8): the log's index of the operator's lock makes it new."""
    text = f"{given.cluster.name}/{given.app.name}/{volume}/{given.token}"
    digits = list(hashlib.sha256(text.encode()).hexdigest()[:32])
    digits[12], digits[16] = "8", "89ab"[int(digits[16], 16) % 4]
    whole = "".join(digits)
    return "-".join((whole[:8], whole[8:12], whole[12:16], whole[16:20], whole[20:]))
