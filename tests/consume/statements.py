"""What a user's type checker sees of consuming. Checked by mypy with everything else, never run."""

from __future__ import annotations

import datetime as dt
from typing import assert_type

import reliq
from reliq.answers import Discard, Retry


def sync_side(queue: reliq.Queue) -> None:
    def handle(item: reliq.Item) -> None: ...
    def handle_all(items: list[reliq.Item]) -> Retry:
        return Retry(len(items))

    assert_type(queue.consume(handle, chunk=10, pause=dt.timedelta(seconds=1)), reliq.ConsumeReport)
    assert_type(queue.consume(handle_all, process_all=True, on_error="release"), reliq.ConsumeReport)
    assert_type(queue.consume(handle, on_error=lambda _, error: Discard(str(error))), reliq.ConsumeReport)
    assert_type(queue.consume(chunk=10), reliq.Consumption)
    for item in queue.consume(max_items=5):
        assert_type(item, reliq.Item)
    with queue.consume() as items:
        assert_type(items, reliq.Consumption)
        assert_type(items.report, reliq.ConsumeReport)


async def async_side(queue: reliq.AsyncQueue) -> None:
    async def handle(item: reliq.Item) -> None: ...

    assert_type(await queue.consume(handle, chunk=10), reliq.ConsumeReport)
    async for item in queue.consume(max_items=5):
        assert_type(item, reliq.Item)
    async with queue.consume() as items:
        assert_type(items, reliq.AsyncConsumption)


def mistakes(queue: reliq.Queue) -> None:
    queue.consume("a handler")  # type: ignore[call-overload]
    queue.consume(process_all=True)  # type: ignore[call-overload]
    queue.consume(chunk="10")  # type: ignore[call-overload]
