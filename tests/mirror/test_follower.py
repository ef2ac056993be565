"""Following: the rows are what the items are, whatever happens to them and to the follower."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from mirror.stories import Life, assert_same, ended_of, items_of, redis_value, rows_of
from servers import wait_until

from reliq import Mirror, MirrorStatus, New, Queue
from reliq.embedded import Server
from reliq.errors import MirrorConflict, StaleEpoch, StateLost

Run = Callable[[str], list[Any]]


def status_of(mirror: Mirror, name: str = "emails") -> MirrorStatus:
    (status,) = mirror.status([name])
    return status


@contextmanager
def following(mirror: Mirror, *queues: Queue) -> Iterator[threading.Event]:
    """A follower in a thread, for as long as the block lasts. What it raises is raised at the end."""
    stop, raised = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            mirror.follow(queues, stop=stop)
        except BaseException as error:  # noqa: BLE001  raised below
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_as_items_after_any_life(mirror: Mirror, queue: Queue, seed: int) -> None:
    """Followed in steps: after each the rows are the items, part by part."""
    for step in range(3):
        Life(queue, seed * 10 + step).go_on(60)
        mirror.follow(queue, once=True)
        assert_same(mirror, queue)


def test_rows_are_as_items_after_a_life_beside_the_follower(mirror: Mirror, queue: Queue, server: Server) -> None:
    """The same with the follower at work meanwhile, and at the end nothing is behind."""
    with following(mirror, Queue("emails", server.socket_url)):
        for seed in range(5):
            Life(queue, seed).go_on(60)
        wait_until(lambda: rows_of(mirror, "emails") == items_of(queue), "rows are as items")
        wait_until(lambda: status_of(mirror).lag_items == 0, "nothing is behind")
    assert_same(mirror, queue)


def test_settings_batches_and_counts_are_there(mirror: Mirror, queue: Queue, sql: Run) -> None:
    """What a rebuild needs beside the items."""
    queue.configure(max_attempts=7)
    batch = queue.batch(["a", "b", "c"], then=New("after"), id="b1")
    queue.pause(claim=True)
    mirror.follow(queue, once=True)
    ((settings,),) = sql("SELECT settings FROM reliq.queues")
    assert settings["max_attempts"] == "7"
    assert settings["paused_claim"] == "1"
    assert sql("SELECT batch, follow_when, sealed, total, awaited FROM reliq.batches") == [
        (b"b1", "finished", True, 3, 3)
    ]
    queue.resume()
    queue.finish(queue.claim(3))
    mirror.follow(queue, once=True)
    assert sql("SELECT count(*) FROM reliq.batches") == [(0,)]
    assert batch.then_id in {item.id for item in queue.claim(5)}


def test_items_that_end_before_they_are_met_leave_no_trace(mirror: Mirror, queue: Queue, sql: Run) -> None:
    """Neither as rows nor among the ended ids, and the tables are not even touched."""
    mirror.follow(queue, once=True)
    queue.enqueue_many(range(500))
    while items := queue.claim(100):
        queue.finish(items)
    mirror.follow(queue, once=True)
    assert rows_of(mirror, "emails") == {}
    assert ended_of(mirror, "emails") == set()
    assert sql("SELECT pg_relation_size('reliq.items'), pg_relation_size('reliq.ended_default')") == [(0, 0)]


def test_the_ids_of_items_that_had_a_row_are_kept_when_they_end(mirror: Mirror, queue: Queue, sql: Run) -> None:
    """With their end markers, as Redis has them."""
    queue.enqueue("a", id="a")
    queue.enqueue("b", id="b")
    mirror.follow(queue, once=True)
    queue.finish(queue.claim(1), result=5)
    queue.cancel("b")
    mirror.follow(queue, once=True)
    assert rows_of(mirror, "emails") == {}
    markers = dict(sql("SELECT id, marker FROM reliq.ended"))
    assert markers == {key: redis_value(queue, key) for key in (b"a", b"b")}


def test_large_items_go_in_parts(mirror: Mirror, queue: Queue) -> None:
    """Items of 300 KB are mirrored byte by byte, a few at a time."""
    queue.enqueue_many(["x" * 300_000 + str(n) for n in range(40)])
    mirror.follow(queue, once=True)
    assert_same(mirror, queue)


def test_idle_is_not_behind(mirror: Mirror, queue: Queue) -> None:
    """With nothing to do the lag is nought in items and seconds, and the follower is known to be there."""
    with following(mirror, queue):
        wait_until(lambda: [s.state for s in mirror.status()] == ["following"], "the queue is mirrored")
        wait_until(lambda: silence(mirror) > 0.5, "time passes")
        wait_until(lambda: silence(mirror) < 0.5, "it says again that it is there")
        status = status_of(mirror)
        assert (status.state, status.lag_items, status.lag_seconds) == ("following", 0, 0.0)


def silence(mirror: Mirror) -> float:
    ago = status_of(mirror).followed_ago
    assert ago is not None
    return ago


def test_a_follower_that_is_gone_is_seen(mirror: Mirror, queue: Queue, sql: Run) -> None:
    """Nobody followed for a minute: the status says stopped, and that the lag may be a minute."""
    mirror.follow(queue, once=True)
    sql("UPDATE reliq.queues SET followed_at = now() - interval '1 minute'")
    status = status_of(mirror)
    assert status.state == "stopped"
    assert 59 < status.lag_seconds < 70


def test_one_follower_is_active_and_another_takes_over(mirror: Mirror, dsn: str, server: Server, queue: Queue) -> None:
    """The standby writes nothing while the first one lives, and follows as soon as it is gone."""
    with Mirror(dsn) as second:
        with following(mirror, Queue("emails", server.socket_url)):
            wait_until(mirror.status, "the first one follows")
            with pytest.raises(MirrorConflict, match="followed by"):
                second.follow(queue, once=True)
        with following(second, Queue("emails", server.socket_url)):
            queue.enqueue_many(range(10))
            wait_until(lambda: len(rows_of(mirror, "emails")) == 10, "the second one follows")


def test_several_queues_in_one_process(mirror: Mirror, server: Server, queue: Queue) -> None:
    """Each is followed by itself, and one stop ends all."""
    queues = [Queue(f"q{n}", server.socket_url) for n in range(4)]
    with following(mirror, *queues):
        for n, some in enumerate(queues):
            some.enqueue_many(range(n + 1))
        wait_until(lambda: [s.rows for s in mirror.status()] == [1, 2, 3, 4], "all are mirrored")
    for some in queues:
        assert_same(mirror, some)


def test_a_journal_that_was_cut_is_cured(
    mirror: Mirror, dsn: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Changes that fell out of the journal are found by looking at everything, said once as an error."""
    with Mirror(dsn, journal_max=100) as bounded:
        queue.enqueue_many(range(50), batch=1)
        bounded.follow(queue, once=True)
        for item in queue.claim(20):
            queue.finish(item)
        queue.enqueue_many(range(600), batch=1)
        with caplog.at_level(logging.ERROR, "reliq"):
            bounded.follow(queue, once=True)
        assert [r.message for r in caplog.records if "was cut" in r.message and "full resync" in r.message][1:] == []
        assert any("was cut" in record.message for record in caplog.records)
        assert_same(bounded, queue)
        assert len(ended_of(mirror, "emails")) == 20


def test_a_journal_that_fills_up_alarms_before_it_is_cut(
    mirror: Mirror, dsn: str, queue: Queue, sql: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """While Postgres takes nothing the follower watches the journal, and says once that it is nearly full."""
    with Mirror(dsn, journal_max=1000) as bounded:
        bounded.follow(queue, once=True)
        sql(DISK_FULL)
        with caplog.at_level(logging.ERROR, "reliq"), following(bounded, queue):
            queue.enqueue_many(range(900), batch=1)
            wait_until(lambda: [r for r in caplog.records if "journal has" in r.message], "it says so")
            queue.enqueue_many(range(10), batch=1)
            assert queue.counts().queued == 910
            sql("DROP TRIGGER full_disk ON reliq.items")
            wait_until(lambda: status_of(mirror).rows == 910, "it goes on", timeout=20)
        assert len([r for r in caplog.records if "journal has" in r.message]) == 1


DISK_FULL = """
CREATE FUNCTION reliq.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON reliq.items EXECUTE FUNCTION reliq.full_disk();
"""


def test_resynchronising_a_queue_in_use(mirror: Mirror, queue: Queue, server: Server, sql: Run) -> None:
    """Items that are claimed, moved, finished and enqueued while all are looked at: the rows end as the items are."""
    queue.enqueue_many(range(3000))
    stop = threading.Event()

    def work() -> None:
        with Queue("emails", server.socket_url) as other:
            life = Life(other, 1)
            while not stop.is_set():
                life.go_on(20)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(4):
            sql("UPDATE reliq.queues SET state = 'resyncing'")
            mirror.follow(queue, once=True)
    finally:
        stop.set()
        worker.join()
    mirror.follow(queue, once=True)
    assert_same(mirror, queue)
    assert sql("SELECT count(*) FROM reliq.items WHERE generation < 0") == [(0,)]


def test_a_resynchronisation_that_was_broken_off_begins_again(mirror: Mirror, queue: Queue, sql: Run) -> None:
    """Rows of items that have gone meanwhile are found although the first pass never got there."""
    queue.enqueue_many(range(100))
    mirror.follow(queue, once=True)
    sql("UPDATE reliq.queues SET state = 'resyncing', generation = generation + 1")
    sql("INSERT INTO reliq.items (queue, id, stamp, state, body) VALUES ('emails', 'ghost', 1, 'queued', 'x')")
    mirror.follow(queue, once=True)
    assert_same(mirror, queue)


def test_a_flushed_redis_takes_nothing_with_it(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis is emptied: the follower stops, says so once, and every row stays."""
    queue.enqueue_many(range(20))
    mirror.follow(queue, once=True)
    with following(mirror, queue), caplog.at_level(logging.WARNING, "reliq"):
        wait_until(lambda: status_of(mirror).state == "following", "it follows")
        redis_client.flushall()
        wait_until(lambda: status_of(mirror).state == "stopped", "it has stopped")
        wait_until(lambda: caplog.records, "it says so")
    assert len(rows_of(mirror, "emails")) == 20
    with pytest.raises(StateLost):
        mirror.follow(queue, once=True)


def test_a_queue_that_was_made_anew_is_not_taken_for_the_old_one(
    mirror: Mirror, queue: Queue, server: Server, redis_client: redis.Redis
) -> None:
    """Another generation in Redis: the rows stay until a person accepts it, then they are as the new items."""
    queue.enqueue_many(range(20))
    mirror.follow(queue, once=True)
    redis_client.flushall()
    with Queue("emails", server.socket_url) as fresh:
        fresh.enqueue("new")
        with pytest.raises(StaleEpoch):
            mirror.follow(Queue("emails", server.socket_url), once=True)
        assert len(rows_of(mirror, "emails")) == 20
        mirror.adopt(fresh)
        mirror.follow(fresh, once=True)
        assert_same(mirror, fresh)


def test_unfollow_ends_the_journal(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """The queue keeps none any more; following again begins with a look at everything."""
    queue.enqueue_many(range(5))
    mirror.follow(queue, once=True)
    mirror.unfollow(queue)
    assert not redis_client.exists("reliq:{emails}:journal")
    queue.enqueue_many(range(5))
    assert not redis_client.exists("reliq:{emails}:journal")
    mirror.follow(queue, once=True)
    assert_same(mirror, queue)
