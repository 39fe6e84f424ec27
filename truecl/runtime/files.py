"""The configuration's files, from a directory to `truecl.config.reader.read`."""

import os
import stat
from pathlib import Path

from truecl.config.cluster import FILE
from truecl.config.reader import MAX_FILES
from truecl.config.tree import MAX_BYTES

APPS = "apps"


class Unreadable(Exception):
    """A file of the configuration cannot be read; its text is for the operator."""


def gather(directory: Path) -> dict[str, bytes]:
    """cluster.yaml and apps/*.yaml by their names within `directory`; what is missing is left out.

    A file longer than the reader takes is read only as far as it takes to be refused. Raises Unreadable.
    """
    names = [FILE] if (directory / FILE).exists() else []
    try:
        with os.scandir(directory / APPS) as entries:
            found = sorted(each.name for each in entries if _is_app(each.name))
    except FileNotFoundError:
        found = []
    except OSError as error:
        raise Unreadable(f"{directory / APPS}: {error.strerror}") from None
    if len(found) > MAX_FILES:
        raise Unreadable(f"{directory / APPS}: holds {len(found)} files; expected at most {MAX_FILES}")
    names += [f"{APPS}/{name}" for name in found]
    return {name: _bytes(directory / name) for name in names}


def _is_app(name: str) -> bool:
    """Editors' files (.web.yaml.swp, web.yaml~) and samples are none."""
    return name.endswith(".yaml") and not name.startswith(".")


def _bytes(path: Path) -> bytes:
    try:
        # Not blocked by a FIFO that somebody put there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{path}: is no file")
            parts, size = [], 0
            while size <= MAX_BYTES and (part := os.read(descriptor, MAX_BYTES + 1 - size)):
                parts.append(part)
                size += len(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
