import io
import pathlib
import stat
import tarfile

import pytest

from truecl.commands.bundle import Refused
from truecl.commands.init import Environment, InitRequest, init, join, parse_nodes
from truecl.config.reader import read
from truecl.model.ids import LinkName, NodeName
from truecl.runtime.credentials import Credentials
from truecl.runtime.files import gather

NOW = 1_800_000_000.0
NODES = "n1=10.0.0.1+10.1.0.1,n2=10.0.0.2+10.1.0.2,n3=10.0.0.3+10.1.0.3"


def environment(directory: pathlib.Path, now: float = NOW) -> Environment:
    return Environment(directory, now, owner=None)


def request(nodes: str = NODES, this: str = "n1", force: bool = False, cluster: str = "demo") -> InitRequest:
    return InitRequest(cluster, parse_nodes(nodes), NodeName(this), force=force)


def contents(directory: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def refused(directory: pathlib.Path, wanted: InitRequest) -> tuple[str, ...]:
    with pytest.raises(Refused) as refusal:
        init(environment(directory), wanted)
    return refusal.value.problems


@pytest.fixture
def first(tmp_path: pathlib.Path) -> pathlib.Path:
    """/etc/truecl of node n1."""
    init(environment(tmp_path / "n1"), request())
    return tmp_path / "n1"


def test_every_node_gets_its_own_certificate_and_the_same_of_everything_else(first: pathlib.Path) -> None:
    owns = [Credentials.load(first, NOW)]
    for node in ("n2", "n3"):
        directory = first.parent / node
        assert join(environment(directory), first / f"bundles/{node}.tar").node == node
        owns.append(Credentials.load(directory, NOW))
        assert gather(directory) == gather(first)
        assert (directory / "keyring").read_bytes() == (first / "keyring").read_bytes()
        assert not (directory / "ca-key.pem").exists()
        assert not (directory / "bundles").exists()
    assert [own.node for own in owns] == ["n1", "n2", "n3"]
    assert {own.cluster for own in owns} == {"demo"}
    assert len({own.ca_pem for own in owns}) == 1
    assert len({own.key_pem for own in owns}) == 3


def test_the_configuration_is_good_and_names_what_was_asked(first: pathlib.Path) -> None:
    configuration, problems = read(gather(first))
    assert problems == ()
    assert configuration is not None
    assert configuration.cluster.name == "demo"
    assert [link.name for link in configuration.cluster.links] == ["lan", "ring"]
    assert configuration.cluster.node(NodeName("n2")).addresses == {"lan": "10.0.0.2", "ring": "10.1.0.2"}
    sample = (first / "apps/web.yaml.sample").read_bytes()
    assert read({**gather(first), "apps/web.yaml": sample})[1] == ()


def test_secrets_belong_to_their_owner_alone(first: pathlib.Path) -> None:
    modes = {name: stat.S_IMODE((first / name).stat().st_mode) for name in contents(first)}
    assert modes == {
        "ca-key.pem": 0o600,
        "node-key.pem": 0o600,
        "keyring": 0o600,
        "bundles/n2.tar": 0o600,
        "bundles/n3.tar": 0o600,
        "ca.pem": 0o644,
        "node.pem": 0o644,
        "cluster.yaml": 0o644,
        "apps/web.yaml.sample": 0o644,
    }
    assert stat.S_IMODE((first / "bundles").stat().st_mode) == 0o700


def test_keys_are_new_each_time(tmp_path: pathlib.Path, first: pathlib.Path) -> None:
    init(environment(tmp_path / "again"), request())
    for name in ("keyring", "node-key.pem", "ca-key.pem"):
        assert (tmp_path / "again" / name).read_bytes() != (first / name).read_bytes()


def test_refuses_to_overwrite_and_says_what_is_there(first: pathlib.Path) -> None:
    before = contents(first)
    problems = refused(first, request())
    assert f"{first}/node.pem: is there already" in problems
    assert f"{first}/cluster.yaml: is there already" in problems
    assert problems[-1] == f"nothing was changed; --force moves these to {first}/old-DATE and goes on"
    assert contents(first) == before


def test_one_file_that_is_there_is_enough_to_refuse(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cluster.yaml").write_text("mine")
    assert refused(tmp_path, request())[0] == f"{tmp_path}/cluster.yaml: is there already"
    assert contents(tmp_path) == {"cluster.yaml": b"mine"}


def test_force_keeps_the_old_and_leaves_applications_alone(first: pathlib.Path) -> None:
    (first / "apps/shop.yaml").write_text("shop")
    before = contents(first)
    done = init(environment(first), request(nodes="n1=10.0.0.1,n2=10.0.0.2", force=True))
    saved = pathlib.Path(done.saved)
    assert saved == first / "old-20270115T080000Z"
    assert stat.S_IMODE(saved.stat().st_mode) == 0o700
    assert contents(saved) == {name: content for name, content in before.items() if name != "apps/shop.yaml"}
    assert (first / "apps/shop.yaml").read_text() == "shop"
    assert sorted(path.name for path in (first / "bundles").iterdir()) == ["n2.tar"]
    assert Credentials.load(first, NOW).node == "n1"


def test_nothing_stays_of_a_refused_try(tmp_path: pathlib.Path) -> None:
    """What cannot be loaded is not put into place."""
    with pytest.raises(Refused) as refusal:
        init(Environment(tmp_path / "etc", NOW, owner=None, random=lambda _: b"short"), request())
    assert refusal.value.problems == ("keyring: line 2: expected `ID KEY` with 64 hexadecimal digits",)
    assert list((tmp_path / "etc").iterdir()) == []


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (request(cluster="my cluster"), "--cluster 'my cluster': expected a name"),
        (request(this="n9"), "node 'n9' is not among --nodes"),
        (request(nodes="n1=10.0.0.1,n2=10.0.0.1"), "--nodes, --links: 10.0.0.1 is already the address of node 'n1'"),
        (request(nodes="n1=10.0.0.1,n2=fd00::1"), "--nodes, --links: fd00::1 is IPv6, but link 'lan' is IPv4"),
        (
            InitRequest("demo", parse_nodes(NODES), NodeName("n1"), links=(LinkName("lan"),)),
            "--links names 1 links; expected as many as each node has addresses (2)",
        ),
        (
            InitRequest("demo", parse_nodes(NODES), NodeName("n1"), links=(LinkName("lan"), LinkName("fence"))),
            "--nodes, --links: a link cannot be called 'fence'",
        ),
    ],
)
def test_requests_that_cannot_be(tmp_path: pathlib.Path, wanted: InitRequest, problem: str) -> None:
    assert refused(tmp_path, wanted)[0].startswith(problem)
    assert contents(tmp_path) == {}


def test_nodes_problems_show_all_at_once() -> None:
    with pytest.raises(Refused) as refusal:
        parse_nodes("n1=10.0.0.1, N2=10.0.0.2,n3=10.0.0,n4,n1=10.0.0.4+10.1.0.4")
    assert [problem.split(":")[0] for problem in refusal.value.problems] == [
        "--nodes 'N2=10.0.0.2'",
        "--nodes 'n3=10.0.0'",
        "--nodes 'n4'",
        "--nodes",
        "--nodes",
    ]


def test_ipv6_nodes() -> None:
    assert parse_nodes("n1=fd00::1+10.0.0.1") == (("n1", ("fd00::1", "10.0.0.1")),)


# ---- bundles that lha_init did not make -----------------------------------------------------------------------------


def bundle(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no tar archive"),
        (b"x" * 3000, "no tar archive"),
        (b"x" * ((4 << 20) + 1), "has more than"),
        (bundle([]), "lacks ca.pem, node-key.pem, keyring, cluster.yaml, node.pem"),
        (bundle([(tarfile.TarInfo("../../evil"), b"x")]), "holds '../../evil'"),
        (bundle([(tarfile.TarInfo("/etc/passwd"), b"x")]), "holds '/etc/passwd'"),
        (bundle([(special("node.pem", tarfile.SYMTYPE, "/etc/shadow"), b"")]), "holds 'node.pem'"),
        (bundle([(special("node.pem", tarfile.LNKTYPE, "ca.pem"), b"")]), "holds 'node.pem'"),
        (bundle([(special("keyring", tarfile.FIFOTYPE), b"")]), "holds 'keyring'"),
        (bundle([(tarfile.TarInfo("ca.pem"), b"1"), (tarfile.TarInfo("ca.pem"), b"2")]), "holds 'ca.pem'"),
    ],
)
def test_foreign_bundles_change_nothing(tmp_path: pathlib.Path, content: bytes, problem: str) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(content)
    with pytest.raises(Refused) as refusal:
        join(environment(tmp_path / "etc"), path)
    assert problem in refusal.value.problems[0]
    assert not (tmp_path / "etc").exists()


def test_a_bundle_whose_parts_do_not_fit_together_changes_nothing(first: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with tarfile.open(first / "bundles/n2.tar") as two, tarfile.open(first / "bundles/n3.tar") as three:
        parts = {member.name: (two.extractfile(member) or io.BytesIO()).read() for member in two}
        parts["node-key.pem"] = (three.extractfile("node-key.pem") or io.BytesIO()).read()
    path = tmp_path / "b.tar"
    path.write_bytes(bundle([(tarfile.TarInfo(name), content) for name, content in parts.items()]))
    with pytest.raises(Refused) as refusal:
        join(environment(tmp_path / "etc"), path)
    assert refusal.value.problems == ("node-key.pem: is not the key of node.pem",)
    assert contents(tmp_path / "etc") == {}


def test_join_refuses_to_overwrite(first: pathlib.Path) -> None:
    before = contents(first)
    with pytest.raises(Refused) as refusal:
        join(environment(first), first / "bundles/n2.tar")
    assert f"{first}/node.pem: is there already" in refusal.value.problems
    assert contents(first) == before


def test_missing_bundle(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Refused) as refusal:
        join(environment(tmp_path / "etc"), tmp_path / "none.tar")
    assert refusal.value.problems == (f"{tmp_path}/none.tar: No such file or directory",)
