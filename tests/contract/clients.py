"""The two clients under one hand: tests are written in plain sync style and run on both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from proxy import Rule

from reliq import AsyncQueue, Queue

T = TypeVar("T")


class SyncedQueue:
    """An AsyncQueue whose calls each run to completion on an event loop of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._queue = AsyncQueue(*args, **options)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._queue, name)
        if inspect.iscoroutinefunction(found):
            return lambda *args, **options: self._runner.run(found(*args, **options))
        if inspect.isasyncgenfunction(found):
            return lambda *args, **options: self._each(found(*args, **options))
        return found

    def close(self) -> None:
        self._runner.run(self._queue.close())
        self._runner.close()

    def _each(self, source: AsyncIterator[T]) -> Iterator[T]:
        async def step() -> list[T]:
            return [value async for value in _first(source)]

        while value := self._runner.run(step()):
            yield value[0]


async def _first(source: AsyncIterator[T]) -> AsyncIterator[T]:
    try:
        yield await anext(source)
    except StopAsyncIteration:
        return


def make_queue(style: str, *args: Any, **options: Any) -> Queue:
    """A Queue, or an AsyncQueue that behaves like one."""
    return cast("Queue", SyncedQueue(*args, **options)) if style == "async" else Queue(*args, **options)


@dataclass
class Clock:
    """The time that the server is told, for all queues that follow it: scripts take it instead of their own."""

    now: float = 1_800_000_000.0  # Unix seconds
    _sessions: list[Any] = field(default_factory=list)

    def follow(self, queue: Queue) -> None:
        self._sessions.append(queue._session)
        self.advance(0)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for session in self._sessions:
            session.now_ms = b"%d" % round(self.now * 1000)


OpenQueue = Callable[..., Queue]
LoseReply = Callable[[str], Rule]
