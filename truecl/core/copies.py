"""What the log knows of the copies of replicated data, and who may be given it (SAFETY.md section 5).

A copy is CURRENT when it has every write that was acknowledged. Who holds the grant may mark another copy as less than
that (then it may go on without it), and as current again, always naming the mark that this replaces: a word that was
overtaken changes nothing. A takeover marks all others with the very entry that grants it.
"""

from msgspec.structs import replace

from truecl.model.ids import AppName, Index, NodeName
from truecl.model.ledger import AcceptCopy, AppState, GiveGrant, Ledger, MarkCopy, Proof, SetMirror
from truecl.model.mirror import Copy, CopyState, Mirror


def current(ledger: Ledger, app: AppName, node: NodeName) -> bool:
    """May this node be given the application, as far as its data goes? Yes where nothing is replicated."""
    mirror = ledger.mirrors.get(app)
    if mirror is None:
        return True
    copy = mirror.copies.get(node)
    return copy is not None and copy.state is CopyState.CURRENT


def needs_alone(ledger: Ledger, app: AppName, state: AppState) -> bool:
    """Must its next generation go on without the other copies? So it is where the last one was ended without its
    owner's own word, and stays for as long as a copy is not current: whoever has that may be frozen, and has taken no
    order since."""
    mirror = ledger.mirrors.get(app)
    if mirror is None:
        return False
    behind = any(copy.state is not CopyState.CURRENT for copy in mirror.copies.values())
    return behind or (state.ended is not None and state.ended.proof is not Proof.RELEASED)


def grantable(ledger: Ledger, state: AppState, command: GiveGrant) -> bool:
    """Whatever a master says: only a current copy is granted, and after a takeover none goes on as if connected."""
    alone = command.alone or not needs_alone(ledger, command.app, state)
    return current(ledger, command.app, command.node) and alone


def left_behind(ledger: Ledger, index: Index, command: GiveGrant) -> Ledger:
    """After a grant that goes on alone."""
    mirror = ledger.mirrors.get(command.app)
    if mirror is None or not command.alone:
        return ledger
    copies = {
        node: copy if node == command.node else _behind(copy, index, command.at) for node, copy in mirror.copies.items()
    }
    return _with(ledger, command.app, replace(mirror, copies=copies))


def set_mirror(ledger: Ledger, index: Index, command: SetMirror) -> Ledger:
    """Copies that are new are marked with this entry."""
    if command.mirror is None:
        return replace(ledger, mirrors={app: each for app, each in ledger.mirrors.items() if app != command.app})
    known = ledger.mirrors.get(command.app)
    kept = known.copies if known is not None else {}
    new = {node: copy if copy.index else replace(copy, index=index) for node, copy in command.mirror.copies.items()}
    copies = {node: kept.get(node) or new[node] for node in command.mirror.nodes}
    return _with(ledger, command.app, replace(command.mirror, copies=copies))


def mark(ledger: Ledger, index: Index, command: MarkCopy, state: AppState) -> Ledger:
    mirror, grant = ledger.mirrors.get(command.app), state.grant
    copy = mirror.copies.get(command.node) if mirror is not None else None
    if mirror is None or copy is None or copy.index != command.before:
        return ledger
    if grant is None or grant.generation != command.generation:
        return ledger
    # The same state again is a mark of its own: a word that would clear the one before comes too late from now on.
    at = copy.at if copy.state is command.state else command.at
    copies = mirror.copies | {command.node: Copy(command.state, index, at)}
    if all(each.state is not CopyState.CURRENT for each in copies.values()):
        return ledger  # the last current copy stays what it is: of two that are called stale, one has the data
    return _with(ledger, command.app, replace(mirror, copies=copies))


def accept(ledger: Ledger, index: Index, command: AcceptCopy, state: AppState) -> Ledger:
    mirror = ledger.mirrors.get(command.app)
    if mirror is None or state.grant is not None or command.node not in mirror.copies:
        return ledger
    copies = {
        node: Copy(CopyState.CURRENT, index, command.at) if node == command.node else _behind(copy, index, command.at)
        for node, copy in mirror.copies.items()
    }
    return _with(ledger, command.app, replace(mirror, copies=copies))


def _behind(copy: Copy, index: Index, at: float) -> Copy:
    """From now on another one goes on without it. One that is not consistent stays so."""
    return Copy(CopyState.OUTDATED, index, at) if copy.state is CopyState.CURRENT else copy


def _with(ledger: Ledger, app: AppName, mirror: Mirror) -> Ledger:
    return replace(ledger, mirrors=ledger.mirrors | {app: mirror})
