"""The unit file: what SAFETY.md section 6 asks of systemd."""

from configparser import ConfigParser
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "conf" / "truecl.service"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("KillMode", "process"),  # what runs outlives the service, and is taken over
        ("RuntimeDirectoryPreserve", "yes"),  # by what is recorded there
        ("OOMPolicy", "continue"),
        ("Restart", "always"),
        ("LimitMEMLOCK", "infinity"),
    ],
)
def test_systemd_ends_nothing_by_itself_and_lets_hbd_lock_its_memory(setting: str, value: str) -> None:
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(UNIT.read_text())
    assert unit["Service"][setting] == value
