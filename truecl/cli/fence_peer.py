"""What DRBD calls when a primary lost its peer, or is to be made without it: may it go on?

The kernel starts it through drbdadm, as root and with little in its environment, and takes its exit code for the
answer (SAFETY.md section 5):

    4, 7    the log calls the peer's copy outdated (7: and its node was switched off): go on
    6       at a promotion: this copy is the outdated one
    1       no word of that: a primary stays frozen, a promotion is refused

Never 3 or 5, which would say that the peer itself was asked. A promotion has one answer. For a primary that lost its
peer the question is asked until there is one, or the peer is back, or the instance is stopped: it stays frozen, and the
kernel does not call again. Whatever the answer, it holds only if the token (which instance, until when) still stands at
the very end.

Plain Python, quick to import: a primary stands still meanwhile. It changes nothing of DRBD, whose resource is locked
until it has answered.
"""

import os
import re
import sys
import syslog
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from truecl.drivers.storage.drbd import token
from truecl.drivers.storage.drbd.token import Directory, Token, boottime
from truecl.model.ids import CLUSTERD
from truecl.runtime.client import RUN, Conversation, NoAnswer, NoDaemon, NotAllowed

GO_ON = (4, 7)
OUTDATED_HERE = 6
NO = 1
_LOOK = 2.0
"""Seconds for a look at DRBD 9."""
_MINOR = re.compile(r"^ *(\d+): cs:\w+ ro:\S+ ds:\S+ +(?:[ABC] )?([rs])", re.MULTILINE)
AGAIN = 0.5
"""Seconds between two questions, and between two looks at the token while one waits for its answer."""


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    resource = os.environ.get("DRBD_RESOURCE", "")
    run = os.environ.get("TRUECL_RUN", RUN)
    if words == ["split-brain"] and resource:
        token.note_split(run, resource)
        return 0
    if words != ["fence-peer"] or not resource:
        print("lha_fence_peer: DRBD calls this itself, with DRBD_RESOURCE set", file=sys.stderr)
        return NO
    syslog.openlog("lha_fence_peer", syslog.LOG_PID, syslog.LOG_DAEMON)
    code, why = judge(run, resource, lambda: is_frozen("/proc/drbd", resource))
    syslog.syslog(syslog.LOG_NOTICE, f"{resource}: answers {code}: {why}")
    return code


def judge(
    run: Directory,
    resource: str,
    frozen: Callable[[], bool],
    now: Callable[[], float] = boottime,
    again: float = AGAIN,
) -> tuple[int, str]:
    """The exit code, and why."""
    began = token.read(run, resource)
    if began is None or not began.stands(now()):
        return NO, "no instance is primary here, or is being made so"

    def standing() -> Token | None:
        there = token.read(run, resource)
        same = there is not None and there.generation == began.generation and there.stands(now())
        return there if same else None

    def wanted() -> bool:
        there = standing()
        return there is not None and (there.until is not None or frozen())

    code, why = NO, "nothing waits for an answer"
    while wanted():
        code, why = _asked(run, resource, began.generation, wanted, again)
        there = standing()
        if code in GO_ON or there is None or there.until is not None:
            break
        code = NO
        time.sleep(again)
    # The last thing before the answer: what was given up meanwhile must not succeed.
    return (code, why) if standing() is not None else (NO, "it was given up meanwhile")


def _asked(run: Directory, resource: str, generation: int, wanted: Callable[[], bool], again: float) -> tuple[int, str]:
    """clusterd's answer, or 1 and why there is none."""
    name = f"fence-peer-{os.getpid()}"
    id = f"{resource}-{os.getpid()}-{boottime():.3f}"
    try:
        with Conversation(CLUSTERD, name, run) as conversation:
            conversation.send(["AskPeerOutdated", id, resource, generation, time.time()])
            while wanted():
                with suppress(NoAnswer):
                    answer = conversation.receive(again)
                    match answer:
                        case ["PeerOutdated", str(asked), int(code), str(why), int(named), *_] if asked == id:
                            return _permitted(code, named == generation), why
                        case ["Refused", str(why), *_]:
                            return NO, why
    except (NoDaemon, NotAllowed, NoAnswer) as problem:
        return NO, str(problem)
    return NO, "there was no answer in time"


def is_frozen(proc: Directory, resource: str) -> bool:
    """Is its I/O suspended? Yes where that cannot be told. Raises OSError without /proc/drbd."""
    with open(proc, encoding="utf-8") as file:
        text = file.read()
    if not text.startswith("version: 8."):
        return _is_frozen_9(resource)
    minors = os.environ.get("DRBD_MINOR", "").split()
    return any(found[1] in minors and found[2] == "s" for found in _MINOR.finditer(text))


def _is_frozen_9(resource: str) -> bool:
    import subprocess  # slow, and rarely needed

    look = ["/sbin/drbdsetup", "events2", "--now", resource]
    try:
        said = subprocess.run(look, capture_output=True, text=True, timeout=_LOOK, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return True
    return " suspended:no" not in said


def _permitted(code: int, same: bool) -> int:
    """What may be handed to the kernel at all."""
    return code if same and code in (*GO_ON, OUTDATED_HERE) else NO


if __name__ == "__main__":
    sys.exit(main())
