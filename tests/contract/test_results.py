"""Finishing with a result, and with what comes next."""

from __future__ import annotations

import pytest
from contract.clients import Clock, LoseReply, OpenQueue
from proxy import FaultProxy

from reliq import InvalidArgument, ItemState, LeaseLost, New, PayloadError, Queue
from reliq.answers import Discard, Release, Retry

S = ItemState


@pytest.mark.parametrize("result", [7, None, "", b"", {"sent": [1, 2]}, "x" * 60_000])
def test_a_result_is_kept(queue: Queue, result: object) -> None:
    """What an item was finished with can be read from its id, whatever it is."""
    queue.enqueue(1, id="a")
    queue.finish(queue.claim(), result=result)
    info = queue.get("a")
    assert (info.state, info.result, info.payload) == (S.FINISHED, result, None)
    assert not queue.enqueue(1, id="a").created


def test_no_result(queue: Queue) -> None:
    """An item that was finished without one has None."""
    queue.enqueue(1, id="a")
    queue.finish(queue.claim())
    assert queue.get("a").result is None


def test_a_result_is_forgotten_with_its_id(queue: Queue, clock: Clock) -> None:
    """Results are kept for the retention and no longer."""
    queue.configure(finished_age=10)
    for item_id in ("a", "b"):
        queue.enqueue(1, id=item_id)
        queue.finish(queue.claim(), result="kept")
        clock.advance(11)
    assert queue.get("b").result == "kept"
    assert queue.enqueue(1, id="a").created


def test_finishing_with_a_result_again(queue: Queue) -> None:
    """A second finish under the same receipt is a quiet yes, with or without a result; the first result stays."""
    queue.enqueue(1, id="a")
    items = queue.claim()
    queue.finish(items, result="first")
    queue.finish(items, result="second")
    queue.finish(items)
    assert queue.get("a").result == "first"
    assert queue.counts().finished == 1


def test_each_with_its_own_result(queue: Queue, clock: Clock) -> None:
    """Many items of several claims are finished in one go, each with its own result; lost ones are named."""
    queue.enqueue_many(range(1200))
    (lost,) = queue.claim(1, lease=1)
    held = [*queue.claim(1000, lease=60), *queue.claim(199, lease=60)]
    clock.advance(1)
    queue.recover()
    with pytest.raises(LeaseLost) as caught:
        queue.finish_each([(lost, "lost"), *((item, item.payload * 2) for item in held)])
    assert caught.value.ids == (lost.id,)
    assert [queue.get(item.id).result for item in (held[0], held[-1])] == [2, 2 * 1199]
    assert queue.counts().finished == 1199
    assert queue.get(lost.id).state is S.QUEUED


def test_a_result_that_can_not_be_stored(queue: Queue) -> None:
    """It is refused before anything is sent, and the item is held still."""
    queue.enqueue(1)
    items = queue.claim()
    for result in (object(), "x" * 70_000):
        with pytest.raises(PayloadError):
            queue.finish(items, result=result)
    queue.finish(items)


def test_what_comes_next_is_there_when_the_item_has_ended(queue: Queue, clock: Clock) -> None:
    """Items that follow are enqueued in their order with all their options, in the step that ends the first."""
    queue.enqueue(1, id="a")
    then = [New("b", id="b", headers={"k": "v"}), New("c", id="c", delay=10), New("d", id="d", group="g")]
    queue.finish(queue.claim(), result="r", then=then)
    assert (queue.get("a").state, queue.get("a").result) == (S.FINISHED, "r")
    assert [(item.id, item.headers, item.group) for item in queue.claim(9)] == [("b", {"k": "v"}, None), ("d", {}, "g")]
    assert queue.get("c").at == clock.now + 10


def test_what_comes_next_need_not_be_a_list(queue: Queue) -> None:
    """A single `New` will do, also without a result."""
    queue.enqueue(1)
    queue.finish(queue.claim(), then=New("next"))
    assert [item.payload for item in queue.claim(9)] == ["next"]


def test_what_comes_next_is_enqueued_once(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """A reply that got lost, and a second call, enqueue nothing more: also where the next items have new ids."""
    queue = open_queue(url=proxy.url)
    queue.enqueue(1)
    items = queue.claim()
    rule = lose_reply("finish_with")
    queue.finish(items, then=[New("b"), New("c")])
    assert rule.fired == 1
    queue.finish(items, then=[New("again")])
    assert [item.payload for item in queue.claim(9)] == ["b", "c"]
    assert queue.counts().enqueued == 3


def test_a_stale_receipt_enqueues_nothing(queue: Queue, other: Queue, clock: Clock) -> None:
    """Who lost the item neither ends it nor enqueues what comes next; who has it does both."""
    queue.enqueue(1)
    stale = queue.claim(lease=10)
    clock.advance(10)
    fresh = other.claim()
    with pytest.raises(LeaseLost):
        queue.finish(stale, result="stale", then=New("stale"))
    assert queue.counts().enqueued == 1
    other.finish(fresh, result="fresh", then=New("fresh"))
    assert [item.payload for item in queue.claim(9)] == ["fresh"]


def test_an_id_that_is_known_comes_next_only_once(queue: Queue) -> None:
    """Two items that are followed by the same id are followed by it once; twice in one call is once."""
    queue.enqueue_many(range(2))
    for item in queue.claim(2):
        queue.finish(item, then=[New("next", id="next"), New("next", id="next")])
    assert (queue.counts().enqueued, queue.counts().queued) == (3, 1)


def test_a_full_queue_takes_what_comes_next(queue: Queue) -> None:
    """The limits do not hold for it: a worker that can't finish would keep those from working who make room."""
    queue.configure(max_length=1)
    queue.enqueue(1)
    items = queue.claim()
    queue.enqueue(2)
    queue.finish(items, then=[New(3), New(4)])
    assert queue.counts().queued == 3


def test_the_next_item_of_the_same_group(queue: Queue) -> None:
    """What follows an item in its own group waits for those that were there before it."""
    queue.enqueue_many([New(n, group="g") for n in range(2)])
    first = queue.claim(9)
    queue.claim(9)
    queue.finish(first, then=New(2, group="g"))
    seen = []
    while items := queue.claim(9):
        seen.append([item.payload for item in items])
        queue.finish(items)
    assert seen == [[1], [2]]


def test_wrong_arguments(queue: Queue) -> None:
    """A result or a next item goes with one item; `then` takes `New`s, a thousand of them at most."""
    queue.enqueue_many(range(2))
    items = queue.claim(2)
    with pytest.raises(InvalidArgument, match="one item"):
        queue.finish(items, result=1)
    for then in ("next", [1], [New(1)] * 1001, 5):
        with pytest.raises(InvalidArgument, match="then"):
            queue.finish(items[0], then=then)  # type: ignore[arg-type]  # what is tested
    assert queue.counts().in_progress == 2


def test_its_holder_discards_an_item(queue: Queue) -> None:
    """An item that its holder discards has ended: removed, not dead, and its id says why for the retention."""
    queue.enqueue(1, id="a")
    items = queue.claim()
    for _ in range(2):  # a repeat says the same and counts nothing
        (outcome,) = queue.fail(items, "no such address", discard=True)
        assert (outcome.id, outcome.state, outcome.due_at) == ("a", S.REMOVED, None)
    info = queue.get("a")
    assert (info.state, info.error) == (S.REMOVED, "no such address")
    assert (queue.counts().removed, queue.counts().dead) == (1, 0)
    assert not queue.enqueue(1, id="a").created
    with pytest.raises(LeaseLost):
        queue.finish(items)


def test_each_fails_in_its_own_way(queue: Queue, clock: Clock) -> None:
    """One call fails many items, each with its own error or answer, and tells what became of each."""
    queue.configure(retry="tail", max_attempts=2)
    queue.enqueue_many([New(n, id=str(n)) for n in range(4)])
    items = queue.claim(9)
    answers = [ValueError("broken"), "text", Retry(60, "not yet"), Discard("never")]
    outcomes = queue.fail_each(zip(items, answers, strict=True))
    assert [outcome.state for outcome in outcomes] == [S.QUEUED, S.QUEUED, S.SCHEDULED, S.REMOVED]
    assert outcomes[2].due_at == clock.now + 60
    assert [queue.get(str(n)).error for n in range(4)] == ["ValueError: broken", "text", "not yet", "never"]
    for wrong in (Release(), 7):
        with pytest.raises(InvalidArgument):
            queue.fail_each([(items[0], wrong)])
    with pytest.raises(LeaseLost):
        queue.finish(items[0])


def test_a_lost_reply_to_a_discard(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """It is told again what became of the item, which was removed once."""
    queue = open_queue(url=proxy.url)
    queue.enqueue(1)
    rule = lose_reply("fail")
    (outcome,) = queue.fail(queue.claim(), "no", discard=True)
    assert (rule.fired, outcome.state, queue.counts().removed) == (1, S.REMOVED, 1)
