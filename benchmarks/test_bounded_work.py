"""A call costs what its batch costs, however many items the queue holds: queued, in progress and dead at once.

Two queues on one server, one with a few items of each state and one with many; the same calls to both in turns. The
ratio is the time of a call in the large one by that in the small one; its target is the ratio of their logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest
import redis
from pytest_benchmark.fixture import BenchmarkFixture
from servers import start_server, wait_until

from benchmarks.conftest import Sizes
from benchmarks.harness import Report, compared, in_rounds
from benchmarks.rivals import TEXT
from reliq import Queue
from reliq.embedded import Server
from reliq.item import Item

FILL = 500  # items of a claim while filling: both queues then hold claims of one size
DAY = 86400.0
SLOW_MICROSECONDS = 5000
CALLS = {1: 40, 100: 10}  # calls of one turn, by batch


@dataclass(eq=False)
class Population:
    """A queue that holds as many items of each of three states, and what of them a call needs."""

    queue: Queue
    items: int
    held: Sequence[Item] = ()

    def fill(self) -> None:
        for _ in range(0, self.items, FILL):
            self.queue.enqueue_many([TEXT] * (2 * FILL))
            self.queue.fail(self.queue.claim(FILL), "on purpose", dead=True)
            self.held = self.queue.claim(FILL, lease=DAY)
        for _ in range(0, self.items, FILL):
            self.queue.enqueue_many([TEXT] * FILL)

    def add(self, batch: int) -> list[str]:
        return [added.id for added in self.queue.enqueue_many([TEXT] * batch)]

    def expired(self, batch: int) -> None:
        self.queue.claim(batch, lease=0.001)
        wait_until(lambda: self.queue.counts().expired_claims, "the lease has ended")

    def put_back(self, items: Sequence[Item], *, extra: int = 0) -> None:
        """The queue is as long again as it was before these, and `extra` others, were claimed."""
        self.queue.finish(items)
        self.add(len(items) + extra)

    def died(self, batch: int) -> list[str]:
        return [failed.id for failed in self.queue.fail(self.queue.claim(batch), "on purpose", dead=True)]


@dataclass(frozen=True)
class Verb:
    """How a verb is measured: what it needs, the call, and what restores the queue. Only the call is measured."""

    prepare: Callable[[Population, int], Any]
    call: Callable[[Population, int, Any], Any]
    restore: Callable[[Population, int, Any, Any], object]


def _nothing(*_: object) -> None:
    return None


VERBS = {
    "counts": Verb(_nothing, lambda p, *_: p.queue.counts(), _nothing),
    "get": Verb(lambda p, *_: p.queue.peek()[0].id, lambda p, _, item_id: p.queue.get(item_id), _nothing),
    "peek": Verb(_nothing, lambda p, batch, _: p.queue.peek(batch), _nothing),
    "enqueue": Verb(
        _nothing,
        lambda p, batch, _: p.add(batch),
        lambda p, batch, *_: p.queue.finish(p.queue.claim(batch)),
    ),
    "renew": Verb(_nothing, lambda p, batch, _: p.queue.renew(p.held[:batch], DAY), _nothing),
    "claim": Verb(
        _nothing,
        lambda p, batch, _: p.queue.claim(batch),
        lambda p, _batch, _, claimed: p.put_back(claimed),
    ),
    "finish": Verb(
        lambda p, batch: p.queue.claim(batch),
        lambda p, _, claimed: p.queue.finish(claimed),
        lambda p, batch, *_: p.add(batch),
    ),
    "finish_and_claim": Verb(
        lambda p, batch: p.queue.claim(batch),
        lambda p, batch, claimed: p.queue.finish_and_claim(claimed, batch),
        lambda p, batch, _, claimed: p.put_back(claimed, extra=batch),
    ),
    "release": Verb(
        lambda p, batch: p.queue.claim(batch),
        lambda p, _, claimed: p.queue.release(claimed),
        lambda p, batch, *_: p.put_back(p.queue.claim(batch)),
    ),
    "recover": Verb(
        lambda p, batch: p.expired(batch),
        lambda p, batch, _: p.queue.recover(batch),
        lambda p, batch, *_: p.put_back(p.queue.claim(batch)),
    ),
    "fail": Verb(
        lambda p, batch: p.queue.claim(batch),
        lambda p, _, claimed: p.queue.fail(claimed, "on purpose", dead=True),
        lambda p, batch, claimed, _: (p.queue.discard(*[item.id for item in claimed]), p.add(batch)),
    ),
    "requeue": Verb(
        lambda p, batch: p.died(batch),
        lambda p, _, ids: p.queue.requeue(*ids),
        _nothing,
    ),
    "cancel": Verb(
        lambda p, batch: p.add(batch),
        lambda p, _, ids: p.queue.cancel(*ids),
        _nothing,
    ),
}
ONE_ONLY = ("counts", "get")
CASES = [(verb, batch) for verb in VERBS for batch in CALLS if batch == 1 or verb not in ONE_ONLY]


@pytest.fixture(scope="module")
def crowded() -> Iterator[Server]:
    """A server of its own for this module, filled once."""
    with start_server() as running:
        yield running


@pytest.fixture(scope="module")
def populations(crowded: Server, sizes: Sizes) -> Iterator[tuple[Population, Population]]:
    with Queue("small", crowded.socket_url) as small, Queue("large", crowded.socket_url) as large:
        both = Population(small, sizes.small), Population(large, sizes.large)
        for population in both:
            population.fill()
        yield both


@pytest.fixture
def control(crowded: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(crowded.socket_url) as plain:
        yield plain


def script_microseconds(control: redis.Redis) -> int:
    """Time that the server has spent in scripts, by its own clock: a process that takes the CPU away counts with it."""
    return int(control.info("commandstats").get("cmdstat_evalsha", {"usec": 0})["usec"])


@pytest.mark.parametrize(("name", "batch"), CASES, ids=[f"{verb}-{batch}" for verb, batch in CASES])
def test_bounded(
    name: str,
    batch: int,
    populations: tuple[Population, Population],
    control: redis.Redis,
    sizes: Sizes,
    benchmark: BenchmarkFixture,
    report: Report,
) -> None:
    """The verb takes hardly longer in the large queue than in the small one, and never 5 ms."""
    verb, calls = VERBS[name], min(CALLS[batch], sizes.calls)
    taken: dict[Population, list[float]] = {population: [] for population in populations}

    def once(population: Population) -> float:
        needed = verb.prepare(population, batch)
        before = script_microseconds(control)
        result = verb.call(population, batch, needed)
        spent = script_microseconds(control) - before
        verb.restore(population, batch, needed, result)
        return float(spent)

    def in_turns() -> None:
        for _ in range(calls):
            for population in populations:
                taken[population].append(once(population))

    in_rounds(benchmark, in_turns, rounds=sizes.rounds)
    small, large = (taken[population] for population in populations)
    ratios = [median(large[i : i + calls]) / median(small[i : i + calls]) for i in range(0, len(large), calls)]
    case = f"{name}, batch of {batch}, {sizes.large:,} by {sizes.small:,} items"
    bound = math.log(sizes.large) / math.log(sizes.small)
    report.add(benchmark, compared(case, "us of a call", median(large), median(small), ratios, f"<= {bound:.2f}"))
    worst, late = max(large), sum(time > SLOW_MICROSECONDS for time in large)
    report.add(
        benchmark,
        compared(
            case, f"us of the slowest call of {len(large)}, {late} over 5 ms", worst, max(small), [worst / max(small)]
        ),
    )
