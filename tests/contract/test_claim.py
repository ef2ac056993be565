from __future__ import annotations

import threading
import time

import pytest
import redis
from contract.clients import Clock, LoseReply, OpenQueue
from proxy import FaultProxy
from servers import wait_until

from reliq import ItemState, Queue, Unavailable
from reliq._codec import STAMP
from reliq._ids import pack
from reliq._keys import Keys
from reliq.embedded import Server


def test_what_an_item_knows_of_itself(queue: Queue, clock: Clock) -> None:
    """A claimed item carries what was enqueued and what a handler has to know of its lease."""
    queue.enqueue({"n": 1}, id="a", headers={"trace": "t"})
    clock.advance(5)
    (item,) = queue.claim(lease=40)
    assert (item.id, item.payload, item.headers) == ("a", {"n": 1}, {"trace": "t"})
    assert (item.delivery, item.attempt, item.queue, item.lease) == (1, 1, "emails", 40)
    assert item.enqueued_at == pytest.approx(clock.now - 5, abs=0.001)
    assert item.epoch == int((clock.now - 5) * 1000)
    assert 39 < item.remaining() <= 40


def test_nothing_to_claim(queue: Queue) -> None:
    """A queue that does not exist, and one that is empty, give no items and no error."""
    assert queue.claim(10) == []
    queue.enqueue(1)
    queue.claim()
    assert queue.claim(10) == []


def test_a_claim_takes_no_more_than_it_asked_for(queue: Queue) -> None:
    """A claim brings up to `count` of the oldest items."""
    queue.enqueue_many(range(5))
    assert [item.payload for item in queue.claim(2)] == [0, 1]
    assert [item.payload for item in queue.claim(1000)] == [2, 3, 4]


def test_an_item_is_held_once(queue: Queue, other: Queue) -> None:
    """Two clients never hold the same item, and each claim has a receipt of its own."""
    queue.enqueue_many(range(4))
    mine, theirs = queue.claim(2), other.claim(4)
    assert not {item.id for item in mine} & {item.id for item in theirs}
    assert len({item.receipt for item in mine}) == len({item.receipt for item in theirs}) == 1
    assert mine[0].receipt != theirs[0].receipt


def test_queues_know_nothing_of_each_other(queue: Queue, open_queue: OpenQueue) -> None:
    """Items of one queue are not in another, also with the same id."""
    letters = open_queue("letters")
    queue.enqueue("mail", id="a")
    letters.enqueue("letter", id="a")
    assert [item.payload for item in letters.claim(5)] == ["letter"]
    assert queue.get("a").state is ItemState.QUEUED


def test_cancelled_items_are_skipped(queue: Queue) -> None:
    """Cancelled items between others are passed over, also more of them than one look at the queue goes through."""
    ids = [enqueued.id for enqueued in queue.enqueue_many(range(2500))]
    for start in (1, 1001, 2001):
        queue.cancel(*ids[start : min(start + 1000, 2499)])
    assert [item.payload for item in [*queue.claim(10), *queue.claim(10)]] == [0, 2499]
    assert queue.counts().queued == 0


def test_a_paused_queue_gives_nothing(queue: Queue) -> None:
    """While claims are paused there is nothing to claim."""
    queue.enqueue(1)
    queue.pause()
    assert queue.claim() == []
    queue.resume()
    assert len(queue.claim()) == 1


def test_waiting_for_the_first_item(queue: Queue, server: Server, redis_client: redis.Redis) -> None:
    """A claim that waits gets an item as soon as somebody enqueues it."""

    def produce() -> None:
        with Queue("emails", server.socket_url) as producer:
            waiting = Keys("emails")["waiting"]
            wait_until(lambda: redis_client.zcard(waiting), "the claim waits")
            producer.enqueue("here")

    producing = threading.Thread(target=produce)
    producing.start()
    began = time.monotonic()
    items = queue.claim(wait=30)
    producing.join()
    assert [item.payload for item in items] == ["here"]
    assert time.monotonic() - began < 5


def test_waiting_for_a_due_item(queue: Queue) -> None:
    """A claim that waits gets a scheduled item when it falls due, without anybody's help."""
    queue.enqueue("later", delay=0.1)
    assert [item.payload for item in queue.claim(wait=10)] == ["later"]


def test_waiting_for_an_expired_lease(queue: Queue, other: Queue) -> None:
    """A claim that waits gets an item whose worker went away, as soon as its lease has ended."""
    queue.enqueue(1)
    queue.claim(lease=0.1)
    (item,) = other.claim(wait=10)
    assert (item.payload, item.delivery, item.attempt) == (1, 2, 1)


def test_waiting_in_vain(queue: Queue) -> None:
    """A claim that waits for nothing ends empty when its time is up."""
    began = time.monotonic()
    assert queue.claim(wait=0.05) == []
    assert 0.05 <= time.monotonic() - began < 2


def test_a_lost_reply_brings_the_same_items(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """A claim whose reply was lost is asked again with its receipt: the same items, held once, delivered once."""
    queue = open_queue(url=proxy.url)
    queue.enqueue_many(range(6))
    rule = lose_reply("claim")
    items = queue.claim(3)
    assert rule.fired == 1
    assert [(item.payload, item.delivery) for item in items] == [(0, 1), (1, 1), (2, 1)]
    assert (queue.counts().in_progress, queue.counts().claims) == (3, 1)
    queue.finish(items)


def test_a_claim_that_was_given_up_is_taken_up_again(
    open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply
) -> None:
    """The items of a claim that ended in an error come with the next claim, before others and not after their lease."""
    queue = open_queue(url=proxy.url, timeout=0)
    queue.enqueue_many(range(6))
    lose_reply("claim")
    with pytest.raises(Unavailable) as caught:
        queue.claim(3)
    assert caught.value.may_have_been_applied
    assert [item.payload for item in queue.claim(1)] == [0, 1, 2]
    assert queue.counts().claims == 1
    assert [item.payload for item in queue.claim(1)] == [3]


def test_an_unreadable_payload_is_set_aside(queue: Queue, redis_client: redis.Redis) -> None:
    """A payload that can't be decoded stops nobody: it goes to the dead, bytes and all, and the claim names it."""
    bad, good = (enqueued.id for enqueued in queue.enqueue_many([1, 2]))  # of one byte, as what damages it
    items = Keys("emails")["items"]
    record = redis_client.hget(items, pack(bad))
    assert isinstance(record, bytes)
    redis_client.hset(items, pack(bad), record[:STAMP] + b"\xc7")
    claimed = queue.claim(5)
    assert [item.id for item in claimed] == [good]
    assert claimed.unreadable == (bad,)
    info = queue.get(bad)
    assert (info.state, info.payload, info.raw) == (ItemState.DEAD, None, b"\xc7")
    assert info.problem
    assert info.error
    assert "unreadable" in info.error


class Reversed:
    name = "reversed"

    def encode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        assert (queue, len(item_id)) == ("emails", 36)
        return data[::-1]

    def decode(self, data: bytes, *, queue: str, item_id: str) -> bytes:
        assert (queue, len(item_id)) == ("emails", 36)
        return data[::-1]


def test_codecs_are_named_with_the_item(queue: Queue, open_queue: OpenQueue) -> None:
    """An item that went through a codec is read by a client that has it, and set aside by one that has not."""
    coding = open_queue(codecs=[Reversed()])
    first, second = (coding.enqueue({"n": n}, headers={"a": "b"}).id for n in range(2))
    (item,) = coding.claim()
    assert (item.id, item.payload, item.headers) == (first, {"n": 0}, {"a": "b"})
    assert queue.claim().unreadable == (second,)
    assert "reversed" in str(queue.get(second).error)
    assert coding.get(second).payload == {"n": 1}
