"""What statd and syncd ask of their node's disk: a history that outlives the power, and the configuration's files."""

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from truecl.core.chronicle import FindEvents, Found, Recorded, RecordEvents
from truecl.core.minutes import FindInputs, FoundInputs, KeepInputs
from truecl.core.versions import ActivatedFiles, ActivateFiles, FinishActivation, Gathered, GatherFiles
from truecl.model.ids import NodeName
from truecl.model.report import EventRecord

if TYPE_CHECKING:
    from truecl.sim.cluster import Cluster
    from truecl.sim.machine import Machine

_KEPT = 500
"""Events of one node."""


class Clerks:
    """All nodes' histories and files. Every node has the same files, always."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._histories: dict[NodeName, list[EventRecord]] = {}

    def work(self, machine: "Machine", action: Any) -> Any:
        """The action's result. Raises TypeError for one that is not theirs."""
        configuration = self._cluster.configuration
        history = self._histories.setdefault(machine.name, [])
        match action:
            case RecordEvents(events):
                dated = tuple(replace(event, at=self._cluster.schedule.now) for event in events)
                history.extend(dated)
                del history[:-_KEPT]
                return Recorded(dated)
            case FindEvents(since, limit, app):
                found = [each for each in history if each.at >= since and app in (None, each.app)]
                return Found(tuple(found[-limit:]))
            case KeepInputs() | FindInputs():
                return FoundInputs()
            case GatherFiles():
                return Gathered(configuration, digest=configuration.digest)
            case FinishActivation():
                return ActivatedFiles(None)
            case ActivateFiles():
                return ActivatedFiles(configuration)
        raise TypeError(f"{machine.name}: no driver knows {action!r}")
