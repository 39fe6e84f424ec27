"""What a fence agent says (fence-agents' interface): exit codes, metadata, and its words without the secrets."""

from dataclasses import dataclass
from xml.etree import ElementTree

from truecl.drivers.contract import Result
from truecl.model.actions import Power

MAX_METADATA = 1 << 20
"""Bytes. The longest of Debian's agents says 40 kB."""


def power(result: Result) -> Power:
    """Of `status`: exit code 0 is on, 2 is off. Whatever else happened says nothing."""
    if result.timed_out:
        return Power.UNKNOWN
    return {0: Power.ON, 2: Power.OFF}.get(-1 if result.code is None else result.code, Power.UNKNOWN)


def complaint(result: Result, secrets: tuple[str, ...]) -> str:
    """How a run ended and what it said last, with the secrets blotted out."""
    said = result.last_lines()
    for secret in sorted(secrets, key=len, reverse=True):
        said = said.replace(secret, "***")
    return f"{result.ending()}: {said}" if said else result.ending()


@dataclass(frozen=True)
class Parameter:
    name: str
    required: bool
    other_name: str
    """An older or newer name of the same, '' for none: either will do."""


@dataclass(frozen=True)
class Metadata:
    parameters: tuple[Parameter, ...]
    actions: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.parameters if each.name not in _NOT_FOR_THE_OPERATOR)

    def missing(self, given: set[str]) -> tuple[str, ...]:
        """Required parameters that are not given under any of their names: the newest name of each."""
        renamed = {each.other_name: each.name for each in self.parameters if each.other_name}
        missing = []
        for each in self.parameters:
            names = {each.name, each.other_name, renamed.get(each.name, "")}
            if each.required and each.name not in _NOT_FOR_THE_OPERATOR and not names & given:
                missing.append(renamed.get(each.name, each.name))
        return tuple(dict.fromkeys(missing))


_NOT_FOR_THE_OPERATOR = ("action", "help", "version")


def metadata(text: str) -> Metadata:
    """Of `metadata`. Raises ValueError for what is not a resource agent's XML.

    Agents of the past say `port`, newer ones `plug` which *obsoletes* it: both stand in the text, and either is taken.
    """
    start = text.find("<?xml")  # an agent's interpreter may have warned before
    try:
        root = ElementTree.fromstring(text[max(start, 0) :][:MAX_METADATA])
    except ElementTree.ParseError as error:
        raise ValueError(f"is no XML: {error}") from None
    if root.tag != "resource-agent":
        raise ValueError(f"is a <{root.tag}>, not a <resource-agent>")
    parameters = tuple(
        Parameter(each.get("name", ""), each.get("required") == "1", each.get("obsoletes", ""))
        for each in root.iterfind("parameters/parameter")
        if each.get("name")
    )
    return Metadata(parameters, tuple(each.get("name", "") for each in root.iterfind("actions/action")))
