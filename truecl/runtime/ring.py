"""A node's key ring on its disk: read, drawn anew for a rotation, and replaced. Blocks for the time of the disk."""

import os
from pathlib import Path

from truecl.core.rotation import DrawnRings, KeptRing
from truecl.runtime.credentials import MAX_BYTES, RING, parse_ring, ring_keys, ring_text
from truecl.wire.seal import KEY_BYTES, MAX_KEYS, KeyRing


class RingFile:
    """ETC/keyring; the file belongs to whoever runs this (user truecl), and to nobody else."""

    def __init__(self, etc: Path) -> None:
        self._path = etc / RING

    def read(self) -> KeyRing:
        """Raises OSError, and ValueError for what is no key ring."""
        return parse_ring(self._content())

    def draw(self) -> DrawnRings:
        """The rings that bring a new key into use, one after the other (`truecl.core.rotation`)."""
        try:
            old = ring_keys(self._content())
        except (OSError, ValueError) as error:
            return DrawnRings((), f"{self._path}: {getattr(error, 'strerror', None) or error}")
        if len(old) >= MAX_KEYS:
            return DrawnRings((), f"{self._path}: holds {len(old)} keys, {MAX_KEYS} are the most")
        new = ((max(number for number, _ in old) + 1) % (1 << 32), os.urandom(KEY_BYTES))
        return DrawnRings(tuple(ring_text(keys).decode() for keys in ((*old, new), (new, *old), (new,))))

    def keep(self, text: str) -> KeptRing:
        """Whole or not at all, and never readable by others for a moment."""
        fresh = self._path.with_name(f".{self._path.name}.new")
        try:
            parse_ring(text.encode())
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(descriptor)
            fresh.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except (OSError, ValueError) as error:
            return KeptRing(f"{self._path}: {getattr(error, 'strerror', None) or error}")
        return KeptRing()

    def _content(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(MAX_BYTES)
