"""The relay when Redis, Postgres or itself goes away, and when the queue takes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from mirror.outboxes import Outbox
from mirror.pgproxy import PostgresProxy
from mirror.postgres import Postgres
from servers import start_server, wait_until

from reliq import Queue
from reliq.embedded import Server
from reliq.mirror import Mirror
from reliq.mirror.relay import Relay
from reliq.mirror.store import Store

PROGRAM = Path(__file__).with_name("relay_program.py")
RELAYS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
KILL = f"SELECT pg_terminate_backend(pid) FROM ({RELAYS}) AS relays"


def queued(queue: Queue) -> list[Any]:
    """The payloads, in order."""
    return [info.payload for info in queue.peek(1000)]


@contextmanager
def program(outbox: Outbox) -> Iterator[subprocess.Popen[bytes]]:
    """A relay in a process of its own."""
    arguments = [sys.executable, str(PROGRAM), outbox.dsn, outbox.server.socket_url, "emails"]
    with subprocess.Popen(arguments) as process:
        yield process
        process.kill()


@contextmanager
def rows_that_stay(outbox: Outbox) -> Iterator[Callable[[], object]]:
    """Rows can be read and carried meanwhile, and not be removed; what it gives lets go of them."""
    with psycopg.connect(outbox.dsn) as holder:
        holder.execute("SELECT 1 FROM reliq.outbox FOR UPDATE")
        yield holder.rollback


# The relay


def test_a_relay_that_is_killed_between_redis_and_postgres_is_repeated(outbox: Outbox) -> None:
    """The next one enqueues the same ids, which changes nothing, also where they have been finished since."""
    outbox.write(*range(10))
    with rows_that_stay(outbox) as let_go:
        with program(outbox) as process:
            wait_until(lambda: outbox.queue.counts().queued == 10, "Redis has them")
            process.kill()
            process.wait()
            outbox.sql(KILL)  # what it had sent is not done after its death either
        outbox.queue.finish(outbox.queue.claim(4))
        outbox.write("behind them")
        let_go()
    wait_until(lambda: not outbox.sql(RELAYS), "its locks are gone with it")
    assert outbox.carry() == 11
    assert queued(outbox.queue) == [4, 5, 6, 7, 8, 9, "behind them"]
    assert (outbox.queue.counts().enqueued, outbox.rows()) == (11, 0)


def test_a_relay_that_stands_by_takes_over_from_one_that_is_killed(outbox: Outbox) -> None:
    """In the middle of a stream of rows: all come once, in order."""
    with program(outbox) as first, program(outbox):
        for n in range(60):
            outbox.write(n)
            if n == 20:
                wait_until(lambda: outbox.queue.counts().queued > 5, "one of them works")
                outbox.sql(KILL)
            if n == 40:
                first.kill()
        wait_until(lambda: outbox.queue.counts().queued == 60, "all are there")
    assert queued(outbox.queue) == list(range(60))


# Postgres


def test_a_relay_whose_connection_is_cut_goes_on(outbox: Outbox) -> None:
    """With a new one, on which it takes its lock again."""
    with outbox.relay():
        for n in range(3):
            outbox.write(n)
            wait_until(lambda: not outbox.rows(), "it carries")
            wait_until(lambda: outbox.sql(RELAYS), "it is active")
            outbox.sql(KILL)
    assert queued(outbox.queue) == [0, 1, 2]


def test_a_postgres_that_restarts_is_waited_for(fresh_postgres: Postgres, queue: Queue, server: Server) -> None:
    """What was committed before it died is carried after it."""
    with closing(Store(fresh_postgres.dsn(), timeout=10.0)) as store:
        store.init()
        outbox = Outbox(fresh_postgres.dsn(), queue, server, store)
        with outbox.relay() as relay:
            outbox.write(1)
            wait_until(lambda: queued(queue) == [1], "it carries")
            queue.pause(enqueue=True)
            outbox.write(2)
            fresh_postgres.kill()
            queue.resume()
            wait_until(lambda: "MirrorUnavailable" in relay.problem, "it noticed")
            fresh_postgres.start()
            outbox.write(3)
            wait_until(lambda: queued(queue) == [1, 2, 3], "it goes on")


def test_an_answer_that_is_lost_makes_no_second_item(
    outbox: Outbox, postgres: Postgres, pg_proxy: PostgresProxy
) -> None:
    """The rows were removed, or are carried once more."""
    mirrored(outbox)
    database = outbox.sql("SELECT current_database()")[0][0]
    with closing(Store(postgres.dsn(database, port=pg_proxy.port), timeout=5.0)) as store:
        stop = threading.Event()
        thread = threading.Thread(target=Relay(store, outbox.queue).run, args=(stop,))
        thread.start()
        for n, answer in enumerate((b"DELETE ", b"INSERT 0 ", b"SELECT ", b"DELETE ")):
            pg_proxy.cut_at(answer)
            outbox.write([n, 1], [n, 2])
            wait_until(pg_proxy.cut.is_set, "the answer was lost")
        wait_until(lambda: not outbox.rows(), "all were carried")
        stop.set()
        thread.join()
    assert queued(outbox.queue) == [[n, i] for n in range(4) for i in (1, 2)]


# Redis


def test_a_redis_that_is_away_is_waited_for(outbox: Outbox) -> None:
    """Rows stay in Postgres and keep their order."""
    server = start_server(append_only=True, appendfsync="always")
    with server, Queue("emails", server.socket_url) as queue, outbox.relay(queue) as relay:
        outbox.write(1)
        wait_until(lambda: queued(queue) == [1], "it carries")
        server.kill()
        outbox.write(2, 3)
        wait_until(lambda: relay.problem, "it waits")
        outbox.write(4)
        server.start()
        wait_until(lambda: queued(queue) == [1, 2, 3, 4], "it goes on")


def test_a_full_queue_is_filled_as_it_empties(outbox: Outbox) -> None:
    """A batch that does not fit is sent in parts: the order stays, and nothing waits for room for all."""
    outbox.queue.configure(max_length=3)
    outbox.write(*range(20))
    seen: list[Any] = []
    with outbox.relay():
        while len(seen) < 20:
            wait_until(lambda: outbox.queue.counts().queued, "there is something")
            items = outbox.queue.claim(2)
            seen += [item.payload for item in items]
            outbox.queue.finish(items)
    assert seen == list(range(20))


def test_a_queue_that_is_paused_is_waited_for(outbox: Outbox) -> None:
    """And the relay says what it waits for."""
    outbox.queue.pause(enqueue=True)
    outbox.write(1, 2)
    with outbox.relay() as relay:
        wait_until(lambda: relay.problem.startswith("QueuePaused"), "it waits")
        outbox.queue.resume()
        wait_until(lambda: queued(outbox.queue) == [1, 2], "it goes on")


# Mirrored queues


def mirrored(outbox: Outbox) -> None:
    """As a follower that is not running has left it."""
    outbox.queue.configure()
    epoch = outbox.queue._session.epoch.decode()
    outbox.sql(f"INSERT INTO reliq.queues (queue, epoch) VALUES ('emails', {epoch})")


def test_what_goes_to_a_mirrored_queue_is_pending_until_it_is_mirrored(outbox: Outbox) -> None:
    """Redis may lose it before its follower has met it: the commit of the user's counts all the same."""
    mirrored(outbox)
    outbox.write("mail", id="order-7", group="ann")
    outbox.sql("SELECT reliq.enqueue('emails', '1', id => 'order-8', delay => '1 h')")
    outbox.carry()
    rows = outbox.sql("SELECT reliq.id_text(id), body, due <> '', group_name FROM reliq.pending ORDER BY number")
    assert rows == [("order-7", b"\xa4mail", False, "ann"), ("order-8", b"\x01", True, "")]
    assert queued(outbox.queue) == ["mail"]


def test_a_redis_that_has_lost_a_mirrored_queue_gets_nothing(outbox: Outbox, redis_client: redis.Redis) -> None:
    """Also from a relay that never saw the queue: Postgres knows it. Rows wait for the rebuild."""
    mirrored(outbox)
    redis_client.flushall()
    outbox.write("mail")
    with outbox.relay() as relay:
        wait_until(lambda: relay.problem.startswith("StateLost"), "it waits")
    assert redis_client.keys("reliq:{*") == []
    assert outbox.rows() == 1


def test_a_queue_that_was_rebuilt_is_gone_on_with(outbox: Outbox) -> None:
    """Its new epoch is learned from Postgres."""
    mirrored(outbox)
    with outbox.relay() as relay:
        outbox.write(1)
        wait_until(lambda: queued(outbox.queue) == [1], "it carries")
        outbox.sql("UPDATE reliq.queues SET epoch = epoch + 1")
        outbox.write(2)
        wait_until(lambda: relay.problem.startswith("StaleEpoch"), "Redis is older than Postgres")
        outbox.sql("UPDATE reliq.queues SET epoch = epoch - 1")
        wait_until(lambda: queued(outbox.queue) == [1, 2], "it goes on")


def test_a_queue_that_is_not_mirrored_and_was_made_anew_is_gone_on_with(
    outbox: Outbox, redis_client: redis.Redis
) -> None:
    """Once somebody has accepted the loss; not before."""
    outbox.write(1)
    with outbox.relay() as relay:
        wait_until(lambda: queued(outbox.queue) == [1], "it carries")
        redis_client.flushall()
        outbox.write(2)
        wait_until(lambda: relay.problem.startswith("StateLost"), "it waits")
        outbox.queue.adopt()
        outbox.queue.enqueue("accepted")
        wait_until(lambda: queued(outbox.queue) == ["accepted", 2], "it goes on")


def test_tables_that_are_missing_are_said_at_once(dsn: str, queue: Queue) -> None:
    """Waiting would not make them."""
    from reliq import MirrorSchema

    with closing(Store(dsn, timeout=5.0)) as store, pytest.raises(MirrorSchema):
        Relay(store, queue).run(threading.Event())


def test_a_relay_needs_no_more_rights_than_its_page_says(outbox: Outbox, postgres: Postgres) -> None:
    """It carries, sets aside, makes pending and forgets with the grants of the how-to."""
    page = Path(__file__).parents[2].joinpath("docs/how-to/enqueue-in-a-transaction.md").read_text()
    (grants,) = re.findall(r"```sql\n(GRANT USAGE ON SCHEMA reliq TO relay.*?)```", page, re.DOTALL)
    database = outbox.sql("SELECT current_database()")[0][0]
    outbox.sql("CREATE ROLE relay LOGIN")
    try:
        for grant in grants.split(";\n")[:-1]:
            outbox.sql(grant)
        mirrored(outbox)
        outbox.write(1)
        outbox.sql("INSERT INTO reliq.outbox (queue, id, payload) VALUES ('emails', '\\xff00', '1')")
        outbox.sql("INSERT INTO reliq.effects VALUES ('emails', 'old', 1, 1, now() - interval '1 year')")
        with closing(Store(postgres.dsn(database, user="relay"), timeout=5.0)) as store:
            store.check()
            stop = threading.Event()
            thread = threading.Thread(target=Relay(store, outbox.queue).run, args=(stop,))
            thread.start()
            forgotten = "SELECT count(*) FROM reliq.effects"
            wait_until(lambda: not outbox.rows() and outbox.sql(forgotten) == [(0,)], "all is done")
            stop.set()
            thread.join()
        assert outbox.sql("SELECT count(*) FROM reliq.outbox_refused") == [(1,)]
    finally:
        outbox.sql("DROP OWNED BY relay")
        outbox.sql("DROP ROLE relay")


def test_a_commit_survives_the_loss_of_redis_right_after_it_was_carried(
    outbox: Outbox, mirror: Mirror, redis_client: redis.Redis
) -> None:
    """Before the follower has met it in Redis. The queue is rebuilt with it, and it is delivered."""
    outbox.queue.enqueue("followed", id="followed")
    mirror.follow(outbox.queue, once=True)
    outbox.write("carried", id="carried")
    outbox.carry()
    assert queued(outbox.queue) == ["followed", "carried"]
    redis_client.flushall()
    with Queue("emails", outbox.server.socket_url) as queue:
        mirror.apply(mirror.plan_rebuild(queue))
        assert mirror.verify(queue)
        assert queued(queue) == ["followed", "carried"]


def test_what_was_carried_is_pending_no_more_when_the_follower_has_met_it(outbox: Outbox, mirror: Mirror) -> None:
    """Waiting or finished; then it has a row, or none."""
    mirror.follow(outbox.queue, once=True)
    outbox.write(*range(5))
    outbox.carry()
    outbox.queue.finish(outbox.queue.claim(2))
    assert outbox.sql("SELECT count(*) FROM reliq.pending") == [(5,)]
    mirror.follow(outbox.queue, once=True)
    assert outbox.sql("SELECT count(*) FROM reliq.pending") == [(0,)]
    assert outbox.sql("SELECT count(*) FROM reliq.items") == [(3,)]
