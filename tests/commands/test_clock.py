"""How fast chronyd may steer a clock, read as chronyd reads it."""

from pathlib import Path

import pytest

from truecl.commands.clock import CHRONY_DEFAULT, Steering, steering

DEBIAN = """\
# maxslewrate 1
! maxslewrate 2
confdir /etc/chrony/conf.d
sourcedir /run/chrony-dhcp
driftfile /var/lib/chrony/chrony.drift
makestep 1 3
"""


@pytest.mark.parametrize(
    ("files", "file", "allowed"),
    [
        ({}, "", 0.0),
        ({"chrony/chrony.conf": DEBIAN}, "/etc/chrony/chrony.conf", CHRONY_DEFAULT),
        ({"chrony.conf": "maxslewrate 500 # slow"}, "/etc/chrony.conf", 500.0),
        ({"chrony.conf": "MaxSlewRate 500\nmaxslewrate\nmaxslewrate much"}, "/etc/chrony.conf", 500.0),
        ({"chrony.conf": "maxslewrate 500\ninclude /etc/more*\n", "more1": "maxslewrate 7"}, "/etc/chrony.conf", 7.0),
        (
            {
                "chrony/chrony.conf": DEBIAN,
                "chrony/conf.d/a.conf": "maxslewrate 8",
                "chrony/conf.d/b.conf": "maxslewrate 9",
                "chrony/conf.d/c.conf~": "maxslewrate 10",
            },
            "/etc/chrony/chrony.conf",
            9.0,
        ),
        ({"chrony.conf": "include /etc/chrony.conf\nmaxslewrate 500"}, "/etc/chrony.conf", 500.0),
    ],
)
def test_chronyd(tmp_path: Path, files: dict[str, str], file: str, allowed: float) -> None:
    for name, text in files.items():
        (tmp_path / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "etc" / name).write_text(text)
    assert steering(tmp_path)[:2] == (file, allowed)


def test_this_machine_s_kernel_says_how_fast_its_clock_is_steered() -> None:
    assert isinstance(steering(Path("/nowhere")), Steering)
    assert abs(steering(Path("/nowhere")).now) < 150_000, "a tick is 9000 to 11000 microseconds, by adjtimex(2)"
