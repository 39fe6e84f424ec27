"""A failover and a move as three nodes noted them, each by clocks of its own."""

from truecl.model.ids import AppName, NodeName
from truecl.model.report import EventRecord, Mark, Moment, Severity, Span

N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))
WEB = AppName("web")
WALL = 1_795_693_000.0
UPTIMES = {N1: 0.0, N2: 5000.0, N3: 100.25}
"""Of each node at the story's second 0."""


class Story:
    """`wrong`: by how many seconds a node's wall clock is; `late`: how long after the others it hears of the log."""

    def __init__(
        self,
        wrong: dict[NodeName, float] | None = None,
        late: dict[NodeName, float] | None = None,
        uptimes: dict[NodeName, float] | None = None,
    ) -> None:
        self.events: list[EventRecord] = []
        self._wrong, self._late, self._uptimes = wrong or {}, late or {}, uptimes or UPTIMES

    def note(self, at: float, node: NodeName, mark: Mark, app: AppName | None = None, index: int = 0) -> None:
        uptime, wall = self._uptimes[node] + at, WALL + at + self._wrong.get(node, 0.0)
        text = f"{mark.what} {mark.node} {mark.generation}"
        self.events.append(EventRecord(wall, uptime, node, "any", Severity.LOG, text, app, index, mark))

    def all_note(
        self, at: float, mark: Mark, app: AppName | None = None, index: int = 0, nodes: tuple[NodeName, ...] = (N2, N3)
    ) -> None:
        for node in nodes:
            self.note(at + self._late.get(node, 0.0), node, mark, app, index)

    def up(self, node: NodeName, at: float) -> float:
        return self._uptimes[node] + at


def spans(base: float, *parts: tuple[str, float, float]) -> tuple[Span, ...]:
    return tuple(Span(name, base + begin, base + end) for name, begin, end in parts)


def failover(monitor: bool = False, **changed: dict[NodeName, float]) -> Story:
    """n1, owner and master, dies at 10.0; n2 takes over. It had been granted web at second 1."""
    story = Story(**changed)
    every = (N1, N2, N3)
    story.all_note(0.5, Mark(Moment.ELECTED, N1, 2), nodes=every)
    story.all_note(0.9, Mark(Moment.WANTED, detail="start"), WEB, 5, every)
    story.all_note(1.0, Mark(Moment.GRANTED, N1, 6), WEB, 6, every)
    story.note(10.30, N2, Mark(Moment.SILENT, N1, since=story.up(N2, 9.99)))
    story.note(10.31, N3, Mark(Moment.SILENT, N1, since=story.up(N3, 10.0)))
    story.all_note(10.33, Mark(Moment.ELECTED, N2, 3))
    story.all_note(10.35, Mark(Moment.FENCE_ORDERED, N1, 9), None, 9)
    story.all_note(10.40, Mark(Moment.FENCED, N1, 9), None, 9)
    story.all_note(10.41, Mark(Moment.ENDED, N1, 6, detail="fenced"), WEB, 6)
    story.all_note(10.41, Mark(Moment.GRANTED, N2, 11, detail="failover"), WEB, 11)
    steps = (("storage", 0.42, 0.44), ("filesystem", 0.44, 0.47), ("address", 0.47, 0.48), ("program", 0.48, 0.54))
    started = Mark(Moment.STARTED, N2, 11, story.up(N2, 10.42), spans(story.up(N2, 10.0), *steps), "monitor" * monitor)
    story.note(10.54, N2, started, WEB)
    return story


def move(story: Story) -> Story:
    """From n2 to n3, at 20."""
    story.all_note(20.0, Mark(Moment.WANTED, N3, detail="move"), WEB, 13)
    parts = (("program", 0.01, 0.02), ("address", 0.02, 0.03), ("storage", 0.03, 0.05))
    story.note(20.05, N2, Mark(Moment.STOPPED, N2, 11, story.up(N2, 20.01), spans(story.up(N2, 20.0), *parts)), WEB)
    story.all_note(20.06, Mark(Moment.ENDED, N2, 11, detail="released"), WEB, 11)
    story.all_note(20.06, Mark(Moment.GRANTED, N3, 15), WEB, 15)
    up = spans(story.up(N3, 20.0), ("program", 0.07, 0.13))
    story.note(20.13, N3, Mark(Moment.STARTED, N3, 15, story.up(N3, 20.07), up), WEB)
    return story
