"""Keys and records that something else has written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from contract.clients import Clock
from contract.evidence import check_server
from proxy import FaultProxy

from reliq import CorruptState, ItemState, Queue, Unavailable, _ids, _scripts
from reliq._keys import Keys
from reliq.embedded import Server

KEYS = Keys("q")
STAMP = 6
OpenQueue = Callable[..., Queue]
# Behind a stamp: nothing, not msgpack, cut off, a form that no version wrote, an unknown codec, an absurd length.
BODIES = [b"\xc1", b"\xc7", b"\x92\x01", b"\xc1\x01", b"\xc1\x93\x80\x91\xa3zzz\xc4\x01x", b"\xdd\xff\xff\xff\xff"]


@pytest.fixture
def queue(server: Server, redis_client: redis.Redis, open_queue: OpenQueue) -> Queue:
    made = open_queue(server.socket_url)
    made.enqueue_many(["first", "second", "third"])
    return made


def damage(client: redis.Redis, item_id: str, body: bytes) -> None:
    """Replaces a record's body; its stamp stays."""
    key = _ids.pack(item_id)
    record: Any = client.hget(KEYS["items"], key)
    client.hset(KEYS["items"], key, record[:STAMP] + body)
    client.hincrby(KEYS["meta"], "waiting_bytes", STAMP + len(body) - len(record))


def lose(client: redis.Redis, item_id: str) -> None:
    """Removes a record; the place of its item stays."""
    key = _ids.pack(item_id)
    record: Any = client.hget(KEYS["items"], key)
    client.hdel(KEYS["items"], key)
    client.hincrby(KEYS["meta"], "waiting_bytes", -len(record))


@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_undecodable_payload_is_set_aside(body: bytes, queue: Queue, redis_client: redis.Redis) -> None:
    """It goes to the dead with its bytes, the claim brings the others and says which it was."""
    broken = queue.peek(3)[1].id
    damage(redis_client, broken, body)
    items = queue.claim(10)
    assert [item.payload for item in items] == ["first", "third"]
    assert items.unreadable == (broken,)
    info = queue.get(broken)
    assert (info.state, info.raw, info.failures) == (ItemState.DEAD, body, 1)
    assert info.problem
    assert "unreadable" in (info.error or "")
    queue.finish(items)
    check_server(redis_client)


@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_undecodable_payload_in_finish_and_claim(body: bytes, queue: Queue, redis_client: redis.Redis) -> None:
    """The other way to claim sets it aside as well."""
    first = queue.claim(1)
    broken = queue.peek(1)[0].id
    damage(redis_client, broken, body)
    items = queue.finish_and_claim(first, 10)
    assert [item.payload for item in items] == ["third"]
    assert queue.get(broken).state is ItemState.DEAD


def test_setting_aside_is_broken_off(
    queue: Queue, redis_client: redis.Redis, proxy: FaultProxy, open_queue: OpenQueue
) -> None:
    """Where the server goes away between the claim and the setting aside, the next claim brings the readable items."""
    damage(redis_client, queue.peek(3)[1].id, b"\xc1")
    broken_off = open_queue(proxy.url, timeout=0)
    broken_off.counts()
    fault = proxy.lose_request(match=_scripts.load("fail").sha.encode())
    for name in ("claim", "fail"):
        redis_client.script_load(_scripts.load(name).source)
    with pytest.raises(Unavailable):
        broken_off.claim(10)
    assert fault.fired == 1
    assert [item.payload for item in broken_off.claim(10)] == ["first", "third"]
    assert queue.counts().dead == 1
    check_server(redis_client)


def test_queue_of_nothing_but_undecodable_payloads(queue: Queue, redis_client: redis.Redis) -> None:
    """A claim goes through all of them, brings nothing, and does not spin."""
    for info in queue.peek(3):
        damage(redis_client, info.id, b"\xc1")
    assert queue.claim(1) == []
    assert queue.counts().dead == 3
    assert queue.claim(1, wait=0.01) == []


def test_cut_off_record_is_set_aside_with_its_bytes(queue: Queue, redis_client: redis.Redis) -> None:
    """A record that is shorter than a stamp goes to the dead too, and stays as it is for people to look at."""
    broken = queue.peek(1)[0].id
    redis_client.hset(KEYS["items"], _ids.pack(broken), b"abc")
    assert [item.payload for item in queue.claim(10)] == ["second", "third"]
    assert queue.get(broken).state is ItemState.DEAD
    assert redis_client.hget(KEYS["items"], _ids.pack(broken)) == b"abc"


def test_missing_record_does_not_stop_a_claim(queue: Queue, redis_client: redis.Redis) -> None:
    """An id whose record is gone is shown among the dead; the others are claimed, and it can be discarded."""
    broken = queue.peek(1)[0].id
    lose(redis_client, broken)
    assert [item.payload for item in queue.claim(10)] == ["second", "third"]
    assert [info.id for info in queue.scan("dead")] == [broken]
    assert queue.discard(broken)
    check_server(redis_client)


def test_unreadable_record_does_not_stop_recovery(queue: Queue, redis_client: redis.Redis) -> None:
    """A sweep counts it, sets it aside, and takes back the others."""
    clock = Clock()
    clock.follow(queue)
    ids = [item.id for item in queue.claim(3, lease=1)]
    redis_client.hset(KEYS["items"], _ids.pack(ids[0]), b"")
    lose(redis_client, ids[2])
    clock.advance(5)
    found = queue.recover()
    assert (found.requeued, found.unreadable) == (1, 2)
    assert [item.payload for item in queue.claim(10)] == ["second"]
    assert {info.id for info in queue.scan("dead")} == {ids[0], ids[2]}


@pytest.mark.parametrize("name", ["meta", "items", "queued", "leases", "claims", "attempts"])
def test_key_of_a_wrong_type_is_named(name: str, queue: Queue, redis_client: redis.Redis) -> None:
    """The error says which key holds what it should not, and the queue goes on when it is right again."""
    queue.release(queue.claim(1))  # so that there is an `attempts`
    key = KEYS[name]
    if redis_client.exists(key):
        redis_client.rename(key, b"saved")
    redis_client.set(key, "something else")
    with pytest.raises(CorruptState) as caught:
        queue.claim(1)
    assert key.decode() in str(caught.value)
    redis_client.delete(key)
    if redis_client.exists(b"saved"):
        redis_client.rename(b"saved", key)
    assert [item.payload for item in queue.claim(3)] == ["first", "second", "third"]
    check_server(redis_client)
