"""hbd as a process: heartbeats over sealed datagrams. SIGTERM says goodbye to the other nodes."""

import os
from typing import NoReturn

from truecl.core.contract import Noted
from truecl.core.detector import Stopping
from truecl.model.config import ClusterConfig
from truecl.runtime.heartbeat import CannotListen, HeartbeatMesh
from truecl.runtime.process import CannotStart, Daemon
from truecl.runtime.ring import RingFile
from truecl.service.joint import Joint, configured
from truecl.wire.seal import NONCE_BYTES, Seal


def main(daemon: Daemon) -> None:
    configuration, credentials = configured(daemon)
    cluster = configuration.cluster
    ring = RingFile(daemon.paths.etc)

    def configure(cluster: ClusterConfig) -> None:
        mesh.reconfigure(cluster)
        try:
            seal.rotate(ring.read())
        except (OSError, ValueError) as error:
            daemon.log.error(f"the key ring stays as it was: {error}")

    joint = Joint(daemon, has_mesh=False, on_configuration=configure)
    seal = Seal(credentials.key_ring, cluster.name, os.urandom(NONCE_BYTES))
    mesh = HeartbeatMesh(daemon.node, cluster, seal, joint.feed, daemon.log)
    try:
        mesh.open()
    except CannotListen as error:
        raise CannotStart(str(error)) from error

    def terminate() -> NoReturn:
        joint.feed(Noted(Stopping()))
        daemon.exit(0, "told to end")

    joint.run(
        mesh=mesh,
        before_timer=mesh.drain,
        on_start=lambda: mesh.start(daemon.reactor.addReader),
        on_terminate=terminate,
    )
