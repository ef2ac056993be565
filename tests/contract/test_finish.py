from __future__ import annotations

from typing import cast

import pytest
from contract.clients import Clock, LoseReply, OpenQueue
from proxy import FaultProxy

from reliq import InvalidArgument, Item, ItemState, LeaseLost, Queue


def test_finished_items_are_done_for_good(queue: Queue) -> None:
    """A finished item is never delivered again, and only its id is remembered."""
    queue.enqueue({"n": 1}, id="a")
    queue.finish(queue.claim())
    info = queue.get("a")
    assert (info.state, info.payload, info.raw) == (ItemState.FINISHED, None, b"")
    assert queue.claim() == []
    counts = queue.counts()
    assert (counts.finished, counts.in_progress, counts.claims, counts.remembered) == (1, 0, 0, 1)


def test_one_item_or_many(queue: Queue) -> None:
    """Finish takes an item, a list of items, or anything that yields some."""
    queue.enqueue_many(range(5))
    items = queue.claim(5)
    queue.finish(items[0])
    queue.finish(items[1:3])
    queue.finish(item for item in items[3:])
    queue.finish([])
    assert queue.counts().finished == 5


def test_finishing_again_is_a_quiet_yes(queue: Queue) -> None:
    """A second finish under the same receipt says nothing and counts nothing."""
    queue.enqueue_many(range(3))
    items = queue.claim(3)
    queue.finish(items)
    queue.finish(items)
    queue.finish([items[1], items[1]])
    assert queue.counts().finished == 3


def test_items_of_many_claims_in_one_call(queue: Queue) -> None:
    """One call finishes items of several claims, and more of them than one script takes."""
    queue.enqueue_many(range(2500))
    items = [item for _ in range(5) for item in queue.claim(500)]
    queue.finish(items[::-1])
    assert queue.counts().finished == 2500


def test_the_rest_of_a_claim_stays_held(queue: Queue, clock: Clock) -> None:
    """Finishing some items of a claim leaves the others under their lease."""
    queue.enqueue_many(range(5))
    items = queue.claim(5, lease=10)
    queue.finish(items[1])
    queue.finish([items[4], items[0]])
    assert queue.counts().in_progress == 2
    clock.advance(11)
    assert [item.payload for item in queue.claim(5)] == [2, 3]


def test_a_late_finish_counts_until_somebody_recovers(queue: Queue, clock: Clock) -> None:
    """The end of the lease alone takes nothing away from a worker that was only slow."""
    queue.enqueue(1)
    (item,) = queue.claim(lease=10)
    clock.advance(3600)
    queue.finish(item)
    assert queue.recover().requeued == 0
    assert queue.counts().finished == 1


def test_a_finish_after_recovery_is_refused(queue: Queue, other: Queue, clock: Clock) -> None:
    """From the moment that an item was recovered its old receipt is worth nothing, and its new one counts."""
    queue.enqueue(1)
    (stale,) = queue.claim(lease=10)
    clock.advance(10)
    (fresh,) = other.claim()
    with pytest.raises(LeaseLost) as caught:
        queue.finish(stale)
    assert caught.value.ids == (stale.id,)
    other.finish(fresh)
    with pytest.raises(LeaseLost):
        queue.finish(stale)
    assert queue.counts().finished == 1


def test_one_lost_lease_does_not_spoil_the_others(queue: Queue, clock: Clock) -> None:
    """Of several items those that are held are finished, and the error names the rest."""
    queue.enqueue_many(range(3))
    lost = queue.claim(2, lease=10)
    clock.advance(5)
    held = queue.claim(1, lease=10)
    clock.advance(5)
    queue.recover()
    with pytest.raises(LeaseLost) as caught:
        queue.finish([lost[0], *held, lost[1]])
    assert caught.value.ids == tuple(item.id for item in lost)
    assert queue.get(held[0].id).state is ItemState.FINISHED


def test_what_was_given_back_can_not_be_finished(queue: Queue) -> None:
    """After release and after fail a worker has no say in the item any more."""
    queue.enqueue_many(range(2))
    released, failed = queue.claim(2)
    queue.release(released)
    queue.fail(failed)
    for item in (released, failed):
        with pytest.raises(LeaseLost):
            queue.finish(item)
    assert queue.counts().finished == 0


def test_finish_and_claim_goes_through_a_queue(queue: Queue) -> None:
    """A worker's loop: finish what is done and take the next ones, until nothing is left."""
    queue.enqueue_many(range(7))
    seen, items = [], queue.claim(3)
    while items:
        seen += [item.payload for item in items]
        items = queue.finish_and_claim(items, 3)
        assert items.lost == ()
    assert seen == list(range(7))
    assert queue.counts().finished == 7


def test_finish_and_claim_names_what_was_lost(queue: Queue, clock: Clock) -> None:
    """What could not be finished is named in the result, which brings the next items all the same."""
    queue.enqueue_many(range(3))
    lost = queue.claim(1, lease=10)
    clock.advance(10)
    assert queue.recover().requeued == 1
    (again,) = queue.claim(1)
    claimed = queue.finish_and_claim(lost, 1)
    assert claimed.lost == (again.id,)
    assert [item.payload for item in claimed] == [1]


def test_finish_and_claim_waits(queue: Queue) -> None:
    """It waits as claim does, and still names what was lost before."""
    queue.enqueue(1)
    (item,) = queue.claim()
    queue.release(item)
    queue.finish(queue.claim())
    queue.enqueue(2, delay=0.1)
    claimed = queue.finish_and_claim(item, 5, wait=10)
    assert [each.payload for each in claimed] == [2]
    assert claimed.lost == (item.id,)


def test_lost_replies_lose_nothing(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """Finish and finish_and_claim are repeated after a lost reply and give the answer of the first attempt."""
    queue = open_queue(url=proxy.url)
    queue.enqueue_many(range(4))
    lose_reply("finish")
    queue.finish(queue.claim())
    items = queue.claim()
    rule = lose_reply("finish_and_claim")
    claimed = queue.finish_and_claim(items, 2)
    assert rule.fired == 1
    assert [item.payload for item in claimed] == [2, 3]
    assert claimed.lost == ()
    assert (queue.counts().finished, queue.counts().claims) == (2, 1)


def test_only_claimed_items_can_be_finished(queue: Queue) -> None:
    """An id, or anything else that was not claimed, is refused before anything is sent."""
    for wrong in ("an id", [1], [None]):
        with pytest.raises(InvalidArgument, match="claimed"):
            queue.finish(cast("Item", wrong))
