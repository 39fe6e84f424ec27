"""`lha_init`: the cluster's authority, keys and first configuration, and a bundle of them for each other node.

Everything is written into a directory beside the old files first, checked by loading it, and then renamed into place,
the node's certificate last: a node without it is not initialised.
"""

import datetime
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from truecl.commands.bundle import MEMBERS, SAMPLE, Files, Refused, pack, unpack
from truecl.config import samples, scalars
from truecl.config.cluster import FILE
from truecl.config.reader import read
from truecl.model.ids import LinkName, NodeName
from truecl.runtime.authority import issue, new_authority
from truecl.runtime.credentials import CA, CA_KEY, CERT, KEY, RING, BadCredentials, Credentials, ring_text
from truecl.wire.seal import KEY_BYTES

BUNDLES = "bundles"


@dataclass(frozen=True)
class Environment:
    """What the command finds: where, when, and by whom the daemons without privilege are run."""

    directory: Path
    now: float
    """Seconds since the epoch."""
    owner: int | None
    """User id of `truecl`, who must read the secrets; None: there is no such user yet."""
    random: Callable[[int], bytes] = os.urandom


class InitRequest(msgspec.Struct, frozen=True):
    cluster: str
    nodes: tuple[tuple[NodeName, tuple[str, ...]], ...]
    """Each with one address for each link."""
    this: NodeName
    """The node that this machine is."""
    links: tuple[LinkName, ...] = ()
    """(): `lan`, `ring`, then `link3` ..., as many as the nodes have addresses."""
    force: bool = False


class Initialised(msgspec.Struct, frozen=True):
    cluster: str
    node: NodeName
    directory: str
    written: tuple[str, ...]
    """Names within the directory."""
    bundles: dict[NodeName, str] = {}
    """Node to the path of its bundle."""
    saved: str = ""
    """Where the files went that --force replaced."""


def parse_nodes(text: str) -> tuple[tuple[NodeName, tuple[str, ...]], ...]:
    """`n1=10.0.0.1+10.1.0.1,n2=...` to names with addresses. Raises Refused with every problem."""
    problems: list[str] = []
    nodes: list[tuple[NodeName, tuple[str, ...]]] = []
    for part in text.split(","):
        name, equals, rest = part.strip().partition("=")
        try:
            if not equals:
                raise scalars.Unfit("expected NAME=ADDRESS, or NAME=ADDRESS+ADDRESS with an address for each link")
            known = NodeName(scalars.node_name(name))
            addresses = tuple(scalars.ip_address(each) for each in rest.split("+"))
            nodes.append((known, addresses))
        except scalars.Unfit as unfit:
            problems.append(f"--nodes {part.strip()!r}: {unfit.expected}")
    names = [name for name, _ in nodes]
    problems += [f"--nodes: node {name!r} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if nodes and any(len(addresses) != len(nodes[0][1]) for _, addresses in nodes):
        counts = ", ".join(f"{name} has {len(addresses)}" for name, addresses in nodes)
        problems.append(f"--nodes: every node needs an address for each link, but {counts}")
    if problems:
        raise Refused(*problems)
    return tuple(nodes)


def default_links(count: int) -> tuple[LinkName, ...]:
    return tuple(LinkName(samples.LINKS[n] if n < len(samples.LINKS) else f"link{n + 1}") for n in range(count))


def init(environment: Environment, request: InitRequest) -> Initialised:
    """Makes a cluster, with this machine as one of its nodes. Raises Refused."""
    configuration = _configuration(request)
    if request.this not in [name for name, _ in request.nodes]:
        raise Refused(f"node {request.this!r} is not among --nodes")
    _refuse_existing(environment.directory, (*MEMBERS, CA_KEY, BUNDLES), request.force)
    authority = new_authority(request.cluster, environment.now)
    ring = ring_text(((1, environment.random(KEY_BYTES)),))
    shares: dict[NodeName, Files] = {}
    for name, _ in request.nodes:
        pair = issue(authority, request.cluster, name, environment.now)
        content = {CA: authority.cert_pem, KEY: pair.key_pem, RING: ring, CERT: pair.cert_pem, **configuration}
        shares[name] = {member: content[member] for member in MEMBERS}
    bundles = {name: f"{BUNDLES}/{name}.tar" for name in shares if name != request.this}
    own: Files = {CA_KEY: authority.key_pem}
    own |= {path: pack(shares[name], environment.now) for name, path in bundles.items()}
    own |= shares[request.this]
    saved = _place(environment, own, request.force)
    return Initialised(
        cluster=request.cluster,
        node=request.this,
        directory=str(environment.directory),
        written=tuple(own),
        bundles={name: str(environment.directory / path) for name, path in bundles.items()},
        saved=saved,
    )


def join(environment: Environment, bundle: Path, force: bool = False) -> Initialised:
    """Unpacks the bundle that `init` made for this node. Raises Refused."""
    files = unpack(bundle)
    _refuse_existing(environment.directory, tuple(files), force)
    saved = _place(environment, files, force)
    own = Credentials.load(environment.directory, environment.now)
    return Initialised(
        cluster=own.cluster,
        node=own.node,
        directory=str(environment.directory),
        written=tuple(files),
        saved=saved,
    )


def _configuration(request: InitRequest) -> Files:
    """The sample configuration, proven readable: its problems are those of the request."""
    if not request.nodes:
        raise Refused("--nodes names no node")
    try:
        scalars.name(request.cluster)
    except scalars.Unfit as unfit:
        raise Refused(f"--cluster {request.cluster!r}: {unfit.expected}") from None
    count = len(request.nodes[0][1])
    links = request.links or default_links(count)
    if any(len(addresses) != len(links) for _, addresses in request.nodes):
        raise Refused(f"--links names {len(links)} links; expected as many as each node has addresses ({count})")
    names = [name for name, _ in request.nodes]
    first = request.nodes[0][1][0]
    files = {
        FILE: samples.cluster_yaml(request.cluster, request.nodes, links).encode(),
        SAMPLE: samples.app_yaml(names[:2], "2001:db8::50" if ":" in first else "192.0.2.50").encode(),
    }
    _, problems = read({FILE: files[FILE]})
    if problems:
        raise Refused(*(f"--nodes, --links: {each.what}; {each.expected}" for each in problems))
    return files


def _refuse_existing(directory: Path, names: tuple[str, ...], force: bool) -> None:
    there = [directory / name for name in names if os.path.lexists(directory / name)]
    if there and not force:
        lines = [f"{path}: is there already" for path in there]
        raise Refused(*lines, f"nothing was changed; --force moves these to {directory}/old-DATE and goes on")


def _place(environment: Environment, files: Files, force: bool) -> str:
    """Puts all files into place. Returns where replaced ones went, '' if there were none."""
    directory = environment.directory
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=directory))
    except OSError as error:
        raise Refused(f"{directory}: {error.strerror}") from None
    placing = False
    try:
        for name, content in files.items():
            _write(staging / name, content, environment.owner)
        Credentials.load(staging, environment.now)
        placing = True
        saved = _save_old(environment, files) if force else ""
        for name in files:
            _make_parent(directory / name)
            (staging / name).rename(directory / name)
        _sync(directory)
    except BadCredentials as bad:
        raise Refused(*(line.replace(f"{staging}/", "") for line in bad.problems)) from None
    except OSError as error:
        half = (
            [f"{directory} is half done: repair the cause, then --force; old files are in old-DATE"] if placing else []
        )
        raise Refused(f"{error.filename or directory}: {error.strerror}", *half) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return saved


def _write(path: Path, content: bytes, owner: int | None) -> None:
    """Durable, and never readable by others for a moment."""
    _make_parent(path)
    open_to_all = path.name in (CA, CERT) or path.suffix in (".yaml", ".sample")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if open_to_all:
            os.fchmod(descriptor, 0o644)
        elif owner is not None and path.name in (KEY, RING):
            os.fchown(descriptor, owner, -1)
        os.fsync(descriptor)


def write_secret(path: Path, content: bytes) -> None:
    """For root alone, whole or not at all, in the place of what was there. Raises Refused."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        _make_parent(path)
        fresh.unlink(missing_ok=True)
        _write(fresh, content, None)
        fresh.replace(path)
    except OSError as error:
        raise Refused(f"{error.filename or path}: {error.strerror}") from None


def _make_parent(path: Path) -> None:
    path.parent.mkdir(mode=0o700 if path.parent.name == BUNDLES else 0o755, exist_ok=True)


def _save_old(environment: Environment, files: Files) -> str:
    """Moves what is in the way aside, the certificate first: from here on the node is not initialised."""
    directory = environment.directory
    apps: list[str] = []
    if SAMPLE not in files:  # of lha_node add: the whole configuration of a cluster that runs
        apps = [f"apps/{path.name}" for path in sorted((directory / "apps").glob("*.yaml"))]
    names = dict.fromkeys([*apps, *(name for name in reversed(files) if not name.startswith(BUNDLES)), CA_KEY, BUNDLES])
    there = [name for name in names if os.path.lexists(directory / name)]
    if not there:
        return ""
    moment = datetime.datetime.fromtimestamp(environment.now, datetime.UTC)
    saved = directory / f"old-{moment:%Y%m%dT%H%M%SZ}"
    saved.mkdir(mode=0o700)
    for name in there:
        (saved / name).parent.mkdir(exist_ok=True)
        (directory / name).rename(saved / name)
    return str(saved)


def _sync(directory: Path) -> None:
    for each in (directory / "apps", directory / BUNDLES, directory):
        if each.is_dir():
            descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
