"""How fast a lost queue comes back from Postgres: filled in order, then compared item by item and opened."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from mirror.postgres import Postgres

from benchmarks.conftest import Sizes
from reliq import Queue
from reliq.embedded import Server
from reliq.mirror import Mirror

PAYLOAD = 100  # bytes


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


def rows(postgres: Postgres, database: str, count: int) -> None:
    """A queue as a follower leaves it: queued items, every hundredth of them was in progress."""
    postgres.execute("INSERT INTO reliq.queues (queue, epoch) VALUES ('emails', 1)", database)
    postgres.execute(
        "INSERT INTO reliq.items (queue, id, stamp, state, body)"
        " SELECT 'emails', decode(md5(n::text), 'hex'), n * 10,"
        " CASE WHEN n % 100 = 0 THEN 'in_progress' ELSE 'queued' END,"
        f" decode(repeat('a7', {PAYLOAD}), 'hex') FROM generate_series(1, {count}) AS n",
        database,
    )
    postgres.execute("VACUUM ANALYZE reliq.items", database)


def test_items_a_second(
    postgres: Postgres, client: redis.Redis, server: Server, sizes: Sizes, capsys: pytest.CaptureFixture[str]
) -> None:
    """`apply` fills an empty server; `verify` reads both sides, and opens the queue."""
    count, database, told = max(sizes.memory), postgres.new_database(), []
    with Mirror(postgres.dsn(database)) as mirror, Queue("emails", server.socket_url) as queue:
        mirror.init()
        rows(postgres, database, count)
        for part in (lambda: mirror.apply(mirror.plan_rebuild(queue)), lambda: mirror.verify(queue)):
            began, cpu = time.perf_counter(), time.process_time()
            assert part()
            took, used = time.perf_counter() - began, time.process_time() - cpu
            told.append(f"{count / took:,.0f} items/s, {used / count * 1e6:.1f} us of client CPU each")
        assert queue.counts().queued == client.llen("reliq:{emails}:queued") == count
    with capsys.disabled():
        print(f"\nrebuild, {count} items of {PAYLOAD} bytes: filled {told[0]}; compared {told[1]}")
