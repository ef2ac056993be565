from __future__ import annotations

import pytest
from contract.clients import Clock

from reliq import LeaseLost, Queue


def test_a_renewed_lease_counts_from_now(queue: Queue, clock: Clock) -> None:
    """Renewing gives an item so many seconds from now; then it is recovered."""
    queue.enqueue(1)
    (item,) = queue.claim(lease=10)
    clock.advance(9)
    queue.renew(item, 10)
    clock.advance(9.999)
    assert queue.recover().requeued == 0
    clock.advance(0.001)
    assert queue.recover().requeued == 1


def test_a_renewal_never_shortens_a_lease(queue: Queue, clock: Clock) -> None:
    """A shorter lease than what is left changes nothing, for the server and for the item."""
    queue.enqueue(1)
    (item,) = queue.claim(lease=100)
    queue.renew(item, 1)
    clock.advance(99)
    assert queue.recover().requeued == 0
    assert item.remaining() > 90


def test_the_item_knows_its_new_lease(queue: Queue) -> None:
    """`remaining()` follows a renewal."""
    queue.enqueue(1)
    (item,) = queue.claim(lease=10)
    queue.renew([item], lease=50)
    assert 49 < item.remaining() <= 50


def test_a_claim_is_one_lease(queue: Queue, clock: Clock) -> None:
    """Renewing one item renews what its claim still holds."""
    queue.enqueue_many(range(3))
    items = queue.claim(3, lease=10)
    queue.finish(items[0])
    queue.renew(items[1], 100)
    clock.advance(50)
    assert queue.recover().requeued == 0
    queue.finish(items[1:])


def test_a_lease_that_ended_can_be_renewed_until_it_is_recovered(queue: Queue, clock: Clock) -> None:
    """A worker that was slow keeps its items when it renews before anybody recovers them."""
    queue.enqueue(1)
    (item,) = queue.claim(lease=10)
    clock.advance(20)
    queue.renew(item, 10)
    assert queue.recover().requeued == 0


def test_a_lost_lease_is_told(queue: Queue, clock: Clock) -> None:
    """Renewing says which items are lost, and renews the others."""
    queue.enqueue_many(range(2))
    lost, held = queue.claim(1, lease=5), queue.claim(1, lease=10)
    clock.advance(5)
    queue.recover()
    with pytest.raises(LeaseLost) as caught:
        queue.renew([*lost, *held], 100)
    assert caught.value.ids == (lost[0].id,)
    assert lost[0].remaining() < 10 < held[0].remaining()
    clock.advance(50)
    assert queue.recover().requeued == 0


def test_what_was_settled_can_not_be_renewed(queue: Queue) -> None:
    """After finish, release and fail there is no lease to renew."""
    queue.enqueue_many(range(3))
    finished, released, failed = queue.claim(3)
    queue.finish(finished)
    queue.release(released)
    queue.fail(failed)
    with pytest.raises(LeaseLost) as caught:
        queue.renew([finished, released, failed])
    assert len(caught.value.ids) == 3
