"""Start a process so that it can be watched through a pidfd, without ever waiting for it here.

Programs are run by `posix_spawn` (vfork underneath): a fork copies the tables of this process's memory, and makes each
of its pages cost a fault. Where the child must first enter a cgroup, become a user or change the directory, a shell
does that on its way to the program. It can hang there (a dead name service or NFS server), so the parent
never waits for the exec: what went wrong before it is read from `Child.trouble` once the child has ended.

The child has descriptors 0, 1, 2 and nothing else. Forking ignores close-on-exec, and a copy of an armed watchdog's
descriptor in a child that hangs would keep the node from being reset: so a forked child closes everything first.
"""

import gc
import os
import pwd
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from truecl.drivers.contract import OUTPUT_LIMIT, SYSTEM_PATH, StepFailed, last_lines

BASE_ENVIRONMENT = {"PATH": SYSTEM_PATH, "LANG": "C"}
_SHELL = "/bin/sh"
_PREPARE = """\
group=$1 directory=$2 user=$3 own=$4 nicer=$5
shift 5
fail() {
    echo "cannot $1 $program: $2" >&3
    exit 127
}
why() {
    if ! [ -e "$1" ]; then echo "No such file or directory"
    elif ! [ -d "$1" ] && [ -n "$2" ]; then echo "Not a directory"
    else echo "Permission denied"; fi
}
program=$1
umask 022
{ echo 0 >/proc/self/oom_score_adj; } 2>/dev/null
if [ -n "$group" ]; then
    { echo 0 >"$group/cgroup.procs"; } 2>/dev/null || fail "enter the control group $group for" "$(why "$group")"
fi
if [ -n "$user" ]; then
    entry=$(getent passwd -- "$user") || fail "become user $user for" "no such user"
    IFS=: read -r name word uid gid comment home shell <<END
$entry
END
    export HOME="${HOME-$home}" USER="${USER-$name}" LOGNAME="${LOGNAME-$name}"
    if [ "$uid" != "$own" ]; then
        exec setpriv --reuid "$uid" --regid "$gid" --init-groups -- \
            /bin/sh -c "$0" "$0" "" "$directory" "" "$uid" "$nicer" "$@"
    fi
fi
cd -P -- "$directory" 2>/dev/null || fail "change to the directory $directory for" "$(why "$directory" d)"
[ -x "$program" ] && ! [ -d "$program" ] || fail run "$(why "$program")"
unset PWD OLDPWD
exec 3>&-
if [ "$nicer" -gt 0 ]; then exec nice -n "$nicer" -- "$@"; fi
exec "$@"
"""
"""Arguments: control group, directory, user ('' for none), own user id, how much nicer; then the program's. It is
itself its $0, to begin anew as the user. Descriptor 3 takes what went wrong, and is closed before the exec."""
_DEFAULT_SIGNALS = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_BEFORE_EXEC = 127
_ALL_DESCRIPTORS = 2**31 - 1


@dataclass(slots=True)
class Child:
    """A child of this process. Both descriptors are close-on-exec; `close` them when it has been reaped."""

    pid: int
    pidfd: int
    trouble: int = -1
    """Read end of the pipe that tells why the exec failed; closed without a word by a successful exec."""

    def executed(self) -> bool:
        """Whether it got as far as running the program."""
        if self.trouble < 0:
            return True
        poll = select.poll()
        poll.register(self.trouble, select.POLLIN)
        return any(event & select.POLLHUP and not event & select.POLLIN for _, event in poll.poll(0))

    def reason(self) -> str:
        """Why the program could not be run, or ''. Only after the child has ended."""
        if self.trouble < 0:
            return ""
        with suppress(BlockingIOError):
            return os.read(self.trouble, 4096).decode("utf-8", "replace")
        return ""

    def close(self) -> None:
        for descriptor in (self.pidfd, self.trouble):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = self.trouble = -1


@dataclass(frozen=True, slots=True)
class Ending:
    """Exit code or signal; both None for a process that another one reaped."""

    code: int | None = None
    signal: int | None = None


def spawn(
    argv: tuple[str, ...],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    environment: dict[str, str] | None = None,
    cwd: str = "/",
    user: str | None = None,
    cgroup: Path | None = None,
) -> Child:
    """Start `argv` in a session of its own. Raises StepFailed if that is known to fail at once."""
    if not argv or not argv[0].startswith("/"):
        raise StepFailed(f"cannot run {argv[0] if argv else 'nothing'}: an absolute path is needed")
    complete = BASE_ENVIRONMENT | (environment or {})
    if any("\0" in text for text in (*argv, *complete.keys(), *complete.values())):
        raise StepFailed(f"cannot run {argv[0]}: an argument or a variable contains a NUL character")
    if user is None and cgroup is None and Path(cwd) == Path.cwd():
        return _spawn(argv, complete, (stdin, stdout, stderr))
    return _spawn_prepared(argv, complete, (stdin, stdout, stderr), cwd, user, cgroup)


def fork_call(function: Callable[[], bytes], output: int) -> Child:
    """Run `function` in a forked child, which writes what comes of it to `output` (see `answer`)."""

    def child() -> NoReturn:
        os.dup2(output, 1)
        os.dup2(output, 2)
        _become_child(keep=2)
        try:
            text = b"=" + function()[:OUTPUT_LIMIT]
        except OSError as error:
            text = f"E{error.errno or 0} {error.strerror} {error.filename or ''}".encode()
        except StepFailed as error:
            text = b"S" + error.reason.encode()
        os.write(1, text)
        os._exit(0)

    return _fork(child)


def answer(output: bytes) -> bytes:
    """What a `fork_call` child wrote, as a value or as the exception that it raised there."""
    kind, rest = output[:1], output[1:]
    if kind == b"=":
        return rest
    text = rest.decode("utf-8", "replace")
    if kind == b"S":
        raise StepFailed(text)
    if kind == b"E":
        number, _, message = text.partition(" ")
        raise OSError(int(number), message.strip())
    raise StepFailed(f"the child ended without an answer: {last_lines(output)}")


def reap(pidfd: int) -> Ending | None:
    """How the process ended; None if it has not. A process that is not our child ended in an empty Ending."""
    try:
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return Ending()
    if status is None:
        return None
    if status.si_code == os.CLD_EXITED:
        return Ending(code=status.si_status)
    return Ending(signal=status.si_status)


def _spawn(
    argv: tuple[str, ...],
    environment: dict[str, str],
    streams: tuple[int, ...],
) -> Child:
    """`streams` become the descriptors 0, 1 and so on; all others of ours are close-on-exec."""
    try:
        pid = os.posix_spawn(
            argv[0],
            argv,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, target) for target, descriptor in enumerate(streams)],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    except OSError as error:
        raise StepFailed(f"cannot run {argv[0]}: {error.strerror}") from None
    return Child(pid, os.pidfd_open(pid))


def _spawn_prepared(
    argv: tuple[str, ...],
    environment: dict[str, str],
    streams: tuple[int, int, int],
    cwd: str,
    user: str | None,
    cgroup: Path | None,
) -> Child:
    own = _own_account()
    if user in (None, own["USER"]):
        user = None
    else:
        own = {}
    nicer = -os.getpriority(os.PRIO_PROCESS, 0)
    wishes = (str(cgroup or ""), cwd, user or "", str(os.getuid()), str(nicer))
    trouble, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        started = _spawn((_SHELL, "-c", _PREPARE, _PREPARE, *wishes, *argv), own | environment, (*streams, tell))
    except StepFailed:
        os.close(trouble)
        raise
    finally:
        os.close(tell)
    started.trouble = trouble
    return started


@cache
def _own_account() -> dict[str, str]:
    account = pwd.getpwuid(os.getuid())  # root's, which is in the machine's own file
    return {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}


def _fork(child: Callable[[], NoReturn]) -> Child:
    """Fork with all signals blocked, so that no handler of ours runs in the child (it would write to our reactor)."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, _DEFAULT_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            try:
                child()
            finally:  # nothing may return into the parent's stack
                if (error := sys.exc_info()[1]) is not None:
                    with suppress(OSError):
                        os.write(2, f"{type(error).__name__}: {error}\n".encode())
                os._exit(_BEFORE_EXEC)
        return Child(pid, os.pidfd_open(pid))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become_child(keep: int) -> None:
    """Descriptors above `keep` closed, signals at their defaults, a session of its own, ordinary priority."""
    gc.disable()
    os.closerange(keep + 1, _ALL_DESCRIPTORS)
    signal.set_wakeup_fd(-1)
    for number in _DEFAULT_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_DFL:
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    os.umask(0o022)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(b"0")
