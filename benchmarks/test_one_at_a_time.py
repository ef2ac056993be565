"""An enqueue of one item and its round trip, against the same call packed by hiredis on a bare socket, and against
redis-py's own way to call a script.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import redis
import redis.asyncio
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import Sizes
from benchmarks.harness import OURS, Contest, Meter, Report, Work
from benchmarks.rivals import TEXT, BareProtocol, BareSocket, Wire, enqueues
from reliq import AsyncQueue, Queue
from reliq.embedded import Server

BARE, SCRIPT = "bare socket", "redis-py"


@pytest.fixture(params=["unix", "tcp"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    return server.socket_url if request.param == "unix" else server.url


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


def transport(url: str) -> str:
    return "unix" if url.startswith("unix:") else "tcp"


def script_arguments(wire: Wire) -> tuple[list[Any], list[Any]]:
    """Keys and arguments out of EVALSHA, digest, number of keys, keys, arguments."""
    split = 3 + int(wire[2])
    return list(wire[3:split]), list(wire[split:])


def reported(contest: Contest, case: str, benchmark: BenchmarkFixture, report: Report) -> None:
    report.add(
        benchmark,
        contest.row(case, BARE, "wall", "<= 2.0"),
        contest.row(case, BARE, "client"),
        contest.row(case, SCRIPT, "wall", ">= 2.0", times=True),
        contest.row(case, SCRIPT, "client", times=True),
    )


def test_enqueue(url: str, meter: Meter, sizes: Sizes, benchmark: BenchmarkFixture, report: Report) -> None:
    """From one thread."""
    first, wires = enqueues(url, "theirs", 2 * sizes.calls * (sizes.rounds + 1))
    source, bare, waiting = first.script.source, BareSocket(url), iter(wires)

    def work(call: Callable[[Wire], object]) -> Work:
        def one_by_one() -> int:
            for wire in islice(waiting, sizes.calls):
                call(wire)
            return sizes.calls

        return one_by_one

    with Queue("ours", url) as queue, redis.Redis.from_url(url) as plain:
        script = plain.register_script(source)
        parts = {id(wire): script_arguments(wire) for wire in wires}
        ways = {
            BARE: work(lambda wire: bare.call(*wire)),
            SCRIPT: work(lambda wire: script(*parts[id(wire)])),
            OURS: lambda: sum(queue.enqueue(TEXT).created for _ in range(sizes.calls)),
        }
        contest = Contest(meter, ways)
        contest.turns(1)
        contest.costs.clear()
        contest.run(benchmark, sizes.rounds)
    bare.close()
    reported(contest, f"enqueue one, {transport(url)}", benchmark, report)


def test_enqueue_asyncio(
    url: str,
    runner: asyncio.Runner,
    meter: Meter,
    sizes: Sizes,
    benchmark: BenchmarkFixture,
    report: Report,
) -> None:
    """From one task. The bare socket is a transport of the event loop with hiredis behind it."""
    first, wires = enqueues(url, "theirs", 2 * sizes.calls * (sizes.rounds + 1))
    waiting = iter(wires)
    bare, queue, plain = runner.run(_connect(url))
    script = plain.register_script(first.script.source)
    parts = {id(wire): script_arguments(wire) for wire in wires}

    def work(call: Callable[[Wire], Awaitable[object]]) -> Work:
        async def one_by_one() -> int:
            for wire in islice(waiting, sizes.calls):
                await call(wire)
            return sizes.calls

        return lambda: runner.run(one_by_one())

    async def ours() -> int:
        return sum([(await queue.enqueue(TEXT)).created for _ in range(sizes.calls)])

    ways = {
        BARE: work(lambda wire: bare.call(*wire)),
        SCRIPT: work(lambda wire: script(*parts[id(wire)])),
        OURS: lambda: runner.run(ours()),
    }
    contest = Contest(meter, ways)
    contest.turns(1)
    contest.costs.clear()
    contest.run(benchmark, sizes.rounds)
    runner.run(_close(bare, queue, plain))
    reported(contest, f"enqueue one, asyncio, {transport(url)}", benchmark, report)


async def _connect(url: str) -> tuple[BareProtocol, AsyncQueue, redis.asyncio.Redis]:
    return await BareProtocol.connect(url), AsyncQueue("ours", url), redis.asyncio.Redis.from_url(url)


async def _close(bare: BareProtocol, queue: AsyncQueue, plain: redis.asyncio.Redis) -> None:
    bare.close()
    await queue.close()
    await plain.aclose()
