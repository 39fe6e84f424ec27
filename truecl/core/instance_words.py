"""What the operator reads while an instance comes up or goes down."""

from truecl.model.actions import StepResult
from truecl.model.ids import AppName
from truecl.model.report import Progress, Severity
from truecl.model.step import ReplicaSpec, Step, StepKind

_ATTEMPT = {
    StepKind.STORAGE: "Attempting storage activation on node '{node}' - please wait...",
    StepKind.FORMAT: "Looking for the file systems on '{node}' ...",
    StepKind.FILESYSTEM: "Attempting to mount file systems on '{node}' - please wait...",
    StepKind.ADDRESS: "Attempting to configure addresses on '{node}' ...",
    StepKind.PROGRAM: "Attempting to start programs on '{node}' ...",
}
_ATTEMPT_DOWN = {
    StepKind.STORAGE: "Attempting storage deactivation on '{node}' ...",
    StepKind.FILESYSTEM: "Attempting to un-mount file systems on '{node}' - please wait...",
    StepKind.ADDRESS: "Deconfiguration IP configuration for '{app}' on '{node}'...",
    StepKind.PROGRAM: "Stopping application '{app}' on '{node}'...",
}


def attempt(steps: tuple[Step, ...], step: Step, node: str) -> list[Progress]:
    """Before it is brought up: one line for each kind."""
    first = next(each for each in steps if each.kind is step.kind)
    return [Progress(_ATTEMPT[step.kind].format(node=node))] if first is step else []


def attempt_down(steps: tuple[Step, ...], step: Step, node: str, app: AppName) -> list[Progress]:
    """Before it is taken down, in the other direction."""
    last = next(each for each in reversed(steps) if each.kind is step.kind)
    if last.name != step.name or step.kind not in _ATTEMPT_DOWN:
        return []
    return [Progress(_ATTEMPT_DOWN[step.kind].format(node=node, app=app))]


def came_up(steps: tuple[Step, ...], step: Step, result: StepResult, node: str, app: AppName) -> list[Progress]:
    """What the driver said of it, and how long it took."""
    took = f" [{result.seconds * 1000:.0f} ms]"
    lines = []
    if step.kind is StepKind.FORMAT:
        lines.append(Progress(f"{node} : {step.name}: {result.facts.get('note', 'found')}{took}"))
    if result.facts.get("warning"):
        lines.append(Progress(f"{step.name}: {result.facts['warning']}", Severity.WARN))
    if isinstance(step.spec, ReplicaSpec):
        lines.append(Progress("Attempting final storage configuration on secondary nodes - please wait..."))
    if step.kind is StepKind.FILESYSTEM:
        mounted = [each for each in steps if each.kind is StepKind.FILESYSTEM]
        if mounted[-1] is step:
            lines.append(Progress(f"File Systems mounted: OK={len(mounted)}, FAILED=0.{took}"))
    elif step.kind is StepKind.ADDRESS:
        where = result.facts.get("interface", "")
        lines.append(Progress(f"Application '{app}' IP configured successfully: {step.name[8:]} on {where}"))
        lines.append(Progress(f"Sending gratuitous announcements for {where}{took}"))
    elif step.kind is StepKind.PROGRAM:
        lines.append(Progress(f"Started {step.name}{took}"))
    return lines


def about(step: str, reason: str) -> str:
    """`step: reason`. A driver's text that begins with what it speaks of ('/srv/web: …') does not say it twice."""
    named, colon, rest = reason.partition(": ")
    return f"{step}: {rest if colon and step.endswith(named) else reason}"
