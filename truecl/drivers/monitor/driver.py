"""Monitors: a question asked again and again; so many failures in a row count as death."""

from collections.abc import Awaitable, Callable

from truecl.drivers.contract import Loop
from truecl.model.config import Monitor


async def watch(
    loop: Loop,
    monitor: Monitor,
    ask: Callable[[], Awaitable[str]],
    give_up: Callable[[str], None],
    well: Callable[[], None] = lambda: None,
) -> None:
    """Ask every `interval` seconds until `failures` answers in a row were bad; then give up, once, with the last one.

    `ask` returns what is wrong, or '' if all is well; the first time that it is, `well` is called. Its own duration is
    not part of the interval.
    """
    failures, answered = 0, False
    while failures < monitor.failures:
        await loop.sleep(monitor.interval)
        wrong = await ask()
        failures = failures + 1 if wrong else 0
        if not wrong and not answered:
            answered = True
            well()
    times = "time" if failures == 1 else "times in a row"
    give_up(f"its monitor failed {failures} {times}: {wrong}")
