"""Sealed datagrams: AES-256-GCM over one heartbeat, with a key of the cluster's key ring.

    4 bytes  magic and format version
    4 bytes  key id, big endian
   12 bytes  nonce
    n bytes  ciphertext, then the 16-byte tag; header and cluster name are authenticated with it

A nonce must never repeat under one key, which all nodes share, whatever restarts: each process starts at 96 random bits
and counts up from there. (With 2**20 starts of 2**36 datagrams each, two ranges meet with a chance of 2**-20. A 32-bit
random prefix would meet after some 65,000 starts: birthday bound.) Replays are the detector's matter: it takes each
(sender, boot, sequence) once.

Rotation (`truecl.core.rotation`): `rotate` with a ring that has the new key beside the old one on every node, then
again with the new one as `current`, then without the old one; within a step the nodes' order does not matter.
"""

from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from truecl.wire.frame import FrameTooLarge, ProtocolFault

MAGIC = b"TCL\x01"
KEY_BYTES = 32
NONCE_BYTES = 12
HEADER_BYTES = len(MAGIC) + 4 + NONCE_BYTES
TAG_BYTES = 16
MAX_KEYS = 8
MAX_DATAGRAM = 8192
"""Bytes with header and tag."""


class SealBroken(ProtocolFault):
    """A datagram that no holder of the cluster's keys sealed, or not in this form."""


class KeyRing:
    """The keys that open, and the one that seals. Raises ValueError for keys that cannot be."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        if not 1 <= len(keys) <= MAX_KEYS:
            raise ValueError(f"a key ring holds 1 to {MAX_KEYS} keys, not {len(keys)}")
        if current not in keys:
            raise ValueError(f"the current key {current} is not in the key ring")
        for number, key in keys.items():
            if not 0 <= number < 1 << 32 or len(key) != KEY_BYTES:
                raise ValueError(f"key {number}: ids are 32-bit numbers and keys have {KEY_BYTES} bytes")
        self.current = current
        self.ids = tuple(sorted(keys))
        self._ciphers = {number: AESGCM(key) for number, key in keys.items()}

    def cipher(self, number: int) -> AESGCM | None:
        return self._ciphers.get(number)


class Seal:
    """Seals and opens for one process of one cluster. `start`: 12 random bytes, fresh in every process."""

    def __init__(self, ring: KeyRing, cluster: str, start: bytes) -> None:
        if len(start) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes, not {len(start)}")
        self._ring = ring
        self._cluster = cluster.encode()
        self._nonce = int.from_bytes(start, "big")

    def rotate(self, ring: KeyRing) -> None:
        """From now on. The nonces go on counting."""
        self._ring = ring

    def seal(self, payload: bytes) -> bytes:
        """Raises FrameTooLarge when the datagram would exceed MAX_DATAGRAM."""
        if len(payload) + HEADER_BYTES + TAG_BYTES > MAX_DATAGRAM:
            raise FrameTooLarge(f"a heartbeat of {len(payload)} bytes does not fit a datagram of {MAX_DATAGRAM}")
        number = self._ring.current
        cipher = self._ring.cipher(number)
        if cipher is None:
            raise ValueError(f"the current key {number} is not in the key ring")
        self._nonce = (self._nonce + 1) % (1 << 8 * NONCE_BYTES)
        nonce = self._nonce.to_bytes(NONCE_BYTES, "big")
        header = MAGIC + number.to_bytes(4, "big") + nonce
        return header + cipher.encrypt(nonce, payload, header + self._cluster)

    def open(self, datagram: bytes) -> bytes:
        """The payload. Raises SealBroken, and costs no cryptography for what is plainly foreign."""
        if not HEADER_BYTES + TAG_BYTES <= len(datagram) <= MAX_DATAGRAM or datagram[: len(MAGIC)] != MAGIC:
            raise SealBroken(f"{len(datagram)} bytes that are no heartbeat of truecl")
        header = datagram[:HEADER_BYTES]
        number = int.from_bytes(header[len(MAGIC) : len(MAGIC) + 4], "big")
        cipher = self._ring.cipher(number)
        if cipher is None:
            known = ", ".join(str(each) for each in self._ring.ids)
            raise SealBroken(f"a heartbeat sealed with key {number}; this node has {known}")
        nonce = header[-NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, datagram[HEADER_BYTES:], header + self._cluster)
        except InvalidTag as error:
            raise SealBroken(f"a heartbeat that was not sealed with this cluster's key {number}") from error
