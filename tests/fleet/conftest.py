from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from contract.evidence import check_server
from fleet.fleets import Fleet

from reliq import Queue
from reliq.embedded import Server
from reliq.testing import History, Recording

MakeFleet = Callable[..., Fleet]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """What the test itself does: it enqueues, and it kills."""
    made = History(tmp_path / "test.jsonl", "test")
    yield made
    made.close()


@pytest.fixture
def queue(server: Server, redis_client: redis.Redis, history: History) -> Iterator[Queue]:
    """A recorded queue of the session's server, whose keys are looked through at the end."""
    with Queue("q", server.socket_url) as made:
        made.configure(retry="tail", max_deliveries=1_000_000)
        yield Recording(made, history)
    check_server(redis_client)


@pytest.fixture
def make_fleet(server: Server, tmp_path: Path, queue: Queue, history: History) -> Iterator[MakeFleet]:
    """Makes fleets whose processes are gone when the test is over."""
    made: list[Fleet] = []

    def make(script: str, *arguments: object) -> Fleet:
        fleet = Fleet(script, server.socket_url, tmp_path, history, tuple(map(str, arguments)))
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.end()
