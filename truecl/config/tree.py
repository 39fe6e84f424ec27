"""YAML text to a tree of nodes that know their lines, with every scalar still as it was written.

Built from the parser's events, so that the bounds hold before anything is expanded: size, depth, no anchors and
aliases (nothing can grow out of a small file), no tags (nothing is built but text, lists and mappings).
"""

from collections.abc import Iterator
from typing import Union

import msgspec
import yaml

from truecl.config.problem import Problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 16

_LOADER: type = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""libyaml's where PyYAML was built with it (fifteen times faster), else the same in Python."""


class Scalar(msgspec.Struct, frozen=True):
    line: int
    text: str
    plain: bool = True
    """Written without quotes."""

    @property
    def empty(self) -> bool:
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


class Sequence(msgspec.Struct, frozen=True):
    line: int
    items: tuple["Tree", ...]


class Mapping(msgspec.Struct, frozen=True):
    line: int
    entries: tuple[tuple[Scalar, "Tree"], ...]
    """No key occurs twice."""


Tree = Union[Scalar, Sequence, Mapping]


class _Refused(Exception):
    def __init__(self, line: int, what: str, expected: str) -> None:
        super().__init__(what)
        self.line, self.what, self.expected = line, what, expected


def parse(file: str, content: str | bytes) -> tuple[Mapping | None, list[Problem]]:
    """The mapping that a configuration file consists of. None: it cannot be read at all, and the problems say why."""
    builder = _Builder(file)
    try:
        tree = builder.document(_decoded(content))
    except _Refused as refused:
        return None, [*builder.problems, Problem(file, refused.line, refused.what, refused.expected)]
    return tree, builder.problems


def _decoded(content: str | bytes) -> str:
    """Text whose every character YAML allows, without a byte order mark."""
    try:
        raw = content if isinstance(content, bytes) else content.encode()
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _Refused(line, f"byte {error.object[error.start]:#04x} is not UTF-8", "expected UTF-8 text") from None
    except UnicodeEncodeError as error:
        line = error.object.count("\n", 0, error.start) + 1
        raise _Refused(line, "a lone surrogate is no character", "expected UTF-8 text") from None
    if len(raw) > MAX_BYTES:
        raise _Refused(0, f"the file has {len(raw)} bytes", f"expected at most {MAX_BYTES}")
    text = text.removeprefix("\ufeff")
    for number, row in enumerate(text.split("\n"), 1):
        if not (bare := row.removesuffix("\r").replace("\t", "")).isprintable():
            odd = next(each for each in bare if not each.isprintable())
            raise _Refused(number, f"the character U+{ord(odd):04X} is not printable", "expected plain text")
    return text


class _Builder:
    """Composes one document; repeated keys are noted and dropped, what breaks the structure ends it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def document(self, text: str) -> Mapping:
        try:
            return self._document(yaml.parse(text, Loader=_LOADER))
        except yaml.MarkedYAMLError as error:
            raise _not_yaml(error, text) from None
        except yaml.YAMLError as error:
            raise _Refused(0, f"this is not YAML: {str(error).splitlines()[0]}", "see conf/ for samples") from None

    def _document(self, events: Iterator[yaml.Event]) -> Mapping:
        root: Tree | None = None
        for event in events:
            if isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent)):
                continue
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _Refused(_line(event), "a second document begins here", "expected one document in a file")
                continue
            root = self._node(event, events, 1)
        if root is None or (isinstance(root, Scalar) and root.empty):
            raise _Refused(0, "the file is empty", "expected a mapping of keys to values")
        if not isinstance(root, Mapping):
            raise _Refused(root.line, f"this is {kind(root)}", "expected a mapping of keys to values")
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Tree:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused(
                line, "anchors (&) and aliases (*) are not used here", "expected the value, or quotes around it"
            )
        if (tag := getattr(event, "tag", None)) is not None:
            raise _Refused(
                line, f"the tag {str(tag)[:60]!r} is not used here", "expected the value, or quotes around it"
            )
        if depth > MAX_DEPTH:
            raise _too_deep(line)
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(line, event.value, plain=not event.style)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(self._node(inner, events, depth + 1))
            return Sequence(line, tuple(items))
        return self._mapping(line, events, depth)

    def _mapping(self, line: int, events: Iterator[yaml.Event], depth: int) -> Mapping:
        entries: dict[str, tuple[Scalar, Tree]] = {}
        while not isinstance(inner := next(events), yaml.MappingEndEvent):
            key = self._node(inner, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, Scalar):
                self.problems.append(Problem(self.file, key.line, f"{kind(key)} stands as a key", "expected a word"))
            elif key.text in entries:
                first = entries[key.text][0].line
                what = f"{key.text!r} was already given in line {first}"
                self.problems.append(Problem(self.file, key.line, what, "expected each key once"))
            else:
                entries[key.text] = (key, value)
        return Mapping(line, tuple(entries.values()))


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return int(mark.line) + 1 if mark is not None else 0


def _too_deep(line: int) -> _Refused:
    return _Refused(line, "nested too deeply", f"expected at most {MAX_DEPTH} levels")


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> _Refused:
    mark = error.problem_mark or error.context_mark
    number = int(mark.line) + 1 if mark is not None else 0
    lines = text.split("\n")
    # The parser may notice only in the line after.
    for near in (number, number - 1):
        if 0 < near <= len(lines) and "\t" in lines[near - 1][: len(lines[near - 1]) - len(lines[near - 1].lstrip())]:
            return _Refused(near, "a tab in the indentation", "expected spaces")
    number = min(number, len(lines))
    if "nesting depth" in (error.problem or ""):  # libyaml has a bound of its own, and may see so far ahead
        return _too_deep(number)
    context = f" {error.context}" if error.context else ""
    return _Refused(number, f"this is not YAML: {error.problem or 'unreadable'}{context}", "see conf/ for samples")


def kind(tree: Tree) -> str:
    """What stands there, for a message."""
    match tree:
        case Scalar():
            return "nothing" if tree.empty else f"the text {shown(tree.text)}"
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"


def shown(text: str) -> str:
    """Quoted, and no longer than a line of a message bears."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
