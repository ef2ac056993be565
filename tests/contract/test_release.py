from __future__ import annotations

import pytest
from contract.clients import Clock, LoseReply, OpenQueue
from proxy import FaultProxy

from reliq import LeaseLost, Queue


def test_released_items_are_next_in_their_order(queue: Queue) -> None:
    """Released items go to the head of the queue, in the order in which they were enqueued."""
    queue.enqueue_many(range(6))
    items = queue.claim(4)
    queue.release([items[3], items[1], items[2]])
    assert [item.payload for item in queue.claim(10)] == [1, 2, 3, 4, 5]


def test_items_of_several_claims_keep_their_order(queue: Queue) -> None:
    """Also items of several claims that are released together come back in the order of their enqueueing."""
    queue.enqueue_many(range(6))
    first, second = queue.claim(2), queue.claim(2)
    queue.release([*second, *first])
    assert [item.payload for item in queue.claim(10)] == [0, 1, 2, 3, 4, 5]


def test_no_blame(queue: Queue) -> None:
    """A release counts as a delivery, never as an attempt: no number of them makes an item dead."""
    queue.configure(max_attempts=1, max_deliveries=1)
    queue.enqueue(1)
    for delivery in range(1, 6):
        (item,) = queue.claim()
        assert (item.delivery, item.attempt) == (delivery, 1)
        queue.release(item)
    assert queue.counts().queued == 1


def test_releasing_again_is_a_quiet_yes(queue: Queue) -> None:
    """A repeat puts the item into the queue once."""
    queue.enqueue(1)
    items = queue.claim()
    queue.release(items)
    queue.release(items)
    assert queue.counts().queued == 1
    assert len(queue.claim(5)) == 1


def test_the_rest_of_a_claim_stays_held(queue: Queue) -> None:
    """What was not released of a claim can still be finished."""
    queue.enqueue_many(range(3))
    items = queue.claim(3)
    queue.release(items[1])
    queue.finish([items[0], items[2]])
    assert (queue.counts().finished, queue.counts().queued, queue.counts().claims) == (2, 1, 0)


def test_a_stale_release_is_refused(queue: Queue, other: Queue, clock: Clock) -> None:
    """A worker whose lease was recovered can't take the item from the one that has it now."""
    queue.enqueue_many(range(2))
    stale, held = queue.claim(1, lease=5), queue.claim(1, lease=60)
    clock.advance(5)
    fresh = other.claim()
    with pytest.raises(LeaseLost) as caught:
        queue.release([*stale, *held])
    assert caught.value.ids == (stale[0].id,)
    other.finish(fresh)
    assert [item.payload for item in queue.claim(5)] == [1]


def test_a_lost_reply(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """A release that is repeated after a lost reply puts each item back once, in order."""
    queue = open_queue(url=proxy.url)
    queue.enqueue_many(range(3))
    lose_reply("release")
    queue.release(queue.claim(2))
    assert [(item.payload, item.delivery) for item in queue.claim(5)] == [(0, 2), (1, 2), (2, 1)]
