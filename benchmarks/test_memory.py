"""Memory of the server for each queued item, against a list that holds the same bytes and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
import redis
from pytest_benchmark.fixture import BenchmarkFixture
from servers import start_server, wait_until

from benchmarks.conftest import FULL, Sizes
from benchmarks.harness import Report, compared, in_rounds
from benchmarks.rivals import TEXT
from reliq import Queue
from reliq.embedded import Server

BATCH = 1000
PAYLOADS = {"text, 100 bytes": TEXT, "bytes, 102 bytes": b"x" * 100}


def settled(client: redis.Redis) -> int:
    """`used_memory` when all other connections are gone and it stands still: hash tables have been moved over."""
    wait_until(lambda: client.info("clients")["connected_clients"] == 1, "other connections are closed")
    seen: list[int] = []

    def still() -> bool:
        seen.append(client.info("memory")["used_memory"])
        return len(seen) >= 5 and len(set(seen[-5:])) == 1

    wait_until(still, "used_memory stands still", timeout=60)
    return seen[-1]


def memory_per_item(fill: Callable[[Server], None], items: int) -> float:
    """Bytes for each item, on a fresh server."""
    with start_server() as server, redis.Redis.from_url(server.socket_url) as client:
        before = settled(client)
        fill(server)
        return (settled(client) - before) / items


def queue_of(payload: Any, items: int) -> Callable[[Server], None]:
    def fill(server: Server) -> None:
        with Queue("ours", server.socket_url) as queue:
            for _ in range(items // BATCH):
                queue.enqueue_many([payload] * BATCH, batch=BATCH)

    return fill


def list_of(payload: Any, items: int) -> Callable[[Server], None]:
    def fill(server: Server) -> None:
        record = msgpack.packb(payload)
        with redis.Redis.from_url(server.socket_url) as client:
            for _ in range(items // BATCH):
                client.rpush("theirs", *[record] * BATCH)

    return fill


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("size", range(len(FULL.memory)))
def test_memory(payload: str, size: int, sizes: Sizes, benchmark: BenchmarkFixture, report: Report) -> None:
    """Bytes of a queued item by bytes of a list element. One turn: a busy machine changes nothing about memory."""
    if size >= len(sizes.memory):
        pytest.skip("a million items: only with --full")
    items = sizes.memory[size]
    theirs = memory_per_item(list_of(PAYLOADS[payload], items), items)
    found: list[float] = []
    fill = queue_of(PAYLOADS[payload], items)
    in_rounds(benchmark, lambda: found.append(memory_per_item(fill, items)), rounds=1)
    ours = found[0]
    case = f"{items:,} items, {payload}"
    report.add(benchmark, compared(case, "memory in bytes, reliq by RPUSH", ours, theirs, [ours / theirs], "<= 1.8"))
