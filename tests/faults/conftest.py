"""Clients of both styles, and servers that a test may break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
import redis.asyncio
from contract.clients import make_queue
from contract.evidence import check_server
from scripts.prepared import Prepared, prepare

from reliq import Queue
from reliq.embedded import Server

OpenQueue = Callable[..., Queue]


@pytest.fixture(params=["sync", "async"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_queue(style: str) -> Iterator[OpenQueue]:
    """Opens a queue on a URL. `patience`: seconds without an answer after which a connection counts as lost."""
    opened: list[Queue] = []

    def open_one(url: str, name: str = "q", *, patience: float | None = None, **options: Any) -> Queue:
        given: dict[str, Any] = {"url": url} if patience is None else {"client": client_of(style, url, patience)}
        opened.append(make_queue(style, name, **given, **options))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


def client_of(style: str, url: str, patience: float) -> Any:
    kind = redis.Redis if style == "sync" else redis.asyncio.Redis
    return kind.from_url(url, socket_timeout=patience, socket_connect_timeout=patience)


@pytest.fixture(scope="module")
def prepared_once(server: Server) -> Iterator[Prepared]:
    with redis.Redis.from_url(server.socket_url) as admin:
        admin.flushall()
        made = prepare(admin, server.socket_url)
        with closing(made.queue):
            yield made


@pytest.fixture
def prepared(prepared_once: Prepared) -> Prepared:
    """A queue of the session's server with something in every place."""
    prepared_once.restore(prepared_once.queue)
    return prepared_once


@pytest.fixture
def evidence(redis_client: redis.Redis) -> Iterator[None]:
    """After the test: no item in two places or none, no counter that counts wrong."""
    yield
    check_server(redis_client)
