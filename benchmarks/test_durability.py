"""What a confirmation costs: an enqueue of one item at each level of durability, against the same one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from pytest_benchmark.fixture import BenchmarkFixture
from servers import server_binary

from benchmarks.conftest import Sizes
from benchmarks.harness import OURS, Contest, Meter, Report, Work
from benchmarks.rivals import TEXT
from reliq import Queue
from reliq.testing.topology import Topology

MEMORY = "memory"
CALLERS = 32  # threads that share a queue


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    """A master with two replicas and an append-only file, on one machine: no network between them."""
    with Topology(binary=server_binary(), sentinels=0, network="loopback") as running:
        yield running


@pytest.mark.parametrize("callers", [1, CALLERS])
@pytest.mark.parametrize("level", ["replicated:1", "replicated:all", "fsynced"])
def test_enqueue(
    level: str, callers: int, topology: Topology, sizes: Sizes, benchmark: BenchmarkFixture, report: Report
) -> None:
    """From one thread, and from many that share a queue, whose calls are confirmed together."""
    master = topology.master
    if level == "fsynced" and not master.call("COMMAND", "INFO", "WAITAOF")[0]:  # type: ignore[index]
        pytest.skip("this server has no WAITAOF")
    calls = 2 * callers if level == "fsynced" else max(callers, sizes.calls // 4)  # the disk is synced once a second

    def work(queue: Queue) -> Work:
        return lambda: enqueue(queue, calls, callers)

    with Queue(MEMORY, master.url) as plain, Queue(OURS, master.url, durability=level) as ours:
        with redis.Redis.from_url(master.url, protocol=2) as control:
            contest = Contest(Meter(control), {MEMORY: work(plain), OURS: work(ours)})
            contest.run(benchmark, max(1, sizes.rounds // 2))
        report.add(benchmark, contest.row(f"enqueue, {level}, callers: {callers}", MEMORY, "wall"))


def enqueue(queue: Queue, calls: int, callers: int) -> int:
    if callers == 1:
        for _ in range(calls):
            queue.enqueue(TEXT)
        return calls
    with ThreadPoolExecutor(callers) as pool:
        return sum(1 for _ in pool.map(lambda _: queue.enqueue(TEXT), range(calls)))
