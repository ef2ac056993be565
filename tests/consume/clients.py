"""Both clients under one hand for consuming: handlers and loops are written in plain sync style and run on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from contract.clients import SyncedQueue

from reliq import Item, Queue


class SyncedConsumption:
    """An `AsyncConsumption` whose every step runs to completion on the queue's event loop."""

    def __init__(self, source: Any, run: Callable[[Any], Any]) -> None:
        self._source, self._run = source, run

    @property
    def report(self) -> Any:
        return self._source.report

    def __iter__(self) -> Iterator[Item]:
        items = aiter(self._source)
        try:
            while (item := self._run(_next(items))) is not None:
                yield item
        finally:
            self._run(items.aclose())

    def __enter__(self) -> Self:
        self._run(self._source.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._source.__aexit__(*error))


async def _next(items: Any) -> Item | None:
    async for item in items:
        found: Item = item
        return found
    return None


class ConsumingQueue(SyncedQueue):
    def consume(self, handler: Any = None, **options: Any) -> Any:
        if handler is None:
            return SyncedConsumption(self._queue.consume(**options), self._runner.run)

        async def handle(item: Any) -> object:
            return handler(item)

        return self._runner.run(self._queue.consume(handle if callable(handler) else handler, **options))


def queue_of(style: str, *args: Any, **options: Any) -> Any:
    return ConsumingQueue(*args, **options) if style == "async" else Queue(*args, **options)
