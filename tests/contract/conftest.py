"""A queue on either client, a clock to walk through time, and a look at the server after every test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from contract.clients import Clock, LoseReply, OpenQueue, make_queue
from proxy import FaultProxy, Rule

from reliq import Queue, _scripts
from reliq.embedded import Server


@pytest.fixture(params=["sync", "async"])
def style(request: pytest.FixtureRequest) -> str:
    """Which client a test runs on."""
    return str(request.param)


@pytest.fixture
def clock() -> Clock:
    """A clock for the queues of a test; without it they go by the server's."""
    return Clock()


@pytest.fixture(autouse=True)
def evidence(redis_client: redis.Redis) -> Iterator[None]:
    """After each test: no stray key, no item in two places or none, no counter that counts wrong."""
    from contract.evidence import check_server

    yield
    check_server(redis_client)


@pytest.fixture
def open_queue(
    style: str, server: Server, redis_client: redis.Redis, request: pytest.FixtureRequest
) -> Iterator[OpenQueue]:
    """Opens clients of queues on the session's server; they are closed after the test."""
    opened: list[Queue] = []
    clock: Clock | None = request.getfixturevalue("clock") if "clock" in request.fixturenames else None

    def open_one(name: str = "emails", url: str | None = None, **options: Any) -> Queue:
        given = options if "client" in options else {"url": url or server.socket_url, **options}
        opened.append(make_queue(style, name, **given))
        if clock is not None:
            clock.follow(opened[-1])
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


@pytest.fixture
def queue(open_queue: OpenQueue) -> Queue:
    """The queue under test."""
    return open_queue()


@pytest.fixture
def other(open_queue: OpenQueue) -> Queue:
    """A second client of the same queue."""
    return open_queue()


@pytest.fixture
def lose_reply(proxy: FaultProxy, redis_client: redis.Redis) -> LoseReply:
    """Loses the reply to the next call of a script that is made over `proxy`, after the server has done it."""

    def lose(verb: str) -> Rule:
        script = _scripts.load(verb)
        redis_client.script_load(script.source)  # else the reply that is lost would be NOSCRIPT
        return proxy.lose_reply(match=script.sha.encode())

    return lose
