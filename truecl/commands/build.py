"""lha_buildapp: check, and make, what an application needs of its nodes. The master does it (`truecl.core.assess`)."""

from collections.abc import Callable, Sequence
from typing import Any

from truecl.commands.node import FAILED, LOG, USAGE, Ended, Line, Node, Outcome, Steps, carry_out
from truecl.model.ids import CLUSTERD

TIMEOUT = 900.0

Agree = Callable[[Sequence[str]], bool]
"""Shows an operator what would be lost, and asks. False: nothing is to be done."""
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def build(
    node: Node,
    app: str,
    wish: dict[str, Any],
    where: str | None,
    at: float,
    agree: Agree,
    timeout: float = TIMEOUT,
    wait: bool = True,
) -> Steps:
    """`wish`: fields of `truecl.wire.messages.BuildWish`. `at`: wall clock, seconds. Raises Ended and NotAllowed.

    Where the master asks, it has done nothing yet: the answer goes with the same request anew.
    """
    end, agreed = node.now() + timeout, ""
    for number in range(1, 10):
        request = [
            "Request", f"{node.token}-build-{app}-{number}", "build", app, where, node.operator, 0, False, "",
            wish | {"agreed": agreed}, False, at,
        ]  # fmt: skip
        outcome = yield from carry_out(node, CLUSTERD, request, max(1.0, end - node.now()), wait, repeatable=True)
        if outcome.question is None:
            return outcome
        if not agree(outcome.question["lines"]):
            return Outcome(FAILED, f"nothing was done: that was not '{app}'")
        agreed = outcome.question["token"]
        yield Line(f"{node.operator} agrees", LOG)
    return Outcome(FAILED, "what is there changes all the time")


def parse_growth(text: str) -> tuple[str, int]:
    """`VOLUME=SIZE`: the volume, and bytes. Raises Ended."""
    volume, _, size = text.partition("=")
    digits, unit = (size[:-1], size[-1:].upper()) if size[-1:].isalpha() else (size, "")
    if not volume or not digits.isdigit() or unit not in ("", *_UNITS) or not int(digits):
        raise Ended(USAGE, f"--grow {text!r}: expected VOLUME=SIZE, as data=20G")
    return volume, int(digits) * _UNITS.get(unit, 1)
