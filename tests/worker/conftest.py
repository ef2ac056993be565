from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import redis
from contract.evidence import check_server

from reliq import Queue, Worker
from reliq.embedded import Server
from reliq.worker import WorkerReport

Start = Callable[[Worker], "Future[WorkerReport]"]


@pytest.fixture
def queue(server: Server, redis_client: redis.Redis) -> Iterator[Queue]:
    """A queue of the session's server whose failed items come back at once; checked at the end."""
    with Queue("q", server.socket_url) as made:
        made.configure(retry="tail", max_attempts=3)
        yield made
    check_server(redis_client)


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs workers in threads; they are stopped and waited for at the end of the test."""
    with ThreadPoolExecutor(8) as pool, ExitStack() as stops:

        def start_one(worker: Worker) -> Future[WorkerReport]:
            stops.callback(worker.stop)
            return pool.submit(worker.run)

        yield start_one
