from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable

import pytest
from contract.clients import Clock, LoseReply, OpenQueue
from proxy import FaultProxy

from reliq import InvalidArgument, ItemNotFound, ItemState, New, PayloadError, Queue, QueueFull, QueuePaused


def test_a_new_item_gets_a_time_ordered_uuid(queue: Queue) -> None:
    """Without an id of its own an item gets a UUIDv7, and waits in the queue."""
    enqueued = queue.enqueue({"to": "ann@example.org"})
    assert enqueued.created
    assert uuid.UUID(enqueued.id).version == 7
    assert queue.get(enqueued.id).state is ItemState.QUEUED


def _finish(queue: Queue) -> None:
    queue.finish(queue.claim())


def _bury(queue: Queue) -> None:
    queue.fail(queue.claim(), dead=True)


def _hold(queue: Queue) -> None:
    queue.claim()


def _cancel(queue: Queue) -> None:
    queue.cancel("welcome-42")


def _nothing(_: Queue) -> None:
    pass


@pytest.mark.parametrize(
    ("lead", "state"),
    [
        (_nothing, ItemState.QUEUED),
        (_hold, ItemState.IN_PROGRESS),
        (_bury, ItemState.DEAD),
        (_finish, ItemState.FINISHED),
        (_cancel, ItemState.REMOVED),
    ],
)
def test_a_known_id_is_left_as_it_is(queue: Queue, lead: Callable[[Queue], None], state: ItemState) -> None:
    """Enqueueing an id again changes nothing, whatever state its item is in."""
    assert queue.enqueue("first", id="welcome-42").created
    lead(queue)
    before = queue.get("welcome-42")
    assert not queue.enqueue("second", id="welcome-42").created
    assert queue.get("welcome-42") == before
    assert before.state is state


def test_a_known_scheduled_id_keeps_its_time(queue: Queue, clock: Clock) -> None:
    """Enqueueing a scheduled id again does not make it due."""
    queue.enqueue("first", id="later", delay=60)
    assert not queue.enqueue("second", id="later").created
    assert queue.get("later").at == clock.now + 60


def test_the_first_of_two_with_one_id_counts(queue: Queue) -> None:
    """Of two items with one id in one call the first is created and the second is there already."""
    results = queue.enqueue_many([New("one", id="a"), New("two", id="a"), New("three", id="b")])
    assert [result.created for result in results] == [True, False, True]
    assert [item.payload for item in queue.claim(10)] == ["one", "three"]


def test_an_id_given_again_keeps_its_first_place(queue: Queue) -> None:
    """An item's place is that of its first mention in a call."""
    queue.enqueue_many([New("one", id="a"), New("two", id="b"), New("three", id="a")])
    assert [item.payload for item in queue.claim(10)] == ["one", "two"]


def test_order_is_kept_across_batches_and_calls(queue: Queue, other: Queue) -> None:
    """Claim order is enqueue order, however the items were put into batches and by whom."""
    queue.enqueue_many(range(50), batch=7)
    other.enqueue(50)
    queue.enqueue_many(range(51, 60))
    taken = [*queue.claim(13), *other.claim(1), *queue.claim(100)]
    assert [item.payload for item in taken] == list(range(60))


def test_options_of_each_item(queue: Queue, clock: Clock) -> None:
    """`New` gives single items of a batch an id, headers and a time, between plain payloads."""
    new = [New(1, id="a", headers={"trace": "x"}), 2, New(3, delay=5), New(4, at=clock.now + 9)]
    ids = [result.id for result in queue.enqueue_many(new)]
    assert ids[0] == "a"
    assert queue.get("a").headers == {"trace": "x"}
    assert [queue.get(i).at for i in ids] == [None, None, clock.now + 5, clock.now + 9]
    assert queue.counts().scheduled == 2


def test_nothing_to_enqueue(queue: Queue) -> None:
    """An empty batch enqueues nothing and is no error."""
    assert queue.enqueue_many([]) == []
    assert queue.counts().enqueued == 0


def test_a_source_is_taken_lazily(queue: Queue) -> None:
    """An endless source is read a batch at a time, and the error that ends it says what had been enqueued."""
    queue.configure(max_length=10)
    source = itertools.count()
    with pytest.raises(QueueFull) as caught:
        queue.enqueue_many(source, batch=5)
    assert len(caught.value.enqueued) == 10
    assert all(queue.get(enqueued.id).state is ItemState.QUEUED for enqueued in caught.value.enqueued)
    assert next(source) <= 16  # the batch that was refused, and the item that showed it to be whole


def test_a_bad_payload_in_a_batch_says_which(queue: Queue) -> None:
    """A payload that can't be carried is named by its number and path; what came before its batch is there."""
    with pytest.raises(PayloadError) as caught:
        queue.enqueue_many(["a", "b", "c", {"to": object()}], batch=2)
    assert caught.value.path == "payload['to']"
    assert "item 3" in str(caught.value)
    assert len(caught.value.enqueued) == queue.counts().queued == 2


def test_a_full_queue_refuses_a_call_as_a_whole(queue: Queue) -> None:
    """With `max_length` a call that would go over it adds none of its items; claims make room."""
    queue.configure(max_length=3)
    queue.enqueue_many([1, 2])
    with pytest.raises(QueueFull) as caught:
        queue.enqueue_many([3, 4])
    assert (caught.value.length, caught.value.max_length) == (2, 3)
    assert queue.counts().queued == 2
    queue.claim()
    queue.enqueue_many([3, 4])
    assert queue.counts().queued == 3


def test_cancelled_items_take_no_room(queue: Queue) -> None:
    """An item that was cancelled does not count against `max_length` any more."""
    queue.configure(max_length=2)
    ids = [enqueued.id for enqueued in queue.enqueue_many([1, 2])]
    queue.cancel(*ids)
    queue.enqueue_many([3, 4])
    assert [item.payload for item in queue.claim(5)] == [3, 4]


def test_a_known_id_is_no_reason_to_refuse(queue: Queue) -> None:
    """A repeat of an enqueue into a queue that is full by now is answered as any repeat."""
    queue.configure(max_length=1)
    queue.enqueue(1, id="a")
    assert not queue.enqueue(1, id="a").created


def test_a_closed_queue_refuses_new_items(queue: Queue) -> None:
    """While enqueueing is paused nothing is added."""
    queue.pause(claim=False, enqueue=True)
    with pytest.raises(QueuePaused):
        queue.enqueue(1)
    assert queue.counts().enqueued == 0


def test_an_id_is_forgotten_after_the_retention(queue: Queue, clock: Clock) -> None:
    """A finished id is refused for `finished_age` seconds; after that it may be a new item."""
    queue.configure(finished_age=60)
    queue.enqueue(1, id="a")
    _finish(queue)
    clock.advance(59)
    assert not queue.enqueue(1, id="a").created
    clock.advance(2)
    queue.enqueue(2, id="b")
    _finish(queue)  # whoever ends an item forgets old ones
    with pytest.raises(ItemNotFound):
        queue.get("a")
    assert queue.enqueue(1, id="a").created


def test_only_so_many_ended_ids_are_remembered(queue: Queue) -> None:
    """`finished_count` bounds the remembered ids; the oldest are forgotten first."""
    queue.configure(finished_count=3)
    for number in range(6):
        queue.enqueue(number, id=f"id-{number}")
        _finish(queue)
    assert queue.counts().remembered == 3
    assert [info.id for info in queue.scan("finished")] == ["id-3", "id-4", "id-5"]
    assert queue.counts().finished == 6


def test_a_lost_reply_adds_nothing_twice(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """Where the reply is lost the call is repeated with the same ids, and the items are there once, in order."""
    queue = open_queue(url=proxy.url)
    queue.enqueue("before")
    rule = lose_reply("enqueue")
    ids = [enqueued.id for enqueued in queue.enqueue_many(range(5))]
    assert rule.fired == 1
    assert [item.payload for item in queue.claim(10)] == ["before", 0, 1, 2, 3, 4]
    assert len(set(ids)) == 5


def test_a_lost_attempt_of_this_call_created_the_item(
    open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply
) -> None:
    """An item whose id reliq made up was created by this call, also where an earlier attempt of it did that."""
    queue = open_queue(url=proxy.url)
    queue.enqueue("before")
    lose_reply("enqueue")
    assert queue.enqueue("again").created


def test_a_batch_size_out_of_range(queue: Queue) -> None:
    """A batch is 1 to 1,000 items."""
    for batch in (0, 1001, True):
        with pytest.raises(InvalidArgument, match="batch"):
            queue.enqueue_many([1], batch=batch)
