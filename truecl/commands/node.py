"""What an operator command has of its node: a way to the daemons, a clock, and who the operator is.

Commands know messages as JSON has them (truecl/runtime/client.py): what would check their types costs more than all
else that a command does, and the daemons check what commands say.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple, Protocol

from truecl.model.ids import REQD, DaemonName
from truecl.runtime.client import NoAnswer, NoDaemon

DONE, FAILED, USAGE, NO_DAEMON, UNFINISHED = 0, 1, 2, 3, 4
"""Exit codes (DESIGN.md section 7)."""
RETRY_TIME = 5.0
"""Seconds for which a daemon that went away in the middle is tried again."""
RETRY_EVERY = 0.1
PART_TIME = 1.0
"""Seconds for reqd to say what part this node has in the cluster."""


class Dialogue(Protocol):
    """`truecl.runtime.client.Conversation`. Raises NoDaemon and NoAnswer."""

    def send(self, message: list[Any]) -> None: ...
    def receive(self, timeout: float | None) -> list[Any]: ...
    def close(self) -> None: ...


LOG, WARN, ERROR = "LOG", "WARN", "ERROR"
"""`truecl.model.report.Severity`."""


class Line(NamedTuple):
    """`truecl.model.report.Progress`."""

    text: str
    severity: str
    verbose: bool = True


class Node(NamedTuple):
    """dial -- opens a dialogue with a daemon of this node; raises NoDaemon, NotAllowed, NoAnswer.
    now, pause -- monotonic seconds, and to let some pass.
    operator -- who asks, for the history. token -- unique to this run of the command.
    configured -- is there a cluster.yaml on this node?
    """

    dial: Callable[[DaemonName], Dialogue]
    now: Callable[[], float]
    pause: Callable[[float], None]
    operator: str
    token: str
    configured: Callable[[], bool] = lambda: True


class Outcome(NamedTuple):
    """How a command ended. `text`: what is left to be said, '' if the progress said it."""

    code: int
    text: str = ""
    question: dict[str, Any] | None = None
    """`truecl.model.build.Question`: nothing was done, for the operator has to agree first."""


class Ended(Exception):
    """A command cannot go on; the text says what helps."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.outcome = Outcome(code, text)


Steps = Generator[Line, None, Outcome]


def dialogue(node: Node, daemon: DaemonName) -> Dialogue:
    """With `daemon` of this node. Raises Ended with the command that helps, or NotAllowed."""
    try:
        return node.dial(daemon)
    except NoDaemon as error:
        raise Ended(NO_DAEMON, _what_helps(node, daemon)) from error
    except NoAnswer as error:
        raise Ended(NO_DAEMON, f"{error}; the daemon hangs or is overloaded, its log is in /var/log/truecl") from error


STOPPED = "the truecl service does not run on this node: systemctl start truecl"
UNCONFIGURED = (
    "this node belongs to no cluster: 'lha_node add' on a node of one makes a bundle for it, which is unpacked here by "
    "'lha_init --join FILE'; 'lha_init --cluster NAME' begins a new one"
)


def _what_helps(node: Node, daemon: DaemonName) -> str:
    service = STOPPED if node.configured() else UNCONFIGURED
    if daemon == REQD:
        return service
    try:
        talk = node.dial(REQD)
    except (NoDaemon, NoAnswer):
        return service
    try:
        talk.send(["AskPart"])
        part = talk.receive(PART_TIME)
    except (NoDaemon, NoAnswer):
        part = []
    finally:
        talk.close()
    if part[:1] == ["Part"] and part[2]:
        return "this node was removed from the cluster; 'lha_node add' on one of its nodes takes it in again"
    return "no cluster on this node: lha_form forms it, or takes this node in"


_GOES_ON = "; it goes on: lha_stat shows how far"
_NOT_TAKEN = ": no master took it, so nothing was done; ask again when lha_stat shows one"
NO_MASTER = "no master at the moment; waiting for an election"
"""As `truecl.core.desk` says it. Whatever it says after that comes of a master that has the request."""


def carry_out(
    node: Node, daemon: DaemonName, request: list[Any], timeout: float, wait: bool, repeatable: bool
) -> Steps:
    """Sends `request`, yields what is reported, and returns how it ended. Raises Ended and NotAllowed.

    timeout -- seconds until the end. wait -- False: be content when it was accepted. repeatable -- the same request
    again does no harm, so a daemon that is restarted in the middle is asked again.

    What no master took is forgotten when this command ends.
    """
    end = node.now() + timeout
    accepted = waiting = False
    talk = dialogue(node, daemon)
    try:
        talk.send(request)
        while True:
            try:
                message = talk.receive(max(0.0, end - node.now()))
            except NoAnswer:
                rest = _NOT_TAKEN if waiting and not accepted else _GOES_ON
                return Outcome(UNFINISHED, f"not finished within {round(timeout, 1):g} s{rest}")
            except NoDaemon as error:
                talk.close()
                if not repeatable:
                    raise Ended(NO_DAEMON, f"{error}; it may go on: lha_stat shows how far") from error
                yield Line(f"{error}; asking again", WARN)
                talk = _again(node, daemon, min(end, node.now() + RETRY_TIME), error)
                talk.send(request)
                continue
            match message:
                case ["Refused", reason, *_]:
                    return Outcome(FAILED, reason)
                case ["Reply", _, progress, code, *more]:
                    waiting = progress is not None and progress["text"] == NO_MASTER
                    if progress is not None:
                        accepted = accepted or not waiting and progress["severity"] != ERROR
                        yield Line(progress["text"], progress["severity"], progress["verbose"])
                    if code is not None:
                        return Outcome(code, question=more[0] if more else None)
                    if accepted and not wait:
                        return Outcome(DONE, "accepted; lha_stat shows how far it is")
    except NoDaemon as error:
        raise Ended(NO_DAEMON, f"{error}; it may go on: lha_stat shows how far") from error
    finally:
        talk.close()


def _again(node: Node, daemon: DaemonName, end: float, error: NoDaemon) -> Dialogue:
    while node.now() < end:
        node.pause(RETRY_EVERY)
        try:
            return node.dial(daemon)
        except (NoDaemon, NoAnswer):
            continue
    raise Ended(NO_DAEMON, f"{error} and did not come back; it may go on: lha_stat shows how far") from error


def closest(name: str, known: Iterable[str]) -> str:
    """What was meant by a name that is not known; '' if nothing comes near."""
    from difflib import get_close_matches  # seldom needed, and slow to import

    return next(iter(get_close_matches(name, list(known), 1)), "")


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: what was meant, or what there is."""
    names = list(known)
    close = closest(name, names)
    if close:
        return f"did you mean '{close}'?"
    return f"there is {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else "there is none"
