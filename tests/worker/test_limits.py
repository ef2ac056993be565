"""Handlers that take too long, and handlers whose lease is gone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from servers import wait_until
from worker.conftest import Held, Workers, take_away

from reliq import Item, ItemState, LeaseLost, Queue, Worker
from reliq._ledger import WorkerReport
from reliq._limits import Limited, Watchdog
from reliq.errors import TimeLimit

LIMIT = 0.3


def spin(_: Item) -> None:
    """Works, line by line, without an end."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        sum(range(100))


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_time_limit_in_threads(kind: str, queue: Queue, workers: Workers) -> None:
    """A plain function that takes too long is broken off, and its attempt has failed; the next one runs."""
    if workers.kind != kind:
        pytest.skip("plain functions only")
    queue.configure(max_attempts=1)
    queue.enqueue("slow", id="slow")
    queue.enqueue("fast", id="fast")
    report = workers.run(
        lambda item: spin(item) if item.payload == "slow" else None, time_limit=LIMIT, return_when_empty=True
    )
    assert report == WorkerReport(finished=1, failed=1)
    assert queue.get("slow").error == "TimeLimit: the handler ran longer than 0.3 s"


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_time_limit_of_coroutines(kind: str, queue: Queue, workers: Workers) -> None:
    """A coroutine that takes too long is cancelled, and can clean up; its attempt has failed."""
    if workers.kind != kind:
        pytest.skip("one kind at a time")
    queue.configure(max_attempts=1)
    queue.enqueue("slow", id="slow")
    cleaned: list[str] = []

    async def handle(item: Item) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append(item.id)

    assert workers.run(handle, time_limit=LIMIT, return_when_empty=True) == WorkerReport(failed=1)
    assert cleaned == ["slow"]
    assert queue.get("slow").error == "TimeLimit: the handler ran longer than 0.3 s"


def test_timeout_of_the_handlers_own(queue: Queue, workers: Workers) -> None:
    """A TimeoutError of the handler's own is an error like any other, not the worker's limit."""
    queue.configure(max_attempts=1)
    queue.enqueue("payload", id="one")

    def handle(_: Item) -> None:
        raise TimeoutError("mine")

    assert workers.run(handle, time_limit=30, return_when_empty=True) == WorkerReport(failed=1)
    assert queue.get("one").error == "TimeoutError: mine"


@pytest.fixture
def slot() -> Iterator[Limited]:
    """A thread's place under a watchdog with a short limit."""
    limited = Limited()
    watchdog = Watchdog(0.01, [limited], lambda _: None)
    watchdog.start()
    yield limited
    watchdog.stop()


def test_the_limit_never_hits_the_next_handler(slot: Limited, queue: Queue) -> None:
    """Handlers that end just when their time is over are struck or not; never is whatever runs after them."""
    queue.enqueue("payload")
    item = queue.claim()[0]
    struck, durations = 0, [0.0]

    def handle(_: Item) -> None:
        until = time.monotonic() + durations[-1]
        while time.monotonic() < until:
            pass

    for number in range(200):
        durations.append(0.0002 * (number % 100))
        try:
            slot.call(handle, item, 0.01)
        except TimeLimit:
            struck += 1
        sum(range(200))  # here it would be raised, were it late
    assert struck > 0
    queue.finish(item)


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_a_coroutine_is_cancelled_when_its_lease_is_lost(kind: str, queue: Queue, workers: Workers) -> None:
    """The handler hears of it with the next renewal, and nothing of it is settled."""
    if workers.kind != kind:
        pytest.skip("one kind at a time")
    queue.enqueue("payload", id="one")
    begun, cancelled = threading.Event(), threading.Event()

    async def handle(_: Item) -> None:
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    running = workers.start(handle, lease=1.5, max_items=1)
    assert begun.wait(10)
    take_away(queue, "one")
    assert cancelled.wait(10)
    assert running.report() == WorkerReport(lost=1)
    assert queue.get("one").state is ItemState.IN_PROGRESS


def test_a_coroutine_that_is_not_cancelled(queue: Queue, workers: Workers) -> None:
    """With cancel_on_lost=False it sees item.lost, and what it returns is not settled."""
    if workers.kind != "coroutines":
        pytest.skip("coroutines only")
    queue.enqueue("payload", id="one")
    begun = threading.Event()

    async def handle(item: Item) -> str:
        begun.set()
        while not item.lost:  # noqa: ASYNC110  nobody tells it
            await asyncio.sleep(0.01)
        return "seen"

    running = workers.start(handle, lease=1.5, max_items=1, cancel_on_lost=False)
    assert begun.wait(10)
    take_away(queue, "one")
    assert running.report() == WorkerReport(lost=1)


def test_a_plain_function_sees_that_its_lease_is_lost(queue: Queue, workers: Workers, held: Held) -> None:
    """item.lost is true soon after, a checkpoint is refused, and nothing is settled."""
    queue.enqueue("payload", id="one")
    running = workers.start(held, lease=1.5, max_items=1)
    held.wait_for(1)
    take_away(queue, "one")
    wait_until(lambda: held.items[0].lost, "the handler can see it")
    held.let_go()
    assert running.report() == WorkerReport(lost=1)
    assert queue.get("one").state is ItemState.IN_PROGRESS


def test_a_checkpoint_after_the_lease_is_lost(queue: Queue, start: object) -> None:
    """A plain function that checkpoints hears of it there."""
    queue.enqueue("payload", id="one")
    heard: list[BaseException] = []

    def handle(item: Item) -> None:
        take_away(queue, "one")
        try:
            item.checkpoint({"done": 1})
        except LeaseLost as error:
            heard.append(error)
            raise

    assert Worker(queue, handle, lease=60, max_items=1).run() == WorkerReport(lost=1)
    assert len(heard) == 1
    assert queue.get("one").state is ItemState.IN_PROGRESS


def test_lost_lease_is_not_finished(queue: Queue, workers: Workers, held: Held) -> None:
    """An item that somebody else has by now is left to them, also where no renewal has found out."""
    queue.enqueue("payload", id="one")
    running = workers.start(held, lease=60, max_items=1)
    held.wait_for(1)
    take_away(queue, "one")
    held.let_go()
    assert running.report() == WorkerReport(lost=1)
    assert queue.get("one").state is ItemState.IN_PROGRESS
    assert queue.counts().finished == 0
