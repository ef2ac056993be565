"""Postgres for the tests of the mirror: one for the session with a database for each test, or one to be killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from mirror.outboxes import Outbox
from mirror.pgproxy import PostgresProxy
from mirror.postgres import Postgres

from reliq import Queue
from reliq.embedded import Server
from reliq.mirror.store import Store


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One Postgres for the session. Don't stop it."""
    with Postgres() as running:
        yield running


@pytest.fixture
def fresh_postgres() -> Iterator[Postgres]:
    """A Postgres of its own, that really writes to the disk, for a test that kills it."""
    with Postgres(durable=True) as running:
        yield running


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A new, empty database in the session's Postgres."""
    name = postgres.new_database()
    yield name
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def dsn(postgres: Postgres, database: str) -> str:
    """The DSN of a new, empty database."""
    return postgres.dsn(database)


@pytest.fixture
def pg_proxy(postgres: Postgres) -> Iterator[PostgresProxy]:
    """A proxy in front of the session's Postgres: `postgres.dsn(database, port=pg_proxy.port)`."""
    with PostgresProxy(postgres.port) as running:
        yield running


@pytest.fixture
def sql(postgres: Postgres, database: str) -> Callable[[str], list[Any]]:
    """Runs a statement in the test's database and returns its rows."""
    return lambda statement: postgres.execute(statement, database)


@pytest.fixture
def mirror(dsn: str) -> Iterator[Any]:
    """A mirror in the test's database, its schema made."""
    from reliq.mirror import Mirror

    with Mirror(dsn) as made:
        made.init()
        yield made


@pytest.fixture
def queue(server: Server, redis_client: redis.Redis) -> Iterator[Queue]:
    """A queue on the session's server, which is emptied."""
    with Queue("emails", server.socket_url) as made:
        yield made


@pytest.fixture
def outbox(dsn: str, queue: Queue, server: Server) -> Iterator[Outbox]:
    """The outbox of the queue, its tables made, and a relay to be called by hand."""
    with closing(Store(dsn, timeout=10.0)) as store:
        store.init()
        yield Outbox(dsn, queue, server, store)
