import os
import pathlib

import pytest

from truecl.model.ids import NodeName
from truecl.runtime.authority import VALIDITY_DAYS, Pair, issue, new_authority
from truecl.runtime.credentials import BadCredentials, Credentials, parse_ring, ring_text

NOW = 1_800_000_000.0
DAY = 86400
AUTHORITY = new_authority("demo", NOW)
NODE = issue(AUTHORITY, "demo", NodeName("n1"), NOW)


def place(directory: pathlib.Path, node: Pair = NODE, authority: Pair = AUTHORITY) -> pathlib.Path:
    contents = {
        "ca.pem": authority.cert_pem,
        "node.pem": node.cert_pem,
        "node-key.pem": node.key_pem,
        "keyring": ring_text(((7, b"k" * 32), (1, b"o" * 32))),
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    return directory


def refusal(directory: pathlib.Path, now: float = NOW) -> list[str]:
    with pytest.raises(BadCredentials) as bad:
        Credentials.load(directory, now)
    return [line.removeprefix(f"{directory}/") for line in bad.value.problems]


def test_loads_and_takes_the_node_name_from_the_certificate(tmp_path: pathlib.Path) -> None:
    own = Credentials.load(place(tmp_path), NOW)
    assert (own.node, own.cluster) == ("n1", "demo")
    assert (own.ca_pem, own.cert_pem, own.key_pem) == (AUTHORITY.cert_pem, NODE.cert_pem, NODE.key_pem)
    assert (own.key_ring.current, own.key_ring.ids) == (7, (1, 7))


def test_secrets_are_not_shown(tmp_path: pathlib.Path) -> None:
    shown = repr(Credentials.load(place(tmp_path), NOW))
    assert "PRIVATE" not in shown
    assert "kkkk" not in shown


def test_a_clock_that_lost_its_battery_does_not_keep_the_node_out(tmp_path: pathlib.Path) -> None:
    assert Credentials.load(place(tmp_path), 0.0).node == "n1"


def test_missing_files_show_all_at_once(tmp_path: pathlib.Path) -> None:
    place(tmp_path)
    (tmp_path / "node.pem").unlink()
    (tmp_path / "keyring").unlink()
    hint = "missing; `lha_init` makes it, `lha_init --join FILE` unpacks it"
    assert refusal(tmp_path) == [f"node.pem: {hint}", f"keyring: {hint}"]


@pytest.mark.parametrize("name", ["node-key.pem", "keyring"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_secrets_open_to_others_are_refused(tmp_path: pathlib.Path, name: str, mode: int) -> None:
    (place(tmp_path) / name).chmod(mode)
    (problem,) = refusal(tmp_path)
    assert problem.startswith(f"{name}: others may read it (mode {mode:04o}); `chmod 600 ")


def test_certificates_may_be_read_by_all(tmp_path: pathlib.Path) -> None:
    place(tmp_path)
    for name in ("ca.pem", "node.pem"):
        (tmp_path / name).chmod(0o644)
    assert Credentials.load(tmp_path, NOW).node == "n1"


def test_key_of_another_certificate(tmp_path: pathlib.Path) -> None:
    other = issue(AUTHORITY, "demo", NodeName("n1"), NOW)
    assert refusal(place(tmp_path, Pair(NODE.cert_pem, other.key_pem))) == [
        f"node-key.pem: is not the key of {tmp_path}/node.pem"
    ]


def test_certificate_of_another_authority_of_the_same_name(tmp_path: pathlib.Path) -> None:
    foreign = issue(new_authority("demo", NOW), "demo", NodeName("n1"), NOW)
    assert refusal(place(tmp_path, foreign)) == [f"node.pem: was not issued by {tmp_path}/ca.pem"]


@pytest.mark.parametrize("name", ["N1", "n1/../n2", "n1\nn2", "*"])
def test_common_name_must_be_a_node_name(tmp_path: pathlib.Path, name: str) -> None:
    try:
        odd = issue(AUTHORITY, "demo", NodeName(name), NOW)
    except ValueError:
        pytest.fail("the authority itself refused it")
    (problem,) = refusal(place(tmp_path, odd))
    assert problem.startswith("node.pem: its common name is ")


def test_expiry(tmp_path: pathlib.Path) -> None:
    end = NOW + VALIDITY_DAYS * DAY
    own = Credentials.load(place(tmp_path), NOW)
    assert own.not_after == end
    assert own.expiry_warning(end - 30 * DAY - 1) is None
    assert own.expiry_warning(end - 30 * DAY) == "the certificates of node 'n1' expire in 30 days"
    assert own.expiry_warning(end - DAY / 2) == "the certificates of node 'n1' expire in 0 days"
    assert Credentials.load(tmp_path, end - 1).node == "n1"
    assert [line.split(" on ")[0] for line in refusal(tmp_path, end)] == ["ca.pem: expired", "node.pem: expired"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("ca.pem", b"", "ca.pem: no certificate in PEM"),
        ("node.pem", b"\0\xff", "node.pem: no certificate in PEM"),
        ("node-key.pem", b"x", "node-key.pem: no private key in PEM without a password"),
        ("keyring", b"\xff", "keyring: no key ring, but binary data"),
        ("keyring", b"# nothing\n", "keyring: there is no key"),
        ("keyring", b"1 abc\n", "keyring: line 1: expected `ID KEY` with 64 hexadecimal digits"),
        ("keyring", b"x " + b"0" * 64, "keyring: line 1: expected `ID KEY` with 64 hexadecimal digits"),
        ("keyring", b"1 " + b"z" * 64, "keyring: line 1: the key is not hexadecimal"),
        ("keyring", b"1 " + b"0" * 64 + b"\n1 " + b"1" * 64, "keyring: line 2: the id 1 stands twice"),
        (
            "keyring",
            b"4294967296 " + b"0" * 64,
            "keyring: key 4294967296: ids are 32-bit numbers and keys have 32 bytes",
        ),
    ],
)
def test_damaged_files(tmp_path: pathlib.Path, name: str, content: bytes, problem: str) -> None:
    (place(tmp_path) / name).write_bytes(content)
    assert refusal(tmp_path) == [problem]


def test_key_ring_round_trip() -> None:
    ring = parse_ring(ring_text(((3, bytes(range(32))), (2, os.urandom(32)))))
    assert (ring.current, ring.ids) == (3, (2, 3))


def test_errors_never_show_a_key() -> None:
    with pytest.raises(ValueError, match="line 1") as bad:
        parse_ring(b"1 5ec4e7" + b"0" * 57 + b"\n")
    assert "5ec4e7" not in str(bad.value)
