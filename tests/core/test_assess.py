"""What follows from the nodes' looks: the next step of lha_buildapp, as a table."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from truecl.core import assignment, validation
from truecl.core.assess import Given, Next, assess, identifier_of, kept, uuid_of
from truecl.core.ledger import apply
from truecl.core.wishes import decide
from truecl.model.build import Adopt, Discard, Grow, GrowStage, Initialise, Make, Reconcile, Resync, Seen, Spread, Work
from truecl.model.config import (
    AppConfig,
    ClusterConfig,
    DrbdStorage,
    FileStorage,
    FileSystem,
    LinkConfig,
    LvmStorage,
    NodeConfig,
    Volume,
)
from truecl.model.ids import AppName, Index, LinkName, NodeName, Term
from truecl.model.ledger import (
    AcceptCopy,
    AnyCommand,
    AppState,
    Batch,
    Build,
    Grant,
    Ledger,
    RecordBuild,
    SetMirror,
    Verified,
    Wanted,
)
from truecl.model.mirror import CopyState
from truecl.model.report import Severity
from truecl.wire.messages import BuildWish, Request

N1, N2, DB, TERM = NodeName("n1"), NodeName("n2"), AppName("db"), Term(1)
LINK = LinkName("link1")
CLUSTER = ClusterConfig(
    name="c",
    links=(LinkConfig(name=LINK),),
    nodes=tuple(NodeConfig(name=name, addresses={LINK: f"10.0.0.{n}"}) for n, name in enumerate((N1, N2), 1)),
)
LV = LvmStorage(group="vg", volume="data", size=1 << 26)
COPIED = AppConfig(
    name=DB,
    nodes=(N1, N2),
    volumes=(Volume(name="data", storage=DrbdStorage(on=LV)),),
    filesystems=(FileSystem(type="ext4", mount="/srv/db"),),
)
SHARED = replace(COPIED, volumes=(Volume(name="data", storage=FileStorage(image="/x.img")),))
RAW = replace(COPIED, filesystems=())
LOOK = {"volume data": str(1 << 26), "script /s": "a" * 64, "tool mkfs.ext4": "1.47"}
MISSING = Seen(facts={"script /s": "a" * 64}, missing={"volume data": "logical volume vg/data of 64M"})


def seen(**more: Any) -> Seen:
    return Seen(**({"facts": LOOK} | more))


def bare(app: AppConfig, ledger: Ledger | None = None, wish: BuildWish | None = None, **more: Any) -> Given:
    both = {N1: seen(), N2: seen()}
    return Given(app, CLUSTER, ledger or Ledger(), wish or BuildWish(), **({"seen": both, "token": "7"} | more))


def commit(ledger: Ledger, *commands: AnyCommand) -> Ledger:
    return apply(ledger, Index(ledger.index + 1), TERM, Batch(commands))


def mirrored(app: AppConfig, *states: CopyState) -> Ledger:
    """Built, with such copies."""
    mirror = assignment.assigned(app, CLUSTER, Ledger())
    return commit(Ledger(), SetMirror(DB, assignment.with_copies(mirror, dict(zip(app.nodes, states, strict=True)), 0)))


def with_metadata(given: Given, *identifiers: str) -> dict[NodeName, Seen]:
    return {node: seen(identifiers={"data": each}) for node, each in zip((N1, N2), identifiers, strict=True)}


CURRENT, OUTDATED, INCONSISTENT = CopyState.CURRENT, CopyState.OUTDATED, CopyState.INCONSISTENT
CREATE = BuildWish(create=True)
RUNNING = Ledger(apps={DB: AppState(Wanted.RUNNING, grant=Grant(N1, 5))})  # type: ignore[arg-type]


def errors(found: Next) -> list[str]:
    return [line.text for line in found.lines if line.severity is Severity.ERROR]


# ---- what nodes say -------------------------------------------------------------------------------------------------


def test_a_problem_of_any_node_is_told_with_its_name_and_ends_it() -> None:
    found = assess(bare(SHARED, seen={N1: seen(), N2: seen(problems=("there is no user web",))}))
    assert errors(found) == ["n2 : there is no user web"] and "not ready" in found.refusal


@pytest.mark.parametrize(
    ("name", "severity"),
    [("script /s", Severity.ERROR), ("volume data", Severity.ERROR), ("tool mkfs.ext4", Severity.WARN)],
)
def test_what_differs_between_nodes_is_named(name: str, severity: Severity) -> None:
    found = assess(bare(SHARED, seen={N1: seen(), N2: seen(facts=LOOK | {name: "other"})}))
    assert [line.severity for line in found.lines] == [severity]
    assert found.lines[0].text.startswith(f"{name} differs: n1 ") and "n2 other" in found.lines[0].text
    assert bool(found.refusal) is (severity is Severity.ERROR)


# ---- volumes --------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_made_only_when_asked_for() -> None:
    given = bare(COPIED, seen={N1: MISSING, N2: seen()})
    assert errors(assess(given)) == ["n1 : missing: logical volume vg/data of 64M"]
    assert "lha_buildapp -A db --create makes it" in assess(given).refusal
    assert assess(bare(COPIED, wish=CREATE, seen=given.seen)).works == {N1: Make(("data",), sizes={"data": 1 << 26})}


def test_what_nodes_share_is_made_on_one_of_them() -> None:
    shared = replace(COPIED, volumes=(Volume(name="data", storage=LV),))
    both = {N1: MISSING, N2: MISSING}
    assert list(assess(bare(shared, wish=CREATE, seen=both)).works) == [N1]
    assert list(assess(bare(COPIED, wish=CREATE, seen=both)).works) == [N1, N2]


def test_nothing_is_made_under_a_running_application() -> None:
    found = assess(bare(COPIED, RUNNING, CREATE, seen={N1: MISSING, N2: seen()}))
    assert not found.works and "lha_stopapp -A db" in found.refusal


def test_other_data_in_the_way_needs_force_and_the_operators_agreement_to_exactly_that() -> None:
    there = replace(MISSING, data={"volume data": "/dev/sdb: ext4 1234"})
    looks = {N1: there, N2: seen()}
    assert "not touched without --create --force" in assess(bare(COPIED, wish=CREATE, seen=looks)).refusal
    question = assess(bare(COPIED, wish=replace(CREATE, force=True), seen=looks)).question
    assert question is not None and question.lines == ("n1 : volume data: /dev/sdb: ext4 1234, which would be lost",)
    agreed = replace(CREATE, force=True, agreed=question.token)
    assert assess(bare(COPIED, wish=agreed, seen=looks)).works == {
        N1: Make(("data",), {"volume data": "/dev/sdb: ext4 1234"}, {"data": 1 << 26})
    }
    changed = {N1: replace(there, data={"volume data": "/dev/sdb: xfs 5678"}), N2: seen()}
    assert assess(bare(COPIED, wish=agreed, seen=changed)).question is not None


# ---- replicas -------------------------------------------------------------------------------------------------------


def test_minors_and_port_are_assigned_once_and_to_nobody_else() -> None:
    (command,) = assess(bare(COPIED, wish=CREATE)).commands
    ledger = commit(Ledger(), command)
    mirror = ledger.mirrors[DB]
    assert (mirror.port, [each.minor for each in mirror.volumes]) == (7789, [100])
    assert all(copy.state is INCONSISTENT and copy.index == 1 for copy in mirror.copies.values())
    other = assignment.assigned(replace(COPIED, name=AppName("b")), CLUSTER, ledger)
    assert (other.port, [each.minor for each in other.volumes]) == (7790, [101])
    grown = replace(COPIED, volumes=(*COPIED.volumes, Volume(name="log", storage=DrbdStorage(on=LV))))
    again = assignment.assigned(grown, CLUSTER, ledger)
    assert [(each.name, each.number, each.minor) for each in again.volumes] == [("data", 0, 100), ("log", 1, 101)]


def test_copies_that_get_a_file_system_begin_as_equals() -> None:
    ledger = mirrored(COPIED, INCONSISTENT, INCONSISTENT)
    given = bare(COPIED, ledger, CREATE)
    works = assess(given).works
    mine = identifier_of(given, ledger.mirrors[DB], 0)
    assert {node: work.identifier for node, work in works.items() if isinstance(work, Initialise)} == {
        N1: mine, N2: mine,
    }  # fmt: skip
    assert all(work.equal for work in works.values() if isinstance(work, Initialise)), "so no old file system stays"
    half = with_metadata(given, mine, "")
    half[N2] = seen()
    assert list(assess(bare(COPIED, ledger, CREATE, seen=half)).works) == [N2], "it goes on where it stopped"
    commands = assess(bare(COPIED, ledger, CREATE, seen=with_metadata(given, mine, mine))).commands
    states = commit(ledger, *commands).mirrors[DB].copies
    assert {node: copy.state for node, copy in states.items()} == {N1: CURRENT, N2: CURRENT}


def test_raw_copies_are_made_from_the_first_nodes() -> None:
    ledger = mirrored(RAW, INCONSISTENT, INCONSISTENT)
    given = bare(RAW, ledger, CREATE)
    mine = identifier_of(given, ledger.mirrors[DB], 0)
    works = assess(given).works
    assert [work.identifier for work in works.values() if isinstance(work, Initialise)] == [mine, ""]
    assert not any(work.equal for work in works.values() if isinstance(work, Initialise)), "the first one's data stay"
    looks = with_metadata(given, mine, "0000000000000004")
    states = commit(ledger, *assess(bare(RAW, ledger, CREATE, seen=looks)).commands).mirrors[DB].copies
    assert {node: copy.state for node, copy in states.items()} == {N1: CURRENT, N2: INCONSISTENT}


def test_a_volume_is_added_to_equal_copies_only_with_a_file_system() -> None:
    """Nothing is copied for it: what its two disks held before must never be read."""
    more = FileSystem(type="ext4", mount="/srv/more", volume="more")
    mounted = replace(COPIED.filesystems[0], volume="data")
    volumes = (*COPIED.volumes, Volume(name="more", storage=DrbdStorage(on=replace(LV, volume="more"))))
    app = replace(COPIED, volumes=volumes, filesystems=(mounted, more))
    ledger = mirrored(app, CURRENT, CURRENT)
    looks = {
        node: seen(identifiers={"data": "A" * 16}, missing={"metadata more": "metadata of DRBD"}) for node in (N1, N2)
    }
    works = assess(bare(app, ledger, CREATE, seen=looks)).works
    assert [(work.volumes, work.equal) for work in works.values() if isinstance(work, Initialise)] == [
        (("more",), True)
    ] * 2
    raw = assess(bare(replace(app, filesystems=(mounted,)), ledger, CREATE, seen=looks))
    assert not raw.works and "volume more has no file system" in raw.refusal


def test_a_copy_of_another_life_is_other_data() -> None:
    """An old disk's metadata may say that they are up to date; that they are this build's, their identifier says."""
    ledger = mirrored(COPIED, INCONSISTENT, INCONSISTENT)
    given = bare(COPIED, ledger, CREATE)
    looks = {
        N1: seen(identifiers={"data": "ABCD" * 4}, data={"metadata data": "a copy of DRBD"}),
        N2: seen(identifiers={"data": identifier_of(given, ledger.mirrors[DB], 0)}),
    }
    assert "--force" in assess(bare(COPIED, ledger, CREATE, seen=looks)).refusal


def test_every_build_has_an_identifier_of_its_own() -> None:
    """Or a disk that was away since the build before would count as equal."""
    ledger = mirrored(COPIED, INCONSISTENT, INCONSISTENT)
    later = commit(ledger, SetMirror(DB, None), SetMirror(DB, assignment.assigned(COPIED, CLUSTER, Ledger())))
    given = bare(COPIED)
    found = [identifier_of(given, each.mirrors[DB], 0) for each in (ledger, later)]
    assert found[0] != found[1]
    assert all(len(each) == 16 and int(each, 16) & 1 == 0 and int(each, 16) > 4 for each in found)


def test_a_node_that_lost_its_disk_is_named_with_what_helps() -> None:
    ledger = mirrored(COPIED, CURRENT, OUTDATED)
    assert "--replace n2" in assess(bare(COPIED, ledger, CREATE, seen={N1: seen(), N2: MISSING})).refusal


def test_lost_metadata_are_not_made_again_but_for_a_new_disk() -> None:
    ledger = mirrored(COPIED, CURRENT, CURRENT)
    gone = seen(missing={"metadata data": "metadata of DRBD"})
    found = assess(bare(COPIED, ledger, CREATE, seen={N1: seen(identifiers={"data": "A" * 16}), N2: gone}))
    assert not found.works and "--replace n2" in found.refusal


def test_a_volume_that_was_out_for_a_while_is_not_taken_for_current() -> None:
    """The log has one word for all volumes of a copy."""
    ledger = mirrored(COPIED, CURRENT, CURRENT)
    there = bare(COPIED)
    primary, parted = with_metadata(there, "B" * 16, "B" * 15 + "A"), with_metadata(there, "A" * 16, "C" * 16)
    assert assess(bare(COPIED, ledger, seen=primary)).refusal == "", "the last bit only says that it was primary"
    said = assess(bare(COPIED, ledger, CREATE, seen=parted)).refusal
    assert "the copies of volume data differ" in said and "--resolve --keep" in said
    assert assess(bare(COPIED, mirrored(COPIED, CURRENT, OUTDATED), seen=parted)).refusal == ""


def test_a_volume_is_added_only_while_both_nodes_are_there() -> None:
    """One that is back may have a stale copy on the node that is away, of which the log knows nothing."""
    more = replace(LV, volume="log")
    both = replace(COPIED, volumes=(*COPIED.volumes, Volume(name="log", storage=DrbdStorage(on=more))))
    ledger = mirrored(COPIED, CURRENT, CURRENT)
    alone = assess(bare(both, ledger, CREATE, seen={N1: seen()}))
    assert "n2 must be up for volume log to be added" in alone.refusal and not alone.commands
    assert assess(bare(both, ledger, CREATE)).commands


# ---- file systems ---------------------------------------------------------------------------------------------------


def test_file_systems_are_found_or_made_by_a_generation_of_its_own() -> None:
    (wanted,) = assess(bare(SHARED)).formats
    assert (wanted.volume, wanted.type, wanted.make) == ("data", "ext4", False)
    (wanted,) = assess(bare(SHARED, wish=CREATE)).formats
    assert wanted.make and wanted.uuid == uuid_of(bare(SHARED), "data")
    assert assess(bare(SHARED, found={"data": "1-2"})).ready
    assert assess(bare(SHARED, RUNNING)).ready, "what runs is not disturbed"
    assert "--create makes one" in assess(bare(SHARED, found={"data": "none"})).refusal


def test_what_stands_in_the_place_of_a_file_system_is_lost_only_at_the_operators_word() -> None:
    there = {"data": "other xfs 99"}
    assert "--force" in assess(bare(SHARED, wish=CREATE, found=there)).refusal
    question = assess(bare(SHARED, wish=replace(CREATE, force=True), found=there)).question
    assert question is not None and question.lines == ("volume data: xfs 99, which would be lost",)
    agreed = replace(CREATE, force=True, agreed=question.token)
    (wanted,) = assess(bare(SHARED, wish=agreed, found=there)).formats
    assert wanted.agreed == "xfs 99"


def test_another_file_system_than_the_one_that_was_built_is_refused() -> None:
    ledger = Ledger(builds={DB: Build("d", (N1,), {"file system data": "1-2"})})
    assert "not 1-2, which was built" in assess(bare(SHARED, ledger, found={"data": "3-4"})).refusal
    assert assess(bare(SHARED, ledger, BuildWish(force=True), found={"data": "3-4"})).ready
    lost = assess(bare(SHARED, ledger, CREATE)).formats
    assert not lost[0].make, "in the place of one that was there, none is made without --force"


def test_uuids_are_uuids_and_new_for_each_lock() -> None:
    one, other = uuid_of(bare(SHARED), "data"), uuid_of(bare(SHARED, token="8"), "data")
    assert one != other and [len(part) for part in one.split("-")] == [8, 4, 4, 4, 12] and one[14] == "8"


# ---- wishes ---------------------------------------------------------------------------------------------------------


def wish(verb: str, ledger: Ledger, node: NodeName | None, acts: int = 0, **more: Any) -> Next | None:
    wished = BuildWish(**({verb: True} | {key: more.pop(key) for key in ("agreed", "grow", "size") if key in more}))
    request = Request("r", "build", DB, node, "root", build=wished)
    return decide(bare(COPIED, ledger, wished, **more), request, acts)


def agreeing(step: Callable[[str], Next | None]) -> Next:
    asked = step("")
    assert asked is not None and asked.question is not None and not asked.commands and not asked.works
    assert (again := step("nonsense")) is not None and again.question is not None
    agreed = step(asked.question.token)
    assert agreed is not None
    return agreed


def test_an_older_copy_is_accepted_by_name_and_only_without_an_owner() -> None:
    ledger = mirrored(COPIED, CURRENT, OUTDATED)
    found = agreeing(lambda token: wish("accept", ledger, N2, agreed=token))
    assert isinstance(found.works[N2], Adopt) and not found.commands
    then = wish("accept", ledger, N2, 1)
    assert then is not None and then.commands == (AcceptCopy(DB, N2, "root", 0.0),)
    assert "root accepts the copy of n2" in then.word
    owned = replace(ledger, apps=RUNNING.apps)
    assert (refused := wish("accept", owned, N2)) is not None and "has an owner" in refused.refusal


def test_one_side_of_a_split_brain_is_thrown_away_after_it_was_shown() -> None:
    ledger = mirrored(COPIED, CURRENT, OUTDATED)
    looks = {N1: seen(), N2: seen(apart="5 blocks of 4 KiB were written since the two copies parted")}
    found = agreeing(lambda token: wish("resolve", ledger, N1, agreed=token, seen=looks))
    states = commit(ledger, *found.commands).mirrors[DB].copies
    assert {node: copy.state for node, copy in states.items()} == {N1: CURRENT, N2: INCONSISTENT}
    question = wish("resolve", ledger, N1, seen=looks)
    assert question is not None and question.question is not None
    assert any("n2 : 5 blocks" in line for line in question.question.lines)
    then = wish("resolve", ledger, N1, 1, seen=looks)
    assert then is not None and list(then.works) == [N2] and isinstance(then.works[N2], Discard)
    last = wish("resolve", ledger, N1, 2, seen=looks)
    assert last is not None and list(last.works) == [N1] and isinstance(last.works[N1], Reconcile), (
        "or it never connects"
    )
    running = replace(ledger, apps=RUNNING.apps)
    assert (refused := wish("resolve", running, N2)) is not None and "whose copy is in use" in refused.refusal


def test_a_new_disk_is_filled_step_by_step_and_never_from_a_stale_copy() -> None:
    ledger = mirrored(COPIED, CURRENT, CURRENT)
    first = wish("replace", ledger, N2, seen={N1: seen(), N2: MISSING})
    assert first is not None and first.works == {N2: Make(("data",), sizes={"data": 1 << 26})}, "as large as the other"
    empty = {N1: seen(), N2: seen(missing={"metadata data": "metadata"})}
    marked = wish("replace", ledger, N2, seen=empty)
    assert marked is not None
    ledger = commit(ledger, *marked.commands)
    assert ledger.mirrors[DB].copies[N2].state is INCONSISTENT and ledger.mirrors[DB].copies[N1].state is CURRENT
    last = wish("replace", ledger, N2, seen=empty)
    assert last is not None and isinstance(last.works[N2], Initialise) and last.works[N2].identifier == ""
    assert wish("replace", ledger, N2, 3) is None, "then all is checked, and recorded"
    nothing = wish("replace", ledger, N2)
    assert nothing is not None and "nothing to replace" in nothing.done
    stale = mirrored(COPIED, OUTDATED, CURRENT)
    assert (refused := wish("replace", stale, N2, seen=empty)) is not None and "no other copy" in refused.refusal


def test_a_volume_grows_on_all_nodes_and_then_on_its_owner() -> None:
    ledger = replace(mirrored(COPIED, CURRENT, CURRENT), apps=RUNNING.apps)
    steps = [wish("create", ledger, None, acts, grow="data", size=1 << 27) for acts in range(5)]
    assert steps[0] is not None and steps[0].works == grown(GrowStage.TRY), "not on one node alone, for want of room"
    assert steps[1] is not None and steps[1].works == grown(GrowStage.GROW)
    assert steps[2] is not None and isinstance(steps[2].works[N1], Spread) and list(steps[2].works) == [N1]
    assert steps[3] is not None and steps[3].works == grown(GrowStage.NOTE)
    assert steps[4] is None
    smaller = wish("create", ledger, None, grow="data", size=1 << 20)
    assert smaller is not None and "never shrinks" in smaller.refusal


def test_what_differs_is_copied_from_the_owner_alone_and_only_when_the_operator_agrees() -> None:
    ledger = replace(mirrored(COPIED, CURRENT, CURRENT), apps=RUNNING.apps)
    ledger = replace(ledger, verified={DB: Verified(N1, {"data": 4096}, Index(9))})
    found = agreeing(lambda token: wish("resync", ledger, None, agreed=token))
    assert list(found.works) == [N2] and isinstance(found.works[N2], Resync) and not found.commands
    asked = wish("resync", ledger, None)
    assert asked is not None and asked.question is not None
    assert "volume data: 4096 bytes differed when the copies were compared" in asked.question.lines
    then = wish("resync", ledger, None, 1)
    assert then is not None and "What differs is being copied from 'n1'" in then.done
    stopped = wish("resync", mirrored(COPIED, CURRENT, CURRENT), None)
    assert stopped is not None and "is copied while 'db' runs" in stopped.refusal
    alone = wish("resync", ledger, None, seen={N1: seen()})
    assert alone is not None and "n2 must be up" in alone.refusal


def grown(stage: GrowStage) -> dict[NodeName, Work]:
    return {node: Grow("data", 1 << 27, stage) for node in (N1, N2)}


# ---- validated ------------------------------------------------------------------------------------------------------


def test_a_start_is_refused_with_what_changed_since() -> None:
    given = bare(SHARED, found={"data": "1-2"})

    build = Build(validation.digest(SHARED), (N1, N2), kept(given))
    assert validation.refusal(SHARED, build, {N1: seen(), N2: seen()}) == ""
    assert "is not validated: lha_buildapp -A db" in validation.refusal(SHARED, None, {})
    changed = replace(SHARED, start_timeout=1.0, autostart=True)
    assert validation.refusal(changed, build, {}) == "", "how long it may take is no matter of its nodes"
    changed = replace(COPIED, replication=replace(COPIED.replication, verify=7.0, verify_between=(0, 60)))
    assert validation.digest(changed) == validation.digest(COPIED), "nor is when copies are compared"
    changed = replace(SHARED, filesystems=())
    assert "'filesystems' in its file" in validation.refusal(changed, build, {})
    other = seen(facts=LOOK | {"script /s": "b" * 64})
    assert "script /s on n2" in validation.refusal(SHARED, build, {N1: seen(), N2: other})
    assert validation.refusal(SHARED, build, {N1: seen(), N2: Seen(problems=("hangs",))}) == ""


def test_a_key_that_a_later_release_knows_changes_nothing_at_its_default() -> None:
    """Else an upgrade would find every file changed. This differs where a default was changed."""
    assert validation.digest(COPIED) == "30f84555da21bcfb15dcad46485ebac455208db03e045302ac32d739cf79f3e5"
    assert validation.digest(replace(COPIED, replication=replace(COPIED.replication, rate=1))) != validation.digest(
        COPIED
    )


def test_a_record_is_kept_until_the_next() -> None:
    build = Build("d", (N1,), at=5.0)
    ledger = commit(Ledger(), RecordBuild(DB, build))
    assert ledger.builds == {DB: build}
    assert commit(ledger, RecordBuild(DB, None)).builds == {}
