"""Effects once: marks, and what they are worth when workers die."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, assert_type

import psycopg
import pytest
from mirror.outboxes import Outbox
from psycopg_pool import ConnectionPool
from redis import Redis
from servers import wait_until

from reliq import InvalidArgument, Item, Queue, Worker
from reliq.mirror._forgetting import forget_effects
from reliq.mirror.effects import effects_once, finish_in

PROGRAM = Path(__file__).with_name("effects_program.py")


@pytest.fixture
def connection(outbox: Outbox) -> Iterator[psycopg.Connection[Any]]:
    outbox.sql("CREATE TABLE bookings (id text, delivery int)")
    with psycopg.connect(outbox.dsn) as opened:
        yield opened


def claimed(queue: Queue, item_id: str = "order-7") -> Item:
    """An item that was enqueued and claimed."""
    queue.enqueue({"cents": 5}, id=item_id)
    return queue.claim()[0]


def again(queue: Queue, item: Item) -> Item:
    """The next delivery of an item."""
    queue.release(item)
    return queue.claim()[0]


def book(connection: psycopg.Connection[Any], item: Item) -> None:
    connection.execute("INSERT INTO bookings VALUES (%s, %s)", (item.id, item.delivery))


def bookings(outbox: Outbox) -> list[Any]:
    return outbox.sql("SELECT id, delivery FROM bookings")


def test_the_first_delivery_may_do_its_work(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """And once it has committed no other one may."""
    item = claimed(outbox.queue)
    assert assert_type(finish_in(connection, item), bool)
    book(connection, item)
    connection.commit()
    assert not finish_in(connection, again(outbox.queue, item))


def test_what_is_rolled_back_may_be_done_again(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """The mark goes with it."""
    item = claimed(outbox.queue)
    assert finish_in(connection, item)
    connection.rollback()
    assert finish_in(connection, again(outbox.queue, item))


def test_two_deliveries_at_once_wait_for_each_other(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """A worker that was only slow, and the one that has its item now: one of them does it."""
    item = claimed(outbox.queue)
    later = again(outbox.queue, item)
    assert finish_in(connection, item)
    answers: list[bool] = []

    def other() -> None:
        with psycopg.connect(outbox.dsn) as second:
            answers.append(finish_in(second, later))

    thread = threading.Thread(target=other)
    thread.start()
    wait_until(lambda: outbox.sql("SELECT 1 FROM pg_locks WHERE NOT granted"), "the second one waits")
    assert answers == []
    connection.commit()
    thread.join()
    assert answers == [False]


def test_the_same_id_in_another_queue_is_another_item(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """Marks are by queue and id."""
    with Queue("others", outbox.server.socket_url) as others:
        assert finish_in(connection, claimed(outbox.queue))
        assert finish_in(connection, claimed(others))


def test_the_block_commits_mark_and_effects(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """When it is over nothing is left to commit."""
    item = claimed(outbox.queue)
    for delivery in (item, again(outbox.queue, item)):
        with effects_once(connection, delivery) as fresh:
            if fresh:
                book(connection, delivery)
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    assert bookings(outbox) == [("order-7", 1)]


def test_a_block_that_fails_leaves_nothing(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """The next delivery starts afresh."""
    item = claimed(outbox.queue)
    with suppress(ZeroDivisionError), effects_once(connection, item):
        book(connection, item)
        raise ZeroDivisionError
    assert bookings(outbox) == []
    with effects_once(connection, again(outbox.queue, item)) as fresh:
        assert fresh


def test_a_block_in_an_open_transaction_is_refused(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """It could not commit, and the item would be finished before its effects are there."""
    item = claimed(outbox.queue)
    connection.execute("SELECT 1")
    with pytest.raises(InvalidArgument, match="open on the connection already"), effects_once(connection, item):
        pytest.fail("the block is not entered")


def test_autocommit_is_refused(outbox: Outbox) -> None:
    """A mark by itself says that effects are there which may never come. A block makes its own transaction."""
    item = claimed(outbox.queue)
    with psycopg.connect(outbox.dsn, autocommit=True) as connection:
        with pytest.raises(InvalidArgument, match="autocommit"):
            finish_in(connection, item)
        with effects_once(connection, item) as fresh:
            assert fresh


def test_a_worker_does_each_item_once_that_is_delivered_twice(
    outbox: Outbox, connection: psycopg.Connection[Any]
) -> None:
    """As a handler has it: the transaction is over when it returns, then the worker finishes."""
    seen: list[str] = []
    pool = ConnectionPool(outbox.dsn, min_size=0, max_size=3, open=True)

    def handle(item: Item) -> None:
        with pool.connection() as opened, effects_once(opened, item) as fresh:
            if fresh:
                book(opened, item)
        seen.append(item.id)
        if item.attempt == 1:
            raise ConnectionError("after the commit, before the finish")

    outbox.queue.configure(retry="tail")
    outbox.queue.enqueue_many(range(20))
    worker = Worker(outbox.queue, handle, concurrency=3)
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_until(lambda: outbox.queue.counts().finished == 20, "all are finished")
    worker.stop()
    thread.join()
    pool.close()
    assert len(seen) == 40
    assert sorted(delivery for _, delivery in bookings(outbox)) == [1] * 20


@pytest.mark.parametrize(("point", "booked_by"), [("marked", 2), ("written", 2), ("committed", 1), ("finished", 1)])
def test_a_worker_that_is_killed_leaves_no_effect_twice(
    outbox: Outbox, connection: psycopg.Connection[Any], point: str, booked_by: int
) -> None:
    """At each boundary: before its commit the next delivery does it, after it none does. Each is there once."""
    connection.close()
    with Queue("bookings", outbox.server.socket_url) as queue:
        queue.enqueue("booking", id="b")
        program = [sys.executable, str(PROGRAM), outbox.dsn, outbox.server.socket_url]
        assert subprocess.run([*program, point], check=False, timeout=30).returncode == -9
        subprocess.run([*program, "never"], check=True, timeout=30)
        assert queue.counts().finished == 1
    assert bookings(outbox) == [("b", booked_by)]


def test_an_item_that_was_put_back_from_elsewhere_finds_its_mark(
    outbox: Outbox, connection: psycopg.Connection[Any]
) -> None:
    """As after a rebuild that brings back items whose finish was not mirrored: another epoch, the same id."""
    with effects_once(connection, claimed(outbox.queue)) as fresh:
        assert fresh
    outbox.queue.purge("finished")
    with Queue("emails", outbox.server.socket_url) as queue:
        with Redis.from_url(outbox.server.socket_url) as client:
            client.flushall()
        assert not finish_in(connection, claimed(queue))


def test_async_connections(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """`async with`, and awaited."""
    item = claimed(outbox.queue)

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(outbox.dsn) as opened:
            async with effects_once(opened, item) as fresh:
                assert fresh
                await opened.execute("INSERT INTO bookings VALUES (%s, 1)", (item.id,))
            assert not await finish_in(opened, item)
            with pytest.raises(InvalidArgument, match="open on the connection"):
                async with effects_once(opened, item):
                    pytest.fail("the block is not entered")

    asyncio.run(work())
    assert bookings(outbox) == [("order-7", 1)]


def test_the_wrong_with_is_refused(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """A sync connection in `async with`."""
    item = claimed(outbox.queue)

    async def work() -> None:
        async with effects_once(connection, item):
            pytest.fail("the block is not entered")

    with pytest.raises(InvalidArgument, match="async connection"):
        asyncio.run(work())


# Forgetting


def marked(outbox: Outbox, connection: psycopg.Connection[Any], item_id: str) -> Item:
    """An item whose effects were committed two days ago."""
    item = claimed(outbox.queue, item_id)
    with effects_once(connection, item):
        pass
    outbox.sql("UPDATE reliq.effects SET done_at = now() - interval '2 days'")
    return item


def forget(outbox: Outbox, age: float | None = None) -> int:
    return forget_effects(outbox.store, outbox.queue._driver, outbox.queue._session, age)


def test_old_marks_of_ended_items_are_forgotten(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """Once the queue would not know the id any more either."""
    for n in range(450):  # more than two pages
        connection.execute(
            "INSERT INTO reliq.effects VALUES ('emails', %s, 1, 1, now() - interval '3 days')", (b"%d" % n,)
        )
    connection.commit()
    outbox.queue.finish(marked(outbox, connection, "old"))
    outbox.queue.configure(finished_age=3 * 86400)
    assert forget(outbox, age=None) == 0
    outbox.queue.configure(finished_age=86400)
    assert forget(outbox, age=None) == 451


def test_marks_of_items_that_the_queue_holds_are_kept(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """However old: a dead one may be redriven any time."""
    outbox.queue.configure(max_attempts=1)
    outbox.queue.fail(marked(outbox, connection, "dead"), "failed after its commit")
    assert forget(outbox, age=1.0) == 0
    outbox.queue.redrive()
    (item,) = outbox.queue.claim()
    assert not finish_in(connection, item)


def test_nothing_is_forgotten_where_redis_knows_no_such_queue(
    outbox: Outbox, connection: psycopg.Connection[Any]
) -> None:
    """It may have lost it, and be filled again."""
    outbox.sql("INSERT INTO reliq.effects VALUES ('emails', 'x', 1, 1, now() - interval '3 days')")
    assert forget(outbox, age=1.0) == 0


def test_the_relay_forgets_by_itself(outbox: Outbox, connection: psycopg.Connection[Any]) -> None:
    """When it has nothing to carry."""
    outbox.queue.finish(marked(outbox, connection, "old"))
    outbox.queue.configure(finished_age=86400)
    with outbox.relay():
        wait_until(lambda: outbox.sql("SELECT count(*) FROM reliq.effects") == [(0,)], "the mark is gone")
