"""Enqueue, claim and finish in batches of 100, against Redis Streams by hand.

An item's cost is that of its whole life: all three verbs. Each side has a server of its own, of one binary and one
set of settings: on a common one each would pay for the holes that the other leaves in its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import Sizes
from benchmarks.harness import OURS, Contest, Meter, Report, Work
from benchmarks.rivals import TEXT, Streams
from reliq import Queue
from reliq.embedded import Server
from reliq.item import Item

BATCH = 100
PAYLOADS = [TEXT] * BATCH
STANDING = 10  # batches that wait in the steady state
RIVAL = "streams"


@pytest.fixture
def queue(server: Server) -> Iterator[Queue]:
    with Queue("ours", server.socket_url) as ours:
        yield ours


@pytest.fixture
def streams(rival_client: redis.Redis) -> Streams:
    return Streams(rival_client, "theirs")


@pytest.fixture
def meter(client: redis.Redis, rival_client: redis.Redis) -> Meter:
    return Meter(client, rival_client)


class Separate:
    """Claim, then finish: two round trips a batch."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def __call__(self) -> None:
        self.queue.finish(self.queue.claim(BATCH))


class Loop:
    """A worker's loop: finish what is held and claim the next, in one round trip."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.held: list[Item] = []

    def __call__(self) -> None:
        self.held = self.queue.finish_and_claim(self.held, BATCH)


FORMS: dict[str, Callable[[Queue], Callable[[], None]]] = {"claim, finish": Separate, "finish_and_claim": Loop}


def repeated(batches: int, *steps: Callable[[], object]) -> Work:
    """The steps so many times, each of them for a batch."""

    def work() -> int:
        for _ in range(batches):
            for step in steps:
                step()
        return batches * BATCH

    return work


def by_hand(streams: Streams) -> Callable[[], None]:
    return lambda: streams.finish([entry_id for entry_id, _ in streams.claim(BATCH)])


def reported(contest: Contest, case: str, benchmark: BenchmarkFixture, report: Report) -> None:
    report.add(
        benchmark,
        contest.row(case, RIVAL, "server", "<= 1.3"),
        contest.row(case, RIVAL, "wall", "<= 0.6"),
        contest.row(case, RIVAL, "client"),
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("known", ["few", "many"])
def test_steady_state(
    form: str,
    known: str,
    queue: Queue,
    streams: Streams,
    meter: Meter,
    sizes: Sizes,
    benchmark: BenchmarkFixture,
    report: Report,
) -> None:
    """Items come and go at the same rate, with 1,000 waiting. `many`: as many ended ids are known as the queue may
    remember, so that each batch also forgets the oldest ones, as in a queue that has run for an hour.
    """
    if known == "many":
        queue.configure(finished_count=STANDING * BATCH)
    take = FORMS[form](queue)

    def ours() -> None:
        queue.enqueue_many(PAYLOADS, batch=BATCH)

    def theirs() -> None:
        streams.enqueue(PAYLOADS)

    for _ in range(STANDING):
        ours()
        theirs()
    contest = Contest(
        meter, {RIVAL: repeated(sizes.batches, theirs, by_hand(streams)), OURS: repeated(sizes.batches, ours, take)}
    )
    contest.turns(1 + STANDING // sizes.batches)  # what is waiting has been replaced, and memory was used before
    contest.costs.clear()
    contest.run(benchmark, sizes.rounds)
    case = f"steady, {form}" + (", forgetting" if known == "many" else "")
    reported(contest, case, benchmark, report)


@pytest.mark.parametrize("form", FORMS)
def test_drain_a_backlog(
    form: str, queue: Queue, streams: Streams, meter: Meter, sizes: Sizes, benchmark: BenchmarkFixture, report: Report
) -> None:
    """All items are enqueued before the first one is claimed."""
    take = FORMS[form](queue)
    per_round = max(1, sizes.backlog // BATCH // sizes.rounds)
    fill = Contest(
        meter,
        {
            RIVAL: repeated(per_round, lambda: streams.enqueue(PAYLOADS)),
            OURS: repeated(per_round, lambda: queue.enqueue_many(PAYLOADS, batch=BATCH)),
        },
    )
    drain = Contest(meter, {RIVAL: repeated(per_round, by_hand(streams)), OURS: repeated(per_round, take)})
    fill.turns(sizes.rounds)
    drain.run(benchmark, sizes.rounds)
    reported(fill.followed_by(drain), f"drain {sizes.backlog:,}, {form}", benchmark, report)
