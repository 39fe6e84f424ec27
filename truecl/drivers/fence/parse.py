"""What a fence agent's exit code says (fence-agents' interface), and its words without its secrets."""

from enum import StrEnum

from truecl.drivers.contract import Result
from truecl.model.config import FenceConfig

_SECRET = ("pass", "secret", "token", "key", "community")


class Power(StrEnum):
    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


def power(result: Result) -> Power:
    """Of `status`: exit code 0 is on, 2 is off. Whatever else happened says nothing."""
    if result.timed_out:
        return Power.UNKNOWN
    return {0: Power.ON, 2: Power.OFF}.get(-1 if result.code is None else result.code, Power.UNKNOWN)


def complaint(result: Result, config: FenceConfig) -> str:
    """How a run ended and what it said last, with the values of secret parameters blotted out."""
    said = result.last_lines()
    for key, value in config.parameters.items():
        if value and any(word in key.lower() for word in _SECRET):
            said = said.replace(value, "***")
    return f"{result.ending()}: {said}" if said else result.ending()
