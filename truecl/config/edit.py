"""Changes to cluster.yaml as a careful operator makes them: a few lines come or go, every comment stays.

The text is edited, not composed anew; whoever calls this reads the result back, and compares what it says.
"""

from collections.abc import Mapping

from truecl.config.cluster import FILE
from truecl.config.tree import Mapping as Entries
from truecl.config.tree import parse
from truecl.model.ids import NodeName


class Uneditable(Exception):
    """The file is written in a way that this does not dare to change: the text says what, and what helps."""


def with_node(text: str, name: NodeName, fields: Mapping[str, str]) -> str:
    """Behind the last node, indented as that one is. Raises Uneditable."""
    lines, spans = _nodes(text)
    last, (start, end) = list(spans.items())[-1]
    outer = _indent(lines[start])
    inner = next((_indent(line) for line in lines[start + 1 : end] if _says(line)), outer + "  ")
    block = [f"{outer}{name}:", *(f"{inner}{key}: {value}" for key, value in fields.items())]
    return "\n".join([*lines[:end], *block, *lines[end:]])


def without_node(text: str, name: NodeName) -> str:
    """Raises Uneditable; KeyError for a name that is not there."""
    lines, spans = _nodes(text)
    start, end = spans[name]
    return "\n".join([*lines[:start], *lines[end:]])


def _nodes(text: str) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """The lines, and of each node its first one and the one after its last, counted from 0."""
    tree, problems = parse(FILE, text)
    if tree is None or problems:
        raise Uneditable(f"{FILE} has problems: lha_check lists them")
    nodes = next((inner for key, inner in tree.entries if key.text == "nodes"), None)
    if not isinstance(nodes, Entries) or not nodes.entries:
        raise Uneditable(f"{FILE} has no nodes")
    lines, spans = text.split("\n"), dict[str, tuple[int, int]]()
    for key, inner in nodes.entries:
        start = key.line - 1
        written = lines[start].strip()
        if not (isinstance(inner, Entries) and written.split("#")[0].strip() in (f"{key.text}:", f"'{key.text}':")):
            raise Uneditable(
                f"{FILE}:{key.line}: node '{key.text}' is not written as a key with lines below it; do that"
            )
        spans[key.text] = (start, _end(lines, start))
    return lines, spans


def _end(lines: list[str], start: int) -> int:
    """Behind the last line that is indented further, comments among them."""
    outer, end = len(_indent(lines[start])), start + 1
    for place in range(start + 1, len(lines)):
        line = lines[place]
        if not line.strip():
            continue
        if len(_indent(line)) <= outer:
            break
        end = place + 1
    return end


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" "))]


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")
