from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from consume.clients import queue_of
from contract.evidence import check_server
from proxy import FaultProxy, Rule

from reliq import Queue, _scripts
from reliq.embedded import Server

OpenQueue = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def style(request: pytest.FixtureRequest) -> str:
    """Which client a test runs on."""
    return str(request.param)


@pytest.fixture
def open_queue(style: str, server: Server, redis_client: redis.Redis) -> Iterator[OpenQueue]:
    """Opens clients of the queue "q". Afterwards the server is looked over for items in no place or in two."""
    opened: list[Any] = []

    def open_one(url: str | None = None, **options: Any) -> Any:
        opened.append(queue_of(style, "q", url or server.socket_url, **options))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()
    check_server(redis_client)


@pytest.fixture
def other(server: Server, redis_client: redis.Redis) -> Iterator[Queue]:
    """A sync client of the same queue: it looks on, and settles by hand from within handlers."""
    with Queue("q", server.socket_url) as made:
        yield made


@pytest.fixture
def queue(open_queue: OpenQueue, other: Queue) -> Any:
    """The queue under test, with ten items in it; a failed one is scheduled for a minute later."""
    other.configure(retry="later", backoff_base=86400)
    other.enqueue_many(range(10))
    return open_queue()


@pytest.fixture
def lose_reply(proxy: FaultProxy, redis_client: redis.Redis) -> Callable[[str], Rule]:
    """Loses the reply to the next call of a script that is made over `proxy`, after the server has done it."""

    def lose(verb: str) -> Rule:
        script = _scripts.load(verb)
        redis_client.script_load(script.source)  # else the reply that is lost would be NOSCRIPT
        return proxy.lose_reply(match=script.sha.encode())

    return lose
