"""A reqd's core with its journal, and with lockd's answers and the drivers in the test's hand."""

from truecl.core.contract import Done, Drop, Event, Joined, Output, Records, Told, Woke
from truecl.core.reqd import Reqd
from truecl.model.actions import Action, StepDown, StepProbe, StepResult, StepUp
from truecl.model.config import (
    Address,
    AppConfig,
    ClusterConfig,
    Configuration,
    FenceConfig,
    FileStorage,
    LinkConfig,
    NodeConfig,
    Program,
    Volume,
)
from truecl.model.ids import CLUSTERD, LOCKD, NETD, AppName, BootId, Generation, Index, LinkName, NodeName, Term
from truecl.model.report import InstanceReport, Phase
from truecl.model.step import Probe
from truecl.wire.messages import AddressState, HoldAddress, Order, ReleaseAddress, Renew, Renewed

DB, WEB, BARE = AppName("db"), AppName("web"), AppName("bare")
N1, N2, N3 = NodeName("n1"), NodeName("n2"), NodeName("n3")
CONFIGURATION = Configuration(
    cluster=ClusterConfig(
        name="c",
        links=(LinkConfig(name=LinkName("lan")),),
        nodes=tuple(
            NodeConfig(name=name, addresses={}, fence=((FenceConfig(agent="/bin/fence"),),) if name == N2 else ())
            for name in (N1, N2, N3)
        ),
    ),
    apps=(
        AppConfig(
            name=DB,
            nodes=(N1, N2),
            volumes=(Volume(name="d", storage=FileStorage(image="/shared/db.img")),),
            programs=(Program(name="dbd", run=("/bin/dbd",)),),
        ),
        AppConfig(name=WEB, nodes=(N1, N2), addresses=(Address(address="10.0.0.9"),)),
        AppConfig(name=BARE, nodes=(N1, N2)),
    ),
)
LEASE = CONFIGURATION.cluster.timing.lease
RENEWAL = CONFIGURATION.cluster.timing.renewal


class ReqdBench:
    """Everything that the core puts out is kept; nothing is answered before the test says so."""

    def __init__(self, configuration: Configuration = CONFIGURATION) -> None:
        self.configuration = configuration
        self.now = 100.0
        self.records: Records = {}
        self.boot = BootId("boot 1")
        self.asked: dict[int, Action] = {}
        self.outputs: list[Output] = []
        self.restart()

    # ---- life -------------------------------------------------------------------------------------------------------

    def restart(self, join: bool = True) -> None:
        """A new life of the daemon, with what it had saved."""
        self.asked.clear()
        self.outputs.clear()
        records = {bucket: dict(values) for bucket, values in self.records.items()}
        self.core = Reqd(N1, self.configuration, self.boot, records, self.now)
        self.take(self.core.start(self.now))
        if join:
            for who in (LOCKD, NETD, CLUSTERD):
                self.feed(Joined(who))

    def reboot(self) -> None:
        self.boot = BootId(self.boot + "+")
        self.records = {name: values for name, values in self.records.items() if not name.startswith("run.")}
        self.restart()

    def feed(self, event: Event) -> Output:
        return self.take(self.core.handle(event, self.now))

    def take(self, output: Output) -> Output:
        for save in output.save:
            if isinstance(save, Drop):
                self.records.pop(save.bucket, None)
                continue
            self.records.setdefault(save.bucket, {})[save.key] = save.value
        self.asked.update({do.id: do.action for do in output.do})
        self.outputs.append(output)
        return output

    def wait(self, seconds: float) -> None:
        """The timer fires at the end of it, and as late as that."""
        self.now += seconds
        self.feed(Woke())

    # ---- lockd ------------------------------------------------------------------------------------------------------

    @property
    def request(self) -> Renew:
        """The latest."""
        told = [each.message for output in self.outputs for each in output.tell if each.who == LOCKD]
        return [message for message in told if isinstance(message, Renew)][-1]

    def lease(self, *named: tuple[AppName, int], request: Renew | None = None, term: int = 1) -> Output:
        """The answer to the latest request, or to an earlier one."""
        asked = request or self.request
        what = tuple((app, Generation(generation)) for app, generation in named)
        return self.feed(Told(LOCKD, Renewed(N1, asked.boot, asked.number, Term(term), Index(9), what, LEASE)))

    def renew(self, *named: tuple[AppName, int]) -> None:
        self.wait(RENEWAL)
        self.lease(*named)

    # ---- orders and drivers -----------------------------------------------------------------------------------------

    def order(self, verb: str, app: AppName, generation: int, term: int = 1) -> Output:
        return self.feed(Told(CLUSTERD, Order(verb, app, Generation(generation), Term(term))))

    def answer(self, probe: Probe | None = None) -> Action:
        """The oldest action is done as asked, or ends with `probe`."""
        number, action = next(iter(self.asked.items()))
        del self.asked[number]
        good = Probe.ACTIVE if isinstance(action, StepUp | StepProbe) else Probe.INACTIVE
        self.feed(Done(number, StepResult(probe or good, "" if probe in (None, good) else "it did not work")))
        return action

    def answer_all(self) -> None:
        """Drivers and netd do as asked, until nothing is left to do."""
        while self.asked:
            self.answer()
            self.netd()
        self.netd()

    def netd(self) -> None:
        """netd answers the address orders of the last call."""
        for tell in self.outputs[-1].tell:
            match tell.message:
                case HoldAddress(app, generation, address, number=number):
                    up = AddressState(app, generation, address.address, True, interface="eth0", number=number)
                    self.feed(Told(NETD, up))
                case ReleaseAddress(app, generation, address, number):
                    self.feed(Told(NETD, AddressState(app, generation, address, False, number=number)))

    def started(self, app: AppName, generation: int) -> None:
        """Brings an instance up."""
        self.lease((app, generation))
        self.order("start", app, generation)
        self.netd()
        self.answer_all()
        assert self.line(app).phase is Phase.RUNNING

    # ---- what is ----------------------------------------------------------------------------------------------------

    def line(self, app: AppName) -> InstanceReport:
        """As the last request reported it."""
        return next(line for line in self.core.instances.reports() if line.app == app)

    def ups(self) -> list[str]:
        return [action.step.name for action in self.asked.values() if isinstance(action, StepUp)]

    def downs(self) -> list[str]:
        return [action.step.name for action in self.asked.values() if isinstance(action, StepDown)]
