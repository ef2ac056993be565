"""One worker of several queues."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
import redis
from servers import wait_until
from worker.conftest import Held, Workers
from worker.test_calls import calls

from reliq import InvalidArgument, Item, Queue, Worker
from reliq._handler_tasks import TaskBuffer
from reliq._ledger import WorkerReport
from reliq._thread_buffer import ThreadBuffer
from reliq.embedded import Server


@pytest.fixture
def pair(server: Server, redis_client: redis.Redis) -> Iterator[tuple[Queue, Queue]]:
    """Two queues."""
    with Queue("urgent", server.socket_url) as urgent, Queue("others", server.socket_url) as others:
        urgent.configure(retry="tail")
        others.configure(retry="tail")
        yield urgent, others


NAMES = ("urgent", "others")


def test_each_has_its_handler(pair: tuple[Queue, Queue], workers: Workers) -> None:
    """A mapping gives each queue a handler of its own."""
    for queue in pair:
        queue.enqueue_many(range(10))
    seen: list[tuple[str, str]] = []
    handlers = {
        "urgent": lambda item: seen.append(("first", item.queue)),
        "others": lambda item: seen.append(("second", item.queue)),
    }
    report = workers.run(handlers, names=NAMES, return_when_empty=True)
    assert report == WorkerReport(finished=20)
    assert Counter(seen) == {("first", "urgent"): 10, ("second", "others"): 10}


def test_priority(pair: tuple[Queue, Queue], workers: Workers) -> None:
    """Items of the earlier queue come first, however many wait in the other one."""
    urgent, others = pair
    others.enqueue_many(range(50))
    urgent.enqueue_many(range(50))
    seen: list[str] = []
    workers.run(lambda item: seen.append(item.queue), names=NAMES, return_when_empty=True)
    assert seen == ["urgent"] * 50 + ["others"] * 50


@pytest.mark.parametrize("kind", [ThreadBuffer, TaskBuffer])
def test_urgent_items_pass_those_that_were_claimed_ahead(
    kind: type[ThreadBuffer | TaskBuffer], pair: tuple[Queue, Queue]
) -> None:
    """What comes from the earlier queue is taken before what was claimed ahead from the other, and goes back last."""
    urgent, others = pair
    urgent.enqueue_many([1, 2])
    others.enqueue_many([3, 4])
    buffer = kind(2)
    buffer.put(ahead := others.claim(2), 1)
    buffer.put(first := urgent.claim(2), 0)
    assert buffer.take() is first[0]
    assert buffer.take_back(keep=1) == ahead
    assert buffer.take_back() == first[1:]
    urgent.release(first)
    others.release(ahead)


def test_weights_starve_nobody(pair: tuple[Queue, Queue], workers: Workers) -> None:
    """Of two backlogs each gets its share of every stretch."""
    urgent, others = pair
    urgent.enqueue_many(range(300))
    others.enqueue_many(range(300))
    seen: list[str] = []
    workers.run(
        lambda item: seen.append(item.queue),
        names=NAMES,
        weights={"urgent": 3, "others": 1},
        prefetch=3,
        return_when_empty=True,
    )
    assert 50 <= seen[:280].count("others") <= 90
    assert Counter(seen) == {"urgent": 300, "others": 300}


def test_what_one_leaves_the_other_takes(pair: tuple[Queue, Queue], workers: Workers) -> None:
    """An empty queue holds up nobody's room."""
    pair[1].enqueue_many(range(300))
    report = workers.run(lambda _: None, names=NAMES, weights={"urgent": 100, "others": 1}, return_when_empty=True)
    assert report == WorkerReport(finished=300)


def test_one_wait_for_all(pair: tuple[Queue, Queue], redis_client: redis.Redis, workers: Workers) -> None:
    """An idle worker begins with an item of any of its queues at once, and hardly calls meanwhile."""
    held = Held(only=lambda _: False)
    workers.start(held, names=NAMES)
    wait_until(lambda: redis_client.info("clients")["blocked_clients"], "it waits")
    for number in range(6):
        asked = time.monotonic()
        pair[number % 2].enqueue(number)
        held.wait_for(number + 1)
        assert time.monotonic() - asked < 1.0
    wait_until(lambda: sum(queue.counts().finished for queue in pair) == 6, "all are finished")
    wait_until(lambda: redis_client.info("clients")["blocked_clients"], "it waits again")
    redis_client.config_resetstat()
    until = time.monotonic() + 4.2
    wait_until(lambda: time.monotonic() >= until, "some seconds have gone by")
    assert calls(redis_client) <= 4


def test_failures_go_to_their_own_queue(pair: tuple[Queue, Queue], workers: Workers) -> None:
    """Each item fails where it came from."""
    for queue in pair:
        queue.configure(max_attempts=1)
        queue.enqueue(queue.name)

    def handle(item: Item) -> None:
        raise ValueError(item.queue)

    assert workers.run(handle, names=NAMES, return_when_empty=True) == WorkerReport(failed=2)
    for queue in pair:
        assert [info.error for info in queue.scan("dead")] == [f"ValueError: {queue.name}"]


def test_queues_that_do_not_go_together(pair: tuple[Queue, Queue], server: Server) -> None:
    """Two of one name, queues of two servers, or no queue at all are refused."""
    urgent, others = pair
    with Queue("elsewhere", "redis://localhost:1/0") as elsewhere:
        for wrong in ([urgent, urgent], [urgent, elsewhere], []):
            with pytest.raises(InvalidArgument):
                Worker(wrong, print)
    with pytest.raises(InvalidArgument):
        Worker({urgent: print}, print)
    with pytest.raises(InvalidArgument):
        Worker([urgent, others], print, weights={urgent: 1})
