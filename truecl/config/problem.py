"""One thing that is wrong with the configuration, in the words that the operator reads."""

from collections.abc import Iterable

import msgspec


class Problem(msgspec.Struct, frozen=True, order=True):
    """`file:line: what is wrong; what was expected`."""

    file: str
    """Name within the configuration directory: 'cluster.yaml', 'apps/web.yaml'."""
    line: int
    """From 1; 0: the file as a whole."""
    what: str
    expected: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{place}: {self.what}; {self.expected}" if self.expected else f"{place}: {self.what}"
        # One line on a terminal, whatever file names and keys hold.
        return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def sorted_once(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """In the files' order, each once."""
    return tuple(sorted(dict.fromkeys(problems)))
