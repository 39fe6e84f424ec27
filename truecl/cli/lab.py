"""lha_lab: arguments, and what its verbs print."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from truecl.cli.table import table
from truecl.lab import demo, sample
from truecl.lab.cluster import Lab, NodeStatus
from truecl.lab.errors import LabError, NoLab
from truecl.lab.machine import check_machine
from truecl.lab.probing import ProbeResult
from truecl.lab.vm.packages import CACHE

DONE, FAILED, USAGE, NO_LAB = 0, 1, 2, 3
EXAMPLES = """\
examples:
  lha_lab up -n 4                       four nodes n1 to n4, two links, truecl on each
  lha_lab exec n1 -- lha_form           a command on a node; `exec client` stands with the users
  lha_lab probe 10.77.1.100:80 --for 20s
                                        what a client sees, while in another shell:
  lha_lab kill n1                       the node's power fails
  lha_lab boot n1
  lha_lab cut n2 --link 1               one link of a node fails
  lha_lab cut n2 --from n3 --one-way    n2 hears no more of n3, n3 still hears n2
  lha_lab heal
  lha_lab add-node n5                   a machine more, for lha_node add
  lha_lab down                          everything is gone
  lha_lab up --vm -n 3                  three nodes with Linux kernels of their own: LVM, DRBD, a watchdog
"""


def duration(text: str) -> float:
    """Seconds out of 500ms, 20s, 2m, 1h or a plain number of seconds. Raises ArgumentTypeError."""
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)):
        if text.endswith(unit):
            try:
                value = float(text[: len(text) - len(unit)]) * factor
            except ValueError:
                break
            if 0 < value < 1e6:
                return value
            break
    raise argparse.ArgumentTypeError(f"'{text}' is no duration: 500ms, 20s, 2m")


def link(text: str) -> int:
    """1 out of 1, link1 or eth0."""
    digits = text.removeprefix("link").removeprefix("eth")
    if not digits.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is no link: 1, 2, … or link1, link2, …")
    return int(digits) + (1 if text.startswith("eth") else 0)


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="lha_lab", description="A cluster on one machine, to try truecl and to test it.", epilog=EXAMPLES,
        formatter_class=raw,
    )  # fmt: skip
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="lab", help="which lab, if there are several (default: lab)")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, parents=[common], help=text, description=text)
        added.set_defaults(run=run)
        return added

    up = verb("up", "make a lab and boot its nodes", run_up)
    up.add_argument("-n", "--nodes", type=int, default=4, metavar="N", help="how many nodes (default: 4)")
    up.add_argument("--names", default="", metavar="A,B,C", help="their names (default: n1, n2, …)")
    up.add_argument("--links", type=int, default=2, metavar="N", help="networks between them (default: 2)")
    up.add_argument("--witness", action="store_true", help="one more node, 'witness', that only votes")
    up.add_argument("--bare", action="store_true", help="boot the nodes without truecl's service")
    up.add_argument(
        "--vm", action="store_true", help="with kernels of their own (user-mode Linux): LVM, DRBD, a watchdog"
    )
    up.add_argument("--application", action="store_true", help="with the demo's application, 'web', on all nodes")
    up.add_argument("--shared", default="", metavar="DIR", help="directory that the nodes see as /shared")
    more = verb(
        "add-node", "add a machine, without a configuration: lha_node add and lha_init --join give it one", run_add
    )
    more.add_argument("node", help="its name")
    execute = verb("exec", "run a command on a node, or on 'client'", run_exec)
    execute.add_argument("node")
    execute.usage = "lha_lab exec [--name NAME] NODE [-- CMD ...]   (default: a shell)"
    for name, text, run in (
        ("kill", "cut a node's power: what it had not synced is lost", run_kill),
        ("boot", "switch a node on", run_boot),
        ("resume", "let a paused node run on", run_resume),
    ):
        verb(name, text, run).add_argument("node", nargs="+")
    pause = verb("pause", "stop a node's processes where they are; its kernel still answers the network", run_pause)
    pause.add_argument("node", nargs="+")
    pause.add_argument("--silent", action="store_true", help="its kernel answers no more either, as a stopped VM")
    cut = verb("cut", "lose a node's frames (the carrier stays, as behind a failed switch)", run_cut)
    cut.add_argument("node")
    cut.add_argument("--link", type=link, default=0, help="on this link only")
    cut.add_argument("--from", dest="source", default="", metavar="NODE", help="only between these two")
    cut.add_argument("--one-way", action="store_true", help="only what NODE would receive")
    cut.add_argument("--unplug", action="store_true", help="pull the cable: the carrier goes too")
    cut.add_argument("--port", type=int, default=0, metavar="PORT", help="only what comes from or goes to this port")
    cut.add_argument("--but-port", type=int, default=0, metavar="PORT", help="all but that")
    verb("heal", "take cuts away: all, or a node's", run_heal).add_argument("node", nargs="?", default="")
    power = verb("power", "how the power switch (the fence device) treats a node", run_power)
    power.add_argument("node")
    mode = power.add_mutually_exclusive_group(required=True)
    mode.add_argument("--slow", type=duration, metavar="TIME", help="obeys after this time")
    mode.add_argument("--refuse", action="store_true", help="does not obey")
    mode.add_argument("--ok", action="store_true", help="obeys at once")
    _probe_options(verb("probe", "ask an application every 5 ms from the client's place", run_probe))
    told = verb("demo", "watch truecl do its whole job, in a lab of its own", run_demo)
    told.add_argument("--vm", action="store_true", help="on kernels of their own")
    measure = verb("bench", "measure times, memory and processor time, in labs of its own", run_bench)
    measure.add_argument("--only", default="", metavar="NAME,...", help="these only (default: all but load)")
    measure.add_argument("--runs", type=int, default=5, metavar="N", help="of each (default: 5)")
    measure.add_argument("--json", dest="keep", default="bench/latest.json", metavar="FILE", help="where they are kept")
    faults = verb("faults", "a campaign of random faults, watched from outside, in labs of its own", run_faults)
    faults.add_argument("--seed", type=int, default=1, help="the same seed draws the same faults (default: 1)")
    faults.add_argument("--vm", action="store_true", help="on two kernels, with a database on a replicated volume")
    faults.add_argument("--rounds", type=int, default=0, metavar="N", help="how many (default: 200; with --vm: 20)")
    faults.add_argument("--round", type=int, metavar="NUMBER", help="this one alone, as an earlier campaign drew it")
    faults.add_argument("--nodes", default="2,2+witness,3,5", metavar="N,...", help="default: 2,2+witness,3,5")
    faults.add_argument("--kinds", default="", metavar="KIND,...", help="these only: 'power cut,pause' (default: all)")
    faults.add_argument("--profile", default="normal", choices=("normal", "fast"), help="default: normal")
    faults.add_argument("--json", dest="keep", default="", metavar="FILE", help="where it is kept (default: in bench/)")
    verb("list", "the labs, or the nodes of one", run_list).add_argument("--json", action="store_true")
    verb("down", "remove the lab: nothing stays", run_down)
    return top


def _probe_options(probe: argparse.ArgumentParser) -> None:
    probe.add_argument("target", metavar="ADDRESS:PORT")
    probe.add_argument("--for", dest="seconds", type=duration, default=10.0, metavar="TIME", help="default: 10s")
    probe.add_argument("--path", default="/", help="path of the HTTP request (default: /)")
    probe.add_argument("--send", help="send this text instead of an HTTP request")
    probe.add_argument("--expect", default="", metavar="REGEX", help="count only answers that contain this")
    probe.add_argument("--gap", type=duration, default=0.05, metavar="TIME", help="silence that counts (default: 50ms)")
    probe.add_argument("--json", action="store_true")


def run_demo(given: argparse.Namespace) -> int:
    announce_packages(given.vm)
    demo.demo(given.name if given.name != "lab" else "demo", given.vm)
    return DONE


def run_bench(given: argparse.Namespace) -> int:
    from truecl.lab.bench.run import bench  # brings what no other verb needs

    only = [name for name in given.only.split(",") if name]
    bench(only, max(1, given.runs), Path(given.keep), given.name if given.name != "lab" else "bench")
    return DONE


def run_faults(given: argparse.Namespace) -> int:
    from truecl.lab.faults.round import Violation
    from truecl.lab.faults.run import Campaign  # brings what no other verb needs
    from truecl.lab.replicated.campaign import Campaign as KernelCampaign

    announce_packages(given.vm)
    rounds = range(given.rounds or (20 if given.vm else 200)) if given.round is None else (given.round,)
    name = given.name if given.name != "lab" else "faults"
    keep = Path(given.keep or ("bench/faults-vm.json" if given.vm else "bench/faults.json"))
    kinds = {"kinds": tuple(kind.strip() for kind in given.kinds.split(","))} if given.kinds else {}
    try:
        if given.vm:
            KernelCampaign(given.seed, rounds, keep, name, **kinds).play()
        else:
            Campaign(given.seed, rounds, given.nodes.split(","), keep, name, given.profile, **kinds).play()
    except Violation as broken:
        print(f"lha_lab: a promise was broken: {broken}", file=sys.stderr)
        return FAILED
    return DONE


def run_up(given: argparse.Namespace) -> int:
    announce_packages(given.vm)
    names = [name for name in given.names.split(",") if name]
    lab = Lab.up(
        given.nodes, name=given.name, names=names, links=given.links, witness=given.witness, bare=given.bare,
        shared=given.shared, vm=given.vm, provide=sample.provide if given.application else None,
    )  # fmt: skip
    print_nodes(lab.status())
    return DONE


def run_add(given: argparse.Namespace) -> int:
    node = Lab.open(given.name).add_node(given.node)
    print(f"{node.name}  on, " + " ".join(f"{link}={address}" for link, address in node.addresses.items()))
    return DONE


def announce_packages(vm: bool) -> None:
    """The first lab of kernels waits for a download."""
    if vm and not CACHE.exists():
        print(f"fetching the kernel and its tools into {CACHE}, once", file=sys.stderr, flush=True)


def run_exec(given: argparse.Namespace) -> int:
    return Lab.open(given.name).enter(given.node, given.command or ["/bin/sh"])


def run_kill(given: argparse.Namespace) -> int:
    return for_each(given, Lab.kill, "off")


def run_boot(given: argparse.Namespace) -> int:
    return for_each(given, Lab.boot, "on")


def run_resume(given: argparse.Namespace) -> int:
    return for_each(given, Lab.resume, "on")


def run_pause(given: argparse.Namespace) -> int:
    return for_each(given, lambda lab, node: lab.pause(node, given.silent), "paused")


def for_each(given: argparse.Namespace, act: Callable[[Lab, str], None], state: str) -> int:
    lab = Lab.open(given.name)
    for node in given.node:
        act(lab, node)
        print(f"{node}  {state}")
    return DONE


def run_cut(given: argparse.Namespace) -> int:
    lab = Lab.open(given.name)
    lab.cut(
        given.node, link=given.link, source=given.source, one_way=given.one_way, unplug=given.unplug, port=given.port,
        spared=given.but_port,
    )  # fmt: skip
    where = f"link {given.link}" if given.link else "all links"
    whom = f" from {given.source}" if given.source else ""
    how = ", unplugged" if given.unplug else ", one way" if given.one_way else ""
    how += f", port {given.port}" if given.port else f", all but port {given.but_port}" if given.but_port else ""
    print(f"{given.node}  cut{whom} on {where}{how}")
    return DONE


def run_heal(given: argparse.Namespace) -> int:
    count = Lab.open(given.name).heal(given.node)
    print(f"{count} cuts healed" if count else "nothing was cut")
    return DONE


def run_power(given: argparse.Namespace) -> int:
    mode = f"slow {given.slow:g}" if given.slow else "refuse" if given.refuse else "ok"
    Lab.open(given.name).power(given.node, mode)
    print(f"{given.node}  power switch: {mode}")
    return DONE


def run_probe(given: argparse.Namespace) -> int:
    options = {name: getattr(given, name) for name in ("seconds", "path", "send", "expect", "gap")}
    with Lab.open(given.name).probe(given.target, **options) as probing:
        try:
            result = probing.wait()
        except KeyboardInterrupt:
            probing.stop()
            result = probing.result
    if given.json:
        print(json.dumps(asdict(result), indent=1))
    else:
        print_probe(given.target, result)
    return DONE if result.answers else FAILED


def run_list(given: argparse.Namespace) -> int:
    names = Lab.names()
    if given.name != "lab" or given.name in names or not names:
        lab = Lab.open(given.name)
        if given.json:
            nodes = [asdict(status) for status in lab.status()]
            print(json.dumps({"lab": given.name, "kind": lab.description.kind, "nodes": nodes}, indent=1))
        else:
            print_nodes(lab.status())
        return DONE
    print(json.dumps({"labs": names}) if given.json else "labs: " + ", ".join(names))
    return DONE


def run_down(given: argparse.Namespace) -> int:
    print(f"lab '{given.name}' is gone" if Lab.down(given.name) else f"there was no lab '{given.name}'")
    return DONE


def print_nodes(nodes: Sequence[NodeStatus]) -> None:
    rows = [["NODE", "STATE", "PID", "BOOTS", "ADDRESSES", "POWER SWITCH", "CUT"]]
    for node in nodes:
        name = f"{node.name} (witness)" if node.witness and node.name != "witness" else node.name
        addresses, cuts = " ".join(node.addresses), ", ".join(node.cuts)
        rows.append([name, node.state, str(node.pid or "-"), str(node.boots), addresses, node.power, cuts or "-"])
    print_table(rows)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    print(table(rows[0], rows[1:]))


def print_probe(target: str, result: ProbeResult) -> None:
    print(f"{target}  {result.answers} answers to {result.tries} tries in {result.seconds:.1f} s")
    if not result.answers:
        print("the application never answered")
        return
    print(f"longest outage  {result.longest * 1000:.0f} ms")
    print(f"outages         {len(result.outages)}")
    for outage in result.outages:
        print(f"  at {outage.at:8.3f} s  {outage.length * 1000:.0f} ms")
    print("answered by     " + ", ".join(f"{node} {count}" for node, count in result.nodes.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    own = words.index("--") if "--" in words else len(words)
    given = parser().parse_args(words[:own])
    given.command = words[own + 1 :]
    if given.command and given.verb != "exec":
        parser().error(f"lha_lab {given.verb} takes no command after --")
    try:
        check_machine()
        return int(given.run(given))
    except NoLab as problem:
        print(f"lha_lab: {problem}", file=sys.stderr)
        return NO_LAB
    except (LabError, OSError) as problem:
        print(f"lha_lab: {problem}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
