"""Claims that the server never saw: a failover took it back to a state from before them."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from contract.clients import Clock

from reliq import ItemState, LeaseLost, Queue
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
