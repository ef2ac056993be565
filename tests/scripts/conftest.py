from __future__ import annotations

import pytest
import redis
from scripts.harness import Scripts


@pytest.fixture
def scripts(redis_client: redis.Redis) -> Scripts:
    """A queue of the session's server, which is emptied."""
    return Scripts(redis_client)
