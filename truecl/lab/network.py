"""The lab's network: one bridge per link in a namespace of its own, a port for each node and the client, and cuts.

Commands go to iproute2 in batches (a few milliseconds each; nothing of their output is parsed). A cut drops frames at a
port by a `u32` filter whose action redirects into a sink, an interface pair that leads nowhere: of all ways to drop,
this one needs the fewest kernel options (cls_u32, act_mirred). The carrier stays up, as behind a switch that fails;
`unplugged` takes it away, as a pulled cable does.
"""

import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from truecl.lab.errors import NetworkFailed
from truecl.lab.paths import CLIENT, Paths

CLIENT_INDEX = 200
ANY = "*"
SINK = "sink"
NSENTER, IP, TC = "nsenter", "ip", "tc"


@dataclass(frozen=True)
class Port:
    """A place at the switch: a node or the client, by its number."""

    name: str
    index: int

    def interface(self, link: int) -> str:
        """The switch's end of the cable; the node's end is `eth0` for link 1, `eth1` for link 2."""
        return f"p{self.index}.{link}"

    def mac(self, link: int) -> str:
        return f"02:77:{link:02x}:00:{self.index >> 8:02x}:{self.index & 255:02x}"

    def ipv4(self, link: int) -> str:
        return f"10.77.{link}.{self.index}"

    def ipv6(self, link: int) -> str:
        return f"fd77:{link}::{self.index}"


@dataclass(frozen=True)
class Cut:
    """Frames from `source` to `target` on a link that are lost; either may be ANY.

    `number` gives the filters' preference, unique in the lab. `by` says what put it there and takes it away.
    """

    number: int
    link: int
    source: str
    target: str
    by: str = "cut"
    unplugged: bool = False
    """The target's cable is out: no carrier. Source is ANY."""
    port: int = 0
    """Only frames from or to this TCP or UDP port, of IPv4; 0: all."""
    spared: int = 0
    """All but frames from or to this one, and ARP; 0: no such."""


def run_batch(program: str, lines: Iterable[str], *enter: str) -> None:
    """Feed `ip` or `tc` in the namespaces that `enter` (nsenter's options) names. Raises NetworkFailed."""
    text = "".join(f"{line}\n" for line in lines)
    if not text:
        return
    command = [NSENTER, *enter, program, "-batch", "-"]
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise NetworkFailed(f"{program}: {done.stderr.strip() or f'exit code {done.returncode}'}")


class Network:
    """Commands on the network of one lab. All raise NetworkFailed."""

    def __init__(self, paths: Paths, ports: tuple[Port, ...], links: int) -> None:
        self._paths = paths
        self._ports = {port.name: port for port in ports}
        self._links = range(1, links + 1)
        self._switch = f"--net={paths.switch_namespace}"

    def create(self) -> None:
        """The switch's and the client's namespaces, bridges, and the client at its place."""
        for path in (self._paths.switch_namespace, self._paths.client_namespace):
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).touch()
            subprocess.run(["unshare", f"--net={path}", "true"], check=True)
        lines = ["link set lo up", f"link add {SINK} type veth peer name {SINK}2"]
        lines += [f"link set {name} up addrgenmode none arp off" for name in (SINK, f"{SINK}2")]
        for link in self._links:
            options = "stp_state 0 forward_delay 0 mcast_snooping 0"
            lines += [f"link add br{link} type bridge {options}", f"link set br{link} up addrgenmode none"]
        run_batch(IP, lines, self._switch)
        self.connect(self._ports[CLIENT], self._paths.client_namespace, f"--net={self._paths.client_namespace}")

    def connect(self, port: Port, namespace: str, *enter: str) -> None:
        """Give a node (its new, empty namespace) a cable to every link, plugged in.

        `namespace` is what iproute2's `netns` takes: a process or a path; `enter` the options of nsenter for it.
        """
        ends = "link add {} type veth peer name eth{} address {} netns {}"
        cables = (ends.format(port.interface(link), link - 1, port.mac(link), namespace) for link in self._links)
        run_batch(IP, cables, self._switch)
        self.plug_in(port)
        run_batch(IP, self.inside(port), *enter)

    def plug_in(self, port: Port) -> None:
        """The switch's ends of a node's cables, which are there already."""
        names = [port.interface(link) for link in self._links]
        masters = (f"link set {port.interface(link)} addrgenmode none master br{link} up" for link in self._links)
        run_batch(IP, masters, self._switch)
        run_batch(TC, (f"qdisc add dev {name} clsact" for name in names), self._switch)

    def inside(self, port: Port) -> list[str]:
        """What `ip` does in the node itself, where its ends of the cables are eth0, eth1, …"""
        lines = ["link set lo up"]
        for link in self._links:
            eth = f"eth{link - 1}"
            lines += [
                f"link set {eth} up",
                f"addr add {port.ipv4(link)}/24 brd + dev {eth}",
                f"addr add {port.ipv6(link)}/64 dev {eth} nodad",
            ]
        return lines

    def disconnect(self, port: Port) -> None:
        """Remove what a dead node left at the switch; its namespace takes it away too, but in its own time."""
        interfaces = (port.interface(link) for link in self._links)
        lines = "".join(f"link delete {interface}\n" for interface in interfaces)
        command = [NSENTER, self._switch, IP, "-force", "-batch", "-"]
        subprocess.run(command, input=lines, text=True, capture_output=True, check=False)

    def apply(self, cuts: Collection[Cut], only: str = "") -> None:
        """Put cuts into force; with `only`, just those at this node's ports."""
        self._change(cuts, only, add=True)

    def lift(self, cuts: Collection[Cut]) -> None:
        """Take cuts away again."""
        self._change(cuts, "", add=False)

    def _interfaces(self) -> set[str]:
        """What is plugged in now."""
        command = [NSENTER, self._switch, "cat", "/proc/net/dev"]
        lines = subprocess.run(command, text=True, capture_output=True, check=True).stdout.splitlines()
        return {line.partition(":")[0].strip() for line in lines[2:]}

    def _change(self, cuts: Collection[Cut], only: str, add: bool) -> None:
        filters, cables = [], []
        present = self._interfaces() if cuts else set()
        for cut in cuts:
            place = cut.source if cut.target == ANY else cut.target
            interface = self._ports[place].interface(cut.link)
            if interface not in present or only not in ("", place):
                continue
            if cut.unplugged:
                cables.append(f"link set {interface} {'down' if add else 'up'}")
                continue
            side = "ingress" if cut.target == ANY else "egress"
            filters += self._filters(cut, f"dev {interface} {side}", add)
        run_batch(TC, filters, self._switch)
        run_batch(IP, cables, self._switch)

    def _filters(self, cut: Cut, place: str, add: bool) -> list[str]:
        """A filter for each kind of frame, in the order in which they are tried: those that spare, then the cut."""
        match, first = self._match(cut), 3 * cut.number
        kinds: dict[str, list[str]] = {}
        if cut.spared:
            kinds[f"arp pref {first}"] = [f"{match} {PASS}"]  # nobody is reached without it
            kinds[f"ip pref {first + 1}"] = [f"{match} {port} {PASS}" for port in _either(cut.spared)]
        if cut.port:
            kinds[f"ip pref {first + 2}"] = [f"{match} {port} {DROP}" for port in _either(cut.port)]
        else:
            kinds[f"all pref {first + 2}"] = [f"{match} {DROP}"]
        if not add:
            return [f"filter del {place} protocol {kind}" for kind in kinds]
        return [f"filter add {place} protocol {kind} u32 {rule}" for kind, rules in kinds.items() for rule in rules]

    def _match(self, cut: Cut) -> str:
        if ANY in (cut.source, cut.target):
            return "match u32 0 0"
        # Offsets count from the network header: the sender's address is 8 bytes before it.
        digits = self._ports[cut.source].mac(cut.link).replace(":", "")
        return f"match u32 0x{digits[:8]} 0xffffffff at -8 match u16 0x{digits[8:]} 0xffff at -4"


def _either(port: int) -> tuple[str, str]:
    """From it, or to it. IPv4 without options, as all here is."""
    return f"match u16 {port} 0xffff at 20", f"match u16 {port} 0xffff at 22"


PASS = "flowid 1:1"
"""A match that ends the search."""
DROP = f"action mirred egress redirect dev {SINK}"
