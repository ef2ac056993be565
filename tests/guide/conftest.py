from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from reliq import Queue
from reliq.embedded import Server


@pytest.fixture
def url(server: Server, redis_client: redis.Redis) -> str:
    """Where the server is. It is empty."""
    return server.socket_url


@pytest.fixture
def emails(url: str) -> Iterator[Queue]:
    """A queue of e-mails to send."""
    with Queue("emails", url) as queue:
        yield queue
