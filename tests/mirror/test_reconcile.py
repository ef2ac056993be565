"""A live queue and its mirror compared: what differs is named, and what can be put right safely is put right."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from contract.evidence import check_queue
from mirror.queues import client_of, mirrored, various
from mirror.stories import assert_same
from servers import wait_until

from reliq import New, Queue
from reliq.errors import MirrorConflict
from reliq.mirror import Mirror
from reliq.mirror.reconcile import Reconciliation

Sql = Callable[[str], list[Any]]
KEY = "reliq:{{emails}}:{}".format


def forgotten_by_redis(client: redis.Redis, *ids: str, places: str = "queued") -> None:
    """Takes items out of a queue as if a failover had lost their enqueue: counters, places and records."""
    for item_id in ids:
        record: Any = client.hget(KEY("items"), item_id)
        client.hdel(KEY("items"), item_id)
        client.hdel(KEY("attempts"), item_id)
        client.hdel(KEY("errors"), item_id)
        client.hincrby(KEY("meta"), "enqueued", -1)
        if places == "queued":
            client.lrem(KEY("queued"), 0, item_id)
        else:
            client.zrem(KEY(places), item_id)
        if places in ("queued", "scheduled"):
            client.hincrby(KEY("meta"), "waiting_bytes", -len(record))


def kinds(report: Reconciliation) -> dict[str, str]:
    return {difference.id: difference.kind for difference in report.differences}


@pytest.fixture
def followed(mirror: Mirror, queue: Queue) -> Iterator[Callable[[], None]]:
    """Starts a follower that runs until the test is over."""
    stop = threading.Event()
    thread = threading.Thread(target=mirror.follow, args=(client_of(queue),), kwargs={"stop": stop})

    def start() -> None:
        thread.start()
        wait_until(lambda: [s.state for s in mirror.status()] == ["following"], "it is followed")

    yield start
    stop.set()
    if thread.ident:
        thread.join()


def test_two_sides_that_agree(mirror: Mirror, queue: Queue) -> None:
    """Items in all states, and nothing to say."""
    various(queue)
    mirrored(mirror, queue)
    report = mirror.reconcile(queue)
    assert report.ok
    assert report.certain
    assert (report.found, report.looked_at, report.differences) == (0, 17, ())


def test_items_that_a_failover_lost_are_put_back_at_their_place(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """Between those that were enqueued before and after them, with their histories; nothing else moves."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(10)])
    queue.finish(queue.claim(2))
    mirrored(mirror, queue)
    forgotten_by_redis(redis_client, "3", "7", "8")
    found = mirror.reconcile(queue)
    assert kinds(found) == {"3": "missing in redis", "7": "missing in redis", "8": "missing in redis"}
    assert (found.found, found.repaired) == (3, 0)
    repaired = mirror.reconcile(queue, repair=True)
    assert (repaired.found, repaired.repaired, repaired.ok) == (3, 3, True)
    check_queue(redis_client, queue.name)
    again = client_of(queue)
    assert [item.id for item in again.claim(20)] == ["2", "3", "4", "5", "6", "7", "8", "9"]
    assert mirrored(mirror, again).reconcile(again).ok


def test_an_item_whose_place_is_far_ahead_goes_to_the_head(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """A search through a million places would hold everybody up; too early is better than last."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(2500)])
    mirrored(mirror, queue)
    forgotten_by_redis(redis_client, "2", "700", "1600")
    assert mirror.reconcile(queue, repair=True).repaired == 3
    check_queue(redis_client, queue.name)
    again = client_of(queue)
    assert [item.id for item in again.claim(4)] == ["2", "700", "0", "1"]
    while again.claim(1000):
        pass
    assert again.counts().in_progress == 2500


def test_scheduled_dead_and_orphaned_items_are_put_back_as_they_were(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """With their errors, attempts and times; what somebody held is queued."""
    names = various(queue)
    before = {info.id: info for state in ("scheduled", "dead", "orphaned") for info in queue.scan(state)}
    mirrored(mirror, queue)
    forgotten_by_redis(redis_client, "later", names["retried"], places="scheduled")
    forgotten_by_redis(redis_client, *(i for i, info in before.items() if info.state == "dead"), places="dead")
    forgotten_by_redis(redis_client, "held-0", places="orphaned")
    assert mirror.reconcile(queue, repair=True).repaired == 4
    assert {i.id: i for state in ("scheduled", "dead", "orphaned") for i in queue.scan(state)} == before
    check_queue(redis_client, queue.name)


def test_what_has_ended_is_not_put_back(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Finished, cancelled or purged: the mirror knows, or will, and the work is not done again."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(6)])
    mirrored(mirror, queue)
    queue.finish(queue.claim(2))
    queue.cancel("5")
    mirrored(mirror, queue)
    redis_client.hdel(KEY("items"), "0", "1")  # their retention is over
    queue.purge("queued")
    report = mirror.reconcile(queue, repair=True, patience=0)
    assert report.repaired == 0
    assert queue.counts().queued == 0


def test_what_the_follower_has_not_read_yet_is_no_difference(mirror: Mirror, queue: Queue) -> None:
    """The journal says what it will look at; only the rest is judged."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(10)])
    mirrored(mirror, queue)
    queue.finish(queue.claim(3))
    queue.enqueue("new", id="new")
    report = mirror.reconcile(queue, patience=0)
    assert report.ok, report.differences
    assert report.certain


def test_rows_that_postgres_lost_are_written(mirror: Mirror, queue: Queue, sql: Sql) -> None:
    """As the follower would have: the row is that of the item as it is now."""
    various(queue)
    mirrored(mirror, queue)
    sql("DELETE FROM reliq.items WHERE state IN ('queued', 'dead')")
    found = mirror.reconcile(queue)
    assert {difference.kind for difference in found.differences} == {"missing in postgres"}
    assert mirror.reconcile(queue, repair=True).repaired == found.found == 11
    assert_same(mirror, queue)


def test_states_that_differ_are_named_and_left_alone(mirror: Mirror, queue: Queue, sql: Sql) -> None:
    """Which of the two is right is for people to say."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(3)])
    mirrored(mirror, queue)
    sql("UPDATE reliq.items SET state = 'dead', at_ms = 1 WHERE id = '1'")
    report = mirror.reconcile(queue, repair=True)
    assert [(d.id, d.kind, d.repaired) for d in report.differences] == [("1", "state", False)]
    assert report.differences[0].text == "the mirror has it dead, Redis queued"


def test_an_item_that_ended_by_the_mirror_and_lives_in_redis_is_named(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """Its finish was lost with the old master: it would be delivered again."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(3)])
    mirrored(mirror, queue)
    backup = {key: redis_client.dump(key) for key in redis_client.keys("*")}
    queue.finish(queue.claim(1))
    mirrored(mirror, queue)
    for key, dump in backup.items():
        redis_client.restore(key, 0, dump, replace=True)  # type: ignore[arg-type]
    report = mirror.reconcile(client_of(queue), patience=0)
    assert kinds(report) == {"0": "ended"}


def test_structures_that_no_item_explains_are_named(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Histories of nobody, ids without an item, and a claim that would never end."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(3)])
    mirrored(mirror, queue)
    redis_client.hset(KEY("attempts"), "nobody", "q 1 0 0 ")
    redis_client.zadd(KEY("scheduled"), {"ghost": 2_000_000_000_000})
    redis_client.hset(KEY("claims"), b"x" * 16, b"v\x01a")
    report = mirror.reconcile(queue)
    texts = [d.text for d in report.differences]
    assert len(texts) == 5
    for part in ("attempts has 1", "scheduled has 1", "claims has 1", "in_progress is 0", "enqueued is 3, and 4"):
        assert any(part in text for text in texts), texts


def test_counters_that_do_not_add_up_are_named(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Everything that was enqueued is in some state, or was."""
    queue.enqueue_many(range(3))
    mirrored(mirror, queue)
    redis_client.hincrby(KEY("meta"), "enqueued", 2)
    (difference,) = mirror.reconcile(queue).differences
    assert difference.kind == "counter"
    assert "5" in difference.text


def test_it_goes_on_while_the_queue_does(
    mirror: Mirror, queue: Queue, followed: Callable[[], None], redis_client: redis.Redis
) -> None:
    """Items come and go all the time, and none of them is called a difference, nor harmed by a repair."""
    queue.enqueue_many([New(n, id=f"standing-{n}", delay=3600) for n in range(3000)])
    followed()
    stop, handled = threading.Event(), list[str]()

    def work() -> None:
        busy, number = client_of(queue), 0
        while not stop.is_set():
            busy.enqueue_many([New(n, id=f"{number}-{n}") for n in range(50)])
            items = busy.claim(50)
            handled.extend(item.id for item in items)
            busy.finish(items)
            number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(3):
            report = mirror.reconcile(client_of(queue), repair=True)
            assert report.found == 0, report.differences
    finally:
        stop.set()
        thread.join()
    assert len(handled) == len(set(handled)) > 0
    check_queue(redis_client, queue.name)


def test_the_hook_for_failovers_puts_back_what_was_lost(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """As the driver calls it: with the old address and the new one."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(5)])
    mirrored(mirror, queue)
    forgotten_by_redis(redis_client, "4")
    mirror.on_failover(client_of(queue))("10.0.0.1:6379", "10.0.0.2:6379")
    assert [item.id for item in client_of(queue).claim(9)] == ["0", "1", "2", "3", "4"]


def test_what_a_restart_lost_is_put_back_after_the_follower_has_seen_it(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Sql
) -> None:
    """The follower keeps the rows of items that the restarted server does not know, and reconcile finds them."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(5)])
    mirrored(mirror, queue)
    forgotten_by_redis(redis_client, "3", "4")
    sql("UPDATE reliq.queues SET server = 'the run before'")
    mirror.follow(client_of(queue), once=True)
    assert mirror.reconcile(client_of(queue), repair=True).repaired == 2
    assert client_of(queue).counts().queued == 5


def test_a_repair_is_on_record(mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Sql) -> None:
    """What was found and what was done about it."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(3)])
    mirrored(mirror, queue)
    forgotten_by_redis(redis_client, "1")
    mirror.reconcile(queue, repair=True)
    ((kind, report),) = sql("SELECT kind, report FROM reliq.recoveries")
    assert (kind, report["found"], report["repaired"]) == ("reconcile", 1, 1)


def test_queues_of_different_epochs_are_not_compared(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Everything would differ: that is what a rebuild is for."""
    queue.enqueue("a")
    mirrored(mirror, queue)
    redis_client.flushall()
    client_of(queue).enqueue("b")
    with pytest.raises(MirrorConflict):
        mirror.reconcile(client_of(queue), repair=True)


def test_ten_thousand_differences_are_dealt_with_in_parts(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Sql
) -> None:
    """The report names the first thousand and counts them all."""
    queue.enqueue_many(range(12_000))
    mirrored(mirror, queue)
    sql("DELETE FROM reliq.items")
    report = mirror.reconcile(queue, repair=True)
    assert (report.found, report.repaired, len(report.differences)) == (12_000, 12_000, 1000)
    assert_same(mirror, queue)
