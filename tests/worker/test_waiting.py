"""An idle worker's wait ends in a claim, in one flight: what is lost on the way, and what is there when it stops."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from proxy import FaultProxy
from servers import wait_until
from worker.conftest import Workers

from reliq import Queue
from reliq._ledger import WorkerReport


def is_wait(request: bytes) -> bool:
    return b"BLPOP" in request and b":wake" in request


def wait_for_rest(queue: Queue, redis_client: redis.Redis) -> None:
    """The worker is noted as idle, and one connection waits for its token, another for the sweeper's alarm."""
    wait_until(lambda: queue.counts().idle_workers == 1, "it is idle")
    wait_until(lambda: redis_client.info("clients")["blocked_clients"] == 2, "it waits")


@pytest.mark.parametrize("lost", ["the token", "the items"])
def test_a_lost_answer_is_asked_for_again(
    lost: str, queue: Queue, redis_client: redis.Redis, proxy: FaultProxy, workers: Workers
) -> None:
    """The claim was done and nobody heard of it: its items are handled at once, not when their lease ends."""
    seen: list[Any] = []
    queue.enqueue("first")
    if lost == "the token":
        proxy.lose_reply(1, is_wait)
    workers.start(lambda item: seen.append((item.payload, item.delivery)), url=proxy.url)
    wait_until(lambda: queue.counts().finished == 1, "the first is done")
    wait_for_rest(queue, redis_client)
    if lost == "the items":
        proxy.reset_connections()
    queue.enqueue("second")
    wait_until(lambda: queue.counts().finished == 2, "the second is done")
    assert seen == [("first", 1), ("second", 1)]


def test_a_stop_gives_back_what_nobody_heard_of(
    queue: Queue, redis_client: redis.Redis, proxy: FaultProxy, workers: Workers
) -> None:
    """A stop in the very moment in which an item is claimed for the worker: handled or given back, never left."""
    total = 20
    for number in range(total):
        running = workers.start(lambda _: None, url=proxy.url)
        wait_for_rest(queue, redis_client)
        proxy.lose_reply(1, lambda request: b"EVALSHA" in request)
        queue.enqueue(number)
        running.stop()
        assert running.report().abandoned == ()
        proxy.clear()
        counts = queue.counts()
        assert (counts.in_progress, counts.queued + counts.finished) == (0, number + 1)
        while items := queue.claim(10):
            assert {item.attempt for item in items} == {1}
            queue.finish(items)


def test_forgotten_scripts_are_no_matter(queue: Queue, redis_client: redis.Redis, workers: Workers) -> None:
    """The server forgets the claim that it is to do at the end of the wait: it is taught again."""
    running = workers.start(lambda _: None, max_items=1)
    wait_for_rest(queue, redis_client)
    redis_client.script_flush()
    queue.enqueue("item")
    assert running.report() == WorkerReport(finished=1)
