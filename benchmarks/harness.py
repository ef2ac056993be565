"""Measures several ways of doing the same in turns, in one run, so that a busy machine disturbs all of them alike.

Only ratios of neighbouring turns are compared; times that are printed beside them are for orientation.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from pytest_benchmark.fixture import BenchmarkFixture

Work = Callable[[], int]  # does its part once and returns how many items that were

OURS = "reliq"


@dataclass(frozen=True, slots=True)
class Cost:
    """What an item cost, in microseconds: CPU of the server's main thread, CPU of this process, time on the wall."""

    server: float
    client: float
    wall: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.server + other.server, self.client + other.client, self.wall + other.wall)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table at the end. `target` is a bound on the ratio such as `<= 1.3`, or '' where there is none."""

    case: str
    what: str
    ours: float
    theirs: float
    ratio: float
    spread: tuple[float, float]
    target: str = ""

    @property
    def met(self) -> str:
        """`yes` or `no`, '' without a target."""
        if not self.target:
            return ""
        sign, bound = self.target.split()
        good = self.ratio <= float(bound) if sign == "<=" else self.ratio >= float(bound)
        return "yes" if good else "no"


class Meter:
    """Takes the cost of a piece of work, with connections of its own to ask the servers that may do it."""

    def __init__(self, *controls: redis.Redis) -> None:
        self.controls = controls

    def measure(self, work: Work) -> Cost:
        gc.collect()
        server = self.server_seconds()
        client, wall = time.process_time(), time.perf_counter()
        count = work()
        wall, client = time.perf_counter() - wall, time.process_time() - client
        server = self.server_seconds() - server
        return Cost(server / count * 1e6, client / count * 1e6, wall / count * 1e6)

    def server_seconds(self) -> float:
        """CPU that the server's main thread has used; of the whole process where the server can't tell (Redis < 7)."""
        return sum(_seconds_of(control.info("cpu")) for control in self.controls)


def _seconds_of(cpu: Mapping[str, Any]) -> float:
    names = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
    if names[0] not in cpu:
        names = ("used_cpu_user", "used_cpu_sys")
    return float(cpu[names[0]]) + float(cpu[names[1]])


@dataclass
class Contest:
    """Ways of doing the same, measured in turns. One is called `reliq`; the others are its rivals."""

    meter: Meter
    ways: Mapping[str, Work]
    costs: dict[str, list[Cost]] = field(default_factory=dict)

    def turn(self, name: str) -> None:
        self.costs.setdefault(name, []).append(self.meter.measure(self.ways[name]))

    def turns(self, count: int) -> None:
        for _ in range(count):
            for name in self.ways:
                self.turn(name)

    def run(self, benchmark: BenchmarkFixture, rounds: int) -> None:
        """Rivals and reliq in turns. What pytest-benchmark shows as its own times are reliq's turns, as a whole."""
        in_rounds(benchmark, lambda: self.turn(OURS), before=self._rivals, rounds=rounds)

    def _rivals(self) -> None:
        for name in self.ways:
            if name != OURS:
                self.turn(name)

    def followed_by(self, other: Contest) -> Contest:
        """Both as one: an item's cost in this one plus its cost in the other."""
        both = {name: [a + b for a, b in zip(self.costs[name], other.costs[name], strict=False)] for name in self.ways}
        return Contest(self.meter, self.ways, both)

    def row(self, case: str, rival: str, what: str, target: str = "", *, times: bool = False) -> Row:
        """Compares one kind of cost with a rival's: ours by theirs, or with `times` theirs by ours (times faster)."""
        ours = [getattr(cost, what) for cost in self.costs[OURS]]
        theirs = [getattr(cost, what) for cost in self.costs[rival]]
        pairs = zip(theirs, ours, strict=True) if times else zip(ours, theirs, strict=True)
        ratios = [a / b for a, b in pairs if a and b] or [float("nan")]  # a few calls can take no CPU that is seen
        label = f"{what}, {rival} by reliq" if times else f"{what}, reliq by {rival}"
        return compared(case, label, statistics.median(ours), statistics.median(theirs), ratios, target)


def in_rounds(
    benchmark: BenchmarkFixture, turn: Callable[[], object], *, rounds: int, before: Callable[[], None] | None = None
) -> None:
    """Has pytest-benchmark time `turn` so many times, once where it is disabled. `before` is not in that time."""
    benchmark.pedantic(turn, setup=before, rounds=rounds, iterations=1)  # type: ignore[no-untyped-call]  # theirs


def compared(case: str, what: str, ours: float, theirs: float, ratios: list[float], target: str = "") -> Row:
    """A line from the ratios of all rounds: their median, and the least and the greatest."""
    return Row(case, what, ours, theirs, statistics.median(ratios), (min(ratios), max(ratios)), target)


class Report:
    """Collects the lines of a run."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, benchmark: BenchmarkFixture, *rows: Row) -> None:
        self.rows += rows
        for row in rows:
            benchmark.extra_info[f"{row.case}: {row.what}"] = {
                "ratio": round(row.ratio, 3),
                "spread": [round(bound, 3) for bound in row.spread],
                "target": row.target,
                "ours": round(row.ours, 3),
                "theirs": round(row.theirs, 3),
            }

    def lines(self) -> list[str]:
        """The table, as Markdown."""
        head = ("case", "what", "reliq", "rival", "ratio", "spread", "target", "met")
        return [_line(head), _line(("---",) * len(head)), *(_line(_cells(row)) for row in self.rows)]


def _cells(row: Row) -> tuple[str, ...]:
    low, high = row.spread
    numbers = (f"{row.ours:.2f}", f"{row.theirs:.2f}", f"{row.ratio:.2f}", f"{low:.2f} to {high:.2f}")
    return (row.case, row.what, *numbers, row.target, row.met)


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
