"""Checkpointed enqueues: committed to Postgres before Redis is asked, and enqueued whatever happens in between."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from mirror.pgproxy import PostgresProxy
from mirror.postgres import Postgres
from mirror.stories import assert_same, pending_of, rows_of
from proxy import FaultProxy
from servers import wait_until

from reliq import AsyncQueue, Mirror, New, Queue, _commands, _scripts
from reliq._commands import Body
from reliq.embedded import Server
from reliq.errors import (
    InvalidArgument,
    MirrorUnavailable,
    NotMirrored,
    QueueFull,
    QueuePaused,
    StaleEpoch,
    StateLost,
    Unavailable,
)
from reliq.mirror import checkpointed
from reliq.outcomes import Enqueued

Enqueue = Callable[..., list[Enqueued]]
NAME = "emails"


def bodies(*ids: str) -> list[Body]:
    return [Body(text.encode(), b"\xa1x") for text in ids]


@pytest.fixture(params=["sync", "async"])
def enqueue(request: pytest.FixtureRequest) -> Enqueue:
    """The function under test on either kind of queue, from the arguments of a Queue."""

    def sync(mirror: Mirror, url: str, items: Sequence[Body], **options: Any) -> list[Enqueued]:
        with Queue(NAME, url, **options) as queue:
            return checkpointed.enqueue(mirror, queue, items)

    async def awaited(mirror: Mirror, url: str, items: Sequence[Body], **options: Any) -> list[Enqueued]:
        async with AsyncQueue(NAME, url, **options) as queue:
            return await checkpointed.enqueue_async(mirror, queue, items)

    if request.param == "sync":
        return sync
    return lambda *args, **options: asyncio.run(awaited(*args, **options))


@pytest.fixture
def mirrored(mirror: Mirror, queue: Queue) -> Queue:
    """The queue, followed once."""
    mirror.follow(queue, once=True)
    return queue


@pytest.fixture
def proxied(postgres: Postgres, pg_proxy: PostgresProxy, database: str) -> Iterator[Mirror]:
    """The mirror through a proxy."""
    with Mirror(postgres.dsn(database, port=pg_proxy.port), timeout=2) as made:
        yield made


def test_the_row_is_there_before_the_item_is(enqueue: Enqueue, mirror: Mirror, mirrored: Queue, server: Server) -> None:
    """Enqueued in Redis, committed in Postgres; the follower takes the row of the waiting for one of the living."""
    done = enqueue(mirror, server.socket_url, bodies("a", "b"))
    assert done == [Enqueued("a", True, "checkpointed"), Enqueued("b", True, "checkpointed")]
    assert pending_of(mirror, NAME) == [b"a", b"b"]
    mirror.follow(mirrored, once=True)
    assert pending_of(mirror, NAME) == []
    assert_same(mirror, mirrored)


def test_repeating_changes_nothing(enqueue: Enqueue, mirror: Mirror, mirrored: Queue, server: Server) -> None:
    """The same ids again: known to Redis, one row each."""
    enqueue(mirror, server.socket_url, bodies("a", "b"))
    again = enqueue(mirror, server.socket_url, bodies("b", "a", "c"))
    assert [done.created for done in again] == [False, False, True]
    assert pending_of(mirror, NAME) == [b"a", b"b", b"c"]
    assert mirrored.counts().queued == 3


def test_an_item_that_ended_before_it_was_met_is_remembered(
    mirror: Mirror, mirrored: Queue, server: Server, sql: Callable[[str], list[Any]]
) -> None:
    """Other than one without a checkpoint: its row was there, so its id is kept."""
    checkpointed.enqueue(mirror, mirrored, bodies("a"))
    mirrored.finish(mirrored.claim(1))
    mirror.follow(mirrored, once=True)
    assert pending_of(mirror, NAME) == []
    assert sql("SELECT id FROM reliq.ended") == [(b"a",)]


def test_postgres_is_down(
    enqueue: Enqueue, proxied: Mirror, pg_proxy: PostgresProxy, mirrored: Queue, server: Server
) -> None:
    """Nothing is enqueued, the error says so within its time, and plain enqueues go on."""
    pg_proxy.refusing = True
    pg_proxy.reset()
    with pytest.raises(MirrorUnavailable) as caught:
        enqueue(proxied, server.socket_url, bodies("a"))
    assert not caught.value.may_have_been_applied
    assert caught.value.ids == ("a",)
    assert mirrored.counts().enqueued == 0
    assert mirrored.enqueue("plain").created


def test_postgres_says_nothing(enqueue: Enqueue, fresh_postgres: Postgres, mirrored: Queue, server: Server) -> None:
    """A server that keeps its connections and does not answer is given up, and nothing was enqueued."""
    with Mirror(fresh_postgres.dsn(), timeout=1) as mirror:
        mirror.init()
        mirror.follow(mirrored, once=True)
        fresh_postgres.pause()
        try:
            with pytest.raises(MirrorUnavailable):
                enqueue(mirror, server.socket_url, bodies("a"))
        finally:
            fresh_postgres.resume()
    assert mirrored.counts().enqueued == 0


def test_the_answer_to_the_commit_is_lost(
    enqueue: Enqueue, proxied: Mirror, pg_proxy: PostgresProxy, mirror: Mirror, mirrored: Queue, server: Server
) -> None:
    """The row is there, the call finds it on another connection, and the item is enqueued once."""
    proxied.status()
    pg_proxy.cut_at(b"SELECT 1\0")
    assert enqueue(proxied, server.socket_url, bodies("a"))[0].created
    assert pg_proxy.cut.is_set()
    assert pending_of(mirror, NAME) == [b"a"]
    assert mirrored.counts().queued == 1


def test_redis_is_down_after_the_commit(
    enqueue: Enqueue, mirror: Mirror, mirrored: Queue, proxy: FaultProxy, sql: Callable[[str], list[Any]]
) -> None:
    """The call says that it may have been applied, and the follower enqueues the item."""
    proxy.refuse_connections()
    with pytest.raises(Unavailable, match="will be enqueued") as caught:
        enqueue(mirror, proxy.url, bodies("a"), timeout=0.3)
    assert caught.value.may_have_been_applied
    assert mirrored.counts().enqueued == 0
    sql("UPDATE reliq.pending SET created_at = created_at - interval '1 minute'")
    mirror.follow(mirrored, once=True)
    assert [item.id for item in mirrored.claim(5)] == ["a"]
    mirror.follow(mirrored, once=True)
    assert pending_of(mirror, NAME) == []


def test_what_never_reached_redis_is_enqueued_in_order(
    mirror: Mirror, mirrored: Queue, sql: Callable[[str], list[Any]]
) -> None:
    """Producers that died between the two: by the order of their commits, with group, due time and body."""
    link = mirror.link(mirrored)
    due = Body(b"later", b"\xa1d", "+60000")
    link._rows.commit(_commands.enqueue([*bodies("a", "b"), due, Body(b"c", b"\xa1x", "", b"g")]))
    sql("UPDATE reliq.pending SET created_at = created_at - interval '1 minute'")
    mirror.follow(mirrored, once=True)
    found = [(item.id, item.group) for item in mirrored.claim(9)]
    assert found == [("a", None), ("b", None), ("later", None), ("c", "g")]  # its minute began with the commit


def test_an_item_that_redis_knows_is_not_enqueued_again(
    mirror: Mirror, mirrored: Queue, sql: Callable[[str], list[Any]]
) -> None:
    """A row that is left over, of an item that was finished long ago, is taken for met."""
    mirrored.enqueue("x", id="a")
    mirrored.finish(mirrored.claim(1))
    mirror.follow(mirrored, once=True)
    mirror.link(mirrored)._rows.commit(_commands.enqueue(bodies("a")))
    sql("UPDATE reliq.pending SET created_at = created_at - interval '1 minute'")
    mirror.follow(mirrored, once=True)
    assert pending_of(mirror, NAME) == []
    assert mirrored.counts().queued == 0


def refuse_by_length(queue: Queue) -> None:
    queue.configure(max_length=1)
    queue.enqueue("full")


def refuse_by_pause(queue: Queue) -> None:
    queue.pause(enqueue=True)


@pytest.mark.parametrize(("refuse", "error"), [(refuse_by_length, QueueFull), (refuse_by_pause, QueuePaused)])
def test_a_refusal_takes_the_rows_back(
    enqueue: Enqueue,
    mirror: Mirror,
    mirrored: Queue,
    server: Server,
    refuse: Callable[[Queue], None],
    error: type[Exception],
) -> None:
    """What Redis refuses is not enqueued later, and rows of earlier calls stay."""
    enqueue(mirror, server.socket_url, bodies("before"))
    mirrored.claim(1)
    refuse(mirrored)
    with pytest.raises(error):
        enqueue(mirror, server.socket_url, bodies("before", "a", "b"))
    assert pending_of(mirror, NAME) == [b"before"]


def test_a_queue_that_nobody_follows(enqueue: Enqueue, mirror: Mirror, queue: Queue, server: Server) -> None:
    """Its rows would never be met: refused, and nothing is written anywhere."""
    with pytest.raises(NotMirrored, match="reliq mirror run"):
        enqueue(mirror, server.socket_url, bodies("a"))
    assert pending_of(mirror, NAME) == []
    assert queue.counts().enqueued == 0


def test_a_fresh_process_notices_a_redis_that_was_emptied(
    enqueue: Enqueue, mirror: Mirror, mirrored: Queue, redis_client: redis.Redis, server: Server
) -> None:
    """The mirror tells it the epoch, so it does not begin an empty queue; the row is taken back."""
    redis_client.flushall()
    with pytest.raises(StateLost):
        enqueue(mirror, server.socket_url, bodies("a"))
    assert pending_of(mirror, NAME) == []


def test_a_client_of_another_epoch_writes_nowhere(
    mirror: Mirror, mirrored: Queue, sql: Callable[[str], list[Any]]
) -> None:
    """The queue was rebuilt since: neither a row nor an item."""
    mirrored.counts()
    sql("UPDATE reliq.queues SET epoch = epoch + 1")
    with pytest.raises(StaleEpoch):
        checkpointed.enqueue(mirror, mirrored, bodies("a"))
    assert pending_of(mirror, NAME) == []


def test_many_threads_go_together(mirror: Mirror, mirrored: Queue, sql: Callable[[str], list[Any]]) -> None:
    """Sixteen threads, ten items each: all are committed and enqueued, in fewer transactions than items."""
    link = mirror.link(mirrored)

    def work(n: int) -> None:
        for k in range(10):
            assert link.enqueue(bodies(f"{n}-{k}"))[0].created

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mirrored.counts().queued == 160
    assert len(set(pending_of(mirror, NAME))) == 160
    assert sql("SELECT count(DISTINCT xmin::text) FROM reliq.pending")[0][0] < 160


def test_a_queue_and_its_mirror_travel_together(mirror: Mirror, mirrored: Queue, server: Server) -> None:
    """A queue with a mirror can be sent to another process, and checkpoints there."""
    copy = pickle.loads(pickle.dumps(Queue(NAME, server.socket_url, mirror=mirror)))
    assert copy._checkpointed.enqueue(bodies("a"))[0].created
    copy.mirror.close()
    copy.close()


def test_the_reply_of_redis_is_lost(
    mirror: Mirror, mirrored: Queue, proxy: FaultProxy, redis_client: redis.Redis
) -> None:
    """Redis has it, the answer is gone: the same ids again, and one item."""
    script = _scripts.load("enqueue")
    redis_client.script_load(script.source)
    proxy.lose_reply(match=script.sha.encode())
    with Queue(NAME, proxy.url) as queue:
        checkpointed.enqueue(mirror, queue, bodies("a"))
    assert mirrored.counts().queued == 1
    mirror.follow(mirrored, once=True)
    assert list(rows_of(mirror, NAME)) == [b"a"]
    assert wait_until(lambda: pending_of(mirror, NAME) == [], "the row was met")


def test_a_batch_is_refused_where_it_would_be_weaker(mirror: Mirror, mirrored: Queue, server: Server) -> None:
    """The queue's own level and the call's: nothing is enqueued, and the error says what to do instead."""
    with Queue(NAME, server.socket_url, mirror=mirror, durability="checkpointed") as queue:
        with pytest.raises(InvalidArgument, match="replicated:all"):
            queue.batch([1, 2], then=New("all"))
        with pytest.raises(InvalidArgument, match="enqueue_many"):
            queue.batch([1, 2], then=New("all"), durability="checkpointed")
        assert queue.counts().enqueued == 0
        made = queue.batch([1, 2], then=New("all"), durability="memory")
        assert [member.durability for member in made.members] == ["memory", "memory"]


def test_an_async_batch_is_refused_too(mirror: Mirror, mirrored: Queue, server: Server) -> None:
    """The same words, and the same way out."""

    async def run() -> int:
        async with AsyncQueue(NAME, server.socket_url, mirror=mirror, durability="checkpointed") as queue:
            with pytest.raises(InvalidArgument, match="replicated:all"):
                await queue.batch([1], then=New("all"))
            await queue.batch([1], then=New("all"), durability="memory")
            return (await queue.counts()).enqueued

    assert asyncio.run(run()) == 1


def test_what_follows_a_checkpointed_item_is_lost_with_its_end_or_not_at_all(
    mirror: Mirror, mirrored: Queue, server: Server, redis_client: redis.Redis
) -> None:
    """One journal entry has both: before it is read the first item comes back, and afterwards the second one does."""
    with Queue(NAME, server.socket_url, mirror=mirror, durability="checkpointed") as queue:
        queue.enqueue(1, id="first")
        queue.finish(queue.claim(1), then=New(2, id="second"))
        redis_client.flushall()
    assert brought_back_ids(mirror, server) == ["first"]
    with Queue(NAME, server.socket_url, mirror=mirror, durability="checkpointed") as queue:
        queue.finish(queue.claim(1), then=New(2, id="second"))
    with Queue(NAME, server.socket_url) as plain:
        mirror.follow(plain, once=True)
    redis_client.flushall()
    assert brought_back_ids(mirror, server) == ["second"]


def brought_back_ids(mirror: Mirror, server: Server) -> list[str]:
    """Rebuilds the queue, and says what is queued in it."""
    with Queue(NAME, server.socket_url) as fresh:
        mirror.apply(mirror.plan_rebuild(fresh))
        assert mirror.verify(fresh)
        return [info.id for info in fresh.scan("queued")]
