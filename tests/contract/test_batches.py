"""Batches: one item follows many, exactly once, when they are through."""

from __future__ import annotations

import contextlib

import pytest
import redis
from contract.clients import Clock, LoseReply, OpenQueue
from proxy import FaultProxy

from reliq import InvalidArgument, ItemState, New, PayloadError, Queue, QueueFull
from reliq._ids import pack
from reliq._keys import Keys
from reliq.info import BatchProgress

THEN = New("then", id="then")


def begin(queue: Queue, count: int = 3, when: str = "finished") -> None:
    """A batch `b` of items "0", "1" ..., followed by `then`."""
    queue.batch([New(n, id=str(n)) for n in range(count)], then=THEN, when=when, id="b")


def is_followed(queue: Queue) -> bool:
    """Whether the item that follows is there: once, and the batch is through."""
    follows = [info.id for info in queue.scan("queued")].count("then")
    assert (queue.batch_progress("b") is None) == bool(follows)
    assert follows <= 1
    return follows == 1


def test_an_item_follows_when_all_have_finished(queue: Queue) -> None:
    """The members are claimed as other items are; with the end of the last one the item that follows is there."""
    made = queue.batch(range(3), then=New("then"), id="b")
    assert (made.id, [member.created for member in made.members]) == ("b", [True] * 3)
    items = queue.claim(9)
    assert [item.payload for item in items] == [0, 1, 2]
    for left, item in zip((3, 2, 1), items, strict=True):
        assert queue.batch_progress("b") == BatchProgress(3, left)
        assert queue.claim() == []
        queue.finish(item)
    assert queue.batch_progress("b") is None
    (then,) = queue.claim(9)
    assert (then.id, then.payload) == (made.then_id, "then")
    queue.finish(then)
    assert queue.counts().waiting == 0


@pytest.mark.parametrize("way", ["finish", "many", "result", "each", "finish_and_claim", "resolve"])
def test_members_are_counted_off_however_they_finish(queue: Queue, clock: Clock, way: str) -> None:
    """Each verb that finishes items counts them off, one by one or together."""
    begin(queue)
    items = queue.claim(9, lease=10)
    match way:
        case "finish":
            for item in items:
                queue.finish(item)
        case "many":
            queue.finish(items)
        case "result":
            for item in items:
                queue.finish(item, result=1)
        case "each":
            queue.finish_each((item, 1) for item in items)
        case "finish_and_claim":
            assert [item.id for item in queue.finish_and_claim(items, 9)] == ["then"]
            queue.release(queue.claim(lease=10))
            return
        case "resolve":
            queue.configure(expiry="hold")
            clock.advance(10)
            queue.recover()
            queue.resolve(["0", "1", "2"], "finish")
    assert is_followed(queue)


def test_a_member_counts_once(queue: Queue, other: Queue, clock: Clock) -> None:
    """However often a member is delivered, failed and finished, it is counted off once."""
    queue.configure(retry="head", max_attempts=9)
    begin(queue, 2)
    (first,) = queue.claim(lease=10)
    clock.advance(10)
    (again,) = other.claim()
    other.fail(again)
    (third,) = other.claim()
    for _ in range(3):
        other.finish(third)
    with contextlib.suppress(Exception):  # that it is lost is tested elsewhere
        queue.finish(first)
    assert queue.batch_progress("b") == BatchProgress(2, 1)
    queue.finish(queue.claim(9))
    assert is_followed(queue)


@pytest.mark.parametrize("when", ["finished", "settled"])
def test_the_dead_are_waited_for_or_not(queue: Queue, when: str) -> None:
    """A batch that is to be `finished` waits until somebody helps a dead member; one to be `settled` goes on."""
    begin(queue, when=when)
    items = queue.claim(9)
    queue.finish(items[:2])
    queue.fail(items[2], dead=True)
    assert is_followed(queue) == (when == "settled")
    queue.redrive()
    queue.finish([item for item in queue.claim(9) if item.id == "2"])
    if when == "finished":
        assert is_followed(queue)
    assert queue.counts().enqueued == 4


@pytest.mark.parametrize("when", ["finished", "settled"])
@pytest.mark.parametrize("way", ["cancel", "discard orphaned", "discard dead", "holder", "purge", "purge dead"])
def test_removed_members_are_not_waited_for(queue: Queue, clock: Clock, when: str, way: str) -> None:
    """A member that is taken out of the queue, by whom and from where ever, counts as through."""
    queue.configure(expiry="hold")
    begin(queue, 2, when)
    item, other = queue.claim(2, lease=10)
    queue.finish(other)
    match way:
        case "cancel":
            queue.release(item)
            queue.cancel("0")
        case "discard orphaned":
            clock.advance(10)
            queue.recover()
            queue.discard("0")
        case "discard dead":
            queue.fail(item, dead=True)
            queue.discard("0")
        case "holder":
            queue.fail(item, discard=True)
        case "purge":
            queue.release(item)
            assert queue.purge("queued") == 2  # what follows came to the queue by it and was purged as well
            assert queue.batch_progress("b") is None
            return
        case "purge dead":
            queue.fail(item, dead=True)
            queue.purge("dead")
    assert is_followed(queue)


@pytest.mark.parametrize("when", ["finished", "settled"])
def test_members_whose_worker_went_away(queue: Queue, clock: Clock, when: str) -> None:
    """A member that dies of its lease counts as dead; one that is orphaned is waited for by every batch."""
    queue.configure(expiry="hold")
    begin(queue, 1, when)
    queue.claim(lease=10)
    clock.advance(10)
    queue.recover()
    assert not is_followed(queue)
    queue.resolve("0", "dead")
    assert is_followed(queue) == (when == "settled")


def test_an_unreadable_member_is_dead(queue: Queue, redis_client: redis.Redis) -> None:
    """A member whose record is damaged settles its batch when a claim meets it."""
    begin(queue, 1, "settled")
    key, cut = Keys("emails"), b"?"
    size = redis_client.hstrlen(key["items"], pack("0"))
    redis_client.hset(key["items"], pack("0"), cut)
    queue.claim()
    redis_client.hincrby(key["meta"], "waiting_bytes", len(cut) - size)  # what the damage took
    assert queue.counts().dead == 1
    assert queue.batch_progress("b") is None


def test_one_that_works_without_failing(queue: Queue) -> None:
    """Attempts that fail and items that are released settle nothing."""
    queue.configure(retry="tail")
    begin(queue, 3, "settled")
    first, second, _ = queue.claim(3)
    queue.fail(first)
    queue.release(second)
    assert queue.batch_progress("b") == BatchProgress(3, 3)


def test_repeating_the_call_changes_nothing(queue: Queue) -> None:
    """A call with the same ids makes no second batch, before, between and after."""
    for expected in ([True] * 3, [False] * 3):
        made = queue.batch([New(n, id=str(n)) for n in range(3)], then=THEN, id="b")
        assert [member.created for member in made.members] == expected
    queue.finish(queue.claim(2))
    begin(queue)
    assert queue.batch_progress("b") == BatchProgress(3, 1)
    queue.finish(queue.claim(1))
    assert is_followed(queue)
    begin(queue)
    assert is_followed(queue)
    assert queue.counts().enqueued == 4


@pytest.mark.parametrize("when", ["finished", "settled"])
def test_a_call_that_was_broken_off(queue: Queue, when: str) -> None:
    """Where the caller went away in the middle nothing follows until the call is repeated, which goes on with it."""
    broken = [*(New(n, id=str(n)) for n in range(2500)), object()]
    with pytest.raises(PayloadError) as caught:
        queue.batch(broken, then=THEN, when=when, id="b")
    assert caught.value.path == "payload"
    queue.finish(queue.claim(1000))  # all that came to the queue
    assert queue.batch_progress("b") == BatchProgress(1000, 0)
    assert not is_followed(queue)
    queue.batch(broken[:-1], then=THEN, when=when, id="b")
    while (items := queue.claim(1000)) and items[0].id != "then":
        queue.finish(items)
    assert [item.id for item in items] == ["then"]
    assert queue.counts().enqueued == 2501


def test_a_batch_of_several_calls(queue: Queue) -> None:
    """More members than one round trip takes: nothing follows before the last of them was enqueued and has finished."""
    made = queue.batch((New(n) for n in range(2100)), then=THEN, id="b")
    assert len(made.members) == 2100
    assert queue.batch_progress("b") == BatchProgress(2100, 2100)
    for _ in range(3):
        assert not is_followed(queue)
        queue.finish(queue.claim(1000))
    assert is_followed(queue)


@pytest.mark.parametrize("verb", ["batch", "finish", "fail", "cancel", "finish_with"])
def test_lost_replies(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply, verb: str) -> None:
    """Whichever reply gets lost, members are counted off once and one item follows."""
    queue = open_queue(url=proxy.url)
    if verb == "batch":
        lose_reply("batch")
    begin(queue, 2, "settled")
    (item,) = queue.claim()
    lose_reply(verb)
    match verb:
        case "finish" | "batch":
            queue.finish(item)
        case "finish_with":
            queue.finish(item, result=1)
        case "fail":
            queue.fail(item, dead=True)
        case "cancel":
            queue.release(item)
            queue.cancel("0")
    proxy.clear()
    assert queue.batch_progress("b") == BatchProgress(2, 1)
    queue.finish(queue.claim())
    assert is_followed(queue)


def test_an_empty_batch(queue: Queue) -> None:
    """With nothing to wait for, what follows is there at once."""
    begin(queue, 0)
    assert is_followed(queue)


def test_known_ids_do_not_join(queue: Queue) -> None:
    """An item that was there before is no member; the batch does not wait for it."""
    queue.enqueue("before", id="0")
    made = queue.batch([New(n, id=str(n)) for n in range(2)], then=THEN, id="b")
    assert [member.created for member in made.members] == [False, True]
    assert queue.batch_progress("b") == BatchProgress(1, 1)
    held = {item.id: item for item in queue.claim(2)}
    queue.finish(held["1"])
    assert is_followed(queue)


def test_what_follows_has_its_options(queue: Queue, clock: Clock) -> None:
    """The item that follows may be of a group, be delayed from then on, carry headers, and belong to no batch."""
    queue.batch([1], then=New("then", id="then", delay=10, group="g", headers={"k": "v"}), id="b")
    clock.advance(100)
    queue.finish(queue.claim())
    assert queue.get("then").at == clock.now + 10
    clock.advance(10)
    (then,) = queue.claim()
    assert (then.group, then.headers) == ("g", {"k": "v"})


def test_batches_know_nothing_of_each_other(queue: Queue) -> None:
    """Members of several batches in one call count for their own; also where one batch's id begins like another's."""
    for name in ("b", "tb", "ttb"):
        queue.batch([New(n, id=f"{name}-{n}") for n in range(2)], then=New(name, id=f"then {name}"), id=name)
    assert [queue.batch_progress(name) for name in ("b", "tb", "ttb")] == [BatchProgress(2, 2)] * 3
    items = queue.claim(6)
    queue.finish([items[0], items[2], items[3], items[4]])
    assert [queue.batch_progress(name) for name in ("b", "tb", "ttb")] == [
        BatchProgress(2, 1),
        None,
        BatchProgress(2, 1),
    ]
    queue.finish(items)
    assert sorted(item.id for item in queue.claim(9)) == ["then b", "then tb", "then ttb"]


def test_a_batch_within_a_batch(queue: Queue) -> None:
    """What follows one batch can be the member of another."""
    queue.batch([1], then=New("then", id="inner"), id="a")
    queue.finish(queue.claim())
    queue.batch([New(2, id="2")], then=New("end", id="end"), id="z")
    assert [item.id for item in queue.claim(9)] == ["inner", "2"]


def test_grouped_members(queue: Queue) -> None:
    """Members of groups are handled one at a time, and counted off as others are."""
    queue.batch([New(n, id=str(n), group="g") for n in range(3)], then=THEN, id="b")
    seen = []
    while items := queue.claim(9):
        seen += [item.id for item in items]
        queue.finish(items)
    assert seen == ["0", "1", "2", "then"]


def test_a_full_queue(queue: Queue) -> None:
    """The members are under the queue's limits; what follows is not, because members made room."""
    queue.configure(max_length=2)
    with pytest.raises(QueueFull):
        begin(queue, 3)
    assert queue.counts().enqueued == 0
    assert queue.batch_progress("b") is None
    begin(queue, 2)
    items = queue.claim(2)
    queue.enqueue_many(["x", "y"])
    queue.finish(items)
    assert is_followed(queue)


def test_unknown_batches(queue: Queue) -> None:
    """Of a batch that was never begun there is no progress, and asking makes nothing."""
    assert queue.batch_progress("b") is None
    assert queue.counts().enqueued == 0
    with pytest.raises(InvalidArgument):
        queue.batch_progress("")


def test_wrong_arguments(queue: Queue) -> None:
    """A batch is followed by one `New`, when it has finished or is settled."""
    with pytest.raises(InvalidArgument, match="when"):
        queue.batch([1], then=THEN, when="later")
    with pytest.raises(InvalidArgument, match="then"):
        queue.batch([1], then="then")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(InvalidArgument, match="batch"):
        queue.batch([1], then=THEN, id="")
    assert queue.counts().enqueued == 0


def test_a_state_that_counts(queue: Queue) -> None:
    """What follows was enqueued by nobody's call and is counted as every other item."""
    begin(queue, 1)
    queue.finish(queue.claim())
    counts = queue.counts()
    assert (counts.enqueued, counts.queued, counts.finished) == (2, 1, 1)
    assert queue.get("then").state is ItemState.QUEUED
