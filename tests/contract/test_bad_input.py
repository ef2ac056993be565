from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import redis
from contract.clients import LoseReply, OpenQueue
from proxy import FaultProxy

from reliq import (
    AccessDenied,
    CorruptState,
    InvalidArgument,
    InvalidURL,
    PayloadError,
    Queue,
    Unavailable,
    UnknownLayout,
    UnsafeServer,
)
from reliq._keys import Keys
from reliq.embedded import Server


@pytest.mark.parametrize("name", ["", " ", "two words", "a{b", "a}b", "tab\t", "nul\0", "x" * 201, None, 7, b"bytes"])
def test_names_that_no_queue_can_have(open_queue: OpenQueue, name: Any) -> None:
    """A queue name has 1 to 200 printable characters, no spaces and no braces."""
    with pytest.raises(InvalidArgument, match="queue name"):
        open_queue(name)


@pytest.mark.parametrize("name", ["x", "x" * 200, "größe:42/ä", "日本", "-", "*[?", "'\"\\"])
def test_names_that_a_queue_can_have(open_queue: OpenQueue, name: str) -> None:
    """Everything else is a name."""
    queue = open_queue(name)
    queue.enqueue(1)
    (item,) = queue.claim()
    assert item.queue == name
    queue.finish(item)


@pytest.mark.parametrize("item_id", ["", "x" * 201, "ä" * 101, "new\nline", "nul\0", "\ud800", 7, b"x"])
def test_ids_that_no_item_can_have(queue: Queue, item_id: Any) -> None:
    """An id is 1 to 200 bytes of printable text, wherever one is passed."""
    calls: list[Callable[[], object]] = [
        lambda: queue.enqueue(1, id=item_id),
        lambda: queue.get(item_id),
        lambda: queue.cancel(item_id),
        lambda: queue.resolve([item_id], "finish"),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match=r"\bid\b"):
            call()
    assert queue.counts().enqueued == 0


@pytest.mark.parametrize("item_id", ["x", "x" * 200, "ä" * 100, "sixteen bytes ok", "a b", "{x}", "*"])
def test_ids_that_an_item_can_have(queue: Queue, item_id: str) -> None:
    """Every other text is an id, and comes back as it went in."""
    assert queue.enqueue(1, id=item_id).id == item_id
    assert queue.get(item_id).id == item_id
    assert [item.id for item in queue.claim()] == [item_id]


@pytest.mark.parametrize("lease", [0, -1, 0.0001, 86_400.1, float("nan"), float("inf"), True, "30", None])
def test_leases_out_of_range(queue: Queue, lease: Any) -> None:
    """A lease is a millisecond to a day."""
    queue.enqueue(1)
    for call in (
        queue.claim,
        lambda lease: queue.renew([], lease),
        lambda lease: queue.finish_and_claim([], lease=lease),
    ):
        with pytest.raises(InvalidArgument, match="lease"):
            call(lease=lease)
    assert queue.counts().in_progress == 0


@pytest.mark.parametrize("count", [0, -1, 1001, 1.0, True, "1", None])
def test_counts_out_of_range(queue: Queue, count: Any) -> None:
    """A claim takes 1 to 1,000 items."""
    for call in (lambda: queue.claim(count), lambda: queue.finish_and_claim([], count), lambda: queue.peek(count)):
        with pytest.raises(InvalidArgument, match="count"):
            call()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e6, True, "1"])
def test_waits_out_of_range(queue: Queue, open_queue: OpenQueue, seconds: Any) -> None:
    """A wait is 0 s to a day, and so is a timeout."""
    with pytest.raises(InvalidArgument, match="wait"):
        queue.claim(wait=seconds)
    with pytest.raises(InvalidArgument, match="timeout"):
        open_queue(timeout=seconds)


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (object(), "payload"),
        ({"to": [1, 2, {3}]}, "payload['to'][2]"),
        ([{"a": {"b": print}}], "payload[0]['a']['b']"),
        ({"n": 2**80, "bad": 1j}, "payload['bad']"),
        ("\ud800", "payload"),
        ({"text": ["ok", "\udfff"]}, "payload['text'][1]"),
        ({frozenset(): 1}, "payload.keys()[frozenset()]"),
    ],
)
def test_payloads_that_can_not_be_carried(queue: Queue, payload: Any, path: str) -> None:
    """The error names the part of the payload that can't be carried; nothing is sent."""
    with pytest.raises(PayloadError) as caught:
        queue.enqueue(payload)
    assert caught.value.path == path
    assert path in str(caught.value)
    assert queue.counts().enqueued == 0


def test_a_payload_without_an_end(queue: Queue) -> None:
    """A payload that contains itself is refused."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(PayloadError, match="deep"):
        queue.enqueue(endless)


def test_a_payload_that_is_too_large(open_queue: OpenQueue) -> None:
    """A payload over `max_payload` bytes is refused before it is sent; one of exactly that size is not."""
    queue = open_queue(max_payload=100)
    queue.enqueue(b"x" * 98)
    with pytest.raises(PayloadError, match="101 bytes, the limit is 100"):
        queue.enqueue(b"x" * 99)
    with pytest.raises(PayloadError, match="limit"):
        queue.enqueue(b"x" * 99, headers={"a": "b"})
    assert queue.counts().enqueued == 1


@pytest.mark.parametrize("headers", [{"a": 1}, {1: "a"}, {"a": None}])
def test_headers_are_strings(queue: Queue, headers: Any) -> None:
    """Headers are pairs of strings."""
    with pytest.raises(PayloadError, match="headers"):
        queue.enqueue(1, headers=headers)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret@host:port/0",
        "http://user:s3cret@host/",
        "user:s3cret@host",
        "redis://:s3cret@[::1/0",
        "redis://host/0?password=s3cret&port=x&socket_timeout=never",
        "redis://user:s3c/ret@host:1/0",
        "redis://user:s3cret@@host:99999/",
        "",
        None,
        7,
    ],
)
def test_urls_that_can_not_be_used(
    open_queue: OpenQueue, style: str, url: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL that can't be used is refused when the queue is made, and its password is not in the message."""
    monkeypatch.delenv("RELIQ_URL", raising=False)
    with pytest.raises(InvalidURL) as caught:
        open_queue(url=url) if url else open_queue(client=None)
    assert "s3c" not in "".join(traceback.format_exception_only(caught.value)) + str(caught.value.__cause__)


def test_a_client_of_another_kind(open_queue: OpenQueue) -> None:
    """`client=` takes a client of redis-py, and says so."""
    with pytest.raises(InvalidArgument, match="client="):
        open_queue(client="redis://localhost")


def test_a_newer_layout(queue: Queue, redis_client: redis.Redis) -> None:
    """A queue that a newer reliq wrote is left alone, also by those that only look."""
    queue.enqueue(1)
    redis_client.hset(Keys("emails")["meta"], "layout", "2")
    for call in (queue.claim, queue.counts, lambda: queue.enqueue(2)):
        with pytest.raises(UnknownLayout) as caught:
            call()
        assert caught.value.layout == "2"


def test_a_key_of_another_type(queue: Queue, redis_client: redis.Redis) -> None:
    """A key that holds what reliq never writes there is found before anything is changed."""
    queue.enqueue(1)
    leases, finished_order = (Keys("emails")[name] for name in ("leases", "finished_order"))
    redis_client.set(leases, "what is this")
    with pytest.raises(CorruptState):
        queue.claim()
    redis_client.delete(leases)
    items = queue.claim()
    redis_client.set(finished_order, "what is that")
    with pytest.raises(CorruptState, match="finished_order"):
        queue.finish(items)
    redis_client.delete(finished_order)
    queue.finish(items)


def refused() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{bound.getsockname()[1]}/0"


def test_nobody_answers(open_queue: OpenQueue) -> None:
    """Without a server a call gives up in its time, having tried more than once, and knows that it did nothing."""
    queue = open_queue(url=refused(), timeout=0.2)
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        queue.enqueue(1, id="a")
    assert time.monotonic() - began < 1
    assert not caught.value.may_have_been_applied
    assert caught.value.attempts > 1
    assert caught.value.ids == ("a",)


def test_a_socket_that_is_not_there(open_queue: OpenQueue) -> None:
    """The same for a unix socket."""
    with pytest.raises(Unavailable, match="not applied"):
        open_queue(url="unix:///nowhere/socket", timeout=0.05).counts()


def test_a_server_that_falls_silent(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """Where a request was sent and no answer came, the error says that it may have been applied, and with which ids."""
    queue = open_queue(url=proxy.url, timeout=0)
    queue.counts()
    lose_reply("enqueue")
    with pytest.raises(Unavailable) as caught:
        queue.enqueue(1, id="a")
    assert caught.value.may_have_been_applied
    assert caught.value.ids == ("a",)
    assert queue.get("a").payload == 1


def test_a_wrong_password(fresh_server: Server, open_queue: OpenQueue) -> None:
    """Credentials that the server refuses are an error at once, without the password."""
    admin = redis.Redis.from_url(fresh_server.socket_url)
    admin.config_set("requirepass", "right")
    admin.close()
    host = fresh_server.url.removeprefix("redis://")
    for url in (f"redis://:wr0ng@{host}", fresh_server.url):
        with pytest.raises(AccessDenied) as caught:
            open_queue(url=url).counts()
        assert "wr0ng" not in str(caught.value)


def test_a_server_that_deletes_items(fresh_server: Server, open_queue: OpenQueue) -> None:
    """A server whose eviction policy takes any key is refused."""
    admin = redis.Redis.from_url(fresh_server.socket_url)
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.close()
    with pytest.raises(UnsafeServer, match="allkeys-lru"):
        open_queue(url=fresh_server.socket_url).enqueue(1)
