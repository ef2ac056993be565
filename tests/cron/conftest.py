"""Queues on either client that follow a clock of the test's own, and a scheduler for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from contract.clients import Clock, SyncedQueue, make_queue
from contract.evidence import check_server

from reliq import Queue, cron
from reliq.embedded import Server

START = 1_800_000_000  # 2027-01-15 08:00:00 UTC, a Friday

OpenQueue = Callable[..., Queue]
Tick = Callable[[Queue], int]


@pytest.fixture(params=["sync", "async"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def open_queue(style: str, server: Server, redis_client: redis.Redis, clock: Clock) -> Iterator[OpenQueue]:
    """Opens clients of queues; at the end what the server has must agree with itself."""
    opened: list[Queue] = []

    def open_one(name: str = "q", url: str | None = None, **options: Any) -> Queue:
        opened.append(make_queue(style, name, url=url or server.socket_url, **options))
        clock.follow(opened[-1])
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()
    check_server(redis_client)


@pytest.fixture
def queue(open_queue: OpenQueue) -> Queue:
    return open_queue()


def tick(queue: Queue) -> int:
    """What a scheduler does, by the client that the queue is."""
    either: Any = queue
    is_async = isinstance(either, SyncedQueue)
    made: int = either._runner.run(cron.tick_async(either._queue)) if is_async else cron.tick(either)
    return made


def ids(queue: Queue) -> list[str]:
    """The queued items, next first."""
    return [info.id for info in queue.scan("queued")]


def at(name: str, *times: str) -> list[str]:
    """Ids of the items for ticks on the first day."""
    return [f"cron:{name}:2027-01-15T{time}Z" for time in times]


def send(queue: Queue, command: Any) -> Any:
    """One call of a plan that the test goes through by itself."""
    either: Any = queue
    sent = either._driver.call(command)
    return either._runner.run(sent) if isinstance(either, SyncedQueue) else sent
