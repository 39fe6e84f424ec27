"""An application whose data is replicated on n1 and n2, and what is said of it: for several tests."""

from truecl.core import ledger as ledgers
from truecl.core.layouts import layout_of
from truecl.model.config import (
    Address,
    AppConfig,
    ClusterConfig,
    Configuration,
    DrbdStorage,
    FenceConfig,
    FileSystem,
    LinkConfig,
    LvmStorage,
    NodeConfig,
    Program,
    Volume,
)
from truecl.model.ids import AppName, Generation, Index, LinkName, NodeName, Term
from truecl.model.ledger import AnyCommand, Batch, Ledger, RaiseLevel, SetMirror
from truecl.model.mirror import Copy, CopyState, Mirror, MirrorVolume
from truecl.model.replica import Disk, Layout, Link, ReplicaReport, Role, VolumeReport

DB = AppName("db")
N1, N2, N3 = NodeName("n1"), NodeName("n2"), NodeName("n3")
CURRENT, OUTDATED, SYNCING, INCONSISTENT = (
    CopyState.CURRENT,
    CopyState.OUTDATED,
    CopyState.SYNCING,
    CopyState.INCONSISTENT,
)
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name="c",
        links=(LinkConfig(name=LinkName("lan")), LinkConfig(name=LinkName("data"))),
        nodes=tuple(
            NodeConfig(
                name=name,
                addresses={LinkName("lan"): f"10.0.0.{place}", LinkName("data"): f"10.0.1.{place}"},
                fence=((FenceConfig(agent="/bin/fence"),),) if name == N2 else (),
            )
            for place, name in enumerate((N1, N2, N3), 1)
        ),
    ),
    apps=(
        AppConfig(
            name=DB,
            nodes=(N1, N2),
            volumes=(Volume(name="d", storage=DrbdStorage(on=LvmStorage(group="vg", volume="db"))),),
            filesystems=(FileSystem(type="ext4", mount="/srv/db"),),
            addresses=(Address(address="10.0.0.9"),),
            programs=(Program(name="dbd", run=("/bin/dbd",)),),
        ),
    ),
)

BUILT_AT = Index(2)


def mirror(n1: CopyState = CURRENT, n2: CopyState = CURRENT) -> Mirror:
    copies = {N1: Copy(n1, Index(0)), N2: Copy(n2, Index(0))}
    return Mirror(7789, (MirrorVolume("d", 0, 1),), (N1, N2), copies)


def ledger(*commands: AnyCommand, built: Mirror | None = None) -> Ledger:
    """After these, at indexes 3 and on: 1 is the level, BUILT_AT the mirror, and so the first mark of each copy."""
    state = Ledger()
    for command in (RaiseLevel(3), SetMirror(DB, built or mirror()), *commands):
        state = ledgers.apply(state, Index(state.index + 1), Term(1), Batch((command,)))
    return state


def layout() -> Layout:
    found = layout_of(CONFIGURATION, ledger(), DB)
    assert found is not None
    return found


def seen(
    role: Role = Role.SECONDARY,
    link: Link = Link.CONNECTED,
    disk: Disk = Disk.UP_TO_DATE,
    peer: Disk = Disk.UP_TO_DATE,
    generation: int = 0,
    mark: int = 0,
    suspended: bool = False,
    trouble: str = "",
) -> ReplicaReport:
    volumes = (VolumeReport("d", disk, peer),) if role is not Role.DOWN else ()
    return ReplicaReport(DB, role, link, suspended, volumes, False, trouble, Generation(generation), Index(mark))


DOWN = seen(Role.DOWN, Link.UNKNOWN)
ALONE = seen(link=Link.STANDALONE, peer=Disk.UNKNOWN)
