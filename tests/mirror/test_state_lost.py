"""A client of a mirrored queue that meets an empty, flushed or older Redis stops, also where it has just started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from mirror.postgres import Postgres
from mirror.queues import brought_back, client_of, mirrored

from reliq import AsyncQueue, New, Queue, StaleEpoch, StateLost
from reliq.embedded import Server
from reliq.mirror import Mirror
from reliq.mirror.guard import Facts, Seen, judge

Sql = Callable[[str], list[Any]]


def test_a_process_that_has_just_started_notices_an_empty_server(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """It learns from Postgres that there was a queue; without the mirror an empty server is an empty queue."""
    queue.enqueue("a")
    mirrored(mirror, queue)
    redis_client.flushall()
    for call in (Queue.claim, Queue.counts, lambda q: q.enqueue("b")):
        with pytest.raises(StateLost):
            call(client_of(queue, mirror=mirror))
    assert redis_client.dbsize() <= 1  # the listing of queues, which nothing depends on
    assert client_of(queue).claim() == []


def test_a_server_that_is_flushed_under_a_client_is_noticed(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """Without a new connection: the epoch is in every call."""
    queue.enqueue("a")
    mirrored(mirror, queue)
    guarded = client_of(queue, mirror=mirror)
    assert guarded.counts().queued == 1
    redis_client.flushall()
    with pytest.raises(StateLost):
        guarded.claim()


def test_the_asyncio_client_notices_it_as_well(
    mirror: Mirror, queue: Queue, server: Server, redis_client: redis.Redis
) -> None:
    """The same, awaited."""
    queue.enqueue("a")
    mirrored(mirror, queue)
    redis_client.flushall()

    async def ask() -> None:
        async with AsyncQueue("emails", server.socket_url, mirror=mirror) as fresh:
            with pytest.raises(StateLost):
                await fresh.claim()

    asyncio.run(ask())


def test_a_queue_that_was_made_anew_is_not_the_mirrored_one(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """Somebody without the mirror enqueued into the empty server: a guarded client refuses that queue."""
    queue.enqueue("a")
    mirrored(mirror, queue)
    redis_client.flushall()
    client_of(queue).enqueue("b")
    with pytest.raises(StaleEpoch):
        client_of(queue, mirror=mirror).claim()


def test_a_queue_that_was_never_mirrored_is_made_as_usual(mirror: Mirror, queue: Queue) -> None:
    """The mirror knows nothing of it, so there is nothing to compare."""
    guarded = client_of(queue, mirror=mirror)
    guarded.enqueue("a")
    assert [item.payload for item in guarded.claim()] == ["a"]


def grown(mirror: Mirror, queue: Queue, seconds: float) -> None:
    """An item from some seconds before and one from now, both mirrored."""
    queue._session.now_ms = str(round((time.time() - seconds) * 1000)).encode()
    queue.enqueue("old", id="old")
    mirrored(mirror, queue)
    queue._session.now_ms = b""


def dumped(client: Any) -> dict[bytes, bytes]:
    return {key: client.dump(key) for key in client.keys("*")}


def put_back(client: Any, dumps: dict[bytes, bytes]) -> None:
    client.flushall()
    for key, dump in dumps.items():
        client.restore(key, 0, dump)


def test_an_older_copy_of_the_queue_is_noticed(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """The epoch is the same, but the mirror has seen items that were enqueued minutes later."""
    grown(mirror, queue, 300)
    backup = dumped(redis_client)
    queue.enqueue("new", id="new")
    mirrored(mirror, queue)
    put_back(redis_client, backup)
    with pytest.raises(StateLost, match="before") as caught:
        client_of(queue, mirror=mirror).claim()
    assert caught.value.older


def test_an_older_copy_is_repaired_in_one_run(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """No follower reads it, for it is behind the mirror. Clients are let in when what is missing is back."""
    grown(mirror, queue, 300)
    backup = dumped(redis_client)
    queue.enqueue("new", id="new")
    mirrored(mirror, queue)
    put_back(redis_client, backup)
    with pytest.raises(StateLost, match="before"):
        client_of(queue, mirror=mirror).claim()
    report = mirror.reconcile(client_of(queue), repair=True, patience=0)
    assert (report.certain, report.found, report.repaired) == (True, 1, 1)
    assert [item.id for item in client_of(queue, mirror=mirror).claim(5)] == ["old", "new"]


def test_a_follower_does_not_take_an_older_copy_for_the_truth(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Sql
) -> None:
    """Else the rows of what came later would become what the copy says, and a rebuild could not bring them back."""
    grown(mirror, queue, 300)
    backup = dumped(redis_client)
    queue.enqueue("new", id="new")
    mirrored(mirror, queue)
    put_back(redis_client, backup)
    sql("UPDATE reliq.queues SET server = 'another run'")  # as after a restart
    with pytest.raises(StateLost):
        mirror.follow(client_of(queue), once=True)
    mirror.apply(mirror.plan_rebuild(queue), wipe=True)
    assert mirror.verify(queue)
    assert [item.id for item in client_of(queue).claim(5)] == ["old", "new"]


def test_what_a_crash_or_failover_loses_does_not_stop_anybody(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """The last seconds are for the follower and for reconcile."""
    grown(mirror, queue, 5)
    backup = dumped(redis_client)
    queue.enqueue("new", id="new")
    mirrored(mirror, queue)
    put_back(redis_client, backup)
    assert [item.id for item in client_of(queue, mirror=mirror).claim(5)] == ["old"]


FACTS = Facts(7, "following", "1795314271255-0", 1_000_000_000)
SEEN = Seen(7, "ready", 1_000_000_000, "1795314271255-0")


@pytest.mark.parametrize(
    ("known", "seen", "expected"),
    [
        (0, SEEN, None),
        (7, SEEN, None),
        (6, SEEN, StaleEpoch),
        (0, SEEN._replace(epoch=None), StateLost),
        (0, SEEN._replace(epoch=6), StaleEpoch),
        (0, SEEN._replace(epoch=8), StaleEpoch),
        (0, SEEN._replace(stamp=1_000_000_000 - 59 * 200_000), None),
        (0, SEEN._replace(stamp=1_000_000_000 - 61 * 200_000), StateLost),
        (0, SEEN._replace(stamp=2_000_000_000, entry="1795314210000-5"), StateLost),
        (0, SEEN._replace(stamp=2_000_000_000, entry="1795314212000-5"), None),
        (0, SEEN._replace(entry=""), None),
        (0, SEEN._replace(state="rebuilding", stamp=0), None),
    ],
)
def test_the_verdict(known: int, seen: Seen, expected: type[Exception] | None) -> None:
    """Epoch first, then how far back the server is: by stamps, and by the journal where somebody has enqueued since."""
    assert type(judge("emails", known, FACTS, seen)) is (expected or type(None))


def test_no_queue_stands_still_because_postgres_does(
    fresh_postgres: Postgres, queue: Queue, server: Server, redis_client: redis.Redis
) -> None:
    """A fresh client works without the mirror's word, and one that has heard it once goes on with that."""
    with Mirror(fresh_postgres.dsn(), timeout=1.0) as mirror:
        mirror.init()
        queue.enqueue("a")
        mirrored(mirror, queue)
        heard = client_of(queue, mirror=mirror)
        assert heard.counts().queued == 1
        fresh_postgres.kill()
        assert client_of(queue, mirror=mirror).counts().queued == 1
        heard.close()
        assert heard.counts().queued == 1
        redis_client.flushall()
        with pytest.raises(StateLost):
            heard.claim()


def test_a_queue_can_come_back_by_itself(mirror: Mirror, dsn: str, queue: Queue, redis_client: redis.Redis) -> None:
    """Where that was asked for, the first client that meets the empty server rebuilds it and goes on."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(10)])
    mirrored(mirror, queue)
    with Mirror(dsn, on_state_lost="rebuild") as rebuilding:
        known = client_of(queue, mirror=rebuilding)
        assert known.counts().queued == 10
        redis_client.flushall()
        assert [item.id for item in known.claim(3)] == ["0", "1", "2"]
        assert client_of(queue, mirror=rebuilding).counts().in_progress == 3
        mirror.follow(client_of(queue), once=True)
        redis_client.flushall()
        assert len(client_of(queue, mirror=rebuilding).claim(100)) == 10


def test_the_asyncio_client_brings_it_back_as_well(
    mirror: Mirror, dsn: str, queue: Queue, server: Server, redis_client: redis.Redis
) -> None:
    """The same, awaited: the loop goes on while a thread rebuilds."""
    queue.enqueue_many(range(10))
    mirrored(mirror, queue)
    redis_client.flushall()

    async def ask() -> int:
        async with AsyncQueue("emails", server.socket_url, mirror=Mirror(dsn, on_state_lost="rebuild")) as fresh:
            return len(await fresh.claim(100))

    assert asyncio.run(ask()) == 10


def test_something_that_is_there_is_never_overwritten_by_itself(
    mirror: Mirror, dsn: str, queue: Queue, redis_client: redis.Redis
) -> None:
    """An older copy, or a queue that was made anew, waits for a person."""
    grown(mirror, queue, 300)
    backup = dumped(redis_client)
    queue.enqueue("new")
    mirrored(mirror, queue)
    put_back(redis_client, backup)
    with Mirror(dsn, on_state_lost="rebuild") as rebuilding, pytest.raises(StateLost):
        client_of(queue, mirror=rebuilding).claim()
    assert client_of(queue).counts().queued == 1


def test_after_a_rebuild_fresh_clients_know_the_new_epoch_at_once(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """What a process remembered of the mirror a moment ago does not stop it."""
    queue.enqueue("a")
    mirrored(mirror, queue)
    first = client_of(queue, mirror=mirror)
    assert first.counts().queued == 1
    redis_client.flushall()
    brought_back(mirror, queue)
    with pytest.raises(StaleEpoch):
        first.claim()
    first.adopt()
    assert len(first.claim()) == 1
    assert client_of(queue, mirror=mirror).counts().in_progress == 1
