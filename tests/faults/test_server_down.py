"""A server that restarts, stops answering, refuses, or drops connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from contract.evidence import check_server
from proxy import FaultProxy
from servers import start_server, wait_until

from reliq import Queue, StateLost, Unavailable
from reliq.embedded import Server

PATIENCE = 0.2  # seconds without an answer
OpenQueue = Callable[..., Queue]


@pytest.fixture
def durable_server() -> Iterator[Server]:
    """What it has acknowledged is on disk: it syncs at every write."""
    with start_server(append_only=True, appendfsync="always") as running:
        yield running


@pytest.mark.parametrize("how", ["orderly", "crash"])
def test_restart_with_a_log_goes_on(how: str, durable_server: Server, open_queue: OpenQueue) -> None:
    """After a restart leases, receipts and order are what they were, and the same client goes on."""
    queue = open_queue(durable_server.socket_url)
    queue.enqueue_many(range(10))
    held = queue.claim(3, lease=60)
    if how == "orderly":
        durable_server.restart()
    else:
        durable_server.kill()
        durable_server.start()
    queue.renew(held, 60)
    queue.finish(held[0])
    queue.release(held[1:])
    assert [item.payload for item in queue.claim(10)] == list(range(1, 10))
    with redis.Redis.from_url(durable_server.socket_url) as client:
        check_server(client)


def test_restart_in_the_middle_of_calls(durable_server: Server, open_queue: OpenQueue) -> None:
    """Producers and consumers that are at work while the server crashes and comes back lose and repeat nothing."""
    queue, other = open_queue(durable_server.socket_url), Queue("q", durable_server.socket_url)
    total, seen, crashed = 400, list[int](), threading.Event()

    def consume() -> None:
        while len(seen) < total:
            items = other.claim(7, wait=1)
            seen.extend(item.payload for item in items)
            other.finish(items)

    consumer = threading.Thread(target=consume)
    consumer.start()
    for number in range(total):
        queue.enqueue(number)
        if number in (100, 250):
            durable_server.kill()
            durable_server.start()
            crashed.set()
    consumer.join(30)
    other.close()
    assert crashed.is_set()
    assert seen == list(range(total))
    assert queue.counts().finished == total


def test_restart_without_a_log_is_noticed(fresh_server: Server, open_queue: OpenQueue) -> None:
    """A server that comes back empty is not an empty queue."""
    queue = open_queue(fresh_server.socket_url)
    queue.enqueue("payload")
    fresh_server.restart(wipe=True)
    with pytest.raises(StateLost):
        queue.claim()
    with pytest.raises(StateLost):
        queue.enqueue("payload")
    queue.adopt()
    assert queue.claim() == []


def test_server_that_hangs(fresh_server: Server, open_queue: OpenQueue) -> None:
    """A server that takes requests and never answers ends a call in time, and says that it may have been applied."""
    queue = open_queue(fresh_server.socket_url, patience=PATIENCE, timeout=0.5)
    queue.enqueue("first", id="first")
    fresh_server.pause()
    started = time.monotonic()
    try:
        with pytest.raises(Unavailable) as caught:
            queue.enqueue("second", id="second")
        took = time.monotonic() - started
    finally:
        fresh_server.resume()
    assert caught.value.may_have_been_applied
    assert caught.value.ids == ("second",)
    assert caught.value.attempts >= 2
    assert took < 0.5 + 3 * PATIENCE
    queue.enqueue("second", id="second")
    assert [item.id for item in queue.claim(9)] == ["first", "second"]
    assert queue.counts().enqueued == 2


def test_hanging_claim_loses_nothing(fresh_server: Server, open_queue: OpenQueue) -> None:
    """A claim that got no answer may hold items: the next claim of the same client brings them, not later ones."""
    queue = open_queue(fresh_server.socket_url, patience=PATIENCE, timeout=0.3)
    queue.enqueue_many(range(4))
    fresh_server.pause()
    try:
        with pytest.raises(Unavailable):
            queue.claim(2)
    finally:
        fresh_server.resume()
    first = queue.claim(2)
    assert [item.payload for item in first] == [0, 1]
    assert [item.delivery for item in first] == [1, 1]
    assert queue.counts().in_progress == 2


def test_refused_connections(
    server: Server, redis_client: redis.Redis, proxy: FaultProxy, open_queue: OpenQueue
) -> None:
    """Where no connection can be made nothing was sent, and the error says so."""
    proxy.refuse_connections()
    queue = open_queue(proxy.url, timeout=0.3)
    with pytest.raises(Unavailable) as caught:
        queue.enqueue("payload")
    assert not caught.value.may_have_been_applied
    assert "not applied" in str(caught.value)
    proxy.accept_connections()
    queue.enqueue("payload")
    assert queue.counts().enqueued == 1


def test_refused_for_a_while(proxy: FaultProxy, open_queue: OpenQueue) -> None:
    """A server that is away for less than the deadline is ridden out."""
    queue = open_queue(proxy.url, timeout=20)
    queue.enqueue("first")
    proxy.refuse_connections()
    proxy.reset_connections()
    back = threading.Timer(0.3, proxy.accept_connections)
    back.start()
    queue.enqueue("second")
    back.join()
    assert [item.payload for item in queue.claim(9)] == ["first", "second"]


def test_waiting_claim_survives_a_killed_connection(
    server: Server, redis_client: redis.Redis, open_queue: OpenQueue
) -> None:
    """An idle worker whose connection is killed goes on waiting, and gets what comes."""
    queue, producer = open_queue(server.socket_url), Queue("q", server.socket_url)
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.extend(queue.claim(wait=20)))
    waiter.start()
    for _ in range(2):
        blocked = wait_until(lambda: blocked_clients(redis_client), "the claim blocks")
        for number in blocked:
            redis_client.client_kill_filter(_id=number)
    wait_until(lambda: blocked_clients(redis_client), "the claim blocks again")
    producer.enqueue("payload")
    waiter.join(20)
    producer.close()
    assert [item.payload for item in got] == ["payload"]


def blocked_clients(client: redis.Redis) -> list[str]:
    return [entry["id"] for entry in client.client_list() if "b" in entry["flags"]]


def test_waiting_claim_ends_with_the_server(fresh_server: Server, open_queue: OpenQueue) -> None:
    """A claim that waits while its server goes away for good gives up after its own deadline."""
    queue = open_queue(fresh_server.socket_url, timeout=0.3)
    queue.enqueue("payload")
    queue.finish(queue.claim())
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            queue.claim(wait=30)
        except Unavailable as error:
            failures.append(error)

    with redis.Redis.from_url(fresh_server.socket_url) as client:
        waiter = threading.Thread(target=wait)
        waiter.start()
        wait_until(lambda: blocked_clients(client), "the claim blocks")
    fresh_server.kill()
    waiter.join(10)
    assert len(failures) == 1
