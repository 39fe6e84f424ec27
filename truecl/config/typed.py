"""Trees to typed values, driven by the fields of `truecl.model.config`: its names are the keys, its types choose how a
value is read, its defaults fill what is left out. Where a type says too little (a path, a name), a reader is named.

A reader takes (source, tree, path) and returns the value, or None with the problem noted. A failed value never stops
the others from being read: it is left out or replaced by its default, so that all problems show at once.
"""

import difflib
import types
from collections.abc import Callable, Iterable
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from truecl.config import scalars
from truecl.config.problem import Problem
from truecl.config.scalars import Unfit
from truecl.config.tree import Mapping, Scalar, Sequence, Tree, kind, shown
from truecl.model.config import Value

Path = tuple[str | int, ...]
"""Keys and positions from a file's root to a value."""

Read = Callable[["Source", Tree, Path], Any]

V = TypeVar("V", bound=Value)

MAX_TEXT = 4096
MAX_ITEMS = 1024


class Source:
    """One file on its way to values: the problems so far, and the line of everything that was read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.lines: dict[Path, int] = {}
        self.values: dict[Path, Value] = {}
        """Every struct that could be read, by its place."""
        self.words: dict[Path, str] = {}
        """Every text of a list that could be read, by its place."""

    def note(self, line: int, what: str, expected: str = "") -> None:
        self.problems.append(Problem(self.file, line, what, expected))

    def line(self, *path: str | int) -> int:
        """Where `path`, or the nearest thing around it, is written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def found(self, made: type[V]) -> list[tuple[Path, V]]:
        """The structs of a type with their places, in the file's order."""
        return [(path, value) for path, value in self.values.items() if isinstance(value, made)]

    def keys(self, *path: str | int) -> list[str]:
        """Every key that is written under `path`, also of values that could not be read."""
        return [str(each[-1]) for each in self.lines if len(each) == len(path) + 1 and each[:-1] == path]


def suggestion(word: str, known: Iterable[str]) -> str:
    """What was expected instead of an unknown word: the nearest, or all."""
    choices = list(dict.fromkeys(known))
    near = difflib.get_close_matches(word[:80], choices, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"expected one of {', '.join(choices[:20])}" if choices else "expected nothing here"


def label(path: Path) -> str:
    """A value's name in a message: its key, with the position in a list."""
    words = [str(each) for each in path if not isinstance(each, int)]
    return f"{words[-1]!r}" if words else "the file"


def text(convert: Callable[[str], Any]) -> Read:
    """A scalar, converted by a function that raises Unfit."""

    def read(source: Source, tree: Tree, path: Path) -> Any:
        try:
            if not isinstance(tree, Scalar) or tree.empty:
                convert_hint = _hint(convert)
                source.note(tree.line, f"{label(path)} is {_got(tree)}", convert_hint)
                return None
            if len(tree.text) > MAX_TEXT:
                source.note(tree.line, f"{label(path)} has {len(tree.text)} characters", f"expected at most {MAX_TEXT}")
                return None
            return convert(tree.text)
        except Unfit as unfit:
            source.note(tree.line, unfit.what or f"{label(path)} is {_got(tree)}", unfit.expected)
            return None

    return read


def _got(tree: Tree) -> str:
    return "empty" if isinstance(tree, Scalar) and tree.empty else kind(tree)


def _hint(convert: Callable[[str], Any]) -> str:
    """What a converter would have liked: it says so when it is given nothing."""
    try:
        convert("")
    except Unfit as unfit:
        return unfit.expected
    return "expected text"


def some_text(value: str) -> str:
    if not value:
        raise Unfit("expected text")
    return value


def choice(values: tuple[str, ...]) -> Read:
    def convert(value: str) -> str:
        if value not in values:
            raise Unfit(suggestion(value, values) if value else f"expected one of {', '.join(values)}")
        return value

    return text(convert)


def items(read_one: Read, what: str = "values") -> Read:
    """A list of one or more."""

    def read(source: Source, tree: Tree, path: Path) -> Any:
        if not isinstance(tree, Sequence):
            source.note(tree.line, f"{label(path)} is {_got(tree)}", f"expected a list of {what}: [..., ...]")
            return None
        if not tree.items:
            source.note(tree.line, f"{label(path)} is an empty list", f"expected {what}, or no such key")
            return None
        if len(tree.items) > MAX_ITEMS:
            source.note(tree.line, f"{label(path)} has {len(tree.items)} entries", f"expected at most {MAX_ITEMS}")
            return None
        values = []
        for number, item in enumerate(tree.items):
            source.lines[*path, number] = item.line
            value = read_one(source, item, (*path, number))
            values.append(value)
            if isinstance(value, str):
                source.words[*path, number] = value
        return tuple(value for value in values if value is not None)

    return read


def distinct(read_list: Read) -> Read:
    """A list in which nothing stands twice."""

    def read(source: Source, tree: Tree, path: Path) -> Any:
        values = read_list(source, tree, path)
        if values is None or not isinstance(tree, Sequence):
            return values
        written: list[str] = []
        for item in tree.items:
            if isinstance(item, Scalar):
                if item.text in written:
                    source.note(item.line, f"{item.text!r} stands twice in {label(path)}", "expected each once")
                written.append(item.text)
        return tuple(dict.fromkeys(values))

    return read


def entries(tree: Mapping | Tree, source: Source, path: Path, what: str) -> tuple[tuple[Scalar, Tree], ...] | None:
    """A mapping's entries, one or more, their lines recorded."""
    if not isinstance(tree, Mapping):
        source.note(tree.line, f"{label(path)} is {_got(tree)}", f"expected a mapping of {what}")
        return None
    if not tree.entries:
        source.note(tree.line, f"{label(path)} is an empty mapping", f"expected {what}, or no such key")
        return None
    if len(tree.entries) > MAX_ITEMS:
        source.note(tree.line, f"{label(path)} has {len(tree.entries)} entries", f"expected at most {MAX_ITEMS}")
        return None
    for key, _ in tree.entries:
        source.lines[*path, key.text] = key.line
    return tree.entries


def key_of(source: Source, key: Scalar, convert: Callable[[str], str], path: Path) -> str | None:
    """A key that is a name of the operator's choice."""
    try:
        return convert(key.text)
    except Unfit as unfit:
        source.note(key.line, unfit.what or f"{shown(key.text)} in {label(path)}", unfit.expected)
        return None


def texts(convert_key: Callable[[str], str], what: str) -> Read:
    """A mapping of names to texts; numbers and words are taken as they are written."""

    def read(source: Source, tree: Tree, path: Path) -> Any:
        found = entries(tree, source, path, what)
        if found is None:
            return None
        values: dict[str, str] = {}
        for key, value in found:
            name = key_of(source, key, convert_key, path)
            if not isinstance(value, Scalar) or value.empty or "\0" in value.text:
                source.note(value.line, f"{key.text!r} in {label(path)} is {_got(value)}", "expected text")
            elif len(value.text) > MAX_TEXT:
                source.note(value.line, f"{key.text!r} in {label(path)} is too long", f"expected at most {MAX_TEXT}")
            elif name is not None:
                values[name] = value.text
        return values

    return read


def arguments(source: Source, tree: Tree, path: Path) -> Any:
    """A command: one line, split as a shell would, or a list of words; its first word an absolute path."""
    try:
        if isinstance(tree, Scalar) and not tree.empty:
            return scalars.command(scalars.words(tree.text))
        if isinstance(tree, Sequence):
            split: list[str] = []
            for item in tree.items:
                if not isinstance(item, Scalar) or item.empty:
                    source.note(item.line, f"a word of {label(path)} is {_got(item)}", "expected text")
                    return None
                split.append(item.text)
            return scalars.command(tuple(split))
    except Unfit as unfit:
        source.note(tree.line, unfit.what or f"{label(path)} does not fit", unfit.expected)
        return None
    source.note(tree.line, f"{label(path)} is {_got(tree)}", "expected a command line or a list of its words")
    return None


def named(shape: "Shape[V]", convert_key: Callable[[str], str], what: str) -> Read:
    """A mapping of names to structs; the name goes into the struct's field `name`."""

    def read(source: Source, tree: Tree, path: Path) -> Any:
        found = entries(tree, source, path, what)
        if found is None:
            return None
        values = []
        for key, inner in found:
            name = key_of(source, key, convert_key, path)
            value = shape.read(source, inner, (*path, key.text), {"name": name or "x"})
            if value is not None and name is not None:
                values.append(value)
        return tuple(values)

    return read


class Shape(Generic[V]):
    """How one struct is written. Its fields are the keys; `keys` renames some, `readers` read what types leave open."""

    def __init__(
        self, made: type[V], readers: dict[str, Read] | None = None, keys: dict[str, str] | None = None
    ) -> None:
        self.made = made
        self.readers = readers or {}
        self.keys = keys or {}

    def __call__(self, source: Source, tree: Tree, path: Path) -> V | None:
        return self.read(source, tree, path, {})

    def read(
        self,
        source: Source,
        tree: Tree,
        path: Path,
        given: dict[str, Any],
        also: tuple[str, ...] = (),
        defaults: dict[str, Any] | None = None,
    ) -> V | None:
        """`given` are fields that come from elsewhere; `also` are keys that the caller reads itself; `defaults` stand
        where nothing is written, before the struct's own."""
        if not isinstance(tree, Mapping):
            keys = [self.keys.get(field.name, field.name) for field in self.fields() if field.name not in given]
            source.note(tree.line, f"{label(path)} is {_got(tree)}", f"expected a mapping: {', '.join([*also, *keys])}")
            return None
        wanted = {self.keys.get(field.name, field.name): field for field in self.fields() if field.name not in given}
        values = (defaults or {}) | given
        written = []
        for key, inner in tree.entries:
            written.append(key.text)
            source.lines[*path, key.text] = key.line
            if key.text in wanted:
                field = wanted[key.text]
                value = self._reader(field)(source, inner, (*path, key.text))
                if value is not None:
                    values[field.name] = value
            elif key.text not in also:
                source.note(key.line, f"unknown key {shown(key.text)}", suggestion(key.text, [*also, *wanted]))
        complete = True
        for key_text, field in wanted.items():
            if field.required and field.name not in values:
                complete = False
                if key_text not in written:
                    source.note(tree.line, f"{key_text!r} is missing in {label(path)}", "expected it here")
        if not complete:
            return None
        made = self.made(**values)
        source.values[path] = made
        return made

    def fields(self) -> tuple[msgspec.structs.FieldInfo, ...]:
        return msgspec.structs.fields(self.made)

    def _reader(self, field: msgspec.structs.FieldInfo) -> Read:
        return self.readers.get(field.name) or by_type(field.type)


def tagged(shapes: dict[str, Shape[Any]]) -> Read:
    """One of several structs, chosen by the key `type`."""

    def read(source: Source, tree: Tree, path: Path) -> Any:
        if not isinstance(tree, Mapping):
            wanted = f"expected a mapping with type: {' or '.join(shapes)}"
            source.note(tree.line, f"{label(path)} is {_got(tree)}", wanted)
            return None
        chosen = [inner for key, inner in tree.entries if key.text == "type"]
        if not chosen:
            source.note(tree.line, f"'type' is missing in {label(path)}", f"expected one of {', '.join(shapes)}")
            return None
        tag = choice(tuple(shapes))(source, chosen[0], (*path, "type"))
        return shapes[tag].read(source, tree, path, {}, also=("type",)) if tag is not None else None

    return read


_SCALARS: dict[Any, Callable[[str], Any]] = {
    float: scalars.duration,
    int: scalars.integer,
    bool: scalars.boolean,
    str: some_text,
}


def by_type(kind: Any) -> Read:
    """The reader for a field of this type that names none of its own. Raises TypeError for one that must name it."""
    if kind in _SCALARS:
        return text(_SCALARS[kind])
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return choice(inner)
    if origin in (Union, types.UnionType):
        wanted = [each for each in inner if each is not type(None)]
        if len(wanted) == 1:
            return by_type(wanted[0])
    if isinstance(kind, type) and issubclass(kind, Value):
        return Shape(kind)
    raise TypeError(f"no reader for {kind}")
