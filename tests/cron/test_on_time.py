"""A fleet's housekeeper does the ticks the moment they are due."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator

import pytest
import redis
from servers import wait_until

from reliq import AsyncQueue, Queue
from reliq._housekeeper import SWEEP, Housekeeper
from reliq._keys import Keys
from reliq.embedded import Server


@pytest.fixture
def queue(server: Server, redis_client: redis.Redis) -> Iterator[Queue]:
    with Queue("q", server.socket_url) as made:
        yield made


@pytest.fixture
def housekeeper(server: Server, queue: Queue) -> Iterator[Housekeeper]:
    """One that sweeps, and sleeps."""
    queue.configure()
    running = Housekeeper([queue], dict)
    running.start()
    wait_until(lambda: any(worker.sweeps for worker in queue.workers()), "it sweeps")
    yield running
    running.stop()


def test_at_each_second(queue: Queue, housekeeper: Housekeeper) -> None:
    """Set while the sweeper sleeps: each of the next ticks has its item well before the sweep after it."""
    queue.set_cron("often", "* * * * * *", 1)
    seen: list[float] = []
    for _ in range(3):
        (item,) = queue.claim(wait=5)
        seen.append(item.enqueued_at % 1)
        queue.finish(item)
    assert max(seen) < 0.5, seen  # on an idle machine some ms
    assert queue.counts().enqueued == 3


def test_of_a_queue_on_an_event_loop(server: Server, redis_client: redis.Redis, queue: Queue) -> None:
    """A worker of tasks does the same: its housekeeper needs no loop."""
    running = Housekeeper([AsyncQueue("q", server.socket_url)], dict)
    queue.set_cron("often", "* * * * * *", 1)
    running.start()
    try:
        assert queue.claim(wait=5)
    finally:
        running.stop()


@pytest.mark.slow
def test_a_tick_that_waits_costs_no_more_than_the_sweeps(
    queue: Queue, housekeeper: Housekeeper, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """While the queue is closed the sweeper tries again at its sweeps, not all the time, and says so once."""
    queue.set_cron("often", "* * * * * *", 1)
    assert queue.claim(wait=5)
    with caplog.at_level(logging.WARNING, "reliq.cron"):
        queue.pause(claim=False, enqueue=True)
        before = calls(redis_client)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > SWEEP * 1.5, "more than a sweep has passed", timeout=20)
        assert calls(redis_client) - before < 30
    assert sum("closed for new items" in record.message for record in caplog.records) == 1
    queue.resume()
    wait_until(lambda: queue.counts().queued, "the tick has its item")


def calls(client: redis.Redis) -> int:
    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


def test_another_worker_where_the_sweeper_has_no_cronsim(
    queue: Queue, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The one without the package says so once, and the beat of another one does the tick."""
    queue.set_cron("often", "* * * * * *", 1)
    one, other = Housekeeper([queue], dict), Housekeeper([queue], dict)
    with monkeypatch.context() as absent, caplog.at_level(logging.WARNING, "reliq.cron"):
        absent.setitem(sys.modules, "cronsim", None)  # as where it is not installed
        one.start()
        wait_until(lambda: [record for record in caplog.records if "cronsim" in record.message], "it says so")
        assert any(worker.sweeps for worker in queue.workers())
        assert queue.counts().enqueued == 0
    other.start()
    try:
        assert queue.claim(wait=5)
    finally:
        one.stop()
        other.stop()


def test_the_alarm_is_for_a_tick_that_is_earlier(
    queue: Queue, housekeeper: Housekeeper, redis_client: redis.Redis
) -> None:
    """A change that brings no earlier tick wakes nobody."""
    queue.set_cron("soon", "* * * * *", 1)
    wait_until(lambda: not redis_client.llen(Keys("q")["alarm"]), "the sweeper has heard it")
    queue.set_cron("much later", "0 0 1 1 *", 1)
    assert redis_client.llen(Keys("q")["alarm"]) == 0
