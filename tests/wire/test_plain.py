"""What commands say and hear: the messages of LOCAL as JSON, and nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.model.ids import AppName, NodeName
from truecl.model.report import EventRecord, Progress, Severity
from truecl.wire.codec import BadMessage
from truecl.wire.messages import AskStanding, Form, LogLines, Reply, Request
from truecl.wire.plain import PLAIN, plain, typed

EVENT = EventRecord(1.5, 2.0, NodeName("n1"), "lockd", Severity.WARN, "caf\u00e9 \x1b[0m", AppName("web"), 7)


@pytest.mark.parametrize(
    ("message", "written"),
    [
        (Form(True), ["Form", True]),
        (AskStanding(node=NodeName("n1")), ["AskStanding", None, "n1"]),
        (Request("id", "start", AppName("web")), ["Request", "id", "start", "web", None, ""]),
        (Reply("id", Progress("up"), 0), ["Reply", "id", {"text": "up", "severity": "LOG", "verbose": True}, 0]),
        (LogLines(3, (EVENT,), True), ["LogLines", 3, [msgspec.to_builtins(EVENT)], True, []]),
    ],
)
def test_a_message_is_an_array_with_its_name_first(message: Any, written: list[Any]) -> None:
    """What is written may be longer: fields are added at the end."""
    assert json.loads(PLAIN.pack(message))[: len(written)] == written
    assert PLAIN.decode(json.dumps(written).encode()) == message
    assert json.loads(json.dumps(plain(message))) == json.loads(PLAIN.pack(message))
    assert typed(written) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NAMED = st.tuples(st.sampled_from(["Form", "Request", "AskLog", "Reply", "Note"]), st.lists(JSON)).map(
    lambda each: [each[0], *each[1]]
)


@given(st.binary() | (JSON | NAMED).map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_message_or_bad(payload: bytes) -> None:
    try:
        PLAIN.decode(payload)
    except BadMessage as fault:
        assert str(fault).isprintable()


@given(JSON | NAMED)
def test_any_value_is_a_message_or_bad(value: Any) -> None:
    try:
        typed(value)
    except BadMessage as fault:
        assert str(fault).isprintable()


def test_an_endless_nesting_is_bad() -> None:
    with pytest.raises(BadMessage):
        PLAIN.decode(b"[" * 100_000)
