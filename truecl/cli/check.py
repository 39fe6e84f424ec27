"""lha_check: prints what `truecl.commands.check` finds."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from truecl.commands.check import Checked, Environment, check
from truecl.commands.machine import this_machine
from truecl.model.report import Severity
from truecl.runtime.credentials import DIRECTORY

_EXAMPLES = """\
examples:
  lha_check                     what is wrong with /etc/truecl on this node
  lha_check conf                the same of another directory, before it is installed
  lha_check -q && lha_form      nothing but problems, then form the cluster
  lha_check --json | jq .ok

exit codes: 0 no errors (there may be warnings), 1 errors, 2 usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="lha_check",
        description="Tells every problem of a configuration at once, each with file and line.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", nargs="?", type=Path, default=DIRECTORY, help="default: %(default)s")
    parser.add_argument("-q", "--quiet", action="store_true", help="no warnings, no summary")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    checked = check(Environment(options.directory, time.time(), this_machine()))
    if options.json:
        print(msgspec.json.encode(msgspec.structs.asdict(checked) | {"ok": checked.ok}).decode())
    else:
        _print(checked, quiet=options.quiet)
    return 0 if checked.ok else 1


def _print(checked: Checked, quiet: bool) -> None:
    for finding in checked.findings:
        if finding.severity is Severity.ERROR:
            print(f"ERROR {finding.text}", file=sys.stderr)
        elif not quiet:
            print(f"WARN  {finding.text}")
    if quiet:
        return
    errors = sum(finding.severity is Severity.ERROR for finding in checked.findings)
    warnings = len(checked.findings) - errors
    what = f"cluster {checked.cluster}, {checked.nodes} nodes, {checked.apps} applications: " if checked.cluster else ""
    who = f"this is node {checked.node}; " if checked.node else ""
    print(f"{checked.directory}: {what}{who}{errors} errors, {warnings} warnings")
