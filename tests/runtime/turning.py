"""Turns a reactor by hand until something is so, or a deadline has passed."""

import time
from collections.abc import Callable

from truecl.runtime.clock import Reactor


def turn_until(reactor: Reactor, condition: Callable[[], object], deadline: float = 10.0) -> None:
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "the deadline has passed"
        reactor.iterate(0.01)
