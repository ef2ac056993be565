"""What a user's type checker sees. Checked by mypy, never run."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import assert_type

import reliq


def sync_side(queue: reliq.Queue) -> None:
    assert_type(queue.enqueue({"a": 1}, id="x", delay=dt.timedelta(seconds=1), headers={"k": "v"}), reliq.Enqueued)
    assert_type(queue.enqueue_many([1, reliq.New(2, delay=1.5)]), list[reliq.Enqueued])
    items = queue.claim(10, lease=dt.timedelta(minutes=1), wait=5)
    assert_type(items, reliq.Claimed)
    assert_type(items[0], reliq.Item)
    assert_type(items.lost, tuple[str, ...])
    assert_type(items[0].headers, Mapping[str, str])
    assert_type(queue.finish_and_claim(items, 5), reliq.Claimed)
    assert_type(queue.fail(items[0], ValueError("x"), retry_after=1), list[reliq.Failed])
    assert_type(queue.recover(), reliq.Recovered)
    assert_type(queue.requeue("a", "b"), reliq.Moved)
    assert_type(queue.resolve(["a"], "finish"), reliq.Moved)
    assert_type(queue.redrive(5), int)
    assert_type(queue.purge("dead", reliq.ItemState.QUEUED), int)
    assert_type(queue.drain(), reliq.Counts)
    assert_type(queue.configure(retry="head"), reliq.Settings)
    assert_type(queue.oldest_age("dead"), float | None)
    assert_type(queue.get("a"), reliq.ItemInfo)
    assert_type(queue.get("a").state, reliq.ItemState)
    assert_type(queue.scan("dead"), Iterator[reliq.ItemInfo])
    assert_type(queue.peek(5), list[reliq.ItemInfo])
    for verb in (queue.finish, queue.release, queue.renew):
        verb(items)
        verb(items[0])
        verb(item for item in items)
    with queue as same:
        assert_type(same, reliq.Queue)


async def async_side(queue: reliq.AsyncQueue) -> None:
    assert_type(await queue.enqueue(1), reliq.Enqueued)
    assert_type(await queue.claim(10), reliq.Claimed)
    assert_type(await queue.get("a"), reliq.ItemInfo)
    assert_type(queue.scan("dead"), AsyncIterator[reliq.ItemInfo])
    async for info in queue.scan():
        assert_type(info, reliq.ItemInfo)
    async with queue as same:
        assert_type(same, reliq.AsyncQueue)


class Shout:
    name = "shout"

    def encode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        return data.upper() + queue.encode() + item_id.encode()

    def decode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        return data.lower() + queue.encode() + item_id.encode()


def options() -> None:
    queue = reliq.Queue("emails", "redis://localhost", codecs=[Shout()], timeout=5)
    assert_type(reliq.Worker(queue, lambda item: item.payload, lease=dt.timedelta(seconds=5)), reliq.Worker)


def mistakes(queue: reliq.Queue) -> None:
    queue.finish("an id")  # type: ignore[arg-type]
    queue.claim("10")  # type: ignore[arg-type]
    queue.enqueue(1, delay="soon")  # type: ignore[arg-type]
    queue.enqueue(1, "positional id")  # type: ignore[call-arg]
    reliq.Queue("emails", codecs=[object()])  # type: ignore[list-item]
