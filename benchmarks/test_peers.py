"""Backlogs of items of 100 bytes that one process of another queue fills and works off, against one of reliq."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from servers import start_server

from benchmarks.conftest import Sizes
from benchmarks.harness import OURS, Contest, Cost, Meter, Report, Row, compared, in_rounds
from benchmarks.peer_process import turn
from benchmarks.peers import is_installed, package

SECONDS = 2.0  # that a worker is busy in a turn
MOST = 300_000  # items of a turn: more than that take longer to enqueue than they tell
ONE, THREADS, TASKS = "reliq, 1 thread", "reliq, 4 threads", "reliq, 10 tasks"
PAIRS = [
    ("rq", ONE),
    ("huey", ONE),
    ("celery, solo", ONE),
    ("celery, 4 threads", THREADS),
    ("dramatiq, 4 threads", THREADS),
    ("dramatiq, 4 threads, prefetch 100", THREADS),
    ("saq, 10 tasks", TASKS),
    (ONE, THREADS),
    (ONE, TASKS),
]


@dataclass
class Side:
    """One of a pair, with what its items cost in each turn. A turn has a server and a process of its own."""

    name: str
    items: int
    drain: list[Cost] = field(default_factory=list)
    enqueue: list[Cost] = field(default_factory=list)

    def turn(self) -> None:
        """Fills and works off a backlog, and fits the next one to the speed."""
        with start_server() as server:
            costs = turn(self.name, server.url, self.items)
        assert costs.left == 0, f"{self.name} left {costs.left} of {self.items} items"
        self.drain.append(costs.drain)
        self.enqueue.append(costs.enqueue)

    def fit(self) -> None:
        """The next turn has as many items as take so many seconds, by the last one."""
        self.items = min(MOST, int(SECONDS * 1e6 / self.drain[-1].wall))

    def warm_up(self) -> None:
        """Turns that do not count, until one was long enough to tell how fast it is."""
        busy = 0.0
        while busy < SECONDS / 2 and self.items < MOST:
            self.turn()
            busy = self.items * self.drain[-1].wall / 1e6
            self.fit()
        self.drain.clear()
        self.enqueue.clear()


@pytest.mark.parametrize(("rival", "way"), PAIRS, ids=[f"{rival} - {way}" for rival, way in PAIRS])
def test_peer(rival: str, way: str, sizes: Sizes, benchmark: BenchmarkFixture, report: Report) -> None:
    """Both in turns. Each is set up to lose as little as it can when its worker is killed: see `peers.py`."""
    if not is_installed(rival):
        pytest.skip(f"{package(rival)} is not installed: pip install -e '.[peers]'")
    ours, theirs = Side(way, sizes.backlog), Side(rival, min(500, sizes.backlog))
    if sizes.rounds > 1:
        ours.warm_up()
        theirs.warm_up()
    in_rounds(benchmark, ours.turn, before=theirs.turn, rounds=max(1, min(5, sizes.rounds // 3)))
    report.add(benchmark, *rows(ours, theirs, "drain"), *rows(ours, theirs, "enqueue"))


def rows(ours: Side, theirs: Side, what: str) -> list[Row]:
    """Items a second, and CPU of an item, of one half of the work."""
    costs: dict[str, list[Cost]] = {OURS: getattr(ours, what), theirs.name: getattr(theirs, what)}
    mine, other = ([1e6 / cost.wall for cost in side] for side in costs.values())
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    case = f"{what}: {ours.name}; {theirs.name}"
    contest = Contest(Meter(), {}, costs)
    return [
        compared(case, "items/s, reliq by its rival", median(mine), median(other), ratios),
        contest.row(case, theirs.name, "server"),
        contest.row(case, theirs.name, "client"),
    ]
