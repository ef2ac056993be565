"""What a worker costs its server, and how soon items are begun."""

from __future__ import annotations

import time
from typing import Any

import redis
from servers import wait_until
from worker.conftest import Held, Workers

from reliq import Item, Queue


def calls(client: redis.Redis, command: str = "evalsha") -> int:
    """Calls of a command that the server has had since its figures were reset."""
    stats: dict[str, Any] = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_one_call_a_batch(queue: Queue, redis_client: redis.Redis, workers: Workers) -> None:
    """Ten thousand items that take no time leave by the calls that bring the next ones: about 200 a call."""
    total = 10_000
    queue.enqueue_many(range(total))

    async def nothing(_: Item) -> None:
        pass

    redis_client.config_resetstat()
    report = workers.run(nothing if workers.kind == "coroutines" else lambda _: None, return_when_empty=True)
    assert report.finished == total
    assert calls(redis_client) < total / 50


def test_an_idle_worker_hardly_calls(queue: Queue, redis_client: redis.Redis, workers: Workers) -> None:
    """It says that it is idle, and blocks: two calls in four seconds, and as many to look after the queue."""
    workers.start(lambda _: None, concurrency=4)
    wait_until(lambda: redis_client.info("clients")["blocked_clients"], "it waits")
    redis_client.config_resetstat()
    until = time.monotonic() + 4.5
    wait_until(lambda: time.monotonic() >= until, "some seconds have gone by")
    assert calls(redis_client) <= 4
    assert calls(redis_client, "blpop") <= 4


def test_items_that_trickle_in(queue: Queue, redis_client: redis.Redis, workers: Workers) -> None:
    """An item that comes to an idle worker costs two calls: one brings it, one finishes it and says "idle" again."""
    total = 200
    workers.start(lambda _: None)
    wait_until(lambda: queue.counts().idle_workers == 1, "it waits")
    redis_client.config_resetstat()
    for number in range(total):
        queue.enqueue(number)
        wait_until(lambda: redis_client.zcard("reliq:{q}:waiting") == 1, "it waits again")
    wait_until(lambda: queue.counts().finished == total, "all are finished")
    enqueues_and_looks = total + 50
    assert calls(redis_client) < enqueues_and_looks + 2.1 * total


def test_idle_handlers_begin_at_once(queue: Queue, workers: Workers) -> None:
    """While some handlers are busy, an item that is enqueued for the others does not wait."""
    held = Held(only=lambda item: item.payload == "long")
    workers.start(held, concurrency=4)
    for number in range(3):
        queue.enqueue("long")
        held.wait_for(number + 1)
    for number in range(20):
        asked = time.monotonic()
        queue.enqueue("short")
        held.wait_for(4 + number)
        assert time.monotonic() - asked < 1.0
    held.let_go()


def test_nothing_waits_behind_a_long_item(queue: Queue, workers: Workers) -> None:
    """What was claimed together with an item that takes long is handled by the other handlers meanwhile."""
    held = Held(only=lambda item: item.payload == 0)
    queue.enqueue_many(range(100))
    workers.start(held, concurrency=2)
    held.wait_for(100)
    wait_until(lambda: queue.counts().finished == 99, "all others are finished")
    held.let_go()


def test_an_item_is_finished_as_soon_as_it_is_done(queue: Queue, workers: Workers) -> None:
    """Settling does not wait for a batch to fill up while other handlers are busy."""
    held = Held(only=lambda item: item.payload == "long")
    workers.start(held, concurrency=3)
    queue.enqueue("long")
    held.wait_for(1)
    for number in range(10):
        queue.enqueue("short")
        wait_until(lambda done=number + 1: queue.counts().finished == done, "it is finished", timeout=2)  # type: ignore[misc]
    held.let_go()
