"""A worker or a consumer whose wait is on a link that was cut without a word: no FIN, no RST, no answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from proxy import FaultProxy
from servers import wait_until

from reliq import AsyncQueue, AsyncWorker, Item, Queue, Worker
from reliq.embedded import Server

NOTICED = 5.0  # seconds
MARGIN = 1.0  # for the claim that follows, on a busy machine


def in_threads(url: str, handle: Callable[[Item], None]) -> None:
    with Queue("q", url) as queue:
        Worker(queue, handle, max_items=2).run(signals=False)


def in_tasks(url: str, handle: Callable[[Item], None]) -> None:
    async def handle_in_task(item: Item) -> None:
        handle(item)

    async def work() -> None:
        async with AsyncQueue("q", url) as queue:
            await AsyncWorker(queue, handle_in_task, max_items=2).run(signals=False)

    asyncio.run(work())


def in_consume(url: str, handle: Callable[[Item], None]) -> None:
    with Queue("q", url) as queue:
        queue.consume(handle, max_items=2)


def in_a_loop(url: str, handle: Callable[[Item], None]) -> None:
    with Queue("q", url) as queue:
        for item in queue.consume(max_items=2):
            handle(item)


def in_async_consume(url: str, handle: Callable[[Item], None]) -> None:
    async def consume() -> None:
        async with AsyncQueue("q", url) as queue:
            await queue.consume(handle_in_task, max_items=2)

    async def handle_in_task(item: Item) -> None:
        handle(item)

    asyncio.run(consume())


@pytest.mark.slow
@pytest.mark.parametrize("work", [in_threads, in_tasks, in_consume, in_a_loop, in_async_consume])
def test_a_wait_never_hangs(work: Callable[..., None], server: Server, proxy: FaultProxy) -> None:
    """It notices within 5 s, and handles what has come meanwhile."""
    handled: list[object] = []
    worker = threading.Thread(target=work, args=(proxy.url, lambda item: handled.append(item.payload)))
    with Queue("q", server.url) as producer:
        rule = proxy.delay(60, match=b"BLPOP")
        worker.start()
        wait_until(lambda: rule.fired, "it waits")
        started = time.monotonic()
        producer.enqueue("first")
        wait_until(lambda: handled == ["first"], "the item to be handled", NOTICED + MARGIN)
        assert time.monotonic() - started < NOTICED + MARGIN
        proxy.clear()
        producer.enqueue("second")
    worker.join(20)
    assert handled == ["first", "second"]
