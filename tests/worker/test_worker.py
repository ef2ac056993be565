"""A worker in this process: what it handles, retries, renews, and when it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis
from servers import wait_until
from worker.conftest import LEASE, Held, Workers

from reliq import InvalidArgument, Item, ItemState, Queue, StateLost, Worker
from reliq._ledger import WorkerReport
from reliq.embedded import Server


def ignore(_: Item) -> None:
    return None


@pytest.mark.parametrize(("concurrency", "prefetch"), [(1, 0), (1, 50), (4, None), (4, 16)])
def test_handles_everything_once(concurrency: int, prefetch: int | None, queue: Queue, workers: Workers) -> None:
    """Each item is handled once and finished, with any number of handlers."""
    queue.enqueue_many(range(200))
    seen: list[int] = []
    report = workers.run(
        lambda item: seen.append(item.payload), concurrency=concurrency, prefetch=prefetch, return_when_empty=True
    )
    assert report == WorkerReport(finished=200)
    assert Counter(seen) == Counter(range(200))
    assert queue.counts().finished == 200


def test_one_handler_keeps_the_order(queue: Queue, workers: Workers) -> None:
    """With one handler items are handled in the order of the queue."""
    queue.enqueue_many(range(500))
    seen: list[int] = []
    workers.run(lambda item: seen.append(item.payload), return_when_empty=True)
    assert seen == list(range(500))


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_coroutine_functions(kind: str, queue: Queue, workers: Workers) -> None:
    """Both kinds of worker run coroutine functions, also objects whose call is one."""

    class Sender:
        def __init__(self) -> None:
            self.sent: list[int] = []

        async def __call__(self, item: Item) -> None:
            self.sent.append(item.payload)

    if workers.kind != kind:
        pytest.skip("one kind at a time")
    queue.enqueue_many(range(20))
    sender = Sender()
    assert workers.run(sender, concurrency=3, return_when_empty=True) == WorkerReport(finished=20)
    assert sorted(sender.sent) == list(range(20))


async def _send(sent: list[int], item: Item) -> None:
    await asyncio.sleep(0)
    sent.append(item.payload)


class _Sender:
    """An object with an asynchronous call; a partial of it does not look like a coroutine function."""

    async def __call__(self, sent: list[int], item: Item) -> None:
        await _send(sent, item)


@pytest.mark.parametrize("time_limit", [None, 30])
@pytest.mark.parametrize(
    "made",
    [
        lambda sent: lambda item: _send(sent, item),
        lambda sent: partial(_send, sent),
        lambda sent: partial(_Sender(), sent),
        lambda sent: lambda item: partial(_send, sent, item)(),
    ],
)
def test_coroutines_that_plain_functions_return(
    made: Any, time_limit: float | None, queue: Queue, workers: Workers
) -> None:
    """What such a function gives is awaited: an item is not finished before its work is."""
    queue.enqueue_many(range(10))
    sent: list[int] = []
    report = workers.run(made(sent), concurrency=2, time_limit=time_limit, return_when_empty=True)
    assert report == WorkerReport(finished=10)
    assert sorted(sent) == list(range(10))


def test_generator_functions_fail(queue: Queue, workers: Workers) -> None:
    """Calling one runs nothing of it: the attempt has failed, and says why."""
    queue.configure(max_attempts=1)
    queue.enqueue("payload", id="one")

    def handle(item: Item) -> Iterator[Any]:
        yield item.payload

    assert workers.run(handle, return_when_empty=True) == WorkerReport(failed=1)
    assert "generator" in str(queue.get("one").error)


def test_failures_are_retried_and_end_among_the_dead(queue: Queue, workers: Workers) -> None:
    """What a handler raises is a failed attempt; after max_attempts the item is dead, with the error beside it."""
    queue.enqueue("bad", id="bad")
    queue.enqueue("good", id="good")
    attempts: list[int] = []

    def handle(item: Item) -> None:
        if item.payload == "bad":
            attempts.append(item.attempt)
            raise ValueError("this one never works")

    assert workers.run(handle, return_when_empty=True) == WorkerReport(finished=1, failed=3)
    assert attempts == [1, 2, 3]
    info = queue.get("bad")
    assert (info.state, info.failures, info.error) == (ItemState.DEAD, 3, "ValueError: this one never works")


def test_failures_of_one_turn_are_told_apart(queue: Queue, workers: Workers) -> None:
    """Errors of many items keep to their items, though they go to the server together."""
    queue.configure(max_attempts=1)
    queue.enqueue_many(range(50))

    def handle(item: Item) -> None:
        raise ValueError(item.payload)

    assert workers.run(handle, concurrency=4, return_when_empty=True) == WorkerReport(failed=50)
    assert {info.payload: info.error for info in queue.scan("dead")} == {n: f"ValueError: {n}" for n in range(50)}


def test_lease_is_renewed_while_a_handler_runs(queue: Queue, workers: Workers, held: Held) -> None:
    """A handler may run for longer than its lease; nobody else gets the item."""
    queue.enqueue("payload")
    running = workers.start(held, lease=LEASE, max_items=1)
    held.wait_for(1)
    until = time.monotonic() + 2.5 * LEASE
    while time.monotonic() < until:
        assert queue.claim(wait=0.05) == []  # every claim would recover an ended lease
    held.let_go()
    assert running.report() == WorkerReport(finished=1)


def test_a_handler_that_settles_its_item_itself(queue: Queue, workers: Workers) -> None:
    """What the handler did with its item stands, whatever it returns."""
    queue.enqueue("payload", id="one")

    def handle(item: Item) -> None:
        queue.finish(item)
        item.settled = True

    assert workers.run(handle, return_when_empty=True) == WorkerReport(finished=1)
    assert queue.counts().finished == 1


def test_a_handler_that_hangs_keeps_nobody_waiting(queue: Queue, workers: Workers) -> None:
    """What was claimed ahead while handlers were fast goes back when they come to stand still, and keeps its turn."""
    held = Held(only=lambda item: item.payload == 1500)
    queue.enqueue_many(range(3000))
    workers.start(held)
    held.wait_for(1501)
    wait_until(lambda: queue.counts().in_progress == 2, "all but two items to be given back")
    assert [item.payload for item in queue.claim(3)] == [1502, 1503, 1504]
    held.let_go()


def test_max_items(queue: Queue, workers: Workers) -> None:
    """The worker ends after so many items and claims none beyond them."""
    queue.enqueue_many(range(20))
    assert workers.run(ignore, max_items=7, concurrency=3, prefetch=10) == WorkerReport(finished=7)
    counts = queue.counts()
    assert (counts.queued, counts.in_progress) == (13, 0)


def test_max_items_counts_failures(queue: Queue, workers: Workers) -> None:
    """A failed attempt is one of them."""
    queue.enqueue("bad")

    def handle(_: Item) -> None:
        raise RuntimeError

    assert workers.run(handle, max_items=2) == WorkerReport(failed=2)


def test_max_seconds(queue: Queue, workers: Workers) -> None:
    """The worker ends when its time is over, idle or not."""
    started = time.monotonic()
    assert workers.run(ignore, max_seconds=0.3) == WorkerReport()
    assert 0.3 <= time.monotonic() - started < 3


def test_return_when_empty(queue: Queue, workers: Workers) -> None:
    """An empty queue ends the worker at once, and items that are due later don't hold it up."""
    queue.enqueue("later", delay=600)
    started = time.monotonic()
    assert workers.run(ignore, return_when_empty=True) == WorkerReport()
    assert time.monotonic() - started < 1.5


def test_unreadable_item_does_not_stop_the_worker(queue: Queue, redis_client: redis.Redis, workers: Workers) -> None:
    """It is set aside, and the worker goes on."""
    queue.enqueue("broken", id="broken")
    queue.enqueue("good", id="good")
    record: Any = redis_client.hget("reliq:{q}:items", "broken")
    redis_client.hset("reliq:{q}:items", "broken", record[:6] + b"\xc1" * (len(record) - 6))
    assert workers.run(ignore, return_when_empty=True) == WorkerReport(finished=1)
    assert queue.get("broken").state is ItemState.DEAD


def test_lost_state_ends_the_worker(server: Server, redis_client: redis.Redis, workers: Workers) -> None:
    """A queue that is gone is no empty queue: run() raises what happened."""
    with Queue("gone", server.socket_url) as queue:
        queue.enqueue("payload")
        running = workers.start(ignore, names=("gone",))
        wait_until(lambda: queue.counts().finished, "the item is finished")
        redis_client.flushall()
        assert isinstance(running.result.exception(10), StateLost)


def test_lost_state_while_a_handler_runs(
    server: Server, redis_client: redis.Redis, workers: Workers, held: Held
) -> None:
    """The handler's end is waited for, and then run() raises."""
    with Queue("gone", server.socket_url) as queue:
        queue.enqueue("payload")
        running = workers.start(held, names=("gone",))
        held.wait_for(1)
        redis_client.flushall()
        held.let_go()
        assert isinstance(running.result.exception(10), StateLost)


def test_two_workers_share_a_queue(queue: Queue, workers: Workers) -> None:
    """Workers on one queue divide its items."""
    queue.enqueue_many(range(300))
    seen: Counter[int] = Counter()
    lock = threading.Lock()

    def handle(item: Item) -> None:
        with lock:
            seen[item.payload] += 1

    running = [workers.start(handle, concurrency=2, return_when_empty=True) for _ in range(2)]
    assert sum(one.report().finished for one in running) == 300
    assert seen == Counter(range(300))


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"prefetch": -1},
        {"lease": 0},
        {"time_limit": 0},
        {"max_items": 0},
        {"on_error": {"ValueError": ValueError}},
        {"on_error": {ValueError: 3}},
        {"order": "random"},
        {"weights": {}},
        {"processes": 0},
        {"renewals": "never"},
        {"resolve": "finish"},
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], queue: Queue) -> None:
    """A worker that could not work is refused when it is made."""
    with pytest.raises(InvalidArgument):
        Worker(queue, ignore, **options)


def test_a_worker_runs_again(queue: Queue) -> None:
    """A worker that came to its end can be run again."""
    worker = Worker(queue, ignore, return_when_empty=True)
    for _ in range(2):
        queue.enqueue("payload")
        assert worker.run() == WorkerReport(finished=1)
