from __future__ import annotations

import socket
import time
import traceback
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
    Queue,
    Unavailable,
    UnknownLayout,
    UnsafeServer,
)
from reliq._keys import Keys
from reliq.embedded import Server


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
