from __future__ import annotations

import pytest
from contract.clients import Clock, LoseReply, OpenQueue
from contract.states import STATES, one_of_each
from proxy import FaultProxy

from reliq import InvalidArgument, ItemState, New, Queue
from reliq.states import sources

S = ItemState


@pytest.mark.parametrize(("verb", "target"), [("requeue", S.QUEUED), ("cancel", S.REMOVED), ("discard", S.REMOVED)])
def test_a_verb_takes_items_from_its_states_only(queue: Queue, clock: Clock, verb: str, target: ItemState) -> None:
    """It moves those that are in one of its states, tells of the others where they are, and can be repeated."""
    one_of_each(queue, clock)
    moves = {state.value for state in sources(verb)}
    for _ in range(2):
        moved = getattr(queue, verb)(*STATES, "unknown")
        assert set(moved.ids) == moves | {target.value}
        expected = {name: S(name) for name in STATES if name not in moved.ids}
        assert moved.skipped == {**expected, "unknown": None}
        assert not moved
    assert {queue.get(name).state for name in moves} == {target}
    assert queue.get("in_progress").state is S.IN_PROGRESS


@pytest.mark.parametrize(("decision", "target"), [("finish", S.FINISHED), ("requeue", S.QUEUED), ("dead", S.DEAD)])
def test_resolving(queue: Queue, clock: Clock, decision: str, target: ItemState) -> None:
    """An orphaned item is finished, requeued or buried, as somebody decides who has looked."""
    one_of_each(queue, clock)
    for _ in range(2):
        assert queue.resolve("orphaned", decision)
        assert queue.get("orphaned").state is target
    assert not queue.resolve(["in_progress", "unknown"], decision)
    assert queue.get("in_progress").state is S.IN_PROGRESS


def test_a_dead_item_can_be_resolved(queue: Queue, clock: Clock) -> None:
    """Also a dead item may turn out to be done, or not to be."""
    one_of_each(queue, clock)
    assert queue.resolve("dead", "finish")
    assert queue.get("dead").state is S.FINISHED


def test_what_somebody_resolved_is_not_the_workers_any_more(queue: Queue, clock: Clock) -> None:
    """An item that was resolved as undone goes to the head of the queue: it was its turn."""
    queue.configure(expiry="hold")
    ids = [enqueued.id for enqueued in queue.enqueue_many(range(4))]
    queue.claim(2, lease=5)
    clock.advance(5)
    queue.recover()
    queue.resolve(ids[1::-1], "requeue")
    assert [item.payload for item in queue.claim(9)] == [0, 1, 2, 3]


def test_requeued_items_go_to_the_tail_in_the_order_given(queue: Queue) -> None:
    """Requeue is a new turn, and a scheduled item loses its time."""
    ids = [queue.enqueue(n, delay=60).id for n in range(2)]
    queue.enqueue(2)
    queue.requeue(ids[1], ids[0])
    assert [item.payload for item in queue.claim(9)] == [2, 1, 0]


def test_a_requeued_dead_item_starts_its_attempts_afresh(queue: Queue) -> None:
    """Its failures are forgiven; its deliveries go on, because they number the deliveries for systems further on."""
    queue.configure(max_attempts=1)
    queue.enqueue(1, id="a")
    queue.fail(queue.claim())
    queue.requeue("a")
    (item,) = queue.claim()
    assert (item.attempt, item.delivery) == (1, 2)


def test_redrive_takes_the_longest_dead_first(queue: Queue, clock: Clock) -> None:
    """Dead items go back to the tail, those first that died first, up to the limit."""
    queue.enqueue_many(range(4))
    for item in queue.claim(4)[::-1]:
        queue.fail(item, dead=True)
        clock.advance(1)
    assert queue.redrive(limit=3) == 3
    assert [item.payload for item in queue.claim(9)] == [3, 2, 1]
    assert queue.redrive() == 1
    assert queue.redrive() == 0


def test_redrive_of_many(queue: Queue) -> None:
    """One call moves more than one script does."""
    queue.enqueue_many(range(2300))
    for _ in range(3):
        queue.fail(queue.claim(1000), dead=True)
    assert queue.redrive(limit=2200) == 2200
    assert (queue.counts().queued, queue.counts().dead) == (2200, 100)


def test_a_lost_reply_redrives_no_further(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """A redrive that is repeated after a lost reply moves as many items as were asked for."""
    queue = open_queue(url=proxy.url)
    queue.enqueue_many(range(4))
    queue.fail(queue.claim(4), dead=True)
    lose_reply("redrive")
    assert queue.redrive(limit=2) == 2
    assert queue.counts().queued == 2


def test_cancelled_ids_stay_known(queue: Queue) -> None:
    """A cancelled item is not delivered, and its id can't be enqueued again within the retention."""
    queue.enqueue_many([New(n, id=f"id-{n}") for n in range(3)])
    assert queue.cancel("id-0", "id-2")
    assert not queue.enqueue("again", id="id-0").created
    assert [item.payload for item in queue.claim(9)] == [1]
    assert not queue.enqueue("again", id="id-0").created
    assert (queue.counts().removed, queue.counts().remembered) == (2, 2)


@pytest.mark.parametrize("verb", ["requeue", "cancel", "discard"])
def test_how_many_ids(queue: Queue, verb: str) -> None:
    """A call takes 1 to 1,000 ids; the same one twice is one."""
    call = getattr(queue, verb)
    for ids in ([], ["x"] * 1001):
        with pytest.raises(InvalidArgument, match="ids"):
            call(*ids)
    assert call("x", "x").skipped == {"x": None}


def test_an_unknown_decision(queue: Queue) -> None:
    """There are three decisions, and a list of ids has to have some."""
    with pytest.raises(InvalidArgument, match="decision"):
        queue.resolve("x", "maybe")
    with pytest.raises(InvalidArgument, match="ids"):
        queue.resolve([], "finish")
