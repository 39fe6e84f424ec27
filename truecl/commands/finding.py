"""What `lha_check` finds."""

import msgspec

from truecl.model.report import Severity


class Finding(msgspec.Struct, frozen=True):
    severity: Severity
    """ERROR: it will not work; WARN: it works until something fails."""
    text: str


def error(text: str) -> Finding:
    return Finding(Severity.ERROR, text)


def warning(text: str) -> Finding:
    return Finding(Severity.WARN, text)
