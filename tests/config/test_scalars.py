import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truecl.config import scalars
from truecl.config.law import shown
from truecl.config.scalars import Unfit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("5s", 5), ("2m", 120), ("1h", 3600), ("1.5s", 1.5), ("0.5 s", 0.5), ("24h", 86400)],
)
def test_duration(text: str, seconds: float) -> None:
    assert scalars.duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "0s", "-1s", "25h", "5 minutes", "1e3s", "5S", "s", "", "nan s", "٥s", "5s\n"])
def test_no_duration(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("90m", 5400), ("12h", 43200), ("7d", 604800), ("4w", 2419200), ("1.5 d", 129600)],
)
def test_period(text: str, seconds: float) -> None:
    assert scalars.period(text) == seconds


@pytest.mark.parametrize("text", ["7", "0d", "9s", "53w", "-1d", "100ms", "weekly", "7 days", "7d\n", "٧d", ""])
def test_no_period(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.period(text)


def test_hours() -> None:
    assert scalars.hours("01:00-05:00") == (60, 300)
    assert scalars.hours("22:30 - 4:00") == (1350, 240), "over midnight"


@pytest.mark.parametrize("text", ["1-5", "01:00", "24:00-05:00", "01:60-05:00", "01:00-01:00", "01:00-05:00\n", ""])
def test_no_hours(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.hours(text)


def test_bare_number_is_answered_with_the_unit() -> None:
    with pytest.raises(Unfit) as refused:
        scalars.duration("5")
    assert (refused.value.what, refused.value.expected) == (
        "'5' has no unit",
        "expected a unit: 5s for seconds, or 5ms, 5m",
    )


@given(st.integers(1, 86_400_000))
def test_shown_durations_read_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert math.isclose(scalars.duration(shown(seconds)), seconds, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("10.0.0.1", "10.0.0.1"), ("FD00:0::0:1", "fd00::1"), ("2001:db8::1", "2001:db8::1"), ("127.0.0.1", "127.0.0.1")],
)
def test_address(text: str, canonical: str) -> None:
    assert scalars.ip_address(text) == canonical


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1/24", "n1", "10.0.0", "010.0.0.1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1", "fe80::1%eth0",
     "::ffff:10.0.0.1", "255.255.255.255", "", "1"],
)  # fmt: skip
def test_no_address(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.ip_address(text)


def test_floating_address_is_no_loopback() -> None:
    with pytest.raises(Unfit):
        scalars.floating_address("127.0.0.1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("128M", 128 << 20), ("128MiB", 128 << 20), ("1.5G", 3 << 29), ("2 T", 2 << 40), ("1K", 1024), ("0.7K", 1024)],
)
def test_size(text: str, expected: int) -> None:
    assert scalars.size(text) == expected


@pytest.mark.parametrize("text", ["", "128", "0M", "-1G", "1P", "128m", "1e3M", "99999999T", "1,5G"])
def test_no_size(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.size(text)


@pytest.mark.parametrize("text", ["vg0", "a+b", "data.1", "_x", "A-b"])
def test_names_of_lvm(text: str) -> None:
    assert scalars.volume_group(text) == scalars.logical_volume(text) == text


@pytest.mark.parametrize(
    "text", ["", "-a", ".", "..", "a/b", "a b", "ä", "pvmove0", "snapshot", "x_rimage_0", "a" * 65]
)
def test_no_logical_volume(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.logical_volume(text)


@pytest.mark.parametrize(
    "text", ["/dev/sdb", "/dev/disk/by-id/wwn-0x5000", "/dev/disk/by-path/pci-0000:00:1f.2-ata-1", "/dev/mapper/a--b-c"]
)
def test_block_device(text: str) -> None:
    assert scalars.block_device(text) == text


@pytest.mark.parametrize("text", ["", "sdb", "/dev", "/dev/", "/dev/../etc/passwd", "/srv/x", "/dev/a b", "/dev//sdb"])
def test_no_block_device(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.block_device(text)


@pytest.mark.parametrize("text", ["n1", "a", "node-7", "1", "a" * 63])
def test_node_name(text: str) -> None:
    assert scalars.node_name(text) == text


@pytest.mark.parametrize("text", ["", "N1", "-n", "n-", "n_1", "n1.example", "a" * 64, "n1\n", "ñ", "../n1"])
def test_no_node_name(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.node_name(text)


@pytest.mark.parametrize(("text", "expected"), [("//srv//web/", "/srv/web"), ("/srv/./web", "/srv/web")])
def test_mount_point_is_one_spelling(text: str, expected: str) -> None:
    assert scalars.mount_point(text) == expected


@pytest.mark.parametrize(
    "text", ["/", "//", "/usr/", "/var/lib", "srv", "/srv/../etc", "/proc/x", "/etc/truecl", "/run/truecl/x", "/a\nb"]
)
def test_no_mount_point(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.mount_point(text)


def test_words() -> None:
    assert scalars.words("/bin/x -a 'b c' \"d\"") == ("/bin/x", "-a", "b c", "d")


@pytest.mark.parametrize("text", ["/bin/a | /bin/b", "/bin/a && /bin/b", "/bin/a > /tmp/x", "/bin/a 'b", "/bin/a &"])
def test_shell_is_refused(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.words(text)


@pytest.mark.parametrize("arguments", [(), ("python3",), ("./x",), ("/bin/x", "\0"), ("/bin/",)])
def test_no_command(arguments: tuple[str, ...]) -> None:
    with pytest.raises(Unfit):
        scalars.command(arguments)


@pytest.mark.parametrize("text", ["remount", "bind", "loop", "a b", "noatime,ro", "-o", ""])
def test_no_mount_option(text: str) -> None:
    with pytest.raises(Unfit):
        scalars.mount_option(text)


@given(st.text(max_size=200))
def test_converters_only_ever_say_unfit(text: str) -> None:
    for convert in (
        scalars.duration, scalars.integer, scalars.boolean, scalars.node_name, scalars.name, scalars.ip_address,
        scalars.floating_address, scalars.interface, scalars.path, scalars.file_path, scalars.mount_point, scalars.user,
        scalars.variable, scalars.mount_option, scalars.agent, scalars.words, scalars.port,
        scalars.size, scalars.volume_group, scalars.logical_volume, scalars.block_device,
    ):  # fmt: skip
        try:
            convert(text)
        except Unfit as unfit:
            assert unfit.expected
