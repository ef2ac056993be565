"""Claims that the server never saw: a failover took it back to a state from before them."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from contract.clients import Clock

from reliq import ItemState, LeaseLost, New, Queue
from reliq._keys import Keys


class Past:
    """The server's state at one moment, to go back to."""

    def __init__(self, client: redis.Redis, queue: str) -> None:
        self._client: Any = client
        self._dumps = {key: self._client.dump(key) for key in self._client.keys(Keys(queue)["*"])}
        self._queue = queue

    def come_back(self) -> None:
        self._client.delete(*self._client.keys(Keys(self._queue)["*"]))
        for key, dump in self._dumps.items():
            self._client.restore(key, 0, dump)


def test_a_finish_counts_where_nobody_else_had_the_item(queue: Queue, redis_client: redis.Redis) -> None:
    """An item that is queued as before is finished at its place, which is passed over later: no second delivery."""
    queue.enqueue_many(["a", "b", "c"])
    past = Past(redis_client, queue.name)
    first, second = queue.claim(2)
    past.come_back()
    queue.finish(second)
    queue.finish(second)
    assert queue.get(second.id).state is ItemState.FINISHED
    assert [info.payload for info in queue.peek(3)] == ["a", "c"]
    assert queue.counts().queued == 2
    assert [item.payload for item in queue.claim(3)] == ["a", "c"]
    with pytest.raises(LeaseLost):
        queue.finish(first)
    assert queue.get(second.id).state is ItemState.FINISHED


def test_a_result_is_kept_where_nobody_else_had_the_item(queue: Queue, redis_client: redis.Redis) -> None:
    """Finished with a result it keeps that, at its place and when its place has been passed over."""
    queue.enqueue_many(["a", "b", "c"])
    past = Past(redis_client, queue.name)
    items = queue.claim(3)
    past.come_back()
    queue.finish(items[1], result={"sent": 1})
    queue.finish(items[1], result="another")
    queue.finish_each([(items[2], "c is done"), (items[2], "again")])
    for _ in range(2):
        assert [queue.get(item.id).result for item in items[1:]] == [{"sent": 1}, "c is done"]
        assert [queue.get(item.id).state for item in items[1:]] == [ItemState.FINISHED] * 2
        assert queue.counts().finished == 2
        assert not [item for item in queue.claim(3) if item.id != items[0].id]
    queue.finish_each([(items[1], "late"), (items[2], None)])
    assert queue.get(items[1].id).result == {"sent": 1}


def test_what_comes_next_follows_once(queue: Queue, redis_client: redis.Redis) -> None:
    """It is there exactly where the item ended by this: in the end once, also when the call is repeated."""
    queue.enqueue("a")
    past = Past(redis_client, queue.name)
    [item] = queue.claim(1)
    past.come_back()
    following = [New("next", id="next", group="g"), New("later", id="later", delay=60)]
    for _ in range(2):
        queue.finish(item, result=1, then=following)
    queue.finish(item, then=New("next", id="another"))
    assert [info.id for info in queue.scan("scheduled")] == ["later"]
    assert [item.id for item in queue.claim(9)] == ["next"]
    assert queue.counts().enqueued == 3


def test_nothing_follows_an_item_that_somebody_had_meanwhile(queue: Queue, redis_client: redis.Redis) -> None:
    """Claimed and given back by another worker, it is neither finished nor followed."""
    queue.enqueue("a")
    past = Past(redis_client, queue.name)
    [item] = queue.claim(1)
    past.come_back()
    queue.release(queue.claim(1))
    with pytest.raises(LeaseLost):
        queue.finish(item, result=1, then=New("next"))
    with pytest.raises(LeaseLost):
        queue.finish_each([(item, 1)])
    assert (queue.counts().queued, queue.counts().enqueued) == (1, 1)


def test_an_item_that_is_named_twice_ends_once(queue: Queue, redis_client: redis.Redis) -> None:
    """One call with the same item twice counts it, and its place, once."""
    queue.enqueue_many(["a", "b"])
    past = Past(redis_client, queue.name)
    items = queue.claim(2)
    past.come_back()
    queue.finish([*items, *items])
    assert (queue.counts().finished, queue.counts().queued) == (2, 0)
    assert queue.claim() == []


def test_a_retried_item_is_known_by_its_claims(queue: Queue, redis_client: redis.Redis) -> None:
    """The history of a retried item says whether somebody had it in between."""
    queue.configure(retry="tail")
    queue.enqueue("a")
    queue.fail(queue.claim(1), "again")
    past = Past(redis_client, queue.name)
    [item] = queue.claim(1)
    past.come_back()
    queue.finish(item)
    assert queue.counts().finished == 1


def test_a_finish_is_refused_where_somebody_had_it_meanwhile(queue: Queue, redis_client: redis.Redis) -> None:
    """Claimed and given back by another worker, the item counts as touched: its work may have been begun again."""
    queue.enqueue("a")
    past = Past(redis_client, queue.name)
    [item] = queue.claim(1)
    past.come_back()
    queue.release(queue.claim(1))
    with pytest.raises(LeaseLost):
        queue.finish(item)
    assert queue.counts().queued == 1


def test_a_recovered_item_is_touched(queue: Queue, clock: Clock) -> None:
    """A lease that ended and was recovered is lost for good, also while the item is queued."""
    queue.enqueue("a")
    [item] = queue.claim(1, lease=1)
    clock.advance(2)
    queue.recover()
    with pytest.raises(LeaseLost):
        queue.finish(item)
    assert queue.counts().queued == 1


def test_a_workers_round_trip(queue: Queue, redis_client: redis.Redis) -> None:
    """finish_and_claim ends such items as well, and brings the next ones."""
    queue.enqueue_many(["a", "b", "c"])
    past = Past(redis_client, queue.name)
    items = queue.claim(2)
    past.come_back()
    claimed = queue.finish_and_claim(items[1:], 1)
    assert claimed.lost == ()
    assert [item.payload for item in claimed] == ["a"]
    assert queue.get(items[1].id).state is ItemState.FINISHED
