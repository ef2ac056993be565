"""Postgres, Redis and the follower itself are killed, cut off, slowed down and filled up: rows end as the items are."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from mirror.pgproxy import PostgresProxy
from mirror.postgres import Postgres
from mirror.stories import Life, assert_same, items_of, rows_of
from proxy import FaultProxy
from servers import start_server, wait_until

from reliq import Mirror, New, Queue
from reliq.embedded import Server

ROOT = Path(__file__).parents[2]
NAME = "emails"


@contextmanager
def in_thread(mirror: Mirror, queue: Queue) -> Iterator[None]:
    """A follower in a thread."""
    stop, raised = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            mirror.follow(queue, stop=stop)
        except BaseException as error:  # noqa: BLE001  raised below
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not raised, raised


def start_process(server: Server, dsn: str) -> subprocess.Popen[bytes]:
    """A follower as operators run it."""
    command = [sys.executable, "-m", "reliq", "-u", server.socket_url, "mirror", "run", NAME, "--mirror", dsn]
    return subprocess.Popen([*command, "--settle", "20ms"], cwd=ROOT, stderr=subprocess.DEVNULL)


def settled(mirror: Mirror, queue: Queue) -> bool:
    """The rows are the items, and nothing is unread."""
    return mirror.status()[0].lag_items == 0 and rows_of(mirror, NAME) == items_of(queue)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_follower_killed_at_random_points(mirror: Mirror, dsn: str, server: Server, queue: Queue) -> None:
    """Killed fifteen times in the midst of its work; in the end each item has its row, and no other row is there."""
    dice, life = random.Random(7), Life(queue, 7)
    for _ in range(15):
        follower = start_process(server, dsn)
        try:
            wait_until(mirror.status, "it has begun")
            wait_until(partial(has_followed_since, mirror, followed_at(mirror)), "it follows", timeout=30)
            killer = threading.Timer(dice.uniform(0.01, 0.3), follower.kill)
            killer.start()
            while follower.poll() is None:
                life.go_on(3)
        finally:
            follower.kill()
            follower.wait()
    mirror.follow(queue, once=True)
    assert_same(mirror, queue)


def followed_at(mirror: Mirror) -> object:
    with mirror.store.lend() as connection:
        return connection.execute(b"SELECT followed_at FROM reliq.queues").fetchone()


def has_followed_since(mirror: Mirror, since: object) -> bool:
    return followed_at(mirror) != since


def test_the_position_never_passes_what_was_written(
    mirror: Mirror, postgres: Postgres, database: str, pg_proxy: PostgresProxy, queue: Queue
) -> None:
    """Answers to commits get lost, one after the other: written or not, each change counts once."""
    life = Life(queue, 3)
    with Mirror(postgres.dsn(database, port=pg_proxy.port)) as proxied, in_thread(proxied, queue):
        for _ in range(5):
            wait_until(lambda: mirror.status() and settled(mirror, queue), "it follows", timeout=20)
            pg_proxy.cut_at()
            life.go_on(20)
            wait_until(pg_proxy.cut.is_set, "the answer was lost")
        wait_until(lambda: settled(mirror, queue), "rows are as items", timeout=20)


def test_postgres_is_killed_and_started_again(fresh_postgres: Postgres, queue: Queue) -> None:
    """Twice, in the midst of a life: the queue goes on meanwhile, and what was committed is there afterwards."""
    life = Life(queue, 11)
    with Mirror(fresh_postgres.dsn(), timeout=2) as mirror:
        mirror.init()
        with in_thread(mirror, queue):
            for _ in range(2):
                life.go_on(30)
                wait_until(lambda: mirror.status() and settled(mirror, queue), "it follows", timeout=20)
                life.go_on(20)
                fresh_postgres.kill()
                life.go_on(30)
                fresh_postgres.start()
            wait_until(lambda: settled(mirror, queue), "rows are as items", timeout=30)


def test_postgres_is_slow(
    mirror: Mirror, postgres: Postgres, database: str, pg_proxy: PostgresProxy, queue: Queue
) -> None:
    """Each answer takes 50 ms: the lag grows and is seen, and goes when the load does."""
    pg_proxy.delay = 0.05
    with Mirror(postgres.dsn(database, port=pg_proxy.port)) as proxied, in_thread(proxied, queue):
        Life(queue, 5).go_on(100)
        wait_until(lambda: mirror.status() and settled(mirror, queue), "it has caught up", timeout=40)


def test_postgres_says_nothing_for_a_while(fresh_postgres: Postgres, queue: Queue) -> None:
    """A server that hangs is given up and tried again; nobody waits for ever."""
    with Mirror(fresh_postgres.dsn(), timeout=1) as mirror:
        mirror.init()
        with in_thread(mirror, queue):
            wait_until(lambda: mirror.status() and settled(mirror, queue), "it follows")
            fresh_postgres.pause()
            began = time.monotonic()
            queue.enqueue_many(range(20))
            wait_until(lambda: time.monotonic() - began > 2.5, "longer than its patience")
            fresh_postgres.resume()
            wait_until(lambda: settled(mirror, queue), "it follows again", timeout=20)


def test_a_disk_that_is_full(mirror: Mirror, queue: Queue, sql: Callable[[str], list[Any]]) -> None:
    """Nothing is written by halves: the position stays where it was until there is room, and then all comes."""
    mirror.follow(queue, once=True)
    before = sql("SELECT position FROM reliq.queues")
    sql(FULL)
    with in_thread(mirror, queue):
        queue.enqueue_many([New(n, group="g") for n in range(20)])
        queue.configure(max_attempts=3)
        wait_until(lambda: sql("SELECT nextval('reliq.refusals')")[0][0] > 3, "it was refused")
        assert sql("SELECT position FROM reliq.queues") == before
        assert queue.enqueue("goes on").created
        sql("DROP TRIGGER full_disk ON reliq.items")
        wait_until(lambda: settled(mirror, queue), "rows are as items", timeout=20)


FULL = """
CREATE SEQUENCE reliq.refusals;
CREATE FUNCTION reliq.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('reliq.refusals');
    RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON reliq.items EXECUTE FUNCTION reliq.full_disk();
"""


def test_a_follower_that_lost_its_lock_writes_nothing(
    mirror: Mirror, dsn: str, queue: Queue, server: Server, sql: Callable[[str], list[Any]]
) -> None:
    """Its connection is ended from outside, another one takes over; the first becomes the standby."""
    with Mirror(dsn) as second, in_thread(mirror, queue):
        wait_until(lambda: second.status() and settled(second, queue), "the first one follows")
        with in_thread(second, Queue(NAME, server.socket_url)):
            sql(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            life = Life(queue, 9)
            for _ in range(10):
                life.go_on(10)
            wait_until(lambda: settled(second, queue), "rows are as items", timeout=20)


def test_redis_is_restarted(mirror: Mirror, caplog: pytest.LogCaptureFixture) -> None:
    """From its append-only file: the same queue, another run; all is looked at again, and following goes on."""
    with start_server(append_only=True, appendfsync="always") as server, Queue(NAME, server.url) as queue:
        life = Life(queue, 13)
        with in_thread(mirror, queue):
            life.go_on(40)
            wait_until(lambda: mirror.status() and settled(mirror, queue), "it follows")
            server.restart()
            life.go_on(40)
            wait_until(lambda: settled(mirror, queue), "rows are as items", timeout=30)
    assert any("restarted or replaced" in record.message for record in caplog.records)


def test_what_a_failover_lost_stays_in_the_mirror(mirror: Mirror, caplog: pytest.LogCaptureFixture) -> None:
    """A server with older data answers: rows that it does not know are kept and marked, the others are as its items."""
    with start_server() as server, Queue(NAME, server.url) as queue:
        queue.enqueue_many([New(n, id=f"old-{n}") for n in range(5)])
        mirror.follow(queue, once=True)
        with start_server() as replica:
            copy_of(server, replica)
            queue.enqueue_many([New(n, id=f"lost-{n}") for n in range(3)])
            queue.finish(queue.claim(1))
            mirror.follow(queue, once=True)
            with Queue(NAME, replica.url) as promoted:
                mirror.follow(promoted, once=True)
                lost = {b"lost-0", b"lost-1", b"lost-2"}
                assert rows_of(mirror, NAME).keys() == lost | items_of(promoted).keys()
                assert any("does not know 3 items" in record.message for record in caplog.records)
                mirror.unfollow(promoted)  # so that it looks at everything again
                mirror.follow(promoted, once=True)
                assert lost < rows_of(mirror, NAME).keys()


def copy_of(server: Server, replica: Server) -> None:
    """Makes a server a replica, waits until it has everything, and promotes it."""
    with redis.Redis.from_url(replica.url) as client:
        client.replicaof("127.0.0.1", str(server.port))
        wait_until(lambda: client.info("replication").get("master_link_status") == "up", "it is a replica")
        client.replicaof("NO", "ONE")


def test_a_connection_to_redis_that_breaks(mirror: Mirror, proxy: FaultProxy, queue: Queue) -> None:
    """All connections to Redis are reset, over and over: the follower comes back each time."""
    with Queue(NAME, proxy.url) as followed, in_thread(mirror, followed):
        life = Life(queue, 17)
        for _ in range(5):
            life.go_on(15)
            proxy.reset_connections()
        wait_until(lambda: mirror.status() and settled(mirror, queue), "rows are as items", timeout=20)


def test_the_command_follows_until_it_is_told_to_stop(mirror: Mirror, dsn: str, server: Server, queue: Queue) -> None:
    """`reliq mirror run` ends in an orderly way at SIGTERM, `status` tells what it did."""
    follower = start_process(server, dsn)
    try:
        queue.enqueue_many(range(30))
        wait_until(lambda: mirror.status() and settled(mirror, queue), "it follows", timeout=30)
        ran = reliq(dsn, "status", NAME, "--max-lag", "60s", "-o", "json")
        assert ran.returncode == 0, ran.stderr
        (status,) = json.loads(ran.stdout)
        assert (status["state"], status["rows"], status["lag_items"]) == ("following", 30, 0)
    finally:
        follower.send_signal(signal.SIGTERM)
    assert follower.wait(20) == 0
    assert reliq(dsn, "status", "nobody").returncode == 3


def test_the_command_says_what_is_wrong(dsn: str) -> None:
    """Without tables: refused. With them made: fine. Postgres away: unreachable."""
    assert reliq(dsn, "status").returncode == 5
    assert reliq(dsn, "init").returncode == 0
    assert reliq(dsn, "status").returncode == 3
    away = reliq("postgresql://me:secret@127.0.0.1:1/x?connect_timeout=1", "status")
    assert away.returncode == 4
    assert "secret" not in away.stderr


def reliq(dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reliq", "mirror", *arguments, "--mirror", dsn]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
