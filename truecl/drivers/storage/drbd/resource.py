"""The resource file that drbdadm reads, made from a Layout: text and back.

It lives in the run directory, which a reboot empties, and /etc/drbd.d/truecl.res includes it. So nothing that starts
DRBD at boot finds it, and a name of a device ('/dev/loop0') that meant something else before the boot is not believed.
(`drbdadm -c FILE` would do without, but not for the kernel, which calls drbdadm for the fence-peer handler by itself.)
"""

import ipaddress
from collections.abc import Mapping

import msgspec

from truecl.model.ids import NodeName
from truecl.model.replica import Layout, LayoutHost

MADE = "# made by truecl: changes are lost"
_LAYOUT = "# layout "
POLICY = "resource-and-stonith"
"""A primary that loses its peer stands still until the fence-peer handler has answered. Nothing less is accepted."""

# What a peer's death costs the primary: it notices after ping-int + ping-timeout at the latest.
PING_INTERVAL, PING_TIMEOUT, TIMEOUT, CONNECT_INTERVAL = 1, 5, 9, 1
"""Seconds, tenths of a second, tenths of a second, seconds. `timeout` has to be less than either interval."""

RATE, RATE_BESIDES, _KIB = 100 << 20, 10 << 20, 1024
"""Bytes a second of a resynchronisation: at most, where the configuration says nothing; and at least, beside a program
that writes (DRBD's default of 250 KiB leaves 100 GB without a second copy for five days)."""


def text(
    layout: Layout, me: NodeName, disks: Mapping[int, str], handler: str, version: tuple[int, int, int], hostname: str
) -> str:
    """`disks`: the path of what lies beneath each volume, by its number. `handler`: the command that the kernel has
    called. `hostname`: by which drbdadm knows this machine, whatever truecl calls it."""
    nine = version[0] >= 9
    fencing = f"fencing {POLICY};"
    volumes = "\n".join(
        f'        volume {volume.number} {{ device minor {volume.minor}; disk "{disks[volume.number]}";'
        " meta-disk internal; }"
        for volume in layout.volumes
    )
    hosts = "\n".join(
        _host(layout, number, host, hostname if host.node == me else host.node, volumes, nine)
        for number, host in enumerate(layout.hosts)
    )
    most = max(_KIB, layout.rate or RATE)
    least = min(most, RATE_BESIDES)
    rate = f"c-max-rate {most // _KIB}k; c-min-rate {least // _KIB}k; resync-rate {least // _KIB}k;"
    return f"""\
{MADE}
{_LAYOUT}{msgspec.json.encode(layout).decode()}
resource "{layout.resource}" {{
    options {{{" auto-promote no; quorum off;" if nine else ""} on-no-data-accessible io-error; }}
    net {{
        protocol C;{f" {fencing}" if nine else ""}
        ping-int {PING_INTERVAL}; ping-timeout {PING_TIMEOUT}; timeout {TIMEOUT}; connect-int {CONNECT_INTERVAL};
        after-sb-0pri disconnect; after-sb-1pri disconnect; after-sb-2pri disconnect;
        verify-alg crc32c;
    }}
    disk {{
        on-io-error detach;{"" if nine else f" {fencing}"}
        {rate}
    }}
    handlers {{
        fence-peer "{handler} fence-peer";
        split-brain "{handler} split-brain";
    }}
{hosts}
}}
"""


def _host(layout: Layout, number: int, host: LayoutHost, name: str, volumes: str, nine: bool) -> str:
    six = ipaddress.ip_address(host.address).version == 6
    address = f"ipv6 [{host.address}]" if six else f"ipv4 {host.address}"
    node = f" node-id {number};" if nine else ""
    return f'    on "{name}" {{\n        address {address}:{layout.port};{node}\n{volumes}\n    }}'


def layout_of(text: str) -> Layout | None:
    """What the file was made from; None for a file that truecl did not make."""
    for line in text.splitlines():
        if line.startswith(_LAYOUT):
            try:
                return msgspec.json.decode(line[len(_LAYOUT) :], type=Layout)
            except msgspec.MsgspecError:
                return None
    return None


def include(directory: str) -> str:
    """The file in /etc/drbd.d."""
    return f'{MADE}\ninclude "{directory}/*.res";\n'
