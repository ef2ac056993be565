"""Limits of a queue: how much may wait, how much may be worked on at a time, and how fast."""

from __future__ import annotations

import time

import pytest
import redis
from contract.clients import Clock, LoseReply, OpenQueue
from proxy import FaultProxy

from reliq import New, Queue, QueueFull
from reliq._codec import STAMP
from reliq._keys import Keys


def test_so_many_in_progress(queue: Queue, other: Queue) -> None:
    """All workers together hold no more than `max_in_progress`; each that is settled makes room for one."""
    queue.configure(max_in_progress=3)
    queue.enqueue_many(range(9))
    mine = queue.claim(2)
    assert [item.payload for item in other.claim(9)] == [2]
    assert queue.claim(9) == []
    queue.finish(mine[0])
    queue.release(mine[1])
    assert [item.payload for item in other.claim(9)] == [1, 3]
    assert queue.counts().in_progress == 3


def test_finishing_makes_room_for_the_same_call(queue: Queue) -> None:
    """A worker at the limit goes on by finishing."""
    queue.configure(max_in_progress=2)
    queue.enqueue_many(range(5))
    items = queue.claim(9)
    assert [item.payload for item in queue.finish_and_claim(items, 9)] == [2, 3]


def test_leases_that_have_ended_make_room(queue: Queue, other: Queue, clock: Clock) -> None:
    """Items of a worker that went away do not count against the others for ever."""
    queue.configure(max_in_progress=2)
    queue.enqueue_many(range(3))
    queue.claim(2, lease=10)
    assert other.claim(9) == []
    clock.advance(10)
    assert [item.payload for item in other.claim(9)] == [0, 1]


def test_a_repeated_claim_at_the_limit(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """A claim whose reply got lost brings its items, although they fill the queue's limit themselves."""
    queue = open_queue(url=proxy.url)
    queue.configure(max_in_progress=2, rate=1, rate_burst=2)
    queue.enqueue_many(range(5))
    rule = lose_reply("claim")
    assert [item.payload for item in queue.claim(9)] == [0, 1]
    assert rule.fired == 1


@pytest.mark.parametrize("verb", ["finish", "fail", "dead", "result", "discard"])
def test_room_for_work_wakes_who_waits(queue: Queue, other: Queue, redis_client: redis.Redis, verb: str) -> None:
    """A worker that waits because too much is in progress is woken by what ends that."""
    queue.configure(max_in_progress=1)
    queue.enqueue_many(range(2))
    items = queue.claim()
    redis_client.zadd(Keys("emails")["waiting"], {"idle": time.time() * 1000 + 60_000})
    match verb:
        case "finish":
            queue.finish(items)
        case "result":
            queue.finish(items, result=1)
        case "fail":
            queue.fail(items, retry_after=100)
        case "dead":
            queue.fail(items, dead=True)
        case "discard":
            queue.fail(items, discard=True)
    assert redis_client.llen(Keys("emails")["wake"]) == 1
    assert len(other.claim()) == 1


def test_a_rate(queue: Queue, clock: Clock) -> None:
    """After a lull `rate_burst` items come at once, and then one each 1 / `rate` seconds, whoever asks how often."""
    queue.configure(rate=10, rate_burst=3)
    queue.enqueue_many(range(20))
    assert len(queue.claim(9)) == 3
    taken = 0
    for _ in range(50):
        clock.advance(0.02)
        taken += len(queue.claim(9))
    assert taken == 10
    clock.advance(100)
    assert len(queue.claim(9)) == 3


def test_one_seconds_worth_at_once(queue: Queue, clock: Clock) -> None:
    """Without a `rate_burst` a second's worth may come at once, and of a rate below one a second, one."""
    queue.configure(rate=4)
    queue.enqueue_many(range(20))
    assert len(queue.claim(9)) == 4
    clock.advance(1)
    queue.configure(rate=0.5)
    clock.advance(10)
    assert len(queue.claim(9)) == 1
    clock.advance(1.9)
    assert queue.claim(9) == []
    clock.advance(0.1)
    assert len(queue.claim(9)) == 1


def test_a_rate_over_several_workers(queue: Queue, other: Queue, clock: Clock) -> None:
    """The rate is that of the queue, not of a worker; what is given back unstarted has counted."""
    queue.configure(rate=1, rate_burst=2)
    queue.enqueue_many(range(9))
    items = queue.claim(1)
    assert len(other.claim(9)) == 1
    queue.release(items)
    assert queue.claim(9) == []
    clock.advance(1)
    assert [item.payload for item in other.claim(9)] == [0]


def test_who_waits_under_a_rate_wakes_in_time(queue: Queue) -> None:
    """A claim that waits because of the rate comes back when the next item may go, without anybody's help."""
    queue.configure(rate=10, rate_burst=1)
    queue.enqueue_many(range(3))
    began = time.monotonic()
    assert [item.payload for _ in range(3) for item in queue.claim(9, wait=10)] == [0, 1, 2]
    assert 0.19 <= time.monotonic() - began < 3


def test_no_limit_any_more(queue: Queue, clock: Clock) -> None:
    """A limit that is put back to its default holds nobody up."""
    queue.configure(rate=1, rate_burst=1, max_in_progress=1)
    queue.enqueue_many(range(9))
    assert len(queue.claim(9)) == 1
    queue.configure(rate=None, max_in_progress=0)
    assert len(queue.claim(9)) == 8


def test_a_rate_and_groups(queue: Queue, clock: Clock) -> None:
    """Items that wait for the turn of their group do not use up the rate."""
    queue.configure(rate=1, rate_burst=2)
    queue.enqueue_many([New(n, group="a") for n in range(5)])
    queue.enqueue_many(["b", "c"])
    assert [item.payload for item in queue.claim(9)] == [0, "b"]
    assert queue.claim(9) == []
    clock.advance(1)
    assert [item.payload for item in queue.claim(9)] == ["c"]


def test_so_many_bytes(queue: Queue) -> None:
    """Payloads and stamps of what waits count against `max_bytes`, to the byte."""
    each = STAMP + 102  # bytes of 100 characters, as stored
    queue.configure(max_bytes=3 * each)
    queue.enqueue_many(["x" * 100] * 2)
    with pytest.raises(QueueFull) as caught:
        queue.enqueue("x" * 101)
    error = caught.value
    assert (error.length, error.max_length, error.size, error.max_bytes) == (2, 0, 2 * each, 3 * each)
    assert str(error).startswith("queue 'emails' has 2 items and ")
    queue.enqueue("x" * 100)
    with pytest.raises(QueueFull):
        queue.enqueue(1)
    assert queue.counts().waiting_bytes == 3 * each


def test_bytes_of_what_is_worked_on_do_not_count(queue: Queue, clock: Clock) -> None:
    """They count while an item waits: for its turn, to be due, or for another attempt; never in between."""
    queue.configure(retry="tail", expiry="hold", max_attempts=9)
    each = STAMP + 1
    queue.enqueue(1, id="a", group="g")
    queue.enqueue(2, id="b", group="g", delay=10)

    def waiting() -> float:
        return queue.counts().waiting_bytes / each

    assert waiting() == 2
    items = queue.claim(lease=60)
    assert waiting() == 1
    queue.fail(items)
    assert waiting() == 2
    queue.fail(queue.claim(), retry_after=1)
    assert waiting() == 2
    clock.advance(10)
    queue.release(queue.claim(lease=60))
    queue.fail(queue.claim(), dead=True)
    assert waiting() == 1
    queue.requeue("a")
    assert waiting() == 2
    queue.cancel("a")
    assert waiting() == 1
    queue.claim(lease=1)
    clock.advance(1)
    queue.recover()
    assert waiting() == 0
    queue.resolve("b", "requeue")
    assert waiting() == 1
    queue.purge()
    assert waiting() == 0


def test_a_limit_on_both(queue: Queue) -> None:
    """Whichever limit is met first refuses; a batch that does not fit is refused whole; the error says both."""
    queue.configure(max_length=2, max_bytes=10**6)
    with pytest.raises(QueueFull, match="0 of at most 2 items and 0 of at most 1000000 bytes"):
        queue.enqueue_many(range(3))
    queue.enqueue_many(range(2))
    assert queue.counts().enqueued == 2


def test_those_who_wait_for_their_turn_fill_a_queue(queue: Queue) -> None:
    """Items that wait for the turn of their group count as queued."""
    queue.configure(max_length=3)
    queue.enqueue_many([New(n, group="g") for n in range(3)])
    queue.claim(9)
    queue.claim(9)
    queue.enqueue("fits")
    with pytest.raises(QueueFull):
        queue.enqueue("too much")
