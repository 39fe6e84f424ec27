"""The bundle of a node: a tar archive of what its /etc/truecl is to hold, made on another node. Secret: has a key."""

import io
import re
import tarfile
from pathlib import Path

from truecl.config.cluster import FILE
from truecl.runtime.credentials import CA, CERT, KEY, RING

SAMPLE = "apps/web.yaml.sample"
MAX_BUNDLE = 4 << 20
"""Bytes; a bundle has about ten thousand."""
MEMBERS = (CA, KEY, RING, FILE, SAMPLE, CERT)
"""What a founder's bundle holds, in the order in which it is put into place."""
NEEDED = (CA, KEY, RING, FILE, CERT)
_APP = re.compile(r"apps/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.yaml")

Files = dict[str, bytes]
"""Names within the directory to contents, in the order in which they are put into place."""


class Refused(Exception):
    """`problems` are lines for the operator. Nothing was changed, unless one of them says what is half done."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def pack(files: Files, now: float) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o600, int(now)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def unpack(bundle: Path) -> Files:
    """What a bundle may hold and nothing else, the certificate last. Raises Refused."""
    try:
        with bundle.open("rb") as file:
            packed = file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise Refused(f"{bundle}: {error.strerror}") from None
    expected = "expected a bundle that lha_init or lha_node add made"
    if len(packed) > MAX_BUNDLE:
        raise Refused(f"{bundle}: has more than {MAX_BUNDLE} bytes; {expected}")
    files: Files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                known = member.name in MEMBERS or _APP.fullmatch(member.name) is not None
                if content is None or not known or member.name in files:
                    raise Refused(f"{bundle}: holds {member.name[:80]!r}; {expected}")
                files[member.name] = content.read()
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise Refused(f"{bundle}: no tar archive ({error}); {expected}") from None
    missing = [name for name in NEEDED if name not in files]
    if missing:
        raise Refused(f"{bundle}: lacks {', '.join(missing)}; {expected}")
    apps = sorted(name for name in files if _APP.fullmatch(name))
    return {name: files[name] for name in (*apps, *MEMBERS) if name in files}
