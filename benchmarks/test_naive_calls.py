"""Naive code: a call for each item, from many threads or tasks at a time, against explicit batches of 100.

Callers that come while a call is on its way go together in the next one. The target of tasks is half of the items a
second that batches get. Threads can't get there: each item wakes a thread, which takes longer than an item of a batch
takes in all. Their rival is the same code with a connection for each thread, which is what a queue object for each of
them is; and they spare the server most of its calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import Sizes
from benchmarks.harness import OURS, Contest, Meter, Report
from benchmarks.rivals import TEXT
from reliq import AsyncQueue, Item, Queue
from reliq.embedded import Server

THREADS = 32
TASKS = 1000
BATCH = 100
BATCHES, APART = "batches of 100", "a connection each"


@pytest.fixture
def queue(server: Server) -> Iterator[Queue]:
    with Queue("ours", server.socket_url) as ours:
        yield ours


def shared_out(values: Sequence[Any], callers: int) -> list[Sequence[Any]]:
    return [values[n::callers] for n in range(callers)]


def by_threads(pool: ThreadPoolExecutor, calls: Sequence[Callable[[Any], object]], values: Sequence[Any]) -> int:
    """A thread for each of the calls makes it for its share of the values, one by one."""

    def one(call: Callable[[Any], object], share: Iterable[Any]) -> None:
        for value in share:
            call(value)

    list(pool.map(one, calls, shared_out(values, len(calls))))
    return len(values)


async def by_tasks(call: Callable[[Any], Awaitable[object]], values: Sequence[Any]) -> int:
    """As many tasks make the call for their shares of the values, one by one."""

    async def one(share: Iterable[Any]) -> None:
        for value in share:
            await call(value)

    await asyncio.gather(*map(one, shared_out(values, TASKS)))
    return len(values)


def in_batches(verb: Callable[[Sequence[Any]], object], values: Sequence[Any]) -> int:
    for start in range(0, len(values), BATCH):
        verb(values[start : start + BATCH])
    return len(values)


def ready_to_finish(queue: Queue, count: int) -> list[Item]:
    queue.enqueue_many([TEXT] * count)
    return [item for start in range(0, count, 1000) for item in queue.claim(min(1000, count - start))]


def per_turn(sizes: Sizes) -> int:
    return 2 * TASKS if sizes.rounds == 1 else 10 * TASKS


def reported(contest: Contest, case: str, benchmark: BenchmarkFixture, report: Report, target: str = "") -> None:
    report.add(
        benchmark,
        contest.row(case, BATCHES, "wall", target, times=True),
        contest.row(case, BATCHES, "server", times=True),
        contest.row(case, BATCHES, "client", times=True),
    )
    if APART in contest.costs:
        report.add(
            benchmark,
            contest.row(case, APART, "wall", ">= 1.0", times=True),
            contest.row(case, APART, "server", times=True),
            contest.row(case, APART, "client", times=True),
        )


@pytest.fixture
def apart(server: Server) -> Iterator[list[Queue]]:
    """Queue objects that share nothing, one for each thread."""
    with ExitStack() as stack:
        yield [stack.enter_context(Queue("ours", server.socket_url)) for _ in range(THREADS)]


@pytest.mark.parametrize("callers", [2, 4, 8, THREADS])
def test_enqueue_from_threads(
    callers: int,
    queue: Queue,
    apart: list[Queue],
    meter: Meter,
    sizes: Sizes,
    benchmark: BenchmarkFixture,
    report: Report,
) -> None:
    values = [TEXT] * (per_turn(sizes) // 2)
    with ThreadPoolExecutor(callers) as pool:
        ways = {
            BATCHES: lambda: in_batches(queue.enqueue_many, values),
            APART: lambda: by_threads(pool, [each.enqueue for each in apart[:callers]], values),
            OURS: lambda: by_threads(pool, [queue.enqueue] * callers, values),
        }
        contest = Contest(meter, ways)
        contest.turns(1)
        contest.costs.clear()
        contest.run(benchmark, sizes.rounds)
    reported(contest, f"enqueue one, {callers} threads", benchmark, report)


def test_finish_from_threads(
    queue: Queue, apart: list[Queue], meter: Meter, sizes: Sizes, benchmark: BenchmarkFixture, report: Report
) -> None:
    items = {name: iter(_turns(queue, sizes)) for name in (BATCHES, APART, OURS)}
    with ThreadPoolExecutor(THREADS) as pool:
        ways = {
            BATCHES: lambda: in_batches(queue.finish, next(items[BATCHES])),
            APART: lambda: by_threads(pool, [each.finish for each in apart], next(items[APART])),
            OURS: lambda: by_threads(pool, [queue.finish] * THREADS, next(items[OURS])),
        }
        contest = Contest(meter, ways)
        contest.turns(1)
        contest.costs.clear()
        contest.run(benchmark, sizes.rounds)
    reported(contest, f"finish one, {THREADS} threads", benchmark, report)


def _turns(queue: Queue, sizes: Sizes) -> list[list[Item]]:
    """Claimed items for each turn, and one before that."""
    return [ready_to_finish(queue, per_turn(sizes) // 4) for _ in range(sizes.rounds + 1)]


def test_enqueue_from_tasks(
    server: Server, meter: Meter, sizes: Sizes, benchmark: BenchmarkFixture, report: Report
) -> None:
    values = [TEXT] * per_turn(sizes)
    with asyncio.Runner() as runner:
        queue = AsyncQueue("ours", server.socket_url)
        ways = {
            BATCHES: lambda: runner.run(_in_batches(queue.enqueue_many, values)),
            OURS: lambda: runner.run(by_tasks(queue.enqueue, values)),
        }
        contest = Contest(meter, ways)
        contest.turns(1)
        contest.costs.clear()
        contest.run(benchmark, sizes.rounds)
        runner.run(queue.close())
    reported(contest, f"enqueue one, {TASKS:,} tasks", benchmark, report, ">= 0.5")


def test_finish_from_tasks(
    server: Server, queue: Queue, meter: Meter, sizes: Sizes, benchmark: BenchmarkFixture, report: Report
) -> None:
    items = {name: iter(_turns(queue, sizes)) for name in (BATCHES, OURS)}
    with asyncio.Runner() as runner:
        tasks_queue = AsyncQueue("ours", server.socket_url)
        ways = {
            BATCHES: lambda: runner.run(_in_batches(tasks_queue.finish, next(items[BATCHES]))),
            OURS: lambda: runner.run(by_tasks(tasks_queue.finish, next(items[OURS]))),
        }
        contest = Contest(meter, ways)
        contest.turns(1)
        contest.costs.clear()
        contest.run(benchmark, sizes.rounds)
        runner.run(tasks_queue.close())
    reported(contest, f"finish one, {TASKS:,} tasks", benchmark, report, ">= 0.5")


async def _in_batches(verb: Callable[[Sequence[Any]], Awaitable[object]], values: Sequence[Any]) -> int:
    for start in range(0, len(values), BATCH):
        await verb(values[start : start + BATCH])
    return len(values)
