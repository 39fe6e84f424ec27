"""What the master decided upon, so that it can be decided again: lha_simulate.

The planner is a pure function, so its input is all there is to know. The master's clusterd tells each new input to its
statd (which has the disk, a thread for it, and the way to the other nodes' statds); that costs it one message of some
hundred bytes when something changed, and nothing is waited for. What is the same as before is only counted.

The configuration goes apart, once for each version, and without what may be secret: parameters of fence devices, and
all of programs but their names. The planner looks at neither.
"""

from dataclasses import replace

import msgspec

from truecl.core.fitness import PlanInput
from truecl.core.outbox import Outbox
from truecl.model.config import AppConfig, ClusterConfig, Configuration, NodeConfig, Program
from truecl.model.ids import STATD, Term
from truecl.wire.messages import Decided

NO_CONFIGURATION = Configuration(cluster=ClusterConfig(name="", links=(), nodes=()))
_INPUTS = msgspec.msgpack.Encoder(order="deterministic")


class Unreadable(Exception):
    """These bytes are no input of this release; the text says why."""


class Account:
    """Tells statd, as long as it is there."""

    def __init__(self, outbox: Outbox) -> None:
        self._out = outbox
        self._listened = False
        self._last: tuple[PlanInput, Term] | None = None
        self._repeats = 0
        self._digest = ""

    def begin(self, listened: bool | None = None) -> None:
        """Another mastership; or statd came or went (`listened`), and knows nothing of what was told before."""
        if listened is not None:
            self._listened, self._digest = listened, ""
        self._last, self._repeats = None, 0

    def decided(self, given: PlanInput, term: Term, now: float) -> None:
        if not self._listened:
            return
        if self._last is not None and self._last[1] == term and self._last[0] == given:
            self._repeats += 1
            return
        digest, configuration = given.configuration.digest, b""
        if self._last is None or digest != self._digest or given.configuration is not self._last[0].configuration:
            self._digest, configuration = digest, packed(given.configuration)
        self._out.tell(STATD, Decided(term, now, bare(given), digest, configuration, self._repeats))
        self._last, self._repeats = (given, term), 1


def bare(given: PlanInput) -> bytes:
    """Without its configuration."""
    return _INPUTS.encode(replace(given, configuration=NO_CONFIGURATION))


def packed(configuration: Configuration) -> bytes:
    return _INPUTS.encode(without_secrets(configuration))


def joined(input: bytes, configuration: bytes) -> PlanInput:
    """Raises Unreadable."""
    try:
        given = msgspec.msgpack.decode(input, type=PlanInput)
        return replace(given, configuration=msgspec.msgpack.decode(configuration, type=Configuration))
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unreadable(f"it was written by another release ({error})") from error


def as_text(given: PlanInput) -> bytes:
    """As JSON, to be saved in a file and read by people."""
    given = replace(given, configuration=without_secrets(given.configuration))
    return msgspec.json.format(msgspec.json.encode(given, order="deterministic"), indent=1) + b"\n"


def from_text(text: bytes) -> PlanInput:
    """Raises Unreadable."""
    try:
        return msgspec.json.decode(text, type=PlanInput)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unreadable(str(error)) from error


def without_secrets(configuration: Configuration) -> Configuration:
    cluster = configuration.cluster
    nodes = tuple(_without_parameters(node) for node in cluster.nodes)
    apps = tuple(_without_commands(app) for app in configuration.apps)
    return msgspec.structs.replace(configuration, cluster=msgspec.structs.replace(cluster, nodes=nodes), apps=apps)


def _without_parameters(node: NodeConfig) -> NodeConfig:
    levels = tuple(
        tuple(msgspec.structs.replace(device, parameters={}, secrets={}) for device in level) for level in node.fence
    )
    return msgspec.structs.replace(node, fence=levels)


def _without_commands(app: AppConfig) -> AppConfig:
    programs = tuple(Program(name=program.name) for program in app.programs)
    return msgspec.structs.replace(app, programs=programs)
