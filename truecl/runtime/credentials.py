"""Who this node is, and what proves it to the others: the files that `lha_init` writes.

ca.pem          the cluster's authority                                 readable by all
node.pem        this node's certificate; its common name is the node's name, whatever the host is called
node-key.pem    its private key                                         0600
keyring         the keys that seal heartbeats: `ID KEY` a line, the first seals, all open     0600
ca-key.pem      the authority's private key, only where lha_init ran    0600
"""

import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from truecl.config.scalars import Unfit, node_name
from truecl.model.ids import NodeName
from truecl.wire.seal import KEY_BYTES, KeyRing

DIRECTORY = Path("/etc/truecl")
CA, CERT, KEY, RING, CA_KEY = "ca.pem", "node.pem", "node-key.pem", "keyring", "ca-key.pem"
SECRETS = (KEY, RING, CA_KEY)
ADDED = "added"
"""Organizational unit in the certificate of a node that was added to a cluster that ran: its log never begins by
itself, whatever becomes of its disk."""

WARN_SECONDS = 30 * 86400
MAX_BYTES = 65536


class BadCredentials(Exception):
    """The credentials cannot be used. `problems` are lines for the operator, each naming its file."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Credentials:
    node: NodeName
    cluster: str
    ca_pem: bytes = field(repr=False)
    cert_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    key_ring: KeyRing = field(repr=False)
    founder: bool = True
    """The cluster began with this node; False: `lha_node add` took it in (its certificate says so)."""
    not_after: float = 0.0
    """When the first of node's and authority's certificate ends, in seconds since the epoch."""

    @classmethod
    def load(cls, directory: Path, now: float) -> "Credentials":
        """Reads and checks all of them. `now`: seconds since the epoch. Raises BadCredentials with every problem."""
        problems: list[str] = []
        contents = {name: _content(directory / name, problems) for name in (CA, CERT, KEY, RING)}
        if problems:
            raise BadCredentials(tuple(problems))
        ca = _certificate(directory / CA, contents[CA], problems)
        cert = _certificate(directory / CERT, contents[CERT], problems)
        ring = _ring(directory / RING, contents[RING], problems)
        if cert is not None:
            _check_key(directory, cert, contents[KEY], problems)
        if ca is None or cert is None or ring is None:
            raise BadCredentials(tuple(problems))
        _check_issuer(directory, ca, cert, problems)
        for name, each in ((CA, ca), (CERT, cert)):
            end = each.not_valid_after_utc
            if end.timestamp() <= now:
                problems.append(f"{directory / name}: expired on {end:%Y-%m-%d}; `lha_init --force` makes new ones")
        node = _node(directory / CERT, cert, problems)
        cluster = _attribute(cert, NameOID.ORGANIZATION_NAME)
        if not cluster:
            problems.append(f"{directory / CERT}: names no cluster; expected a certificate that lha_init made")
        if problems:
            raise BadCredentials(tuple(problems))
        end = min(ca.not_valid_after_utc, cert.not_valid_after_utc)
        founder = _attribute(cert, NameOID.ORGANIZATIONAL_UNIT_NAME) != ADDED
        return cls(node, cluster, contents[CA], contents[CERT], contents[KEY], ring, founder, end.timestamp())

    def expiry_warning(self, now: float) -> str | None:
        """A line for the operator from 30 days before the end on."""
        left = self.not_after - now
        if left > WARN_SECONDS:
            return None
        return f"the certificates of node {self.node!r} expire in {max(0, int(left // 86400))} days"


def ring_text(keys: tuple[tuple[int, bytes], ...]) -> bytes:
    """The key ring's file; the first of `keys` seals."""
    lines = ["# Keys that seal heartbeats: ID KEY. The first seals, all of them open. The same on every node; secret."]
    return "\n".join([*lines, *(f"{number} {key.hex()}" for number, key in keys), ""]).encode()


def parse_ring(content: bytes) -> KeyRing:
    """Raises ValueError as `ring_keys` does."""
    keys = ring_keys(content)
    return KeyRing(dict(keys), keys[0][0])


def ring_keys(content: bytes) -> tuple[tuple[int, bytes], ...]:
    """Ids and keys, the one that seals first. Raises ValueError with the line that is wrong; never shows a key."""
    keys: dict[int, bytes] = {}
    for number, line in enumerate(content.decode("ascii").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match line.split():
            case [identity, key] if identity.isdecimal() and len(identity) <= 10 and len(key) == 2 * KEY_BYTES:
                if int(identity) in keys:
                    raise ValueError(f"line {number}: the id {identity} stands twice")
                try:
                    keys[int(identity)] = bytes.fromhex(key)
                except ValueError:
                    raise ValueError(f"line {number}: the key is not hexadecimal") from None
            case _:
                raise ValueError(f"line {number}: expected `ID KEY` with {2 * KEY_BYTES} hexadecimal digits")
    if not keys:
        raise ValueError("there is no key")
    return tuple(keys.items())


def _content(path: Path, problems: list[str]) -> bytes:
    """The file's bytes; secrets must belong to their owner alone."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
            mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        problems.append(f"{path}: missing; `lha_init` makes it, `lha_init --join FILE` unpacks it")
        return b""
    except OSError as error:
        problems.append(f"{path}: {error.strerror or error}")
        return b""
    if len(content) > MAX_BYTES:
        problems.append(f"{path}: has more than {MAX_BYTES} bytes")
    if path.name in SECRETS and mode & 0o077:
        problems.append(f"{path}: others may read it (mode {mode:04o}); `chmod 600 {path}`")
    return content


def _certificate(path: Path, content: bytes, problems: list[str]) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError:
        problems.append(f"{path}: no certificate in PEM")
        return None


def _ring(path: Path, content: bytes, problems: list[str]) -> KeyRing | None:
    try:
        return parse_ring(content)
    except UnicodeDecodeError:
        problems.append(f"{path}: no key ring, but binary data")
    except ValueError as error:
        problems.append(f"{path}: {error}")
    return None


def _check_key(directory: Path, cert: x509.Certificate, content: bytes, problems: list[str]) -> None:
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problems.append(f"{directory / KEY}: no private key in PEM without a password")
        return
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != cert.public_key().public_bytes(*form):
        problems.append(f"{directory / KEY}: is not the key of {directory / CERT}")


def _check_issuer(directory: Path, ca: x509.Certificate, cert: x509.Certificate, problems: list[str]) -> None:
    try:
        cert.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        problems.append(f"{directory / CERT}: was not issued by {directory / CA}")


def _node(path: Path, cert: x509.Certificate, problems: list[str]) -> NodeName:
    name = _attribute(cert, NameOID.COMMON_NAME)
    try:
        return NodeName(node_name(name))
    except Unfit as unfit:
        problems.append(f"{path}: its common name is {name[:64]!r}; {unfit.expected}")
        return NodeName("")


def _attribute(cert: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    found = cert.subject.get_attributes_for_oid(oid)
    return str(found[0].value) if len(found) == 1 else ""
