from __future__ import annotations

import pytest
from contract.clients import Clock
from contract.states import one_of_each

from reliq import InvalidArgument, ItemNotFound, ItemState, New, Queue

S = ItemState


def test_purge_by_state(queue: Queue, clock: Clock) -> None:
    """Purging a state removes its items, and forgets their ids; other states stay."""
    one_of_each(queue, clock)
    for state in ("queued", "scheduled", "orphaned", "dead"):
        assert queue.purge(state) == 1
        assert queue.purge(S(state)) == 0
        with pytest.raises(ItemNotFound):
            queue.get(state)
    counts = queue.counts()
    assert (counts.in_progress, counts.finished, counts.removed) == (1, 1, 5)
    assert queue.enqueue("anew", id="dead").created


def test_purge_of_everything_that_waits(queue: Queue, clock: Clock) -> None:
    """Without a state a purge takes all that is not in progress and has not ended."""
    one_of_each(queue, clock)
    assert queue.purge() == 4
    assert queue.counts().in_progress == 1
    assert queue.get("finished").state is S.FINISHED


def test_a_purge_does_not_forget_what_was_cancelled_before(queue: Queue) -> None:
    """The ids of cancelled items stay known when the queue that they stood in is purged."""
    queue.enqueue_many([New(1, id="a"), New(2, id="b")])
    queue.cancel("a")
    assert queue.purge("queued") == 1
    assert queue.get("a").state is S.REMOVED
    assert not queue.enqueue("again", id="a").created
    assert queue.enqueue("anew", id="b").created


def test_purge_of_ended_ids(queue: Queue, clock: Clock) -> None:
    """Purging `finished` forgets ended ids and changes no total."""
    one_of_each(queue, clock)
    queue.discard("dead")
    assert queue.purge("finished") == 2
    assert (queue.counts().finished, queue.counts().remembered) == (1, 0)
    assert queue.enqueue("anew", id="finished").created


def test_purge_of_many(queue: Queue) -> None:
    """A purge goes on until the state is empty."""
    ids = [enqueued.id for enqueued in queue.enqueue_many(range(2500))]
    queue.cancel(*ids[500:1500])
    assert queue.purge("queued") == 1500
    assert queue.counts().removed == 2500
    assert queue.claim() == []


def test_items_in_progress_can_not_be_purged(queue: Queue) -> None:
    """Somebody works on them; and there is no such state as the others that are refused."""
    for state in ("in_progress", "removed", "nonsense"):
        with pytest.raises(InvalidArgument, match="state"):
            queue.purge(state)
