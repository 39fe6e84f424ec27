"""The watchdog's calls, against a device that behaves as the kernel's (the real one: docs/safety.md)."""

import errno
import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from realhost import RealHost

from truecl.drivers.contract import StepFailed
from truecl.drivers.watchdog import api
from truecl.drivers.watchdog.driver import WatchdogDriver
from truecl.drivers.watchdog.virtual import virtual

DEVICE = "/dev/watchdog"
CAN = api.HAS_SETTIMEOUT | api.HAS_MAGICCLOSE


class Device:
    """`Calls` on one device. `step`: it takes only multiples of so many seconds."""

    def __init__(self, options: int = CAN, timeout: int = 60, most: int = 600) -> None:
        self.options, self.timeout, self.most = options, timeout, most
        self.log: list[str] = []
        self.fails: dict[str, int] = {}

    def _call(self, name: str) -> None:
        self.log.append(name)
        if name in self.fails:
            raise OSError(self.fails[name], os.strerror(self.fails[name]))

    def open(self, path: str) -> int:
        self._call("open")
        return 7

    def ioctl(self, descriptor: int, request: int, buffer: bytearray) -> None:
        assert descriptor == 7
        match request:
            case api.GETSUPPORT:
                self._call("support")
                buffer[:] = struct.pack("=II32s", self.options, 1, b"iTCO_wdt")
            case api.GETTIMEOUT:
                self._call("timeout")
                buffer[:] = struct.pack("=i", self.timeout)
            case api.SETTIMEOUT:
                self._call("set")
                self.timeout = min(struct.unpack("=i", buffer)[0], self.most)
            case api.KEEPALIVE:
                self._call("feed")

    def write(self, descriptor: int, data: bytes) -> None:
        self._call(data.decode())

    def close(self, descriptor: int) -> None:
        self._call("close")


def test_it_is_opened_set_and_asked_what_it_took() -> None:
    device = Device(most=8)
    armed = WatchdogDriver(device, "").arm(DEVICE, 10, False)
    assert (armed.identity, armed.timeout, armed.virtual) == ("iTCO_wdt", 8.0, "")
    assert device.log == ["open", "support", "timeout", "set", "timeout"]


def test_a_timeout_that_it_has_already_is_not_set_again_for_that_feeds_it() -> None:
    device = Device(timeout=10)
    WatchdogDriver(device, "").arm(DEVICE, 10, True)
    assert "set" not in device.log


def test_only_the_magic_character_stops_it() -> None:
    device = Device()
    driver = WatchdogDriver(device, "")
    driver.arm(DEVICE, 10, False)
    driver.feed()
    driver.disarm()
    assert device.log[-3:] == ["feed", "V", "close"]
    driver.disarm()
    assert device.log[-1] == "close" and device.log.count("close") == 1


def test_a_device_that_would_stop_with_the_death_of_its_feeder_is_refused() -> None:
    device = Device(options=api.HAS_SETTIMEOUT)
    with pytest.raises(StepFailed, match="would stop when reqd dies"):
        WatchdogDriver(device, "").arm(DEVICE, 10, False)
    assert device.log[-1] == "close"


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOENT, "load its module"), (errno.EBUSY, "another program has it open")]
)
def test_why_it_cannot_be_opened_is_said_with_what_helps(number: int, says: str) -> None:
    device = Device()
    device.fails = {"open": number}
    with pytest.raises(StepFailed, match=says):
        WatchdogDriver(device, "").arm(DEVICE, 10, False)
    assert device.log == ["open"]


def test_what_an_earlier_life_armed_stays_armed_when_something_goes_wrong() -> None:
    device = Device()
    device.fails = {"timeout": errno.EIO}
    with pytest.raises(StepFailed):
        WatchdogDriver(device, "").arm(DEVICE, 10, True)
    assert "V" not in device.log and device.log[-1] == "close"
    device.log.clear()
    with pytest.raises(StepFailed):
        WatchdogDriver(device, "").arm(DEVICE, 10, False)
    assert device.log[-2:] == ["V", "close"]


def test_a_plain_file_is_no_watchdog(tmp_path: Path) -> None:
    (tmp_path / "watchdog").touch()
    with pytest.raises(StepFailed, match="it is no watchdog"):
        WatchdogDriver(api.KernelCalls(), "").arm(str(tmp_path / "watchdog"), 10, False)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"proc/cpuinfo": "flags\t\t: fpu sse\n", "sys/class/dmi/id/sys_vendor": "Dell Inc."}, ""),
        ({"proc/cpuinfo": "flags\t\t: fpu hypervisor\n"}, "the CPU has the flag 'hypervisor'"),
        ({"proc/cpuinfo": "Features\t: fp\n", "sys/class/dmi/id/sys_vendor": "QEMU"}, "QEMU"),
        ({"proc/cpuinfo": "vendor_id\t: User Mode Linux\n"}, "User Mode Linux"),
        ({}, ""),
    ],
)
def test_a_virtual_machine_is_known_by_its_cpu_or_its_firmware(
    tmp_path: Path, files: dict[str, str], says: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert virtual(tmp_path) == says


class RealDescriptor(Device):
    """Opened as the kernel's would be."""

    def open(self, path: str) -> int:
        self.descriptor = api.KernelCalls().open(path)
        return self.descriptor

    def ioctl(self, descriptor: int, request: int, buffer: bytearray) -> None:
        assert descriptor == self.descriptor
        super().ioctl(7, request, buffer)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)


def _held(pid: str = "self") -> set[str]:
    """What a process has open."""
    links = Path(f"/proc/{pid}/fd")
    found = set()
    for each in links.iterdir():
        with suppress(OSError):
            found.add(str(each.readlink()))
    return found


def test_no_child_of_reqd_holds_its_descriptor(real: RealHost, tmp_path: Path) -> None:
    """Whichever way it is started: fork ignores close-on-exec, and a child may hang for longer than reqd lives."""
    device = tmp_path / "watchdog"
    device.touch()
    driver = WatchdogDriver(RealDescriptor(), "")
    driver.arm(str(device), 60, False)
    assert str(device) in _held(), "else this proves nothing"
    listing = ("/bin/sh", "-c", "readlink /proc/$$/fd/*")
    forked = real.do(real.runner.call("look", lambda: " ".join(_held()).encode(), timeout=5)).decode()
    plain = real.do(real.runner.run(listing, timeout=5, cwd=str(Path.cwd()))).stdout.decode()
    prepared = real.do(real.runner.run(listing, timeout=5, cwd=str(tmp_path))).stdout.decode()
    for way, seen in (("forked", forked), ("spawned", plain), ("spawned through a shell", prepared)):
        assert "pipe:" in seen and str(device) not in seen, way
    driver.disarm()
