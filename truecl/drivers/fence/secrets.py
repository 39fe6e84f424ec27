"""Passwords of fence devices, out of files that nobody but root can read."""

import os
import stat
from collections.abc import Mapping

from truecl.drivers.contract import StepFailed

MAX_SECRET = 4096
"""Bytes."""
_WORDS = ("pass", "secret", "token", "key", "community")
"""In the name of a parameter: its value is blotted out wherever it would be shown, wherever it came from."""


def read(secrets: Mapping[str, str]) -> dict[str, str]:
    """Parameter to value, for parameters to paths. Raises StepFailed, which never holds what is in a file."""
    return {parameter: _read(parameter, path) for parameter, path in secrets.items()}


def hidden(parameters: Mapping[str, str], secrets: Mapping[str, str]) -> tuple[str, ...]:
    """The values that must not be shown."""
    named = [value for key, value in parameters.items() if any(word in key.lower() for word in _WORDS)]
    return tuple(value for value in (*named, *secrets.values()) if value)


def _read(parameter: str, path: str) -> str:
    """The file is looked at once it is open: what is checked is what is read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise StepFailed(f"secret {parameter!r}: {path}: {error.strerror}; put the value there on this node") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StepFailed(f"secret {parameter!r}: {path} is no regular file")
        if found.st_uid not in (0, os.geteuid()):
            raise StepFailed(f"secret {parameter!r}: {path} belongs to user id {found.st_uid}; `chown root {path}`")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise StepFailed(f"secret {parameter!r}: others may read {path} (mode {mode:04o}); `chmod 600 {path}`")
        data = os.read(descriptor, MAX_SECRET + 1)
    except OSError as error:
        raise StepFailed(f"secret {parameter!r}: {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    try:
        value = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        value = "\n"
    if not value or len(data) > MAX_SECRET or any(c in value for c in "\n\r\0"):
        raise StepFailed(f"secret {parameter!r}: {path}: expected one line of text, at most {MAX_SECRET} bytes")
    return value
