"""Producers that wait for room in a full queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import redis
from contract.clients import make_queue
from servers import wait_until

from reliq import Enqueued, InvalidArgument, Queue, QueueFull, QueuePaused
from reliq._codec import STAMP
from reliq._keys import Keys
from reliq.embedded import Server

Producer = Callable[..., "Future[list[Enqueued]]"]
PRODUCERS = Keys("emails")["producers"]


@pytest.fixture
def producer(style: str, server: Server, redis_client: redis.Redis) -> Iterator[Producer]:
    """Enqueues with a client of its own in a thread of its own; returns when it waits for room."""
    with ThreadPoolExecutor(8) as pool:

        def produce(*payloads: object, wait: float = 30.0) -> Future[list[Enqueued]]:
            before = redis_client.zcard(PRODUCERS)

            def run() -> list[Enqueued]:
                queue = make_queue(style, "emails", server.socket_url)
                try:
                    return queue.enqueue_many(payloads, wait=wait)
                finally:
                    queue.close()

            future = pool.submit(run)
            wait_until(lambda: future.done() or redis_client.zcard(PRODUCERS) > before, "somebody waits for room")
            return future

        yield produce


@pytest.fixture
def full(queue: Queue) -> Queue:
    """A queue of two items at most, and they are there."""
    queue.configure(max_length=2)
    queue.enqueue_many(["first", "second"])
    return queue


WAYS: dict[str, Callable[[Queue], object]] = {
    "claim": lambda q: q.claim(),
    "finish_and_claim": lambda q: q.finish_and_claim([]),
    "cancel": lambda q: q.cancel(q.peek()[0].id),
    "purge": lambda q: q.purge("queued"),
}


@pytest.mark.parametrize("way", WAYS)
def test_room_lets_a_producer_in(full: Queue, producer: Producer, way: str) -> None:
    """Whatever makes room, who waits for it is told at once."""
    waiting = producer("third")
    began = time.monotonic()
    WAYS[way](full)
    assert waiting.result(10)[0].created
    assert time.monotonic() - began < 1.5  # by itself it tries again after some seconds
    assert full.counts().enqueued == 3


def test_purged_scheduled_items_make_room(queue: Queue, producer: Producer) -> None:
    """Items that are due later fill a queue, and make room when they are removed."""
    queue.configure(max_length=1)
    queue.enqueue("later", id="later", delay=1000)
    waiting = producer("now")
    queue.purge("scheduled")
    assert waiting.result(3)[0].created


def test_no_more_come_in_than_there_is_room(full: Queue, producer: Producer, redis_client: redis.Redis) -> None:
    """Of several who wait one comes in for each place, at once; the others go on waiting, and nobody is lost."""
    waiting = [producer(n) for n in range(4)]
    full.claim()
    wait_until(lambda: sum(future.done() for future in waiting) == 1, "one comes in", timeout=2)
    assert full.counts().queued == 2
    full.claim(2)
    wait_until(lambda: sum(future.done() for future in waiting) == 3, "two more come in", timeout=2)
    assert full.counts().queued == 2
    full.claim(2)
    for future in waiting:
        assert future.result(10)[0].created
    assert full.counts().enqueued == 6


def test_a_batch_waits_for_room_for_all_of_it(full: Queue, producer: Producer) -> None:
    """Items of one round trip come in together, when all of them fit."""
    waiting = producer("a", "b")
    full.claim()
    assert not waiting.done()
    full.claim()
    assert len(waiting.result(10)) == 2
    assert [item.payload for item in full.claim(9)] == ["a", "b"]


def test_room_in_bytes(queue: Queue, producer: Producer) -> None:
    """A producer may wait for bytes as well as for places."""
    queue.configure(max_bytes=3 * (STAMP + 1))
    queue.enqueue_many([1, 2, 3])
    waiting = producer(4)
    queue.claim()
    assert waiting.result(3)[0].created
    assert queue.counts().waiting_bytes == 3 * (STAMP + 1)


def test_room_that_is_there_already(full: Queue) -> None:
    """Where there is room nobody waits; a known id needs none."""
    full.claim()
    began = time.monotonic()
    full.enqueue("third", id="third", wait=30)
    assert not full.enqueue("third", id="third", wait=30).created
    assert time.monotonic() - began < 5


def test_the_time_is_up(full: Queue) -> None:
    """A producer that waited in vain is told that the queue is full, and added nothing."""
    began = time.monotonic()
    with pytest.raises(QueueFull) as caught:
        full.enqueue("third", wait=0.05)
    assert 0.05 <= time.monotonic() - began < 2
    assert (caught.value.length, caught.value.max_length) == (2, 2)
    assert full.counts().enqueued == 2


def test_what_came_in_before_is_told(full: Queue) -> None:
    """Of several batches those that fitted are there; the error has them."""
    full.claim(1)
    with pytest.raises(QueueFull) as caught:
        full.enqueue_many(["third", "fourth"], batch=1, wait=0.05)
    assert [enqueued.created for enqueued in caught.value.enqueued] == [True]


def test_it_does_not_poll(full: Queue, producer: Producer, redis_client: redis.Redis) -> None:
    """While a producer waits nothing is sent."""
    waiting = producer("third")
    wait_until(lambda: any(c["cmd"] == "blpop" for c in redis_client.client_list()), "it blocks")
    redis_client.config_resetstat()
    with pytest.raises(TimeoutError):
        waiting.result(1.0)
    assert "cmdstat_evalsha" not in redis_client.info("commandstats")
    full.claim()
    waiting.result(5)


def test_a_queue_that_is_closed_meanwhile(full: Queue, producer: Producer) -> None:
    """Who waits is refused as every other producer, when there would be room."""
    waiting = producer("third")
    full.pause(claim=False, enqueue=True)
    full.claim()
    with pytest.raises(QueuePaused):
        waiting.result(5)


def test_nothing_is_left_of_those_who_waited(full: Queue, producer: Producer, redis_client: redis.Redis) -> None:
    """When nobody waits any more nobody is noted, and no token is left."""
    waiting = [producer(n) for n in range(3)]
    while not all(future.done() for future in waiting):
        full.claim(9)
    wait_until(lambda: not redis_client.zcard(PRODUCERS), "nobody is noted")
    assert redis_client.llen(Keys("emails")["room"]) <= 2


def test_wrong_arguments(queue: Queue) -> None:
    """A wait is 0 to a day."""
    for wait in (-1, 86401, "long", float("nan")):
        with pytest.raises(InvalidArgument, match="wait"):
            queue.enqueue(1, wait=wait)  # type: ignore[arg-type]  # what is tested
        with pytest.raises(InvalidArgument, match="wait"):
            queue.enqueue_many([1], wait=wait)  # type: ignore[arg-type]  # what is tested
    assert queue.counts().enqueued == 0
