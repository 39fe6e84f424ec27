"""Reading /proc/PID/mountinfo."""

from hypothesis import given
from hypothesis import strategies as st

from truecl.drivers.holders import Mount, mounts, unescape

GOLDEN = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resuid=65534
31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - tmpfs tmpfs rw,mode=755
36 35 98:0 /mnt1 /srv/a\\040b ro,noatime master:1 propagate_from:2 - xfs /dev/loop3 rw,attr2
40 35 0:44 / /net rw - nfs4 server:/x\\134y rw,vers=4.2
nonsense
50 27 7:1 / /odd rw - fuse
"""


def test_golden() -> None:
    found = mounts(GOLDEN)
    assert [(mount.point, mount.device, mount.type, mount.source) for mount in found] == [
        ("/", "254:0", "ext4", "/dev/vda"),
        ("/sys/fs/cgroup", "0:28", "tmpfs", "tmpfs"),
        ("/srv/a b", "98:0", "xfs", "/dev/loop3"),
        ("/net", "0:44", "nfs4", "server:/x\\y"),
    ]
    assert found[2] == Mount(
        36, 35, "98:0", "/mnt1", "/srv/a b", ("ro", "noatime"), "xfs", "/dev/loop3", ("rw", "attr2")
    )
    assert [mount.read_only for mount in found] == [False, False, True, False]


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_escapes_are_undone(text: str) -> None:
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in text)
    assert unescape(escaped) == text


@given(st.text())
def test_anything_can_be_read(text: str) -> None:
    mounts(text)
