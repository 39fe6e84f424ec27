"""Is this a virtual machine? Then a watchdog's clock may stop with it, or go back with a snapshot."""

from pathlib import Path

_VENDORS = (
    "qemu", "kvm", "vmware", "virtualbox", "innotek", "bochs", "xen", "parallels", "bhyve", "virtual machine",
    "amazon ec2", "google compute engine", "openstack", "digitalocean", "hetzner", "nutanix", "ovirt", "rhev",
)  # fmt: skip
"""Of sys_vendor and product_name, lower case."""


def virtual(root: Path = Path("/")) -> str:
    """What says so: a CPU flag, or the firmware's words. '' : nothing does."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "vendor_id" and "User Mode Linux" in value:
            return "User Mode Linux"
        if key.strip() == "flags" and "hypervisor" in value.split():
            return _firmware(root) or "the CPU has the flag 'hypervisor'"
    firmware = _firmware(root)
    return firmware if any(vendor in firmware.lower() for vendor in _VENDORS) else _text(root / "sys/hypervisor/type")


def _firmware(root: Path) -> str:
    words = (_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name"))
    return " ".join(word for word in words if word)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
