"""What DRBD calls when a primary lost its peer, or is to be made without it: may it go on?

The kernel starts it through drbdadm, as root and with little in its environment, and takes its exit code for the
answer (SAFETY.md section 5):

    4, 7    the log calls the peer's copy outdated (7: and its node was switched off): go on
    6       at a promotion: this copy is the outdated one
    1       no word of that: a primary stays frozen, a promotion is refused

Never 3 or 5, which would say that the peer itself was asked. A promotion is answered once, a primary that lost its peer
is kept frozen until there is an answer or it is stopped. Whatever the answer, it holds only if the token (which
instance, until when) still stands at the very end.

Plain Python, quick to import; it runs no tool of DRBD, whose resource is locked meanwhile.
"""

import os
import sys
import syslog
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from truecl.drivers.storage.drbd import token
from truecl.drivers.storage.drbd.token import Token, boottime
from truecl.model.ids import CLUSTERD
from truecl.runtime.client import RUN, Conversation, NoAnswer, NoDaemon, NotAllowed

GO_ON = (4, 7)
OUTDATED_HERE = 6
NO = 1
_AGAIN = 0.5
"""Seconds between two questions, and between two looks at the token while one waits for its answer."""


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    resource = os.environ.get("DRBD_RESOURCE", "")
    run = Path(os.environ.get("TRUECL_RUN", RUN))
    if words == ["split-brain"] and resource:
        return split_brain(run, resource)
    if words != ["fence-peer"] or not resource:
        print("lha_fence_peer: DRBD calls this itself, with DRBD_RESOURCE set", file=sys.stderr)
        return NO
    syslog.openlog("lha_fence_peer", syslog.LOG_PID, syslog.LOG_DAEMON)
    code, why = judge(run, resource)
    syslog.syslog(syslog.LOG_NOTICE, f"{resource}: answers {code}: {why}")
    return code


def split_brain(run: Path, resource: str) -> int:
    """Note it for the driver to report."""
    path = token.split_path(run, resource)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch()
    return 0


def judge(run: Path, resource: str, now: Callable[[], float] = boottime) -> tuple[int, str]:
    """The exit code, and why."""
    began = token.read(run, resource)
    if began is None or not began.stands(now()):
        return NO, "no instance is primary here, or is being made so"
    code, why = NO, ""
    while _same(run, resource, began, now()):
        code, why = _asked(run, resource, began, now)
        promoting = _promoting(run, resource)
        if code in GO_ON or promoting:
            break
        code = NO
        time.sleep(_AGAIN)
    # The last thing before the answer: what was given up meanwhile must not succeed.
    if not _same(run, resource, began, now()):
        return NO, "it was given up meanwhile"
    return code, why


def _same(run: Path, resource: str, began: Token, now: float) -> bool:
    there = token.read(run, resource)
    return there is not None and there.generation == began.generation and there.stands(now)


def _promoting(run: Path, resource: str) -> bool:
    there = token.read(run, resource)
    return there is None or there.until is not None


def _asked(run: Path, resource: str, began: Token, now: Callable[[], float]) -> tuple[int, str]:
    """clusterd's answer, or 1 and why there is none."""
    name = f"fence-peer-{os.getpid()}"
    id = f"{resource}-{os.getpid()}-{now():.3f}"
    try:
        with Conversation(CLUSTERD, name, run) as conversation:
            conversation.send(["AskPeerOutdated", id, resource, began.generation, time.time()])
            while _same(run, resource, began, now()):
                with suppress(NoAnswer):
                    answer = conversation.receive(_AGAIN)
                    match answer:
                        case ["PeerOutdated", str(asked), int(code), str(why), int(generation), *_] if asked == id:
                            return _permitted(code, generation == began.generation), why
                        case ["Refused", str(why), *_]:
                            return NO, why
    except (NoDaemon, NotAllowed, NoAnswer) as problem:
        return NO, str(problem)
    return NO, "there was no answer in time"


def _permitted(code: int, same: bool) -> int:
    """What may be handed to the kernel at all."""
    return code if same and code in (*GO_ON, OUTDATED_HERE) else NO


if __name__ == "__main__":
    sys.exit(main())
