"""`lha_check`: every problem of a configuration directory, and what deserves a warning before 3 a.m."""

import ipaddress
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from truecl.commands.check_storage import storage
from truecl.commands.clock import clock
from truecl.commands.finding import Finding, error, warning
from truecl.commands.machine import Machine
from truecl.config.law import lease_of_survivor, shown
from truecl.config.reader import digest, read
from truecl.config.typed import suggestion
from truecl.core.watchdog import SOFTDOG
from truecl.drivers.contract import StepFailed
from truecl.drivers.fence import secrets
from truecl.drivers.fence.parse import Metadata
from truecl.model.config import (
    AppConfig,
    ClusterConfig,
    Configuration,
    FenceConfig,
    NodeConfig,
    NoStorage,
    WatchdogConfig,
)
from truecl.model.ids import NodeName
from truecl.model.report import Severity
from truecl.runtime.credentials import CA_KEY, CERT, KEY, RING, SECRETS, BadCredentials, Credentials
from truecl.runtime.files import Unreadable, gather

USER = "truecl"


class Checked(msgspec.Struct, frozen=True):
    directory: str
    findings: tuple[Finding, ...]
    """Errors first."""
    cluster: str = ""
    node: str = ""
    """Which node this machine is, '' where that is unknown."""
    nodes: int = 0
    apps: int = 0
    digest: str = ""

    @property
    def ok(self) -> bool:
        return not any(finding.severity is Severity.ERROR for finding in self.findings)


@dataclass(frozen=True)
class Environment:
    directory: Path
    now: float
    """Seconds since the epoch."""
    machine: Machine


def check(environment: Environment) -> Checked:
    """Never raises for what it finds; finds as much as it can."""
    findings: list[Finding] = []
    files: dict[str, bytes] = {}
    configuration: Configuration | None = None
    try:
        files = gather(environment.directory)
    except Unreadable as unreadable:
        findings.append(error(str(unreadable)))
    else:
        configuration, problems = read(files)
        findings += [error(f"{environment.directory}/{problem}") for problem in problems]
        findings += _modes(environment.directory, tuple(files))
    own, credential_findings = _credentials(environment)
    findings += credential_findings
    if configuration is not None:
        findings += _cluster(configuration.cluster)
        for app in configuration.apps:
            findings += _app(app)
        if own is not None:
            findings += _this_node(environment.machine, configuration, own)
    if environment.machine.user(USER) is None:
        command = f"useradd --system --no-create-home --shell /usr/sbin/nologin {USER}"
        findings.append(error(f"there is no user {USER!r}, who runs the daemons without privilege; `{command}`"))
    return Checked(
        directory=str(environment.directory),
        findings=tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.severity is not Severity.ERROR)),
        cluster=configuration.cluster.name if configuration is not None else "",
        node=own.node if own is not None else "",
        nodes=len(configuration.cluster.nodes) if configuration is not None else 0,
        apps=len(configuration.apps) if configuration is not None else 0,
        digest=digest(files) if files else "",
    )


def _modes(directory: Path, names: tuple[str, ...]) -> Iterator[Finding]:
    """Who can write the configuration is root on every node: it names commands."""
    for name in names:
        try:
            mode = stat.S_IMODE((directory / name).stat().st_mode)
        except OSError:
            continue
        if mode & 0o022:
            path = directory / name
            yield error(f"{path}: others may write it (mode {mode:04o}), and it names commands; `chmod go-w {path}`")


def _credentials(environment: Environment) -> tuple[Credentials | None, list[Finding]]:
    directory = environment.directory
    if not any(os.path.lexists(directory / name) for name in (CERT, KEY, RING)):
        text = f"{directory}: no credentials, so this machine is no node yet; `lha_init` makes them"
        return None, [warning(text)]
    findings = list(_owners(environment))
    try:
        own = Credentials.load(directory, environment.now)
    except BadCredentials as bad:
        return None, [*findings, *(error(line) for line in bad.problems)]
    if expiry := own.expiry_warning(environment.now):
        findings.append(warning(f"{expiry}; `lha_init --force` makes new ones"))
    return own, findings


def _owners(environment: Environment) -> Iterator[Finding]:
    user = environment.machine.user(USER)
    for name in SECRETS:
        path = environment.directory / name
        try:
            found = path.stat()
        except OSError:
            continue
        if found.st_uid not in (os.geteuid(), 0, user if name != CA_KEY else 0):
            yield error(f"{path}: belongs to user id {found.st_uid}; `chown root {path}`")
        if name == CA_KEY and found.st_mode & 0o077:
            yield error(f"{path}: others may read it (mode {stat.S_IMODE(found.st_mode):04o}); `chmod 600 {path}`")
    for bundle in sorted((environment.directory / "bundles").glob("*.tar")):
        yield warning(f"{bundle}: holds a node's key; remove it once that node has joined")


def _cluster(cluster: ClusterConfig) -> Iterator[Finding]:
    if len(cluster.links) == 1:
        yield warning(f"there is one link, {cluster.links[0].name!r}: when it fails, every node is alone")
    workers = [node for node in cluster.nodes if not node.witness]
    unfenced = [node.name for node in workers if not node.fence and node.watchdog.use == "off"]
    if unfenced and len(cluster.nodes) > 1:
        text = "their applications with storage wait for the operator when they fail"
        yield warning(f"no fence device for {', '.join(unfenced)}: {text}")
    voters = len(cluster.voters)
    if voters == 2:
        text = "neither goes on alone before the other is fenced; a witness as third node makes a majority"
        yield warning(f"there are two nodes: {text}")
        needed = lease_of_survivor(cluster)
        if needed is not None and cluster.on_quorum_loss == "stop":
            what = "stops its own applications until the other's fence device has answered, and starts them again"
            text = f"`timing: {{lease: {shown(needed)}}}`, `on_quorum_loss: freeze`, or a witness (timing.md, law 9)"
            yield warning(f"of two nodes, the one that is left {what}; what helps: {text}")
    elif voters % 2 == 0:
        text = f"survive the loss of {(voters - 1) // 2}, as {voters - 1} would; halves of equal size have no majority"
        yield warning(f"an even number of voters: {voters} {text}; a witness would break the tie")
    for node in cluster.nodes:
        yield from _fence(node)
        for link, address in node.addresses.items():
            if ipaddress.ip_address(address).is_loopback and len(cluster.nodes) > 1:
                yield error(f"node {node.name!r} has the loopback address {address} on link {link!r}")


def _fence(node: NodeConfig) -> Iterator[Finding]:
    for device in _devices(node):
        if any(name in device.parameters for name in ("password", "passwd")):
            text = "everybody can read cluster.yaml; `secrets:` names a file that holds it (docs/fencing.md)"
            yield warning(f"the fence device of node {node.name!r} has its password in cluster.yaml: {text}")
        if not device.verify:
            text = "it counts as off because its agent says so; docs/fencing.md"
            yield warning(f"fence agent {device.agent!r} of node {node.name!r} is not verified: {text}")


def _devices(node: NodeConfig) -> list[FenceConfig]:
    return [device for level in node.fence for device in level]


def _app(app: AppConfig) -> Iterator[Finding]:
    if len(app.nodes) == 1:
        yield warning(f"application {app.name!r} may run on {app.nodes[0]!r} alone: nothing takes it over")
    for program in app.programs:
        if program.start and program.monitor is None:
            yield warning(f"program {program.name!r} of {app.name!r} has no monitor: nobody notices its death")
    mounted = [filesystem.volume for filesystem in app.filesystems]
    if "" not in mounted:
        for volume in app.volumes:
            if volume.name not in mounted and not isinstance(volume.storage, NoStorage):
                yield warning(f"volume {volume.name!r} of {app.name!r} holds no file system")


def _this_node(machine: Machine, configuration: Configuration, own: Credentials) -> Iterator[Finding]:
    cluster = configuration.cluster
    if own.cluster != cluster.name:
        yield error(f"{CERT} is of cluster {own.cluster!r}, cluster.yaml of {cluster.name!r}")
    if own.node not in [node.name for node in cluster.nodes]:
        names = ", ".join(node.name for node in cluster.nodes)
        yield error(f"{CERT} says that this is node {own.node!r}; cluster.yaml has {names}")
        return
    interfaces = machine.interfaces()
    yield from _addresses(cluster.node(own.node), tuple(str(each.ip) for each in interfaces))
    yield from _agents(machine, cluster)
    yield from _watchdog(machine, cluster.node(own.node).watchdog)
    if len(cluster.nodes) > 1:
        yield from clock(machine.steering(), cluster.timing)
    hosted = [app for app in configuration.apps if own.node in app.nodes]
    for app in hosted:
        yield from storage(machine, app)
        yield from _programs(machine, app, own.node)
        for address in app.addresses:
            wanted = ipaddress.ip_address(address.address)
            if not address.interface and not any(wanted in each.network for each in interfaces):
                text = f"no interface of this node has an address in the network of {wanted}"
                yield warning(f"application {app.name!r}: {text}; `interface:` names one")
    if any(app.addresses for app in hosted):
        for network in machine.dropping_networkd():
            yield warning(f"{network}: systemd-networkd drops floating addresses; set KeepConfiguration=yes")


def _agents(machine: Machine, cluster: ClusterConfig) -> Iterator[Finding]:
    """Any node may become master, and has to fence the others then."""
    known: dict[str, Metadata | str] = {}
    for node in cluster.nodes:
        for device in _devices(node):
            what = f"fence agent {device.agent!r} of node {node.name!r}"
            if not machine.program(device.agent):
                yield warning(f"{what} is not here; install fence-agents")
                continue
            try:
                secrets.read(device.secrets)
            except StepFailed as failed:
                yield error(f"{what}: {failed.reason}")
            if device.agent not in known:
                known[device.agent] = machine.fence_agent(device.agent)
            metadata = known[device.agent]
            if isinstance(metadata, str):
                yield warning(f"{what} does not describe itself (action=metadata): {metadata}")
            else:
                yield from _parameters(what, device, metadata)


def _parameters(what: str, device: FenceConfig, metadata: Metadata) -> Iterator[Finding]:
    given = {*device.parameters, *device.secrets}
    for name in sorted(given - set(metadata.names)):
        yield error(f"{what}: unknown parameter {name!r}; {suggestion(name, metadata.names)}")
    for name in metadata.missing(given):
        yield error(f"{what}: parameter {name!r} is missing")
    for action in ("off", "status") if device.verify else ("off",):
        if action not in metadata.actions:
            yield error(f"{what} cannot do {action!r}; its actions: {', '.join(metadata.actions) or 'none'}")


def _watchdog(machine: Machine, watchdog: WatchdogConfig) -> Iterator[Finding]:
    if watchdog.use == "off":
        return
    facts = machine.watchdog(watchdog.device)
    if not facts.present:
        text = f"{watchdog.device} is missing on this node; load its module (softdog, where there is no hardware)"
        if watchdog.use == "required":
            yield error(f"{text}: the watchdog is required, so no application starts here")
        else:
            yield warning(f"{text}: applications run without one")
        return
    if facts.nowayout:
        text = "it cannot be stopped (nowayout): stopping the service resets this node"
        yield warning(f"{watchdog.device}: {text}")
    soft = facts.identity == SOFTDOG
    if soft or facts.virtual:
        what = f"this is a virtual machine ({facts.virtual})" if facts.virtual else "it is softdog"
        text = "it counts in no proof unless watchdog_survives_pause says that its clock never stops"
        if watchdog.watchdog_survives_pause:
            text = (
                "watchdog_survives_pause says that its clock runs on while the machine is paused or saved; "
                "if it does not, a node that is resumed writes to storage that another has taken over"
            )
        yield warning(f"{watchdog.device}: {what}: {text}")


def _addresses(node: NodeConfig, present: tuple[str, ...]) -> Iterator[Finding]:
    for link, address in node.addresses.items():
        if address not in present:
            text = f"this is node {node.name!r}, but no interface here has its address {address} ({link})"
            yield warning(f"{text}; if this machine is a copy: 'lha_node add' gives it a name of its own")


def _programs(machine: Machine, app: AppConfig, node: NodeName) -> Iterator[Finding]:
    mounts = tuple(filesystem.mount + "/" for filesystem in app.filesystems)
    for program in app.programs:
        commands = [program.run, program.start, program.stop]
        commands += [program.monitor.command] if program.monitor is not None else []
        for command in commands:
            # What lies on the application's own file system is there only while it runs.
            if command and not command[0].startswith(mounts) and not machine.program(command[0]):
                text = f"{command[0]} cannot be run on this node"
                yield error(f"application {app.name!r}, program {program.name!r}: {text}")
        if machine.user(program.user) is None:
            text = f"there is no user {program.user!r} on node {node!r}"
            yield error(f"application {app.name!r}, program {program.name!r}: {text}")
