"""What lha_buildapp does besides checking and creating: an operator's word on a copy, a new disk, a larger volume.

Each is a few acts, one after another; `acts` says how many are done. What destroys data, or calls a copy good, is shown
to the operator first, who has to agree.
"""

from truecl.core import assignment
from truecl.core.assess import METADATA, VOLUME, Given, Next, sizes, token_of
from truecl.core.layouts import layout
from truecl.core.ledger import app_state
from truecl.core.levels import OLD_RELEASE, knows
from truecl.core.situation import Situation
from truecl.model.build import (
    Adopt,
    Discard,
    Grow,
    GrowStage,
    Initialise,
    Make,
    Question,
    Reconcile,
    Resync,
    Spread,
    Verify,
    Work,
)
from truecl.model.config import AppConfig, DrbdStorage, LvmStorage
from truecl.model.ids import NodeName
from truecl.model.ledger import AcceptCopy, RecordVerified, SetMirror
from truecl.model.mirror import Copy, CopyState, Mirror
from truecl.model.replica import Layout
from truecl.model.report import Progress
from truecl.model.step import replicated
from truecl.wire.messages import BuildWish, Request


def problem(wish: BuildWish, node: NodeName | None, app: AppConfig, situation: Situation) -> str:
    """Why it cannot even be tried; '' if it can."""
    mirror = situation.ledger.mirrors.get(app.name)
    if node is not None and node not in app.nodes:
        return f"'{node}' is not one of the nodes of '{app.name}': {', '.join(app.nodes)}"
    if (wish.accept or wish.resolve or wish.replace or wish.verify or wish.resync) and mirror is None:
        return f"application '{app.name}' has no copies: none of its volumes is replicated, or it was never built"
    if (wish.resolve or wish.replace) and node not in situation.heard():
        return f"node '{node}' is not up; lha_stat shows which are"
    if wish.resync and not knows(situation.ledger, RecordVerified):
        return OLD_RELEASE
    if wish.accept and node not in situation.heard():
        return f"node '{node}', whose copy is to be accepted, is not up"
    return _no_growth(wish, app) if wish.grow else ""


def _no_growth(wish: BuildWish, app: AppConfig) -> str:
    volume = next((each for each in app.volumes if each.name == wish.grow), None)
    if volume is None:
        names = ", ".join(each.name for each in app.volumes) or "none"
        return f"'{app.name}' has no volume '{wish.grow}'; it has: {names}"
    storage = volume.storage.on if isinstance(volume.storage, DrbdStorage) else volume.storage
    if not isinstance(storage, LvmStorage):
        return f"volume '{wish.grow}' is no logical volume: only those can be made larger while they are in use"
    return ""


def decide(given: Given, request: Request, acts: int) -> Next | None:
    """None: there is no such wish, or nothing more to do for it than to check everything again."""
    wish, mirror, node = given.wish, given.mirror, request.node
    if wish.grow:
        return _grow(given, acts)
    if mirror is None or not (wish.verify or wish.resync or node is not None):
        return None
    made = layout(given.cluster, given.app, mirror)
    if made is None:
        return Next(refusal=f"the replicated volumes of '{given.app.name}' are not those that were built")
    if wish.verify:
        return _verify(given, made, acts)
    if wish.resync:
        return _resync(given, mirror, made, acts)
    assert node is not None, "checked above"
    if wish.accept:
        return _accept(given, request, node, mirror, made, acts)
    if wish.resolve:
        return _resolve(given, request, node, mirror, made, acts)
    return _replace(given, node, mirror, made, acts) if wish.replace else None


# ---- while it runs --------------------------------------------------------------------------------------------------


def _owner(given: Given) -> NodeName | None:
    """Where it runs, if that node is up."""
    grant = app_state(given.ledger, given.app.name).grant
    return grant.node if grant is not None and not grant.build and grant.node in given.seen else None


def _verify(given: Given, made: Layout, acts: int) -> Next:
    owner = _owner(given)
    if acts:
        return Next(done=f"The copies are being compared: lha_stat -A {given.app.name} shows how far that is [RC=0].")
    if owner is None:
        return Next(refusal=f"copies are compared while '{given.app.name}' runs: lha_startapp -A {given.app.name}")
    return Next(works={owner: Verify(made)})


def _resync(given: Given, mirror: Mirror, made: Layout, acts: int) -> Next:
    """The other node leaves the owner in good order; that they meet again is the planner's work, as ever."""
    app, owner = given.app.name, _owner(given)
    if acts:
        return Next(done=f"What differs is being copied from '{owner}': lha_stat -A {app} shows it [RC=0].")
    if owner is None:
        return Next(refusal=f"what differs is copied while '{app}' runs: lha_startapp -A {app}")
    others = [node for node in mirror.nodes if node != owner]
    away = [node for node in others if node not in given.seen]
    if away:
        return Next(refusal=f"{', '.join(away)} must be up, whose copy is to be mended")
    found = given.ledger.verified.get(app)
    sizes = found.differing if found is not None else {}
    lines = (
        *(f"volume {name}: {size} bytes differed when the copies were compared" for name, size in sizes.items()),
        f"what {owner} has, where '{app}' runs, is kept; on {', '.join(others)} it is written over what differs",
    )
    return _asked(given, lines, (f"resync from {owner}", *_marks(mirror))) or Next(
        works={node: Resync(made) for node in others}
    )


def _grow(given: Given, acts: int) -> Next | None:
    """What lies beneath on every node, if every node has the room; then replica and file system on the owner."""
    owner, wish = _owner(given), given.wish
    if owner is None:
        return Next(refusal=f"volumes grow while '{given.app.name}' runs: lha_startapp -A {given.app.name}")
    copied = wish.grow in replicated(given.app)
    nodes = given.app.nodes if copied else (owner,)
    away = [node for node in nodes if node not in given.seen]
    if away:
        return Next(refusal=f"{', '.join(away)} must be up: the volume has to grow there too")
    made = layout(given.cluster, given.app, given.mirror) if given.mirror is not None and copied else None
    if acts == 0:
        smaller = [node for node in nodes if int(given.seen[node].facts.get(VOLUME + wish.grow, "0")) > wish.size]
        if smaller:
            return Next(refusal=f"volume {wish.grow} is larger than that already: it never shrinks")
        return Next(works=_grown(wish, nodes, GrowStage.TRY))
    if acts == 1:
        text = Progress(f"Growing volume {wish.grow} on {','.join(nodes)} ...")
        return Next((text,), works=_grown(wish, nodes, GrowStage.GROW))
    if acts == 2:
        text = Progress(f"Growing what lies on it on '{owner}' ...")
        return Next((text,), works={owner: Spread(wish.grow, made)})
    return Next(works=_grown(wish, nodes, GrowStage.NOTE)) if copied and acts == 3 else None


def _grown(wish: BuildWish, nodes: tuple[NodeName, ...], stage: GrowStage) -> dict[NodeName, Work]:
    return {node: Grow(wish.grow, wish.size, stage) for node in nodes}


# ---- an operator's word on copies -----------------------------------------------------------------------------------


def shown(mirror: Mirror, now: float) -> tuple[str, ...]:
    """Each copy, as the log has it."""
    return tuple(f"{node} : {copy.state.value}{_since(copy, now)}" for node, copy in mirror.copies.items())


def _since(copy: Copy, now: float) -> str:
    if not copy.at or now < copy.at:
        return ""
    minutes = int(now - copy.at) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    return f" since {days} d {hours} h" if days else f" since {hours} h {minutes % 60} min"


def _asked(given: Given, lines: tuple[str, ...], facts: tuple[str, ...]) -> Next | None:
    """`facts`: what must not have changed since the operator agreed. None: he did."""
    token = token_of(given.app.name, facts)
    return None if given.wish.agreed == token else Next(question=Question(lines, token))


def _marks(mirror: Mirror) -> tuple[str, ...]:
    return tuple(f"{node} {copy.state.value} {copy.index}" for node, copy in mirror.copies.items())


def _accept(
    given: Given, request: Request, node: NodeName, mirror: Mirror, made: Layout, acts: int
) -> Next | None:  # fmt: skip
    grant = app_state(given.ledger, given.app.name).grant
    if grant is not None and acts < 2:
        return Next(
            refusal=f"application '{given.app.name}' has an owner, {grant.node}, whose copy is the one that counts"
        )
    if acts == 0:
        lines = (
            *shown(mirror, given.at),
            f"the copy of {node} will count as the data: what others have that it has not is lost",
        )
        # Its kernel first: once the log has the word, the application starts there.
        return _asked(given, lines, (f"accept {node}", *_marks(mirror))) or Next(works={node: Adopt(made)})
    if acts == 1:
        text = f"{request.operator} accepts the copy of {node} as the data of '{given.app.name}'"
        command = AcceptCopy(given.app.name, node, request.operator, given.at)
        return Next((Progress(text),), commands=(command,), word=text)
    return Next(done=f"Copy of '{node}' Accepted [RC=0].")


def _resolve(
    given: Given, request: Request, keep: NodeName, mirror: Mirror, made: Layout, acts: int
) -> Next | None:  # fmt: skip
    app, grant = given.app.name, app_state(given.ledger, given.app.name).grant
    others = [node for node in mirror.nodes if node != keep]
    away = [node for node in others if node not in given.seen]
    if away:
        return Next(refusal=f"{', '.join(away)}, whose copy is to be thrown away, is not up")
    if grant is not None and grant.node != keep:
        return Next(refusal=f"'{app}' runs on {grant.node}, whose copy is in use: lha_stopapp -A {app} first")
    if acts == 0:
        lost = [f"{node} : {given.seen[node].apart or 'how much it wrote by itself is unknown'}" for node in others]
        lines = (*shown(mirror, given.at), *lost, f"the copy of {keep} is kept; the above is thrown away")
        question = _asked(given, lines, (f"keep {keep}", *_marks(mirror)))
        if question is not None:
            return question
        text = f"{request.operator} keeps the copy of {keep} of '{app}', and throws that of {', '.join(others)} away"
        states = dict.fromkeys(others, CopyState.INCONSISTENT) | {keep: CopyState.CURRENT}
        commands = (SetMirror(app, None), SetMirror(app, assignment.with_copies(mirror, states, given.at)))
        return Next((Progress(text),), commands=commands, word=text)
    if acts == 1:
        return Next(works={node: Discard(made) for node in others})
    if acts == 2:
        return Next(works={keep: Reconcile(made)})
    return Next(done=f"Copy of '{keep}' Kept; the other will be synchronised from it [RC=0].")


def _replace(given: Given, node: NodeName, mirror: Mirror, made: Layout, acts: int) -> Next | None:
    """By what is there, so that it goes on where it stopped: volume, mark in the log, metadata."""
    app, seen, copy = given.app.name, given.seen.get(node), mirror.copies[node]
    if seen is None:
        return Next(refusal=f"node '{node}' is not up")
    volumes = tuple(name.removeprefix(VOLUME) for name in seen.missing if name.startswith(VOLUME))
    if volumes:
        agreed, asked = _agreed(given, node, VOLUME, volumes)
        return asked or Next(works={node: Make(volumes, agreed, sizes(given, volumes))})
    missing = tuple(name.removeprefix(METADATA) for name in seen.missing if name.startswith(METADATA))
    if not missing:
        return None if acts else Next(done=f"The disk of {node} has all that it needs: nothing to replace [RC=0].")
    others = [each for name, each in mirror.copies.items() if name != node]
    if all(each.state is not CopyState.CURRENT for each in others):
        return Next(refusal=f"no other copy is current, so the one of {node} cannot be made from it")
    if copy.state is not CopyState.INCONSISTENT:
        text = Progress(f"{node} : its copy holds nothing any more, the log has it")
        fresh = assignment.with_copies(mirror, {node: CopyState.INCONSISTENT}, given.at)
        return Next((text,), commands=(SetMirror(app, None), SetMirror(app, fresh)))
    agreed, asked = _agreed(given, node, METADATA, missing)
    works: dict[NodeName, Work] = {node: Initialise(made, missing, "", agreed)}
    return asked or Next((Progress(f"Initialising DRBD on {node} ..."),), works=works)


def _agreed(
    given: Given, node: NodeName, kind: str, volumes: tuple[str, ...]
) -> tuple[dict[str, str], Next | None]:  # fmt: skip
    """What stands on the new disk."""
    names = [kind + volume for volume in volumes]
    data = {name: what for name, what in sorted(given.seen[node].data.items()) if name in names}
    if not data:
        return data, None
    lines = tuple(f"{node} : {name}: {what}, which would be lost" for name, what in data.items())
    return data, _asked(given, lines, lines)
