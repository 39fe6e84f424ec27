"""lha_init: asks `truecl.commands.init` for a cluster's credentials and first configuration."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from truecl.commands.bundle import Refused
from truecl.commands.init import Environment, Initialised, InitRequest, init, join, parse_nodes
from truecl.commands.machine import this_machine, user_id
from truecl.model.ids import LinkName, NodeName
from truecl.runtime.credentials import DIRECTORY

_EXAMPLES = """\
examples:
  lha_init --cluster demo --nodes n1=10.0.0.1+10.1.0.1,n2=10.0.0.2+10.1.0.2,n3=10.0.0.3+10.1.0.3
                                on the first node: makes the cluster's authority, keys and cluster.yaml, and a bundle
                                for each other node in /etc/truecl/bundles (secret: they hold those nodes' keys)
  scp -p /etc/truecl/bundles/n2.tar n2:/root/ && ssh n2 lha_init --join /root/n2.tar
  lha_check                     then, on every node
  lha_init --cluster demo --nodes ... --force
                                makes everything new; what was there is moved to /etc/truecl/old-DATE

exit codes: 0 done, 1 refused, 2 usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.join is None and (options.cluster is None or options.nodes is None):
        parser.error("expected --cluster and --nodes, or --join")
    if options.join is not None and (options.cluster or options.nodes or options.links or options.this):
        parser.error("--join takes everything from the bundle")
    os.umask(0o022)
    environment = Environment(options.directory, time.time(), user_id("truecl"))
    try:
        if options.join is not None:
            done = join(environment, options.join, force=options.force)
        else:
            done = init(environment, _request(options))
    except Refused as refused:
        for line in refused.problems:
            print(f"ERROR {line}", file=sys.stderr)
        return 1
    if options.json:
        print(msgspec.json.encode(done).decode())
    else:
        _print(done)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lha_init",
        description="Makes a cluster's keys and first configuration, or takes over those made for this node.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cluster", metavar="NAME", help="the cluster's name")
    parser.add_argument("--nodes", metavar="N=A+A,...", help="each node's name and its address on every link")
    parser.add_argument("--links", metavar="NAME,...", help="names of the links; default: lan, ring, link3 ...")
    parser.add_argument("--this", metavar="NODE", help="which of the nodes this is; default: whose address is here")
    parser.add_argument("--join", metavar="FILE", type=Path, help="unpack the bundle made for this node")
    parser.add_argument("--force", action="store_true", help="move what is there aside and go on")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _request(options: argparse.Namespace) -> InitRequest:
    nodes = parse_nodes(options.nodes)
    links = tuple(LinkName(each.strip()) for each in options.links.split(",")) if options.links else ()
    this = NodeName(options.this) if options.this else _this_of(nodes)
    return InitRequest(options.cluster, nodes, this, links, options.force)


def _this_of(nodes: tuple[tuple[NodeName, tuple[str, ...]], ...]) -> NodeName:
    """The one node that has an address of this machine. Raises Refused."""
    here = [str(each.ip) for each in this_machine().interfaces()]
    mine = [name for name, addresses in nodes if any(address in here for address in addresses)]
    if len(mine) != 1:
        what = "addresses of several nodes are" if mine else "none of the nodes' addresses is"
        raise Refused(f"{what} on this machine; --this says which node it is")
    return mine[0]


def _print(done: Initialised) -> None:
    print(f"This is node {done.node} of cluster {done.cluster}; its files are in {done.directory}.")
    if done.saved:
        print(f"What was there is in {done.saved}.")
    for node, path in done.bundles.items():
        print(f"For node {node}: {path}; there: lha_init --join {Path(path).name}")
    print("Next: look at cluster.yaml, then `lha_check`.")
