from __future__ import annotations

import pytest
import redis
from contract.clients import Clock

from reliq import InvalidArgument, ItemState, Queue, Recovered
from reliq._ids import pack
from reliq._keys import Keys


def abandon(queue: Queue, count: int, clock: Clock) -> list[str]:
    """Claims items and lets their lease end, as a worker that died would. Returns their ids."""
    ids = [item.id for item in queue.claim(count, lease=10)]
    clock.advance(10)
    return ids


def test_a_lease_holds_until_its_end(queue: Queue, clock: Clock) -> None:
    """An item is recovered from the instant on at which its lease ends, and not a millisecond before."""
    queue.enqueue(1)
    queue.claim(lease=10)
    clock.advance(9.999)
    assert queue.recover() == Recovered()
    clock.advance(0.001)
    assert queue.counts().expired_claims == 1
    assert queue.recover() == Recovered(requeued=1)
    assert queue.recover() == Recovered()


def test_recovered_items_keep_their_turn(queue: Queue, clock: Clock) -> None:
    """With expiry=requeue items go to the head of the queue in the order of their enqueueing."""
    queue.enqueue_many(range(5))
    abandon(queue, 3, clock)
    assert queue.recover() == Recovered(requeued=3)
    again = queue.claim(10)
    assert [(item.payload, item.delivery, item.attempt) for item in again] == [
        (0, 2, 1),
        (1, 2, 1),
        (2, 2, 1),
        (3, 1, 1),
        (4, 1, 1),
    ]


def test_items_of_several_workers_keep_their_turn(queue: Queue, other: Queue, clock: Clock) -> None:
    """Items of several claims that are recovered together come back in the order of their enqueueing as well."""
    queue.enqueue_many(range(5))
    queue.claim(2, lease=10)
    other.claim(2, lease=20)
    clock.advance(20)
    assert queue.recover() == Recovered(requeued=4)
    assert [item.payload for item in queue.claim(10)] == [0, 1, 2, 3, 4]


def test_leases_that_end_one_after_the_other_keep_the_turn(queue: Queue, other: Queue, clock: Clock) -> None:
    """What was recovered before and still waits goes first, whichever lease ended first."""
    queue.enqueue_many(range(6))
    queue.claim(2, lease=10)
    other.claim(2, lease=20)
    clock.advance(10)
    assert queue.recover() == Recovered(requeued=2)
    clock.advance(10)
    assert queue.recover() == Recovered(requeued=2)
    assert [item.payload for item in queue.claim(10)] == [0, 1, 2, 3, 4, 5]


def test_every_claim_recovers(queue: Queue, other: Queue, clock: Clock) -> None:
    """Nobody has to call recover: the next claim brings what other workers left behind."""
    queue.enqueue_many(range(3))
    abandon(queue, 2, clock)
    assert [item.payload for item in other.claim(5)] == [0, 1, 2]
    assert other.claim(1) == []


def test_finish_and_claim_recovers_as_well(queue: Queue, other: Queue, clock: Clock) -> None:
    """A worker that never calls claim still brings back what others left behind."""
    queue.enqueue_many(range(3))
    abandon(queue, 1, clock)
    items = other.claim(1)
    other.release(items)
    items = other.claim(1, lease=60)
    queue.claim(1, lease=5)
    clock.advance(5)
    assert [item.payload for item in other.finish_and_claim(items, 5)] == [1, 2]


def test_held_for_somebody_to_look(queue: Queue, clock: Clock) -> None:
    """With expiry=hold items are orphaned: nobody claims them until they are resolved."""
    queue.configure(expiry="hold")
    queue.enqueue_many(range(3))
    ids = abandon(queue, 2, clock)
    assert queue.recover() == Recovered(orphaned=2)
    info = queue.get(ids[0])
    assert (info.state, info.expiries, info.deliveries, info.at) == (ItemState.ORPHANED, 1, 1, clock.now)
    assert [item.payload for item in queue.claim(5)] == [2]


def test_dead_at_once(queue: Queue, clock: Clock) -> None:
    """With expiry=dead an item that lost its worker is never tried again."""
    queue.configure(expiry="dead")
    queue.enqueue("x")
    (item_id,) = abandon(queue, 1, clock)
    assert queue.recover() == Recovered(dead=1)
    info = queue.get(item_id)
    assert (info.state, info.payload, info.expiries) == (ItemState.DEAD, "x", 1)
    assert "lease expired" in str(info.error)


@pytest.mark.parametrize("expiry", ["requeue", "hold"])
def test_an_item_that_kills_its_workers(queue: Queue, clock: Clock, expiry: str) -> None:
    """Lost leases and failures together count against `max_deliveries`; then the item is dead, whatever the policy."""
    queue.configure(max_deliveries=3, expiry=expiry, retry="head")
    queue.enqueue(1, id="a")
    queue.fail(queue.claim())
    for outcome in (Recovered(requeued=1) if expiry == "requeue" else Recovered(orphaned=1), Recovered(dead=1)):
        abandon(queue, 1, clock)
        assert queue.recover() == outcome
        if outcome.orphaned:
            queue.resolve("a", "requeue")
    info = queue.get("a")
    assert (info.failures, info.expiries, info.deliveries) == (1, 2, 3)
    assert "3 deliveries" in str(info.error)


def test_a_bounded_recovery(queue: Queue, clock: Clock) -> None:
    """`limit` bounds how many items one call takes back, also in the middle of a claim; order is kept over all."""
    queue.enqueue_many(range(10))
    abandon(queue, 8, clock)
    assert queue.recover(limit=3) == Recovered(requeued=3)
    assert (queue.counts().in_progress, queue.counts().queued) == (5, 5)
    assert queue.recover(limit=1000) == Recovered(requeued=5)


def test_many_items(queue: Queue, clock: Clock) -> None:
    """One call takes back more than one script does."""
    queue.enqueue_many(range(2500))
    for _ in range(3):
        queue.claim(1000, lease=10)
    clock.advance(10)
    assert queue.recover(limit=10_000) == Recovered(requeued=2500)


def test_a_record_that_went_missing_stops_nobody(queue: Queue, clock: Clock, redis_client: redis.Redis) -> None:
    """A damaged item is set aside among the dead and counted; the others of its claim come back."""
    queue.enqueue_many(range(3))
    ids = abandon(queue, 3, clock)
    redis_client.hset(Keys("emails")["items"], pack(ids[1]), b"?")
    assert queue.recover() == Recovered(requeued=2, unreadable=1)
    info = queue.get(ids[1])
    assert (info.state, info.payload, info.raw) == (ItemState.DEAD, None, b"")
    assert "unreadable" in str(info.error)


def test_only_what_is_still_held_is_recovered(queue: Queue, clock: Clock) -> None:
    """What was finished, released or failed of an expired claim is not recovered with the rest."""
    queue.enqueue_many(range(5))
    items = queue.claim(5, lease=10)
    queue.finish(items[0])
    queue.release(items[1])
    queue.fail(items[2], retry_after=1000)
    clock.advance(10)
    assert queue.recover() == Recovered(requeued=2)
    counts = queue.counts()
    assert (counts.queued, counts.scheduled, counts.finished) == (3, 1, 1)


def test_due_items_are_queued(queue: Queue, clock: Clock) -> None:
    """A sweep also queues what has fallen due."""
    queue.enqueue(1, delay=5)
    clock.advance(5)
    assert queue.recover() == Recovered(due=1)
    assert queue.counts().queued == 1


def test_limits_out_of_range(queue: Queue) -> None:
    """`limit` is 1 to a million."""
    for limit in (0, -1, 1_000_001, 1.5, True):
        with pytest.raises(InvalidArgument, match="limit"):
            queue.recover(limit=limit)  # type: ignore[arg-type]  # what is tested
