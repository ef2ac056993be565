"""A worker in this process: what it handles, retries, renews, gives back, and when it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Any

import pytest
import redis
from proxy import FaultProxy
from servers import wait_until
from worker.conftest import Start

from reliq import InvalidArgument, Item, ItemState, Queue, StateLost, Worker
from reliq.embedded import Server
from reliq.worker import WorkerReport

LEASE = 0.6  # seconds: short enough to see it end, long enough for a busy machine


def ignore(_: Item) -> None:
    return None


@pytest.mark.parametrize(("concurrency", "prefetch"), [(1, 0), (1, 50), (4, 16)])
def test_handles_everything_once(concurrency: int, prefetch: int, queue: Queue) -> None:
    """Each item is handled once and finished, with any number of threads."""
    queue.enqueue_many(range(200))
    seen: Counter[int] = Counter()
    worker = Worker(
        queue,
        lambda item: seen.update([item.payload]),
        concurrency=concurrency,
        prefetch=prefetch,
        return_when_empty=True,
    )
    assert worker.run() == WorkerReport(finished=200)
    assert seen == Counter(range(200))
    assert queue.counts().finished == 200


def test_one_thread_keeps_the_order(queue: Queue) -> None:
    """With one thread items are handled in the order of the queue."""
    queue.enqueue_many(range(50))
    seen: list[int] = []
    Worker(queue, lambda item: seen.append(item.payload), return_when_empty=True).run()
    assert seen == list(range(50))


def test_failures_are_retried_and_end_among_the_dead(queue: Queue) -> None:
    """What a handler raises is a failed attempt; after max_attempts the item is dead, with the error beside it."""
    queue.enqueue("bad", id="bad")
    queue.enqueue("good", id="good")
    attempts: list[int] = []

    def handle(item: Item) -> None:
        if item.payload == "bad":
            attempts.append(item.attempt)
            raise ValueError("this one never works")

    assert Worker(queue, handle, return_when_empty=True).run() == WorkerReport(finished=1, failed=3)
    assert attempts == [1, 2, 3]
    info = queue.get("bad")
    assert (info.state, info.failures, info.error) == (ItemState.DEAD, 3, "ValueError: this one never works")


def test_failure_then_success(queue: Queue) -> None:
    """An item that works at its second attempt is finished."""
    queue.enqueue("payload", id="one")

    def handle(item: Item) -> None:
        if item.attempt == 1:
            raise RuntimeError

    assert Worker(queue, handle, return_when_empty=True).run() == WorkerReport(finished=1, failed=1)
    assert queue.get("one").state is ItemState.FINISHED


def test_lease_is_renewed_while_a_handler_runs(queue: Queue, start: Start) -> None:
    """A handler may run for longer than its lease; nobody else gets the item."""
    queue.enqueue("payload")
    release, running = threading.Event(), threading.Event()

    def handle(item: Item) -> None:
        running.set()
        release.wait(20)

    result = start(Worker(queue, handle, lease=LEASE, max_items=1))
    assert running.wait(10)
    until = time.monotonic() + 2.5 * LEASE
    while time.monotonic() < until:
        assert queue.claim(wait=0.05) == []  # every claim would recover an ended lease
    release.set()
    assert result.result(10) == WorkerReport(finished=1)


def test_lost_lease_is_not_finished(queue: Queue, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """An item that somebody else has by now is left to them, and counted as lost."""
    queue.enqueue("payload", id="one")
    release, running = threading.Event(), threading.Event()

    def handle(item: Item) -> None:
        running.set()
        release.wait(20)

    result = start(Worker(queue, handle, lease=60, max_items=1))
    assert running.wait(10)
    take_away(queue, "one")
    release.set()
    with caplog.at_level(logging.WARNING, "reliq.worker"):
        assert result.result(10) == WorkerReport(lost=1)
    assert "lease lost on one" in caplog.text
    assert queue.get("one").state is ItemState.IN_PROGRESS
    assert queue.counts().finished == 0


def take_away(queue: Queue, item_id: str) -> None:
    """Recovers a live lease as if its end had come, and claims the item for somebody else."""
    with Queue("q", client=redis.Redis(unix_socket_path=socket_of(queue))) as other:
        other._session.now_ms = b"%d" % round((time.time() + 3600) * 1000)
        assert [item.id for item in other.claim(lease=3600)] == [item_id]


def socket_of(queue: Queue) -> str:
    return str(queue._driver._take().path)


def test_a_handler_that_hangs_keeps_nobody_waiting(queue: Queue, start: Start) -> None:
    """What was claimed ahead while handlers were fast goes back when they come to stand still, and keeps its turn."""
    queue.enqueue_many(range(2000))
    hanging, go_on = threading.Event(), threading.Event()

    def handle(item: Item) -> None:
        if item.payload == 1500:
            hanging.set()
            assert go_on.wait(30)

    start(Worker(queue, handle))
    assert hanging.wait(30)
    wait_until(lambda: queue.counts().in_progress == 2, "all but two items to be given back")
    assert [item.payload for item in queue.claim(3)] == [1502, 1503, 1504]
    go_on.set()


def test_max_items(queue: Queue) -> None:
    """The worker ends after so many items and claims none beyond them."""
    queue.enqueue_many(range(20))
    assert Worker(queue, ignore, max_items=7, concurrency=3, prefetch=10).run() == WorkerReport(finished=7)
    counts = queue.counts()
    assert (counts.queued, counts.in_progress) == (13, 0)


def test_max_items_counts_failures(queue: Queue) -> None:
    """A failed attempt is one of them."""
    queue.enqueue("bad")

    def handle(_: Item) -> None:
        raise RuntimeError

    assert Worker(queue, handle, max_items=2).run() == WorkerReport(failed=2)


def test_return_when_empty(queue: Queue) -> None:
    """An empty queue ends the worker at once, and items that are due later don't hold it up."""
    queue.enqueue("later", delay=600)
    started = time.monotonic()
    assert Worker(queue, ignore, return_when_empty=True).run() == WorkerReport()
    assert time.monotonic() - started < 1.5


def test_stop_of_an_idle_worker(queue: Queue, start: Start, redis_client: redis.Redis) -> None:
    """A worker that waits ends within one wait."""
    worker = Worker(queue, ignore)
    result = start(worker)
    wait_until(lambda: redis_client.info("clients")["blocked_clients"], "the worker waits")
    worker.stop()
    assert result.result(5) == WorkerReport()


def test_stop_gives_back_what_was_not_started(queue: Queue, start: Start) -> None:
    """At once, while a handler still runs: in order, without an attempt; the handler then ends and is finished."""
    queue.enqueue_many(range(10))
    release, running = threading.Event(), threading.Event()

    def handle(item: Item) -> None:
        running.set()
        release.wait(20)

    worker = Worker(queue, handle, prefetch=5)
    result = start(worker)
    assert running.wait(10)
    wait_until(lambda: queue.counts().in_progress == 6, "the worker holds items ahead")
    worker.stop()
    wait_until(lambda: queue.counts().in_progress == 1, "they are given back while the handler runs")
    assert not result.done()
    release.set()
    assert result.result(10) == WorkerReport(finished=1, released=5)
    items = queue.claim(10)
    assert [item.payload for item in items] == list(range(1, 10))
    assert {item.attempt for item in items} == {1}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_handler_that_wants_the_process_to_end(kind: type[BaseException], queue: Queue) -> None:
    """It fails its item and stops the worker, which gives back the others."""
    queue.enqueue_many(range(5))

    def handle(item: Item) -> None:
        raise kind

    report = Worker(queue, handle, prefetch=4).run()
    assert (report.failed, report.finished) == (1, 0)
    counts = queue.counts()
    assert (counts.in_progress, counts.queued) == (0, 5)
    assert [item.payload for item in queue.claim(5)] == [1, 2, 3, 4, 0]


def test_unreadable_item_does_not_stop_the_worker(queue: Queue, redis_client: redis.Redis) -> None:
    """It is set aside, and the worker goes on."""
    queue.enqueue("broken", id="broken")
    queue.enqueue("good", id="good")
    record: Any = redis_client.hget("reliq:{q}:items", "broken")
    redis_client.hset("reliq:{q}:items", "broken", record[:6] + b"\xc1")
    assert Worker(queue, ignore, return_when_empty=True).run() == WorkerReport(finished=1)
    assert queue.get("broken").state is ItemState.DEAD


@pytest.mark.parametrize("until_empty", [False, True])
def test_unreachable_server_is_ridden_out(
    until_empty: bool, queue: Queue, proxy: FaultProxy, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls that give up don't end the worker: it handles what is there when the server is back."""
    queue.enqueue_many(range(3))
    handled: list[Any] = []
    with Queue("q", proxy.url, timeout=0.05) as away, caplog.at_level(logging.WARNING, "reliq.worker"):
        proxy.refuse_connections()
        limit = None if until_empty else 3
        result = start(Worker(away, handled.append, return_when_empty=until_empty, max_items=limit))
        wait_until(lambda: caplog.text.count("got no answer") >= 2, "two calls have given up")
        assert not result.done()
        proxy.accept_connections()
        assert result.result(10) == WorkerReport(finished=3)
    assert len(handled) == 3


def test_lost_state_ends_the_worker(server: Server, redis_client: redis.Redis, start: Start) -> None:
    """A queue that is gone is no empty queue: run() raises what happened."""
    with Queue("gone", server.socket_url) as queue:
        queue.enqueue("payload")
        handled = threading.Event()
        result = start(Worker(queue, lambda _: handled.set()))
        assert handled.wait(10)
        wait_until(lambda: queue.counts().finished, "the item is finished")
        redis_client.flushall()
        assert isinstance(result.exception(10), StateLost)


def test_lost_state_while_a_handler_runs(server: Server, redis_client: redis.Redis, start: Start) -> None:
    """The handler's end is waited for, and then run() raises."""
    with Queue("gone", server.socket_url) as queue:
        queue.enqueue("payload")
        release, running = threading.Event(), threading.Event()

        def handle(_: Item) -> None:
            running.set()
            release.wait(20)

        result = start(Worker(queue, handle))
        assert running.wait(10)
        redis_client.flushall()
        release.set()
        assert isinstance(result.exception(10), StateLost)


def test_two_workers_share_a_queue(queue: Queue, server: Server, start: Start) -> None:
    """Workers on one queue divide its items."""
    queue.enqueue_many(range(300))
    seen: Counter[int] = Counter()
    lock = threading.Lock()

    def handle(item: Item) -> None:
        with lock:
            seen[item.payload] += 1

    with Queue("q", server.socket_url) as other:
        results = [start(Worker(q, handle, concurrency=2, return_when_empty=True)) for q in (queue, other)]
        reports = [result.result(30) for result in results]
    assert sum(report.finished for report in reports) == 300
    assert seen == Counter(range(300))


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"prefetch": -1}, {"lease": 0}])
def test_arguments_out_of_range(options: dict[str, Any], queue: Queue) -> None:
    """A worker that could not work is refused when it is made."""
    with pytest.raises(InvalidArgument):
        Worker(queue, ignore, **options)
