"""A worker with a backlog asks for more before it has an answer: nothing is lost or disordered by that."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis
from proxy import FaultProxy
from servers import wait_until
from worker.conftest import Held, Workers

from reliq import Item, Queue, _flow
from reliq._ledger import WorkerReport
from reliq._scripts import load

ITEMS = 4_000
CLAIMS = [load(name).sha.encode() for name in ("claim", "finish_and_claim")]


def is_claim(request: bytes) -> bool:
    return any(sha in request for sha in CLAIMS)


def test_two_requests_are_on_their_way(queue: Queue, proxy: FaultProxy, workers: Workers) -> None:
    """While a network is slow, the server has the next request before the answer to the one before it is read."""
    queue.enqueue_many(range(1500))
    proxy.delay(0.2, 1000, is_claim)
    running = workers.start(lambda _: None, url=proxy.url, prefetch=300, return_when_empty=True)
    wait_until(lambda: running.worker._running is not None, "it runs")
    asked = running.worker._running.turns._asked
    wait_until(lambda: len(asked) == _flow.DEPTH, "both are on their way")
    proxy.clear()
    assert running.report() == WorkerReport(finished=1500)


def test_the_order_stays(queue: Queue, workers: Workers) -> None:
    """One handler gets all items in the order in which they were enqueued."""
    queue.enqueue_many(range(ITEMS))
    seen: list[int] = []
    workers.run(lambda item: seen.append(item.payload), return_when_empty=True)
    assert seen == list(range(ITEMS))


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_lost_messages_cost_nothing(lost: str, queue: Queue, proxy: FaultProxy, workers: Workers) -> None:
    """A connection that breaks takes all that is on its way with it: everything is handled once, and in order."""
    queue.enqueue_many(range(ITEMS))
    seen: list[int] = []

    def handle(item: Item) -> None:
        seen.append(item.payload)
        if item.payload % 900 == 899:
            (proxy.lose_reply if lost == "reply" else proxy.lose_request)(1, is_claim)

    assert workers.run(handle, url=proxy.url, return_when_empty=True) == WorkerReport(finished=ITEMS)
    assert seen == list(range(ITEMS))


def test_a_server_that_forgets_its_scripts_is_taught_again(
    queue: Queue, redis_client: redis.Redis, workers: Workers
) -> None:
    """SCRIPT FLUSH with requests on their way: none of them fails."""
    queue.enqueue_many(range(ITEMS))

    def handle(item: Item) -> None:
        if item.payload % 500 == 499:
            redis_client.script_flush()

    assert workers.run(handle, return_when_empty=True) == WorkerReport(finished=ITEMS)


def test_a_stop_gives_back_what_was_on_its_way(queue: Queue, workers: Workers) -> None:
    """Items that come when the worker has been told to stop are queued again, unblamed and in their places."""
    queue.enqueue_many(range(ITEMS))
    seen: list[int] = []
    running: list[Any] = []
    told = threading.Event()

    def handle(item: Item) -> None:
        seen.append(item.payload)
        if len(seen) == ITEMS // 2:
            assert told.wait(30)
            running[0].stop()

    running.append(workers.start(handle))
    told.set()
    report = running[0].report()
    counts = queue.counts()
    assert (counts.in_progress, counts.queued) == (0, ITEMS - report.finished)
    assert seen == list(range(len(seen)))
    rest: list[Item] = []
    while items := queue.claim(1000):
        rest += items
    assert [item.payload for item in rest] == list(range(report.finished, ITEMS))
    assert {(item.delivery, item.attempt) for item in rest} <= {(1, 1), (2, 1)}
    queue.finish(rest)


def test_slow_handlers_are_not_buried(queue: Queue, workers: Workers, held: Held) -> None:
    """A handler that comes to stand still after a quick start gives back what was claimed for it."""
    queue.enqueue_many(range(ITEMS))

    def handle(item: Item) -> None:
        if item.payload >= ITEMS // 2:
            held(item)

    running = workers.start(handle)
    held.wait_for(1)
    wait_until(lambda: queue.counts().in_progress <= 2, "what was claimed ahead is given back")
    running.stop()
    held.let_go()
    assert running.report().finished == queue.counts().finished
