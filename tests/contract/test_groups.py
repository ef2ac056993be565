"""Groups: one at a time and in order, whatever happens to the one that has the turn, and nobody else is held up."""

from __future__ import annotations

import pytest
from contract.clients import Clock, LoseReply, OpenQueue
from contract.grouped import add, claimed, drained, names
from proxy import FaultProxy

from reliq import InvalidArgument, ItemState, LeaseLost, New, Queue


def test_an_item_knows_its_group(queue: Queue) -> None:
    """The group travels with the item, and can be looked at; an item of no group has None."""
    add(queue, "a1 -1 b1")
    assert [item.group for item in queue.claim(9)] == ["a", None, "b"]
    assert (queue.get("a1").group, queue.get("-1").group) == ("a", None)


def test_one_at_a_time_and_in_order(queue: Queue) -> None:
    """A claim takes the first of each group; the next one comes when that has finished, before what is behind it."""
    add(queue, "a1 a2 b1 a3 -1 b2 -2")
    assert drained(queue) == "a1 b1 -1 -2 | a2 b2 | a3"


def test_one_at_a_time_over_all_workers(queue: Queue, other: Queue) -> None:
    """While one worker has an item of a group no other gets one, and the others of the queue go on."""
    add(queue, "a1 a2 a3 -1")
    (first,) = queue.claim(1)
    assert claimed(other) == "-1"
    assert claimed(other) == ""
    queue.finish(first)
    assert claimed(other) == "a2"
    assert claimed(queue) == ""


def test_finish_and_claim_takes_the_next_one(queue: Queue) -> None:
    """A worker that finishes an item gets the next of its group with the same call."""
    add(queue, "a1 a2 b1 a3")
    items, seen = queue.claim(9), []
    while items:
        seen.append(names(items))
        items = queue.finish_and_claim(items, 9)
    assert seen == ["a1 b1", "a2", "a3"]


def test_those_who_wait_for_their_turn_are_queued(queue: Queue) -> None:
    """They count as queued and as blocked, and are met by a scan, by peek and by get."""
    add(queue, "a1 a2 a3 b1")
    queue.claim(1)
    assert claimed(queue, 1) == "b1"
    counts = queue.counts()
    assert (counts.queued, counts.blocked, counts.in_progress) == (2, 2, 2)
    assert queue.get("a2").state is ItemState.QUEUED
    assert [info.id for info in queue.scan("queued", page=1)] == ["a2", "a3"]
    assert [info.id for info in queue.peek(5)] == ["a2", "a3"]
    assert not queue.enqueue("again", id="a3").created


def test_what_a_turn_sets_free_goes_first(queue: Queue) -> None:
    """The next one of a group goes to the head of the queue: what is behind was enqueued later."""
    add(queue, "a1 a2 b1 b2 -1 -2 -3")
    items = queue.claim(3)
    assert names(items) == "a1 b1 -1"
    queue.finish(items[0])
    queue.finish(items[1])
    assert claimed(queue) == "a2 b2 -2 -3"


def test_released_items_keep_their_turn(queue: Queue) -> None:
    """What was given back is claimed before the rest of its group."""
    add(queue, "a1 a2")
    items = queue.claim(5)
    queue.claim(5)  # parks a2
    queue.release(items)
    add(queue, "a3 -1")
    assert drained(queue) == "a1 -1 | a2 | a3"


@pytest.mark.parametrize("retry", ["tail", "head", "later"])
def test_a_retry_keeps_the_turn(queue: Queue, clock: Clock, retry: str) -> None:
    """A failed item goes before the rest of its group, wherever it waits; others go on meanwhile."""
    queue.configure(retry=retry)
    add(queue, "a1 a2 b1 -1 a3")
    failed, finished = queue.claim(2)
    queue.fail(failed, retry_after=60 if retry == "later" else None)
    queue.finish(finished)
    if retry == "later":
        assert drained(queue) == "-1"
        clock.advance(60)
        assert drained(queue) == "a1 | a2 | a3"
    else:
        assert drained(queue) == {"head": "a1 -1 | a2 | a3", "tail": "-1 a1 | a2 | a3"}[retry]


def test_an_expired_item_keeps_its_turn(queue: Queue, other: Queue, clock: Clock) -> None:
    """A worker that went away leaves its item before the rest of the group."""
    add(queue, "a1 a2")
    (stale,) = queue.claim(lease=10)
    assert claimed(other) == ""
    clock.advance(10)
    (again,) = other.claim(9)
    assert (again.id, again.delivery) == ("a1", 2)
    with pytest.raises(LeaseLost):
        queue.finish(stale)
    assert claimed(queue) == ""
    other.finish(again)
    assert claimed(queue) == "a2"


@pytest.mark.parametrize("decision", ["finish", "requeue", "dead"])
def test_an_orphaned_item_holds_its_group_up(queue: Queue, clock: Clock, decision: str) -> None:
    """Until somebody has looked nobody may go on: then the same item goes again, or the next one."""
    queue.configure(expiry="hold")
    add(queue, "a1 a2 -1")
    queue.claim(lease=10)
    clock.advance(10)
    assert drained(queue) == "-1"
    assert queue.counts().orphaned == 1
    queue.resolve("a1", decision)
    assert drained(queue) == ("a1 | a2" if decision == "requeue" else "a2")


def test_the_dead_pass_their_turn_on(queue: Queue, clock: Clock) -> None:
    """An item that is dead, by its failures or by its leases, holds nobody up."""
    queue.configure(expiry="dead", max_attempts=1)
    add(queue, "a1 a2 a3")
    queue.fail(queue.claim())
    queue.claim(lease=10)
    clock.advance(10)
    assert drained(queue) == "a3"
    assert queue.counts().dead == 2


def test_the_last_delivery_passes_the_turn_on(queue: Queue, clock: Clock) -> None:
    """So does one whose deliveries are used up."""
    queue.configure(max_deliveries=2)
    add(queue, "a1 a2")
    for _ in range(2):
        assert names(queue.claim(lease=10)) == "a1"
        clock.advance(10)
    assert drained(queue) == "a2"


def test_a_delayed_item_takes_its_turn_when_it_is_due(queue: Queue, clock: Clock) -> None:
    """One that is not due yet holds nobody up; when it is due it waits for the turn as others do."""
    add(queue, "a1", delay=10)
    add(queue, "a2 a3")
    (second,) = queue.claim()
    clock.advance(10)
    assert claimed(queue) == ""
    queue.finish(second)
    assert drained(queue) == "a1 | a3"


def test_several_of_a_group(queue: Queue) -> None:
    """With `group_limit` so many of a group are in progress at a time, over all claims, and no more."""
    queue.configure(group_limit=2)
    add(queue, "a1 a2 a3 a4 a5 b1")
    items = queue.claim(9)
    assert names(items) == "a1 a2 b1"
    queue.finish(items[0])
    (third,) = queue.claim(9)
    assert claimed(queue) == ""
    queue.finish([items[1], third])
    assert drained(queue) == "a4 a5"


def test_a_limit_that_is_raised_or_lowered(queue: Queue) -> None:
    """The new limit holds from the next item on that ends: more are let in, or none until there is room."""
    add(queue, "a1 a2 a3 a4 a5 a6")
    first = queue.claim(9)
    queue.claim(9)
    queue.configure(group_limit=3)
    queue.finish(first)
    more = queue.claim(9)
    assert names(more) == "a2 a3"
    queue.configure(group_limit=1)
    queue.finish(more[0])
    assert claimed(queue) == ""
    queue.finish(more[1])
    assert drained(queue) == "a4 | a5 | a6"


def test_a_large_group_holds_nobody_up(queue: Queue) -> None:
    """Thousands of items of a busy group before it do not keep an item of another group from being claimed."""
    queue.enqueue_many([New(n, group="a") for n in range(3000)])
    add(queue, "b1")
    first = queue.claim(1)
    assert claimed(queue, 5) == "b1"
    assert queue.counts().blocked == 2999
    queue.finish(first)
    assert [item.payload for item in queue.claim(5)] == [1]


def test_order_over_many_claims(queue: Queue, other: Queue) -> None:
    """Two workers that claim and finish in turns have each group's items in order and never two of one group."""
    queue.enqueue_many([New(n, group=f"g{n % 7}") for n in range(140)])
    held: dict[Queue, list[int]] = {}
    seen: dict[int, list[int]] = {n: [] for n in range(7)}
    for turn in range(200):
        worker = (queue, other)[turn % 2]
        items = worker.claim(3)
        for item in items:
            assert item.payload % 7 not in [n % 7 for mine in held.values() for n in mine]
            seen[item.payload % 7].append(item.payload)
        held[worker] = [item.payload for item in items]
        worker.finish(items)
        held[worker] = []
    assert seen == {n: list(range(n, 140, 7)) for n in range(7)}


def test_a_lost_reply_gives_no_second_turn(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """Whatever call lost its reply, the group goes on once and in order."""
    queue = open_queue(url=proxy.url)
    add(queue, "a1 a2 a3")
    seen = []
    for _ in range(4):
        lose_reply("claim")
        items = queue.claim(9)
        seen.append(names(items))
        for _ in range(2):
            rule = lose_reply("finish")
            queue.finish(items)
            assert rule.fired == bool(items)
            proxy.clear()
    assert seen == ["a1", "a2", "a3", ""]


@pytest.mark.parametrize("group", ["", "g" * 201, "a\nb", 7])
def test_a_group_that_can_not_be(queue: Queue, group: object) -> None:
    """A group is 1 to 200 bytes of printable text."""
    with pytest.raises(InvalidArgument, match="group"):
        queue.enqueue(1, group=group)  # type: ignore[arg-type]  # what is tested


def test_groups_of_all_lengths(queue: Queue) -> None:
    """No group is taken for another whose name begins alike, and ids of all three forms are told from it."""
    groups = ["a", "aa", "a" * 200, "é", "sixteen bytes ok"]
    ids = ["x", "sixteen bytes ok", None]
    queue.enqueue_many([New(group, id=f"{i}{group[:150]}", group=group) for i in range(2) for group in groups])
    queue.enqueue_many([New("ids", id=item_id, group="ids") for item_id in ids])
    seen = []
    while items := queue.claim(100):
        seen.append([item.payload for item in items])
        queue.finish(items)
    assert seen == [[*groups, "ids"], [*groups, "ids"], ["ids"]]
