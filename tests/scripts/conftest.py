from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from contract.evidence import check_queue
from scripts.harness import Scripts


@pytest.fixture
def scripts(redis_client: redis.Redis) -> Iterator[Scripts]:
    """A queue of the session's server, which is emptied. At the end its keys must agree with each other."""
    made = Scripts(redis_client)
    yield made
    if made.is_whole:
        check_queue(redis_client, made.keys.queue)
