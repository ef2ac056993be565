"""Items that one process handles in a second with a handler that does nothing, against a loop on Redis Streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import pytest
import redis
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import Sizes
from benchmarks.harness import OURS, Contest, Meter, Report, compared, in_rounds
from benchmarks.rivals import TEXT, Streams
from reliq import AsyncQueue, Item, Queue, Worker
from reliq.embedded import Server
from reliq.worker_async import AsyncWorker

BATCH = 100
TURN = 5  # times as many items as elsewhere: a worker is there for hours, and its start would be a tenth of a turn
RIVAL = "streams"


@pytest.fixture
def queue(server: Server) -> Iterator[Queue]:
    with Queue("ours", server.socket_url) as ours:
        yield ours


@pytest.mark.parametrize("prefetch", [None, BATCH], ids=["default prefetch", "prefetch 100"])
@pytest.mark.parametrize("threads", [1, 4])
def test_worker(
    threads: int,
    prefetch: int | None,
    queue: Queue,
    client: redis.Redis,
    meter: Meter,
    sizes: Sizes,
    benchmark: BenchmarkFixture,
    report: Report,
) -> None:
    """A backlog is worked off by `reliq.Worker`, and by as many threads that claim and finish 100 at a time."""
    items = TURN * sizes.batches * BATCH
    consumers = [Streams(client, "theirs", f"consumer-{n}") for n in range(threads)]

    def ours() -> int:
        worker = Worker(queue, lambda _: None, concurrency=threads, prefetch=prefetch, return_when_empty=True)
        return worker.run().finished

    def theirs() -> int:
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(lambda consumer: consumer.work(BATCH), consumers))

    case = f"worker, threads: {threads}, prefetch: {prefetch or 'default'}"
    contest = Contest(meter, {RIVAL: theirs, OURS: ours})
    compare(case, contest, queue, consumers[0], items, sizes, benchmark, report)


@pytest.mark.parametrize("tasks", [1, 16])
def test_async_worker(
    tasks: int,
    server: Server,
    queue: Queue,
    client: redis.Redis,
    meter: Meter,
    sizes: Sizes,
    benchmark: BenchmarkFixture,
    report: Report,
) -> None:
    """A backlog is worked off by `reliq.AsyncWorker`, and by one thread that claims and finishes 100 at a time."""
    consumer = Streams(client, "theirs")

    async def nothing(_: Item) -> None:
        pass

    async def work() -> int:
        async with AsyncQueue("ours", server.socket_url) as ours:
            return (await AsyncWorker(ours, nothing, concurrency=tasks, return_when_empty=True).run()).finished

    contest = Contest(meter, {RIVAL: lambda: consumer.work(BATCH), OURS: lambda: asyncio.run(work())})
    case = f"async worker, tasks: {tasks}"
    compare(case, contest, queue, consumer, TURN * sizes.batches * BATCH, sizes, benchmark, report)


def compare(
    case: str,
    contest: Contest,
    queue: Queue,
    consumer: Streams,
    items: int,
    sizes: Sizes,
    benchmark: BenchmarkFixture,
    report: Report,
) -> None:
    """Fills both sides and lets each work, in turns."""

    def fill() -> None:
        queue.enqueue_many([TEXT] * items)
        consumer.enqueue([TEXT] * items)
        contest.turn(RIVAL)

    in_rounds(benchmark, lambda: contest.turn(OURS), before=fill, rounds=min(5, sizes.rounds))
    per_second = {name: [1e6 / cost.wall for cost in costs] for name, costs in contest.costs.items()}
    ratios = [a / b for a, b in zip(per_second[OURS], per_second[RIVAL], strict=True)]
    speed = compared(
        case, "items/s, reliq by streams", median(per_second[OURS]), median(per_second[RIVAL]), ratios, ">= 1.0"
    )
    report.add(benchmark, speed, contest.row(case, RIVAL, "client", "<= 1.5"), contest.row(case, RIVAL, "server"))
