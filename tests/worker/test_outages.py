"""Workers whose server can't be reached, dies, or comes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from proxy import FaultProxy
from servers import start_server, wait_until
from worker.conftest import Held, Workers

from reliq import Queue
from reliq._ledger import WorkerReport
from reliq.embedded import Server


@pytest.mark.parametrize("until_empty", [False, True])
def test_unreachable_server_is_ridden_out(
    until_empty: bool, queue: Queue, proxy: FaultProxy, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls that give up don't end the worker: it says so once, and handles what is there when the server is back."""
    queue.enqueue_many(range(3))
    handled: list[Any] = []
    proxy.refuse_connections()
    with caplog.at_level(logging.WARNING, "reliq"):
        limit = None if until_empty else 3
        running = workers.start(
            handled.append, url=proxy.url, timeout=0.05, return_when_empty=until_empty, max_items=limit
        )
        wait_until(lambda: running.worker._running is not None, "it runs")
        wait_until(lambda: running.worker._running.turns.sources[0].failures >= 4, "several calls have been tried")
        assert not running.result.done()
        proxy.accept_connections()
        assert running.report() == WorkerReport(finished=3)
    assert len(handled) == 3
    mine = [record.message for record in caplog.records if record.name == "reliq.worker"]
    assert len([text for text in mine if "no answer" in text]) == 1
    assert len([text for text in mine if "is back" in text]) == 1


def test_what_was_done_meanwhile_is_settled_later(
    queue: Queue, proxy: FaultProxy, workers: Workers, held: Held
) -> None:
    """Handlers that end while the server is away are settled when it is back: done once, failed once."""
    queue.enqueue("payload", id="one")
    running = workers.start(held, url=proxy.url, timeout=0.05, max_items=1)
    held.wait_for(1)
    proxy.refuse_connections()
    proxy.reset_connections()
    held.let_go()
    wait_until(lambda: running.worker._running.turns.sources[0].failures >= 2, "it could not be settled")
    proxy.accept_connections()
    assert running.report() == WorkerReport(finished=1)
    assert held.begun == ["payload"]


def test_a_lost_reply_costs_nothing(queue: Queue, proxy: FaultProxy, workers: Workers) -> None:
    """Replies that get lost on the way change nothing: each item is handled once."""
    queue.enqueue_many(range(300))
    proxy.lose_reply(5, match=b"EVALSHA")
    seen: list[int] = []
    report = workers.run(lambda item: seen.append(item.payload), url=proxy.url, return_when_empty=True)
    assert report == WorkerReport(finished=300)
    assert seen == list(range(300))


def test_stop_while_the_server_is_away(queue: Queue, proxy: FaultProxy, workers: Workers, held: Held) -> None:
    """What can't be given back is left to its lease, when that has ended; the worker does not hang for ever."""
    queue.enqueue_many(range(3))
    running = workers.start(held, url=proxy.url, timeout=0.05, lease=1.0, prefetch=2)
    held.wait_for(1)
    wait_until(lambda: queue.counts().in_progress == 3, "it holds items ahead")
    proxy.refuse_connections()
    proxy.reset_connections()
    running.stop()
    held.let_go()
    assert running.report() == WorkerReport(lost=3)
    wait_until(lambda: queue.claim(lease=60), "the items come back", timeout=5)


def test_a_stop_does_not_wait_for_a_server(queue: Queue, proxy: FaultProxy, workers: Workers, held: Held) -> None:
    """With long leases too the worker ends soon after its handlers; what it could not settle is named."""
    for number in range(3):
        queue.enqueue(number, id=f"item-{number}")
    running = workers.start(held, url=proxy.url, lease=3600, prefetch=2)
    held.wait_for(1)
    wait_until(lambda: queue.counts().in_progress == 3, "it holds items ahead")
    proxy.refuse_connections()
    proxy.reset_connections()
    running.stop()
    wait_until(lambda: running.worker._running.turns.sources[0].failures >= 3, "it tries to give them back")
    held.let_go()
    asked = time.monotonic()
    assert running.report() == WorkerReport(abandoned=("item-0", "item-1", "item-2"))
    assert time.monotonic() - asked < 8


def test_a_server_that_comes_back_in_time(queue: Queue, proxy: FaultProxy, workers: Workers, held: Held) -> None:
    """A stop during a short outage settles everything when that is over."""
    queue.enqueue_many(range(3))
    running = workers.start(held, url=proxy.url, prefetch=2)
    held.wait_for(1)
    wait_until(lambda: queue.counts().in_progress == 3, "it holds items ahead")
    proxy.refuse_connections()
    proxy.reset_connections()
    running.stop()
    held.let_go()
    wait_until(lambda: running.worker._running.turns.sources[0].failures >= 3, "it could not settle them")
    proxy.accept_connections()
    assert running.report() == WorkerReport(finished=1, released=2)


def test_hurry_does_not_wait_for_a_server(queue: Queue, proxy: FaultProxy, workers: Workers, held: Held) -> None:
    """What a second signal does: nothing is tried any longer."""
    queue.enqueue("payload", id="one")
    running = workers.start(held, url=proxy.url, lease=3600)
    held.wait_for(1)
    proxy.refuse_connections()
    proxy.reset_connections()
    running.stop()
    held.let_go()
    wait_until(lambda: running.worker._running.turns.sources[0].failures >= 2, "it could not be settled")
    asked = time.monotonic()
    running.worker._running.turns.hurry_up()
    assert running.report() == WorkerReport(abandoned=("one",))
    assert time.monotonic() - asked < 4


@pytest.fixture
def durable() -> Iterator[Server]:
    """A server that keeps its data over a restart."""
    with start_server(append_only=True, appendfsync="always") as running:
        yield running


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_server_killed_and_back(kind: str, durable: Server) -> None:
    """A worker, idle or not, goes on when the server is back, with the items that were there and new ones."""
    with ThreadPoolExecutor(2) as pool, ExitStack() as stops, Queue("q", durable.socket_url) as queue:
        workers = Workers(kind, durable.socket_url, pool, stops)
        held = Held(only=lambda item: item.payload == "during")
        workers.start(held, concurrency=2)
        queue.enqueue("before")
        queue.enqueue("during")
        held.wait_for(2)
        durable.kill()
        durable.start()
        held.let_go()
        queue.enqueue("after")
        held.wait_for(3)
        wait_until(lambda: queue.counts().finished == 3, "all three are finished", timeout=20)
        assert sorted(held.begun) == ["after", "before", "during"]
