"""The service's command, `truecld`. Told to stop while it still imports the daemons, it stops as soon as it can."""

import signal
import sys


def main() -> int:
    """Exit codes as `truecl.service.warm.main`."""
    # Unblocked by the warm parent once it can act on them: daemons of an earlier life may be running, and end with it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    from truecl.service.lean import spared

    with spared():
        from truecl.service import warm

    return warm.main()


if __name__ == "__main__":
    sys.exit(main())
