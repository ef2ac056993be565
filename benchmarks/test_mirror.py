"""What a mirror costs: Redis's CPU beside that of a queue without, what reaches Postgres, and checkpointed enqueues.

The follower is a process of its own, as it is in production. A turn of the mirrored queue ends when the follower has
read all of it, so what it asks of Redis is in the turn's cost.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redis
from mirror.postgres import Postgres
from pytest_benchmark.fixture import BenchmarkFixture
from servers import wait_until

from benchmarks.conftest import Sizes
from benchmarks.harness import OURS, Contest, Meter, Report, Work, in_rounds
from benchmarks.rivals import TEXT
from reliq import Mirror, Queue
from reliq._commands import Body
from reliq._ids import new_keys
from reliq.embedded import Server

BATCH = 100
PAYLOADS = [TEXT] * BATCH
STANDING = 10  # batches that wait in the steady state


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


@pytest.fixture
def mirror(postgres: Postgres) -> Iterator[Mirror]:
    with Mirror(postgres.dsn(postgres.new_database())) as made:
        made.init()
        yield made


@pytest.fixture
def mirrored(server: Server, client: redis.Redis, mirror: Mirror) -> Iterator[Queue]:
    """A queue that a process of its own follows."""
    assert not client.dbsize()
    with Queue("mirrored", server.socket_url) as queue:
        mirror.follow(queue, once=True)
        follower = multiprocessing.get_context("spawn").Process(target=_follow, args=(mirror, queue))
        follower.start()
        yield queue
        follower.terminate()
        follower.join()


def _follow(mirror: Mirror, queue: Queue) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    mirror.follow(queue, stop=stop)


@pytest.fixture
def plain(rival_server: Server, rival_client: redis.Redis) -> Iterator[Queue]:
    """A queue that nobody follows, on a server of the same kind."""
    assert not rival_client.dbsize()
    with Queue("plain", rival_server.socket_url) as queue:
        yield queue


def turn(queue: Queue, batches: int, caught_up: Callable[[], object] | None = None) -> Work:
    """Enqueue, claim and finish, each in batches of 100, with a few batches waiting."""

    def work() -> int:
        queue.enqueue_many(PAYLOADS * STANDING, batch=BATCH)
        held = queue.claim(BATCH)
        for _ in range(batches):
            queue.enqueue_many(PAYLOADS, batch=BATCH)
            held = queue.finish_and_claim(held, BATCH)
        while held:
            held = queue.finish_and_claim(held, BATCH)
        if caught_up:
            wait_until(caught_up, "the follower has read all", timeout=60)
        return (batches + STANDING) * BATCH

    return work


def has_read_all(client: redis.Redis, queue: Queue) -> bool:
    """The follower cuts off what it has read."""
    return int(client.xlen(queue._session.keys["journal"])) == 1


def test_cost_of_a_mirror(
    benchmark: BenchmarkFixture,
    report: Report,
    sizes: Sizes,
    client: redis.Redis,
    rival_client: redis.Redis,
    mirrored: Queue,
    plain: Queue,
    mirror: Mirror,
) -> None:
    """Redis's CPU an item, mirrored by unmirrored, and the share of items that ever had a row."""
    ours = turn(mirrored, sizes.batches, lambda: has_read_all(client, mirrored))
    contest = Contest(Meter(client, rival_client), {"unmirrored": turn(plain, sizes.batches), OURS: ours})
    contest.run(benchmark, sizes.rounds)
    report.add(benchmark, contest.row("mirrored, batches of 100", "unmirrored", "server", "<= 1.25"))
    report.add(benchmark, contest.row("mirrored, batches of 100", "unmirrored", "client"))
    share = _inserted(mirror) / (sizes.rounds * (sizes.batches + STANDING) * BATCH)
    print(f"{100 * share:.2f} % of the items had a row")
    assert share < 0.05 or sizes.rounds == 1


def test_the_follower_keeps_up(
    benchmark: BenchmarkFixture, sizes: Sizes, mirrored: Queue, mirror: Mirror, client: redis.Redis
) -> None:
    """While items come and go as fast as one client can, the journal stays short."""
    longest = 0
    batches = sizes.batches * sizes.rounds

    def work() -> None:
        nonlocal longest
        held = mirrored.claim(BATCH)
        for n in range(batches):
            mirrored.enqueue_many(PAYLOADS, batch=BATCH)
            held = mirrored.finish_and_claim(held, BATCH)
            if n % 20 == 0:
                longest = max(longest, int(client.xlen(mirrored._session.keys["journal"])))
        while held:
            held = mirrored.finish_and_claim(held, BATCH)

    began = time.perf_counter()
    in_rounds(benchmark, work, rounds=1)
    seconds = time.perf_counter() - began
    wait_until(lambda: has_read_all(client, mirrored), "the follower has read all", timeout=60)
    behind = time.perf_counter() - began - seconds
    print(f"{batches * BATCH / seconds:.0f} items/s; journal of at most {longest} entries; {behind:.2f} s to catch up")
    assert behind < 5
    assert mirror.status()[0].rows == 0


def _inserted(mirror: Mirror) -> int:
    with mirror.store.lend() as connection:
        connection.execute(b"SELECT pg_stat_clear_snapshot()")
        found = connection.execute(b"SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'items'").fetchone()
    return int(found[0]) if found else 0


def test_checkpointed_enqueue(
    benchmark: BenchmarkFixture, report: Report, sizes: Sizes, server: Server, client: redis.Redis, mirror: Mirror
) -> None:
    """A batch of 100 committed to Postgres and enqueued, by COPY and RPUSH of the same by hand."""
    queue = Queue("checkpointed", server.socket_url)
    mirror.follow(queue, once=True)
    with psycopg.connect(mirror.store.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE raw (LIKE reliq.pending INCLUDING ALL)")
        ways: dict[str, Work] = {"copy": _copy(connection, client, sizes), OURS: _checkpoint(mirror, queue, sizes)}
        contest = Contest(Meter(client), ways)
        contest.run(benchmark, sizes.rounds)
    report.add(benchmark, contest.row("checkpointed enqueue, batches of 100", "copy", "wall", "<= 1.6"))
    queue.close()


def _checkpoint(mirror: Mirror, queue: Queue, sizes: Sizes) -> Work:
    payload = queue._session.encode(TEXT, b"x" * 16)

    def work() -> int:
        link = mirror.link(queue)
        for _ in range(sizes.batches):
            link.enqueue([Body(key, payload, made_up=True) for key in new_keys(BATCH)])
        return sizes.batches * BATCH

    return work


def _copy(connection: psycopg.Connection[Any], client: redis.Redis, sizes: Sizes) -> Work:
    payload = TEXT.encode()

    def work() -> int:
        for _ in range(sizes.batches):
            keys = new_keys(BATCH)
            with (
                connection.cursor() as cursor,
                cursor.copy("COPY raw (queue, id, body) FROM STDIN (FORMAT binary)") as copy,
            ):
                copy.set_types(["text", "bytea", "bytea"])
                for key in keys:
                    copy.write_row(("raw", key, payload))
            client.rpush("raw", *[key + payload for key in keys])
        return sizes.batches * BATCH

    return work
