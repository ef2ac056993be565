"""One set of scenarios for both clients: the asyncio one is driven by an event loop of the test's own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

import reliq
from reliq.embedded import Server

Make = Callable[..., Any]


class Driven:
    """An `AsyncQueue` whose methods are called like those of a `Queue`."""

    def __init__(self, queue: reliq.AsyncQueue, runner: asyncio.Runner) -> None:
        self._queue = queue
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._queue, name)

        def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            return self._runner.run(result if inspect.iscoroutine(result) else _listed(result))

        return call


async def _listed(items: Any) -> list[Any]:
    return [item async for item in items]


@pytest.fixture(params=["sync", "asyncio"])
def make(request: pytest.FixtureRequest, server: Server, redis_client: redis.Redis) -> Iterator[Make]:
    """Makes queues on an empty server, for one client and then the other. Called as `make(name, codecs)`."""
    opened: list[Any] = []
    with asyncio.Runner() as runner:

        def made(name: str, codecs: Any = (), **options: Any) -> Any:
            kind = reliq.Queue if request.param == "sync" else reliq.AsyncQueue
            queue: Any = kind(name, server.socket_url, codecs=codecs, **options)
            opened.append(queue if request.param == "sync" else Driven(queue, runner))
            return opened[-1]

        yield made
        for queue in opened:
            queue.close()
