from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from contract.evidence import check_server

from reliq import Queue
from reliq.embedded import Server
from reliq.testing import History


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "one.jsonl", "one")
    yield made
    made.close()


@pytest.fixture
def queue(server: Server, redis_client: redis.Redis) -> Iterator[Queue]:
    with Queue("q", server.socket_url) as made:
        made.configure(retry="tail")
        yield made
    check_server(redis_client)
