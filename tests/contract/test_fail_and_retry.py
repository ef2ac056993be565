from __future__ import annotations

import datetime as dt

import pytest
from contract.clients import Clock, LoseReply, OpenQueue
from proxy import FaultProxy

from reliq import InvalidArgument, ItemState, LeaseLost, Queue


def test_a_failed_item_waits_for_its_next_attempt(queue: Queue, clock: Clock) -> None:
    """By default the item is scheduled for later, and comes again as the second attempt."""
    queue.enqueue(1)
    (outcome,) = queue.fail(queue.claim(), "smtp said no")
    assert outcome.state is ItemState.SCHEDULED
    assert outcome.due_at is not None
    assert clock.now <= outcome.due_at <= clock.now + 1
    clock.advance(outcome.due_at - clock.now)
    (item,) = queue.claim()
    assert (item.delivery, item.attempt) == (2, 2)


def test_the_backoff_doubles_up_to_its_cap(queue: Queue, clock: Clock) -> None:
    """The n-th retry waits at most min(cap, base * 2 ** (n - 1)) seconds."""
    queue.configure(backoff_base=10, backoff_cap=35, max_attempts=100)
    queue.enqueue(1)
    for bound in (10, 20, 35, 35, 35):
        (outcome,) = queue.fail(queue.claim())
        assert outcome.due_at is not None
        assert 0 <= outcome.due_at - clock.now <= bound
        clock.advance(bound)


def test_the_backoff_is_random(queue: Queue, clock: Clock) -> None:
    """Items that fail together don't come back together."""
    queue.configure(backoff_base=1000)
    queue.enqueue_many(range(20))
    assert len({outcome.due_at for outcome in queue.fail(queue.claim(20))}) > 10


@pytest.mark.parametrize(("retry", "order"), [("head", [0, 1, 2, 3]), ("tail", [2, 3, 1, 0])])
def test_a_retry_at_once_goes_where_the_settings_say(queue: Queue, retry: str, order: list[int]) -> None:
    """With retry=head failed items keep their turn, with retry=tail they queue up again as they failed."""
    queue.configure(retry=retry)
    queue.enqueue_many(range(4))
    items = queue.claim(2)
    assert [outcome.state for outcome in queue.fail(items[::-1])] == [ItemState.QUEUED] * 2
    assert [item.payload for item in queue.claim(10)] == order


@pytest.mark.parametrize("after", [7, 7.0, dt.timedelta(seconds=7)])
def test_a_handler_may_choose_the_time(queue: Queue, clock: Clock, after: float | dt.timedelta) -> None:
    """`retry_after` overrides the settings."""
    queue.configure(retry="head")
    queue.enqueue(1)
    (outcome,) = queue.fail(queue.claim(), retry_after=after)
    assert (outcome.state, outcome.due_at) == (ItemState.SCHEDULED, clock.now + 7)


def test_the_last_attempt(queue: Queue, clock: Clock) -> None:
    """An item is dead when `max_attempts` of its attempts have failed, and no sooner."""
    queue.configure(max_attempts=3, retry="head")
    queue.enqueue(1)
    states = [queue.fail(queue.claim(), f"attempt {n}")[0].state for n in (1, 2, 3)]
    assert states == [ItemState.QUEUED, ItemState.QUEUED, ItemState.DEAD]
    (info,) = queue.scan("dead")
    assert (info.failures, info.deliveries, info.error, info.at) == (3, 3, "attempt 3", clock.now)
    assert queue.claim() == []


def test_no_further_attempt(queue: Queue) -> None:
    """`dead=True` ends an item at once; its payload stays for somebody to look at."""
    queue.enqueue({"n": 1}, id="a")
    queue.fail(queue.claim(), ValueError("bad address"), dead=True)
    info = queue.get("a")
    assert (info.state, info.payload, info.error) == (ItemState.DEAD, {"n": 1}, "ValueError: bad address")


def test_a_long_error_is_cut(queue: Queue) -> None:
    """At most 4 KiB of an error's text are kept, whatever characters it has."""
    queue.enqueue("x", id="a")
    queue.fail(queue.claim(), "ä" * 10_000, dead=True)
    error = queue.get("a").error
    assert error is not None
    assert error.startswith("ä" * 2000)
    assert len(error.encode()) <= 4100


def test_an_error_that_is_no_unicode(queue: Queue) -> None:
    """An error text with a lone surrogate is kept in a readable form."""
    queue.enqueue("x", id="a")
    queue.fail(queue.claim(), "bad \udcff byte", dead=True)
    assert queue.get("a").error == "bad \\udcff byte"


def test_failing_again_changes_nothing(queue: Queue) -> None:
    """A repeat under the same receipt is not counted and tells what became of the item."""
    queue.enqueue_many(range(2))
    items = queue.claim(2)
    outcomes = [*queue.fail(items[0], "x"), *queue.fail(items[1], "x", dead=True)]
    assert [*queue.fail(items[0], "y"), *queue.fail(items[1], "y")] == outcomes
    infos = [queue.get(item.id) for item in items]
    assert [(info.failures, info.error) for info in infos] == [(1, "x"), (1, "x")]


def test_the_same_item_twice_in_a_call_fails_once(queue: Queue) -> None:
    """An item that is given twice is counted once, and each mention has its outcome."""
    queue.configure(retry="head")
    queue.enqueue(1)
    (item,) = queue.claim()
    assert [outcome.state for outcome in queue.fail([item, item])] == [ItemState.QUEUED] * 2
    assert queue.get(item.id).failures == 1


def test_a_stale_failure_is_refused(queue: Queue, other: Queue, clock: Clock) -> None:
    """A worker whose lease was recovered can't fail the item; those that it holds are dealt with."""
    queue.enqueue_many(range(2))
    stale, held = queue.claim(1, lease=5), queue.claim(1, lease=60)
    clock.advance(5)
    fresh = other.claim()
    with pytest.raises(LeaseLost) as caught:
        queue.fail([*stale, *held])
    assert caught.value.ids == (stale[0].id,)
    assert queue.get(held[0].id).state is ItemState.SCHEDULED
    other.finish(fresh)
    with pytest.raises(LeaseLost):
        queue.fail(stale)


def test_a_lost_reply(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply, clock: Clock) -> None:
    """A failure that is repeated after a lost reply is counted once."""
    queue = open_queue(url=proxy.url)
    queue.enqueue(1)
    lose_reply("fail")
    (outcome,) = queue.fail(queue.claim())
    info = queue.get(outcome.id)
    assert (info.failures, info.deliveries, info.at) == (1, 1, outcome.due_at)


def test_many_failures_in_one_call(queue: Queue) -> None:
    """More items than one script takes, of several claims, have their outcomes in the order given."""
    queue.configure(max_attempts=1)
    queue.enqueue_many(range(1500))
    items = [item for _ in range(3) for item in queue.claim(500)]
    outcomes = queue.fail(items)
    assert [outcome.id for outcome in outcomes] == [item.id for item in items]
    assert {outcome.state for outcome in outcomes} == {ItemState.DEAD}
    assert queue.counts().dead == 1500


def test_the_outcomes_follow_the_order_of_the_items(queue: Queue) -> None:
    """Also where items of two claims are mixed, the n-th outcome is that of the n-th item."""
    queue.enqueue_many(range(4))
    a, b = queue.claim(2), queue.claim(2)
    mixed = [a[0], b[0], a[1], b[1]]
    assert [outcome.id for outcome in queue.fail(mixed)] == [item.id for item in mixed]


def test_times_out_of_range(queue: Queue) -> None:
    """`retry_after` is 0 s to ten years."""
    queue.enqueue(1)
    (item,) = queue.claim()
    for after in (-1, float("nan"), float("inf"), 4e8, True):
        with pytest.raises(InvalidArgument, match="retry_after"):
            queue.fail(item, retry_after=after)
    assert queue.counts().in_progress == 1
