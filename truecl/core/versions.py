"""Versions of the configuration: reading, staging and activating its files, and what parts two versions."""

import re

import msgspec

from truecl.model.actions import Action
from truecl.model.config import Configuration
from truecl.wire.messages import Digest

MAX_TEXT = 800 * 1024
"""Characters of all files together, so that they fit into one message."""
MAX_FILES = 1024
NAMED_FILES = 5
SHORT = 8
"""Characters of a digest that people are shown."""
FILE_NAME = re.compile(r"cluster\.yaml|apps/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.yaml")


class GatherFiles(Action, frozen=True):
    """Read this node's files. Result: Gathered."""


class StageFiles(Action, frozen=True):
    """Check these files and keep them beside the active ones. Result: StagedFiles."""

    digest: str
    files: dict[str, str]


class ActivateFiles(Action, frozen=True):
    """Put the staged version `digest` in force; harmless when it is already. Result: ActivatedFiles."""

    digest: str


class FinishActivation(Action, frozen=True):
    """At the start: finish what a crash cut short. Result: ActivatedFiles, empty for nothing to do."""


class Gathered(msgspec.Struct, frozen=True):
    """`configuration` is None exactly when there are `problems`."""

    configuration: Configuration | None
    problems: tuple[str, ...] = ()
    digest: str = ""
    files: dict[str, str] = {}
    hashes: dict[str, str] = {}
    """Name to SHA-256 of the text."""
    changed: str = ""
    """When the newest file was written, for people."""


class StagedFiles(msgspec.Struct, frozen=True):
    reason: str = ""


class ActivatedFiles(msgspec.Struct, frozen=True):
    configuration: Configuration | None
    reason: str = ""


def unfit(files: dict[str, str]) -> str:
    """Why these files cannot travel or be kept; '' if they can."""
    if len(files) > MAX_FILES:
        return f"there are {len(files)} files; {MAX_FILES} are the most"
    for name in files:
        if FILE_NAME.fullmatch(name) is None:
            return f"{name[:100]!r} is no name of a configuration file"
    size = sum(len(text.encode()) for text in files.values())
    if size > MAX_TEXT:
        return f"the files have {size} bytes together; {MAX_TEXT} are the most"
    return ""


def difference(mine: Gathered, theirs: Digest) -> str:
    """What an operator needs to find out which version is the right one."""
    if not theirs.digest:
        return f"its configuration cannot be read: {'; '.join(theirs.problems) or 'no reason given'}"
    names = sorted({*mine.hashes, *theirs.files})
    differing = [name for name in names if mine.hashes.get(name) != theirs.files.get(name)]
    named = ", ".join(_named(name, mine, theirs) for name in differing[:NAMED_FILES])
    more = ", ..." if len(differing) > NAMED_FILES else ""
    of = f" of {theirs.changed}" if theirs.changed else ""
    count = "1 file differs" if len(differing) == 1 else f"{len(differing)} files differ"
    text = f"has version {theirs.digest[:SHORT]}{of} ({count}: {named}{more})"
    return f"{text}; with a problem: {theirs.problems[0]}" if theirs.problems else text


def _named(name: str, mine: Gathered, theirs: Digest) -> str:
    if name not in theirs.files:
        return f"{name} is missing there"
    return f"{name} is only there" if name not in mine.hashes else name
