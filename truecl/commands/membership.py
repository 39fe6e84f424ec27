"""lha_node add and remove: the configuration, the new node's bundle, the request to the master, one after the other.

Each step looks at what is there already, so that the same command again finishes what was interrupted.
"""

from collections.abc import Iterable
from typing import NamedTuple

from truecl.commands.bundle import Files, Refused, pack, unpack
from truecl.commands.fence import look
from truecl.commands.init import BUNDLES, Environment, write_secret
from truecl.commands.node import DONE, FAILED, LOG, USAGE, Ended, Line, Node, Outcome, Steps, carry_out
from truecl.config import scalars
from truecl.config.cluster import FILE
from truecl.config.edit import Uneditable, with_node, without_node
from truecl.config.reader import digest, read
from truecl.model.config import Configuration, NodeConfig
from truecl.model.ids import CLUSTERD, SYNCD, AppName, LinkName, NodeName
from truecl.runtime.authority import Pair, issue
from truecl.runtime.credentials import ADDED, CA, CA_KEY, CERT, KEY, RING
from truecl.runtime.files import Unreadable, gather
from truecl.wire.messages import Bring, Request, Status
from truecl.wire.plain import plain

TIMEOUT = 300.0
"""Seconds: somebody has to carry the bundle to the new node."""
LOOK = 5.0


class NewNode(NamedTuple):
    """What the operator says of it."""

    name: NodeName
    addresses: dict[LinkName, str]
    observer: bool = False
    witness: bool = False


class _Version(NamedTuple):
    """One version of the configuration: its files, and what they say."""

    files: dict[str, str]
    configuration: Configuration

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        return tuple(node.name for node in self.configuration.cluster.nodes)

    def node(self, name: NodeName) -> NodeConfig | None:
        return next((node for node in self.configuration.cluster.nodes if node.name == name), None)


def parse_addresses(texts: Iterable[str]) -> dict[LinkName, str]:
    """`LINK=ADDRESS` each. Raises Ended."""
    found: dict[LinkName, str] = {}
    for text in texts:
        link, equals, address = text.partition("=")
        if not equals or not link or not address or link in found:
            raise Ended(USAGE, f"--address {text!r}: expected LINK=ADDRESS, once for each link")
        found[LinkName(link)] = address
    return found


# ---- add ------------------------------------------------------------------------------------------------------------


def add(node: Node, place: Environment, wanted: NewNode, timeout: float = TIMEOUT, wait: bool = True) -> Steps:
    """Raises Ended and NotAllowed."""
    end = node.now() + timeout
    status = look(node, None, LOOK)
    old = _present(place)
    new = _grown(old, wanted)
    path = place.directory / BUNDLES / f"{wanted.name}.tar"
    if _bundled(place, new, wanted.name):
        yield Line(f"wrote {path}: the keys and the configuration of {wanted.name}; keep it secret", LOG)
    outcome = yield from _bring(node, old, new, status, end - node.now())
    if outcome.code:
        return outcome
    if status.nodes.get(wanted.name) != "UP":
        yield Line(f"on {wanted.name}: lha_init --join {path.name}, then systemctl start truecl", LOG, False)
    request = Request(f"{node.token}-add", "add", AppName(""), wanted.name, node.operator)
    outcome = yield from carry_out(node, CLUSTERD, plain(request), end - node.now(), wait, repeatable=True)
    return outcome


def _grown(old: _Version, wanted: NewNode) -> _Version:
    """The configuration with that node. Raises Ended with what is wrong with the wish."""
    known = old.node(wanted.name)
    if known is not None:
        given = (
            wanted.addresses or known.addresses,
            wanted.observer or known.observer,
            wanted.witness or known.witness,
        )
        if given != (known.addresses, known.observer, known.witness):
            where = ", ".join(f"{link}={address}" for link, address in known.addresses.items())
            raise Ended(FAILED, f"node '{wanted.name}' is configured already, as {where}; lha_node remove it first")
        return old
    try:
        scalars.node_name(wanted.name)
    except scalars.Unfit as unfit:
        raise Ended(FAILED, f"'{wanted.name}' is no name of a node: {unfit.expected}") from None
    links = [link.name for link in old.configuration.cluster.links]
    missing, unknown = [each for each in links if each not in wanted.addresses], [*wanted.addresses.keys() - {*links}]
    if missing or unknown:
        what = f"no --address for link {', '.join(missing)}" if missing else f"no link is called {min(unknown)}"
        raise Ended(FAILED, f"{what}; this cluster has {', '.join(links)}")
    fields = {str(link): wanted.addresses[link] for link in links}
    fields |= {"observer": "yes"} if wanted.observer else {"witness": "yes"} if wanted.witness else {}
    try:
        new = _version({**old.files, FILE: with_node(old.files[FILE], wanted.name, fields)})
    except Uneditable as error:
        raise Ended(FAILED, str(error)) from None
    if new.nodes[:-1] != old.nodes or new.configuration.cluster.nodes[:-1] != old.configuration.cluster.nodes:
        raise Ended(FAILED, f"{FILE} cannot be changed safely as it is written; add the node there by hand and repeat")
    return new


def _bundled(place: Environment, new: _Version, name: NodeName) -> bool:
    """Whether a bundle was written: one that fits is not made anew, it may have been carried over already."""
    path = place.directory / BUNDLES / f"{name}.tar"
    texts = {each: text.encode() for each, text in new.files.items()}
    try:
        kept = unpack(path)
        if {each: kept[each] for each in kept if each.endswith(".yaml")} == texts:
            return False
    except Refused:
        pass
    own = _credentials(place)
    try:
        pair = issue(Pair(own[CA], own[CA_KEY]), new.configuration.cluster.name, name, place.now, ADDED)
    except ValueError as error:
        raise Ended(FAILED, f"{place.directory / CA_KEY}: {error}") from None
    files: Files = {CA: own[CA], KEY: pair.key_pem, RING: own[RING], **texts, CERT: pair.cert_pem}
    try:
        write_secret(path, pack(files, place.now))
    except Refused as refused:
        raise Ended(FAILED, str(refused)) from None
    return True


def _credentials(place: Environment) -> dict[str, bytes]:
    """Raises Ended."""
    found = {}
    for name in (CA, CA_KEY, RING):
        try:
            found[name] = (place.directory / name).read_bytes()
        except FileNotFoundError:
            helps = "run this where lha_init made the cluster: only there is the authority's key"
            raise Ended(FAILED, f"{place.directory / name} is missing; {helps}") from None
        except OSError as error:
            raise Ended(FAILED, f"{place.directory / name}: {error.strerror}") from None
    return found


# ---- remove ---------------------------------------------------------------------------------------------------------


def remove(node: Node, place: Environment, name: NodeName, timeout: float = TIMEOUT, wait: bool = True) -> Steps:
    """Raises Ended and NotAllowed."""
    end = node.now() + timeout
    status = look(node, None, LOOK)
    if status.here == name:
        raise Ended(FAILED, f"this is {name} itself: run it on another node")
    old = _present(place)
    new = _shrunk(old, name)
    request = Request(f"{node.token}-remove", "remove", AppName(""), name, node.operator)
    outcome = yield from carry_out(node, CLUSTERD, plain(request), end - node.now(), wait, repeatable=True)
    if outcome.code or not wait:
        return outcome
    brought = yield from _bring(node, old, new, status, end - node.now())
    if brought.code:
        return brought
    yield Line(f"{name} has the key of the heartbeats still: 'lha_node rotate-key' makes it worth nothing", LOG, False)
    return outcome


def _shrunk(old: _Version, name: NodeName) -> _Version:
    """The configuration without that node. Raises Ended."""
    if old.node(name) is None:
        return old
    users = [app.name for app in old.configuration.apps if name in app.nodes]
    if users:
        files = ", ".join(f"apps/{app}.yaml" for app in users)
        raise Ended(FAILED, f"{files} names {name} under 'nodes': take it out there, lha_form --sync, and repeat")
    try:
        new = _version({**old.files, FILE: without_node(old.files[FILE], name)})
    except Uneditable as error:
        raise Ended(FAILED, str(error)) from None
    rest = tuple(each for each in old.configuration.cluster.nodes if each.name != name)
    if new.configuration.cluster.nodes != rest:
        raise Ended(FAILED, f"{FILE} cannot be changed safely as it is written; take the node out by hand and repeat")
    return new


# ---- what both do ---------------------------------------------------------------------------------------------------


def _present(place: Environment) -> _Version:
    """What this node has. Raises Ended."""
    try:
        raw = gather(place.directory)
        return _version({name: content.decode() for name, content in raw.items()}, placed=True)
    except Unreadable as error:
        raise Ended(FAILED, str(error)) from None
    except UnicodeDecodeError:
        raise Ended(FAILED, "the configuration has problems; lha_check lists them") from None


def _version(files: dict[str, str], placed: bool = False) -> _Version:
    """Raises Ended with every problem. placed -- name file and line: they are on this node."""
    configuration, problems = read(files)
    if configuration is None:
        raise Ended(
            FAILED, "; ".join(str(each) if placed else f"{each.what}: {each.expected}" for each in problems[:5])
        )
    return _Version(files, configuration)


def _bring(node: Node, old: _Version, new: _Version, status: Status, timeout: float) -> Steps:
    """To the nodes of both that may answer, and then to the log: it is in force. Nodes that are away follow later."""
    nodes = tuple(each for each in old.nodes if each in new.nodes and status.nodes.get(each) != "FENCED")
    names = digest(new.files)
    yield Line(f"bringing configuration {names[:8]} to {', '.join(nodes)}", LOG)
    message = Bring(digest(old.files), names, new.files, nodes)
    outcome = yield from carry_out(node, SYNCD, plain(message), timeout, True, repeatable=True)
    if outcome.code:
        return outcome
    request = Request(f"{node.token}-configure", "configure", AppName(""), None, node.operator, digest=names)
    outcome = yield from carry_out(node, CLUSTERD, plain(request), timeout, True, repeatable=True)
    return outcome if outcome.code else Outcome(DONE)
