"""What one release writes, another reads: the bytes of each message, log entry and snapshot, as this format has them.

testdata/format_1.json holds an example of each, in hexadecimal. Once a release has gone out with a format, its file is
never written anew: fields are added at the end with a default, new messages and commands come in a new format or level
(docs/upgrade.md). Until then: `pytest tests/wire/test_formats.py --rewrite`.
"""

import enum
import json
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from zlib import crc32

import msgspec
import pytest

from truecl.core import ledger as ledgers
from truecl.model.ids import NodeName
from truecl.model.ledger import LEVELS, Batch, Command, Ledger
from truecl.model.membership import Membership
from truecl.wire import messages, raft
from truecl.wire.frame import VERSIONS
from truecl.wire.messages import LOCAL, MESH, SINCE, since

FORMAT = Path(__file__).parent / "testdata" / "format_1.json"


def of_unions(*unions: Any) -> list[type]:
    kinds = [kind for union in unions for kind in get_args(union)]
    return sorted(dict.fromkeys(kinds), key=lambda kind: str(kind.__name__))


MESSAGES = of_unions(*MESH.values(), LOCAL)
VALUES: list[type] = [*MESSAGES, *sorted(Command.__subclasses__(), key=lambda kind: kind.__name__)]
VALUES += [raft.Entry, Membership, Batch, Ledger]


RULED = {Membership: Membership((NodeName("n1"), NodeName("n2")), (NodeName("n3"),), NodeName("n2"))}
"""Not any fields will do."""


def example(kind: Any, seed: int = 1) -> Any:
    """A value of that type, the same each time; a field's is drawn from its name."""
    origin, arguments = get_origin(kind), get_args(kind)
    if hasattr(kind, "__supertype__"):
        return example(kind.__supertype__, seed)
    if origin in (Union, types.UnionType):
        inner = [each for each in arguments if each is not type(None)]
        return example(inner[0], seed)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return (example(arguments[0], seed),)
        return tuple(example(each, seed + place) for place, each in enumerate(arguments))
    if origin is dict:
        return {example(arguments[0], seed): example(arguments[1], seed + 1)}
    if origin is Literal:
        return arguments[0]
    if origin is not None:  # Annotated
        return example(arguments[0], seed)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if kind in RULED:
        return RULED[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind, include_extras=False)
        return kind(**{name: example(hints[name], crc32(name.encode()) % 200 + 1) for name in kind.__struct_fields__})
    return {bool: True, int: seed, float: seed + 0.5, str: f"s{seed}", bytes: bytes([seed])}[kind]


def packed() -> dict[str, str]:
    return {kind.__name__: msgspec.msgpack.encode(example(kind)).hex() for kind in VALUES}


@pytest.fixture(scope="module")
def written(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.config.getoption("--rewrite"):
        FORMAT.parent.mkdir(exist_ok=True)
        FORMAT.write_text(json.dumps(packed(), indent=0) + "\n")
    found: dict[str, str] = json.loads(FORMAT.read_text())
    return found


KINDS = {kind.__name__: kind for kind in VALUES}


def extends(now: Any, before: Any) -> bool:
    """What was there is where it was; what came later is behind it, or under a key of its own."""
    if isinstance(before, list) and isinstance(now, list):
        return len(now) >= len(before) and all(map(extends, now, before))
    if isinstance(before, dict) and isinstance(now, dict):
        return all(key in now and extends(now[key], value) for key, value in before.items())
    return bool(now == before)


def test_what_an_older_release_wrote_is_read_as_it_was_meant(written: dict[str, str]) -> None:
    """And written again, it says the same; what came later has its default."""
    for name, data in written.items():
        before = bytes.fromhex(data)
        again = msgspec.msgpack.encode(msgspec.msgpack.decode(before, type=KINDS[name]))
        assert extends(msgspec.msgpack.decode(again), msgspec.msgpack.decode(before)), name


def test_what_this_release_writes_an_older_one_reads(written: dict[str, str]) -> None:
    for name, data in written.items():
        now = msgspec.msgpack.encode(example(KINDS[name]))
        assert extends(msgspec.msgpack.decode(now), msgspec.msgpack.decode(bytes.fromhex(data))), name


@pytest.mark.parametrize(
    ("now", "fine"),
    [(["A", 1, 2], True), (["A", 1], True), (["A", 2, 1], False), (["B", 1], False), (["A"], False)],
)
def test_what_extends_means(now: list[Any], fine: bool) -> None:
    assert extends(now, ["A", 1]) is fine
    assert extends({"x": now, "y": 1}, {"x": ["A", 1]}) is fine


def test_what_is_not_in_the_first_format_says_in_which_it_came(written: dict[str, str]) -> None:
    for kind in MESSAGES:
        assert (kind.__name__ in written) == (SINCE.get(kind, 1) == 1), kind
    for command, level in LEVELS.items():
        assert command.__name__ in written or level > 1, command
    assert all(VERSIONS[0] < format <= VERSIONS[1] for format in SINCE.values())


def test_since_is_the_first_format_that_has_it() -> None:
    assert since(messages.StepDown()) == 1


def test_the_first_snapshots_are_read(written: dict[str, str]) -> None:
    assert ledgers.decode(bytes.fromhex(written["Ledger"])).index == example(Ledger).index
