"""lha_form and lha_dissolve: one operator's wish, carried to every node's reqd, a stage at a time.

A stage is a question to some nodes and ends when all answered or its time is over. Nothing here decides who owns what;
a formation that stops half way leaves daemons running that will find their quorum or wait for it.

    CHECK       which reqds answer, and which configuration they hold
    COMPARE     (only on a difference) syncd brings all nodes to one version, or says how they differ
    SUPPORT     hbd, lockd, netd, syncd, statd and clusterd are started everywhere
    ELECT       this node stands, and a master is known, who starts what says `autostart`
    LOOK_AGAIN  (only where a daemon was missing) whether it is up by now: only then is the forming done

    DAEMONS_OFF clusterd first, so that nothing is planned any more, then the others
"""

from collections.abc import Callable
from enum import StrEnum

from truecl.core.outbox import Outbox
from truecl.model.actions import ConfigurationRead, ReadConfiguration
from truecl.model.config import Configuration
from truecl.model.ids import CLUSTERD, LOCKD, SUPPORT_DAEMONS, SYNCD, AppName, DaemonName, NodeName
from truecl.model.ledger import Ledger
from truecl.model.report import Progress, Severity
from truecl.wire.messages import (
    AskDaemons,
    Campaign,
    Compare,
    Compared,
    DaemonsUp,
    Dissolve,
    Form,
    Leadership,
    Message,
    Reply,
    Request,
    StartDaemons,
    StopDaemons,
)

CHECK_TIME = 2.0
"""Seconds to wait for the reqds of other nodes."""
STAGE_TIME = 15.0
ELECT_TIME = 15.0
STOP_APPS_TIME = 120.0


class Stage(StrEnum):
    IDLE = "idle"
    CHECK = "check"
    COMPARE_START = "compare start"
    COMPARE = "compare"
    SUPPORT = "support"
    ELECT = "elect"
    LOOK_AGAIN = "look again"
    STOP_APPS = "stop applications"
    CLUSTERD_OFF = "clusterd off"
    DAEMONS_OFF = "daemons off"


_WITH_WHO_ANSWERED = (Stage.CHECK, Stage.SUPPORT, Stage.LOOK_AGAIN, Stage.CLUSTERD_OFF, Stage.DAEMONS_OFF)
"""Stages that go on when their time is over, with the answers that came."""


class Formation:
    """At most one operation at a time; a second one is told so.

    `answer(number)` is called when this node itself must answer a question; its DaemonsUp comes through `answered`.
    """

    def __init__(
        self, me: NodeName, configuration: Configuration, outbox: Outbox, local: Callable[[Message], None]
    ) -> None:
        self.me = me
        self.configuration = configuration
        self.stage = Stage.IDLE
        self.deadline: float | None = None
        self.leadership: Leadership | None = None
        self.ledger: Ledger | None = None
        self.lockd_joined = False
        self.syncd_joined = False
        self.clusterd_joined = False
        self._out = outbox
        self._local = local
        self._who = ""
        self._request: Form | Dissolve = Form()
        self._number = 0
        self._asked: tuple[NodeName, ...] = ()
        self._answers: dict[NodeName, DaemonsUp] = {}
        self._available: tuple[NodeName, ...] = ()
        self._incomplete: tuple[NodeName, ...] = ()
        """Where not every daemon was up when its time was over."""
        self._reading: int | None = None
        self._stopping: dict[str, AppName] = {}
        self._campaigned = False
        self._was_alive = False
        self._formed = False

    # ---- entry ------------------------------------------------------------------------------------------------------

    def begin(self, who: str, request: Form | Dissolve, now: float) -> None:
        if self.stage is not Stage.IDLE:
            self._out.tell(who, Reply("", Progress("another lha_form or lha_dissolve is under way on this node; "
                                                   "try again when it is done", Severity.ERROR, False)))  # fmt: skip
            self._out.tell(who, Reply("", code=1))
            return
        self._who, self._request, self._campaigned = who, request, False
        # From the clock: no answer to an earlier life of this daemon, and no memory of it, is taken for this one's.
        self._number = max(self._number, int(now * 1e6))
        if isinstance(request, Form):
            # The files may have changed since this daemon read them; the answer comes through `configuration_read`.
            self._enter(Stage.CHECK, now, STAGE_TIME)
            self._reading = self._out.do(ReadConfiguration())
        else:
            self._check(now)

    def _check(self, now: float) -> None:
        self._say("Checking for available Request Daemons ...")
        self._ask(AskDaemons, self._nodes(), Stage.CHECK, now, CHECK_TIME)

    def configuration_read(self, id: int, result: ConfigurationRead, now: float) -> bool:
        if id != self._reading:
            return False
        self._reading = None
        if result.configuration is None:
            for problem in result.problems:
                self._say(problem, Severity.ERROR)
            self._end(1, "the configuration has problems; lha_check lists them")
            return True
        here = [node.name for node in result.configuration.cluster.nodes]
        other = sorted({*here} ^ {*self._nodes()})
        if other and self.leadership is not None and self.leadership.leader is not None:
            text = f"cluster.yaml differs from that of the cluster that runs in {', '.join(other)}"
            self._end(1, f"{text}: while it runs, nodes come and go by lha_node add and lha_node remove")
            return True
        self.configuration = result.configuration
        self._check(now)
        return True

    # ---- events -----------------------------------------------------------------------------------------------------

    def answered(self, node: NodeName, message: DaemonsUp, now: float) -> None:
        if self.stage is Stage.IDLE or message.number != self._number or node not in self._asked:
            return
        self._answers[node] = message
        if len(self._answers) == len(self._asked):
            self._stage_done(now)

    def compared(self, message: Compared, now: float) -> None:
        if self.stage is not Stage.COMPARE or message.number != self._number:
            return
        if message.differing:
            for node, problem in sorted(message.differing.items()):
                self._say(f"{node}: {problem}", Severity.ERROR)
            self._end(1, "the nodes hold different configurations; 'lha_form --sync' brings this node's to all")
        elif self._formed:
            if self.clusterd_joined:
                id = f"{self.me}-configure-{self._number}"
                self._out.tell(CLUSTERD, Request(id, "configure", AppName(""), digest=message.digest))
            self._end_formed(f"the cluster is formed already, and runs with configuration {message.digest[:8]} now")
        else:
            self._start_all(now)

    def news(self, now: float) -> None:
        """Leadership, ledger or a local daemon changed."""
        if self.stage is Stage.ELECT:
            self._elect(now)
        elif self.stage is Stage.COMPARE_START:
            self._compare(now)

    def reply(self, message: Reply, now: float) -> None:
        """clusterd on an application that is being stopped for `lha_dissolve --force`."""
        if self.stage is not Stage.STOP_APPS or message.id not in self._stopping:
            return
        if message.progress is not None:
            self._out.tell(self._who, Reply("", message.progress))
        if message.code is None:
            return
        app = self._stopping.pop(message.id)
        if message.code != 0:
            self._end(1, f"application '{app}' could not be stopped; the cluster goes on. lha_stat -A {app} says why")
        elif not self._stopping:
            self._clusterd_off(now)

    def wake(self, now: float) -> None:
        if self.deadline is None or now < self.deadline:
            return
        self.deadline = None
        if self.stage in _WITH_WHO_ANSWERED and self._asked:
            self._stage_done(now)
        elif self.stage is Stage.ELECT:
            self._end(
                4, "no master yet: fewer than a majority of the voters found each other; lha_stat shows who is there"
            )
        elif self.stage is not Stage.IDLE:
            self._end(1, f"no answer in time while waiting for: {self.stage.value}")

    # ---- stages -----------------------------------------------------------------------------------------------------

    def _stage_done(self, now: float) -> None:
        stage = self.stage
        if stage is Stage.CHECK:
            self._checked(now)
        elif stage is Stage.COMPARE_START:
            self._compare(now)
        elif stage is Stage.SUPPORT:
            self._supported(now)
        elif stage is Stage.LOOK_AGAIN:
            self._looked_again()
        elif stage is Stage.CLUSTERD_OFF:
            self._off(now)
        elif stage is Stage.DAEMONS_OFF:
            self._dissolved()

    def _checked(self, now: float) -> None:
        self._available = tuple(node for node in self._nodes() if node in self._answers)
        for node in self._nodes():
            if node not in self._answers:
                self._say(f"{node} : no Request Daemon answers there; going on without it", Severity.WARN)
        if isinstance(self._request, Dissolve):
            self._dissolve(now)
            return
        voters = self.configuration.cluster.voters
        present = [node for node in voters if node in self._answers]
        if 2 * len(present) <= len(voters):
            away = ", ".join(node for node in self._nodes() if node not in self._available)
            text = f"only {len(present)} of {len(voters)} voters answer, a majority is needed"
            self._end(1, f"{text}; is the truecl service running on {away}?")
            return
        everywhere = all(
            CLUSTERD in self._answers[node].up and LOCKD in self._answers[node].up for node in self._available
        )
        digests = {self._answers[node].digest for node in self._available}
        self._formed = everywhere and self.leadership is not None and self.leadership.leader is not None
        sync = isinstance(self._request, Form) and self._request.sync
        if self._formed and not sync:
            self._end_formed("the cluster is formed already")
            return
        if not self._formed and len(digests) == 1 and "" not in digests:
            self._start_all(now)
            return
        self._ask(lambda number: StartDaemons(number, (SYNCD,)), self._available, Stage.COMPARE_START, now, STAGE_TIME)

    def _end_formed(self, text: str) -> None:
        assert self.leadership is not None
        without = self._without(self._available)
        self._end(4 if without else 0, f"{text}; {self.leadership.leader} is its master{without}")

    def _compare(self, now: float) -> None:
        if len(self._answers) < len(self._asked) or not self.syncd_joined:
            return
        self._number += 1
        self._enter(Stage.COMPARE, now, STAGE_TIME)
        sync = isinstance(self._request, Form) and self._request.sync
        self._out.tell(SYNCD, Compare(self._number, self._available, sync))

    def _start_all(self, now: float) -> None:
        self._say(f"Starting Support Daemons on {','.join(self._available)} ...")
        daemons = (*SUPPORT_DAEMONS, CLUSTERD)
        self._ask(
            lambda number: StartDaemons(number, daemons, formed=True), self._available, Stage.SUPPORT, now, STAGE_TIME
        )

    def _supported(self, now: float) -> None:
        for node in self._available:
            up = self._up(node)
            words = ",".join(f"{daemon} {'YES' if daemon in up else 'NO'}" for daemon in sorted(SUPPORT_DAEMONS))
            self._say(f"{node} : {words}", Severity.LOG if {*SUPPORT_DAEMONS} <= {*up} else Severity.WARN)
        self._say(f"Starting Cluster Daemons on {','.join(self._available)} ...")
        for node in self._available:
            if CLUSTERD in self._up(node):
                self._say(f"{node} OK STARTED")
            else:
                answer = self._answers.get(node)
                self._say(f"{node} FAILED: {answer.reason if answer else 'no answer'}", Severity.WARN)
        self._incomplete = tuple(node for node in self._available if self._down(node))
        self._enter(Stage.ELECT, now, ELECT_TIME)
        self._elect(now)

    def _elect(self, now: float) -> None:
        if self.lockd_joined and not self._campaigned:
            self._campaigned = True
            self._out.tell(LOCKD, Campaign())
        if self.clusterd_joined and self.leadership is not None and self.leadership.leader is not None:
            self._say(f"{self.leadership.leader} acting as current cluster master.")
            self._number += 1
            id = f"{self.me}-form-{self._number}"
            self._out.tell(CLUSTERD, Request(id, "autostart", AppName(""), None, "lha_form"))
            if self._incomplete:
                self._ask(AskDaemons, self._incomplete, Stage.LOOK_AGAIN, now, CHECK_TIME)
            else:
                self._end(0)

    def _looked_again(self) -> None:
        for node in self._incomplete:
            if not self._down(node):
                self._say(f"{node} : all daemons are up now")
        without = self._without(self._incomplete)
        self._end(4 if without else 0, f"the cluster is formed{without}" if without else "")

    def _without(self, nodes: tuple[NodeName, ...]) -> str:
        """What a formed cluster lacks to be all up, by the last answers; '' for nothing."""
        parts = []
        for node in nodes:
            if node not in self._answers:
                parts.append(f"{node}, which does not answer")
            elif down := self._down(node):
                parts.append(f"{','.join(down)} on {node}")
        text = "reqd goes on starting what is missing, and 'lha_stat -N NODE' says what becomes of it"
        return f"; without {'; '.join(parts)}: {text}" if parts else ""

    def _up(self, node: NodeName) -> tuple[DaemonName, ...]:
        return self._answers[node].up if node in self._answers else ()

    def _down(self, node: NodeName) -> list[DaemonName]:
        return [daemon for daemon in (*SUPPORT_DAEMONS, CLUSTERD) if daemon not in self._up(node)]

    # ---- dissolve ---------------------------------------------------------------------------------------------------

    def _dissolve(self, now: float) -> None:
        alive = [node for node in self._available if self._answers[node].up]
        self._was_alive = bool(alive)
        self._say("Querying which nodes are running Cluster Daemons ...")
        if not alive:
            # Nodes that were down must not come back by themselves, so those that answer are told in any case.
            self._clusterd_off(now)
            return
        if self.leadership is None or self.leadership.leader is None or self.ledger is None:
            if not self._forced():
                self._end(1, "the cluster has no master, so what runs where is not known; lha_stat shows the nodes, "
                             "'lha_dissolve --force' stops every node's applications by itself")  # fmt: skip
                return
            self._clusterd_off(now)
            return
        self._say(f"Current cluster master is '{self.leadership.leader}'.")
        running = sorted(app for app, state in self.ledger.apps.items() if state.grant is not None)
        self._say(f"Number of applications currently running: {len(running)}.")
        if not running:
            self._clusterd_off(now)
        elif not self._forced():
            self._end(1, f"applications are running: {', '.join(running)}; lha_stopapp stops one, "
                         "'lha_dissolve --force' stops all first")  # fmt: skip
        else:
            self._enter(Stage.STOP_APPS, now, STOP_APPS_TIME)
            self._number += 1
            self._stopping = {f"{self.me}-dissolve-{self._number}-{app}": app for app in running}
            for id, app in self._stopping.items():
                self._out.tell(CLUSTERD, Request(id, "stop", app, None, "lha_dissolve --force"))

    def _forced(self) -> bool:
        return isinstance(self._request, Dissolve) and self._request.force

    def _clusterd_off(self, now: float) -> None:
        self._ask_to_stop((CLUSTERD,), Stage.CLUSTERD_OFF, now)

    def _off(self, now: float) -> None:
        self._report_stopped((CLUSTERD,))
        self._ask_to_stop(SUPPORT_DAEMONS, Stage.DAEMONS_OFF, now)

    def _ask_to_stop(self, daemons: tuple[DaemonName, ...], stage: Stage, now: float) -> None:
        self._ask(lambda number: StopDaemons(number, daemons, formed=False), self._available, stage, now, STAGE_TIME)

    def _dissolved(self) -> None:
        order = ("hbd", "syncd", "netd", "lockd", "statd")
        self._report_stopped(tuple(DaemonName(name) for name in order))
        left = [node for node in self._available if node not in self._answers or self._answers[node].up]
        if left:
            self._end(1, f"daemons still run on {', '.join(left)}")
            return
        away = [node for node in self._nodes() if node not in self._available]
        if away:
            self._say(f"{', '.join(away)} did not answer and may form again when they return; "
                      "run lha_dissolve there too", Severity.WARN)  # fmt: skip
        nothing = "no cluster daemon was running on the nodes that answer"
        self._end(0, "Cluster has been halted." if self._was_alive else nothing)

    def _report_stopped(self, daemons: tuple[DaemonName, ...]) -> None:
        for daemon in daemons:
            self._say(f"Stopping all '{daemon}' processes ...")
            for node in self._available:
                answer = self._answers.get(node)
                if answer is None:
                    self._say(f"{node} : no answer", Severity.WARN)
                elif daemon in answer.up:
                    self._say(f"{node} : {daemon} still runs", Severity.WARN)

    # ---- small parts ------------------------------------------------------------------------------------------------

    def _nodes(self) -> tuple[NodeName, ...]:
        return tuple(node.name for node in self.configuration.cluster.nodes)

    def _ask(self, question: Callable[[int], Message], nodes: tuple[NodeName, ...], stage: Stage, now: float,
             within: float) -> None:  # fmt: skip
        self._number += 1
        self._asked, self._answers = nodes, {}
        self._enter(stage, now, within)
        message = question(self._number)
        for node in nodes:
            if node != self.me:
                self._out.send(node, message)
        if self.me in nodes:
            self._local(message)

    def _enter(self, stage: Stage, now: float, within: float) -> None:
        self.stage, self.deadline = stage, now + within

    def _say(self, text: str, severity: Severity = Severity.LOG) -> None:
        self._out.tell(self._who, Reply("", Progress(text, severity, verbose=severity is Severity.LOG)))

    def _end(self, code: int, text: str = "") -> None:
        if text:
            self._say_result(text, code)
        self._out.tell(self._who, Reply("", code=code))
        self.stage, self.deadline, self._asked, self._stopping, self._reading = Stage.IDLE, None, (), {}, None

    def _say_result(self, text: str, code: int) -> None:
        severity = Severity.ERROR if code == 1 else Severity.WARN if code else Severity.LOG
        self._out.tell(self._who, Reply("", Progress(text, severity, verbose=False)))
