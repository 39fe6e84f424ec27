"""What reqd's core asks of its drivers (`contract.Do`), and the results that come back (`contract.Done`).

netd's own actions stand beside its core. Every action is idempotent; its result says what the driver's *probe* said
afterwards, never what a tool returned.
"""

from enum import StrEnum
from typing import Union

import msgspec

from truecl.model.build import Seen, Work
from truecl.model.config import AppConfig, ClusterConfig, Configuration, FenceConfig
from truecl.model.ids import AppName, NodeName
from truecl.model.replica import Layout, ReplicaReport
from truecl.model.step import Instance, Probe, Step


class Action(msgspec.Struct, frozen=True):
    """Base. `timeout` in seconds is the driver's to keep: a result comes by then, whatever hangs."""


class StepUp(Action, frozen=True):
    """Result: StepResult; ACTIVE or it failed."""

    instance: Instance
    step: Step
    timeout: float


class StepDown(Action, frozen=True):
    """Result: StepResult; INACTIVE or it failed. `force`: the guard's way, without asking politely."""

    instance: Instance
    step: Step
    timeout: float
    force: bool = False


class StepProbe(Action, frozen=True):
    """Result: StepResult."""

    instance: Instance
    step: Step
    timeout: float = 5.0


class KillGroup(Action, frozen=True):
    """Freeze, kill and wait for every process of the instance, its cgroup `populated 0`. Result: StepResult."""

    instance: Instance
    timeout: float = 5.0


class FreezeGroup(Action, frozen=True):
    """Have every process of the instance stand still, or (`frozen` False) go on. Result: StepResult; a reason where one
    does not stand still (it waits for a device)."""

    instance: Instance
    frozen: bool = True
    timeout: float = 1.0


class EndTools(Action, frozen=True):
    """See the end of every tool that earlier lives of this daemon left at work, which were killed. Result: StepResult;
    INACTIVE, for good, or one is still there (a task in uninterruptible sleep)."""

    instance: Instance
    timeout: float = 2.0


class ReplicaUp(Action, frozen=True):
    """This node's copy, beneath any instance: write the resource file, activate what lies beneath, attach, stay
    secondary; then, if `connect`, look for the peer, and otherwise stay standalone. Result: ReplicaResult."""

    layout: Layout
    connect: bool
    timeout: float = 30.0


class ReplicaDown(Action, frozen=True):
    """Take it down and deactivate what lies beneath; refused while it is primary. Result: ReplicaResult."""

    layout: Layout
    timeout: float = 30.0


class ReplicaConnect(Action, frozen=True):
    """A primary (or a secondary that stood alone) looks for the peer again. Only by the master's order, which knows
    that the peer is secondary: a frozen primary thaws on any reconnect. Result: ReplicaResult."""

    layout: Layout
    timeout: float = 10.0


class ReplicaSever(Action, frozen=True):
    """Of the forced way down, before anything that waits for I/O: where I/O is suspended, have what is in flight fail
    (disconnect, detach, seen diskless, resume). Result: StepResult; INACTIVE when nothing waits there any more."""

    instance: Instance
    timeout: float = 5.0


class ReplicaLook(Action, frozen=True):
    """What is there now. Result: ReplicaResult."""

    app: AppName
    timeout: float = 5.0


class BuildWork(Action, frozen=True):
    """A part of lha_buildapp that needs no grant. Result: WorkDone."""

    work: Work
    app: AppConfig
    cluster: ClusterConfig
    active: bool = False
    """Something of the application is up on this node."""
    timeout: float = 30.0


class Power(StrEnum):
    """What a fence device says of its node."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class AskDevice(Action, frozen=True):
    """Ask one fence device for 'off' or 'on' and verify it, or only for its status. Ends within the device's timeout.
    Result: FenceOutcome."""

    node: NodeName
    device: FenceConfig
    wanted: Power = Power.OFF
    """UNKNOWN: only its status."""


class ArmWatchdog(Action, frozen=True):
    """Open the device and set its timeout, unless it has that already: both may feed it. Result: WatchdogArmed or
    WatchdogTrouble. Done at once: neither this nor a feed waits for anything."""

    device: str
    timeout: int
    armed_before: bool = False
    """By an earlier life of this daemon: it stays armed, whatever goes wrong."""


class FeedWatchdog(Action, frozen=True):
    """Result: WatchdogFed or WatchdogTrouble."""


class DisarmWatchdog(Action, frozen=True):
    """Close it so that it stops. Only when nothing is left to stop. No result that matters: WatchdogFed."""


class ReadConfiguration(Action, frozen=True):
    """Read the files anew. Result: ConfigurationRead."""


class Leave(Action, frozen=True):
    """Everything is stopped and the others know: end this daemon. No result."""


class KillParent(Action, frozen=True):
    """The warm parent answers nothing any more: end it, if it is still there. No result."""


class StepResult(msgspec.Struct, frozen=True):
    """`reason` is '' exactly when the action did what it was asked."""

    probe: Probe
    reason: str = ""
    facts: dict[str, str] = {}
    """For lha_stat and progress lines: 'device', 'size', 'used', 'pid'…"""
    seconds: float = 0.0


class ReplicaResult(msgspec.Struct, frozen=True):
    """`reason` is '' exactly when the action did what it was asked. The report is what a look afterwards said."""

    report: ReplicaReport
    reason: str = ""


class WorkDone(msgspec.Struct, frozen=True):
    """What BuildWork led to, or found."""

    seen: Seen


class FenceOutcome(msgspec.Struct, frozen=True):
    """`done`: the node is as wanted, verified; or its status is known, if only that was asked for."""

    done: bool
    reason: str = ""
    power: Power = Power.UNKNOWN


class WatchdogArmed(msgspec.Struct, frozen=True):
    identity: str
    timeout: float
    """Read back from the device."""
    virtual: str = ""
    """What says that this is a virtual machine; '' on a physical one."""


class WatchdogFed(msgspec.Struct, frozen=True):
    """Done."""


class WatchdogTrouble(msgspec.Struct, frozen=True):
    reason: str


class ConfigurationRead(msgspec.Struct, frozen=True):
    configuration: Configuration | None
    problems: tuple[str, ...] = ()
    """Each `file:line: what is wrong`; not empty when `configuration` is None."""


class ProgramDied(msgspec.Struct, frozen=True):
    """`contract.Noted`: a supervised program's process ended, or its monitor gave up on it."""

    instance: Instance
    step: str
    reason: str


class ProgramAnswered(msgspec.Struct, frozen=True):
    """`contract.Noted`: the monitor of a program that was started here had its first good answer."""

    instance: Instance
    step: str


class ServiceStopping(msgspec.Struct, frozen=True):
    """`contract.Noted`: the service on this node is being stopped. Applications are stopped first, and move."""


AnyAction = Union[
    StepUp, StepDown, StepProbe, KillGroup, FreezeGroup, EndTools, AskDevice, ArmWatchdog, FeedWatchdog, DisarmWatchdog,
    ReadConfiguration, Leave, KillParent, ReplicaUp, ReplicaDown, ReplicaConnect, ReplicaSever, ReplicaLook,
    BuildWork,
]  # fmt: skip
