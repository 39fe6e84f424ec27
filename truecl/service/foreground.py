"""One daemon run by hand: `daemons/NAME --foreground`, with its log on standard error."""

import argparse
import os
from collections.abc import Sequence

from truecl.model.ids import DaemonName
from truecl.runtime.log import to_stderr
from truecl.runtime.paths import Paths
from truecl.runtime.process import Account, CannotStart, begin
from truecl.service.warm import Files, entry


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """The exit code. Where root starts it, it becomes user truecl as it would under the service."""
    parser = argparse.ArgumentParser(prog=name, description=f"{name} of truecl, run by hand; Ctrl-C ends it.")
    parser.add_argument("--foreground", action="store_true", required=True, help="stay, and log to standard error")
    parser.parse_args(arguments)
    paths = Paths.of_environment(os.environ)
    try:
        account = Account.of_system(os.environ.get("TRUECL_USER", "truecl")) if os.getuid() == 0 else None
        run = entry(DaemonName(name))
        run(begin(DaemonName(name), paths, Files(paths.etc).load(), account, foreground=True))
    except CannotStart as error:
        to_stderr(f"{name}: {error}\n".encode(errors="backslashreplace"))
        return error.code
    return 0
