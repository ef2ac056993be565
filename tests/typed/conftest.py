from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from contract.clients import make_queue
from contract.evidence import check_server

from reliq.embedded import Server

OpenQueue = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def open_queue(request: pytest.FixtureRequest, server: Server, redis_client: redis.Redis) -> Iterator[OpenQueue]:
    """Opens clients of the queue "orders" on either client: `open_queue(payload_type)`."""
    opened: list[Any] = []

    def open_one(payload_type: Any = None, **options: Any) -> Any:
        opened.append(make_queue(request.param, "orders", server.socket_url, payload_type=payload_type, **options))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()
    check_server(redis_client)
