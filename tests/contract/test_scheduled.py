from __future__ import annotations

import datetime as dt

import pytest
from contract.clients import Clock

from reliq import InvalidArgument, ItemState, New, Queue


@pytest.mark.parametrize("delay", [5, 5.0, dt.timedelta(seconds=5)])
def test_a_delayed_item_waits(queue: Queue, clock: Clock, delay: float | dt.timedelta) -> None:
    """An item with a delay can be claimed when its time has come, and not before."""
    item_id = queue.enqueue(1, delay=delay).id
    info = queue.get(item_id)
    assert (info.state, info.at) == (ItemState.SCHEDULED, clock.now + 5)
    clock.advance(4.999)
    assert queue.claim() == []
    clock.advance(0.001)
    assert queue.counts().due == 1
    assert [item.id for item in queue.claim()] == [item_id]


def test_an_item_for_an_instant(queue: Queue, clock: Clock) -> None:
    """`at` is an instant on the server's clock; one that has passed means at once."""
    later = queue.enqueue("later", at=clock.now + 60).id
    queue.enqueue("now", at=clock.now - 60)
    assert queue.get(later).at == clock.now + 60
    assert [item.payload for item in queue.claim(5)] == ["now"]


def test_due_items_queue_up_earliest_first(queue: Queue, clock: Clock) -> None:
    """What falls due goes to the tail of the queue, in the order of its times, whoever notices."""
    queue.enqueue_many([New("c", delay=30), New("a", delay=10), New("b", delay=20), "now"])
    clock.advance(30)
    assert [item.payload for item in queue.claim(5)] == ["now", "a", "b", "c"]


def test_more_due_items_than_one_call_moves(queue: Queue, clock: Clock) -> None:
    """However many items fall due at once, claims bring them all, in order."""
    queue.enqueue_many(New(n, delay=1 + n / 1000) for n in range(350))
    clock.advance(10)
    taken: list[int] = []
    while items := queue.claim(1000):
        taken += [item.payload for item in items]
    assert taken == list(range(350))


def test_no_delay_is_no_schedule(queue: Queue) -> None:
    """A delay of 0 s is the same as none."""
    queue.enqueue(1, delay=0)
    assert (queue.counts().queued, queue.counts().scheduled) == (1, 0)


def test_scheduled_items_count_against_the_bound(queue: Queue) -> None:
    """`max_length` bounds queued and scheduled items together."""
    queue.configure(max_length=2)
    queue.enqueue(1, delay=60)
    queue.enqueue(2)
    assert queue.counts().waiting == 2


def test_times_out_of_range(queue: Queue) -> None:
    """A delay is 0 s to ten years, an instant a Unix time, and they exclude each other."""
    for delay in (-0.001, float("nan"), float("inf"), 4e8, True, "5"):
        with pytest.raises(InvalidArgument, match="delay"):
            queue.enqueue(1, delay=delay)  # type: ignore[arg-type]  # what is tested
    for at in (-1, float("nan"), 1e10, True):
        with pytest.raises(InvalidArgument, match="at"):
            queue.enqueue(1, at=at)
    with pytest.raises(InvalidArgument, match="exclude"):
        queue.enqueue(1, at=1, delay=1)
    assert queue.counts().enqueued == 0
