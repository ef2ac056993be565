"""A queue that Redis has lost is filled from Postgres: what comes back, in which order, and when it opens."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from contract.evidence import check_queue
from mirror.queues import brought_back, client_of, contents, mirrored, various
from mirror.stories import assert_same
from servers import start_server, wait_until

from reliq import New, Queue, Rebuilding
from reliq.embedded import Server
from reliq.errors import MirrorConflict, NotMirrored
from reliq.mirror import Mirror

Sql = Callable[[str], list[Any]]


def test_a_plan_says_what_would_come_back_and_changes_nothing(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Sql
) -> None:
    """Counts by state, and hazards; Redis stays empty, and Postgres as it was."""
    various(queue)
    mirrored(mirror, queue)
    redis_client.flushall()
    before = sql("SELECT * FROM reliq.queues")
    plan = mirror.plan_rebuild(queue)
    assert plan.counts == {"queued": 10, "scheduled": 2, "in_progress": 2, "orphaned": 2, "dead": 1}
    assert plan.items == 17
    assert {hazard.kind for hazard in plan.hazards} >= {"finished meanwhile", "retention"}
    assert not plan.blocked
    assert redis_client.dbsize() == 0
    assert sql("SELECT * FROM reliq.queues") == before
    assert sql("SELECT count(*) FROM reliq.recoveries") == [(0,)]


def test_a_queue_that_was_never_followed_can_not_be_planned(mirror: Mirror, queue: Queue) -> None:
    """Postgres says so, instead of making an empty queue."""
    with pytest.raises(NotMirrored):
        mirror.plan_rebuild(queue)


def test_a_rebuilt_queue_is_the_one_that_was_lost(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Every item is there with payload, history, error, group and checkpoint, and all keys agree with each other."""
    names = various(queue)
    before = {info.id: info for state in ("orphaned", "dead", "scheduled") for info in queue.scan(state)}
    mirrored(mirror, queue)
    redis_client.flushall()
    brought_back(mirror, queue)
    again = client_of(queue)
    assert {i.id: i for state in ("orphaned", "dead", "scheduled") for i in again.scan(state)} == before
    assert again.get(names["in_progress"]).progress is not None
    assert again.settings().max_attempts == 4
    assert again.batch_progress("batch") == (3, 3)
    assert_same(mirror, again)
    check_queue(redis_client, queue.name)


def test_items_come_back_in_the_order_in_which_they_were_enqueued(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """Those that somebody held, or gave back, stand where they stood; the items of a group keep their order."""
    ids = [f"{n:04}" for n in range(2500)]
    queue.enqueue_many([New(n, id=ids[n], group=f"group-{n % 5}" if n % 3 == 0 else None) for n in range(2500)])
    held = queue.claim(700, lease=600)
    queue.release(held[::3])
    mirrored(mirror, queue)
    redis_client.flushall()
    brought_back(mirror, queue)
    again, delivered = client_of(queue), list[str]()
    while items := again.claim(100):
        delivered += [item.id for item in items]
        again.finish(items)
    assert sorted(delivered) == ids
    alone = [i for i in delivered if int(i) % 3]
    assert alone == sorted(alone)
    for group in range(5):
        of_group = [i for i in delivered if int(i) % 3 == 0 and int(i) % 5 == group]
        assert of_group == sorted(of_group)


def test_what_was_in_progress_is_queued_again_with_one_delivery_more(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """The number of the delivery is a fencing number: it must not come twice. Attempts are not counted up."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(4)])
    queue.claim(2, lease=600)
    mirrored(mirror, queue)
    redis_client.flushall()
    brought_back(mirror, queue)
    found = [(item.id, item.delivery, item.attempt) for item in client_of(queue).claim(4)]
    assert found == [("0", 2, 1), ("1", 2, 1), ("2", 1, 1), ("3", 1, 1)]
    assert_same(mirror, queue_known(queue, mirror))


def queue_known(queue: Queue, mirror: Mirror) -> Queue:
    """A new client, when the mirror has met what happened last."""
    again = client_of(queue)
    mirror.follow(again, once=True)
    return again


def test_what_was_in_progress_can_be_held_for_people(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Orphaned, nothing delivered; their rows say the same."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(3)])
    queue.claim(2, lease=600)
    mirrored(mirror, queue)
    redis_client.flushall()
    brought_back(mirror, queue, in_progress="hold")
    again = client_of(queue)
    assert {info.id for info in again.scan("orphaned")} == {"0", "1"}
    assert [item.id for item in again.claim(10)] == ["2"]
    again.resolve(["0"], "requeue")
    assert [item.delivery for item in again.claim(10)] == [2]
    assert_same(mirror, queue_known(queue, mirror))


def test_it_is_closed_until_it_is_verified(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """A fresh client may look and gets nothing, and can't enqueue."""
    queue.enqueue_many(range(5))
    mirrored(mirror, queue)
    redis_client.flushall()
    mirror.apply(mirror.plan_rebuild(queue))
    fresh = client_of(queue)
    assert fresh.counts().queued == 5
    for call in (fresh.claim, lambda: fresh.enqueue("new")):
        with pytest.raises(Rebuilding):
            call()
    assert mirror.verify(queue).opened
    assert len(fresh.claim(10)) == 5


def test_ended_ids_are_refused_as_before(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """An id whose end was mirrored is not enqueued again, nor is its item delivered."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(6)])
    mirrored(mirror, queue)
    items = queue.claim(2)
    queue.finish(items[0], result={"sent": True})
    queue.finish(items[1])
    queue.cancel("5")
    mirrored(mirror, queue)
    redis_client.flushall()
    brought_back(mirror, queue)
    again = client_of(queue)
    assert [again.enqueue(n, id=str(n)).created for n in range(6)] == [False] * 6
    assert again.get("0").result == {"sent": True}
    assert [item.id for item in again.claim(10)] == ["2", "3", "4"]
    check_queue(redis_client, queue.name)


def test_checkpointed_items_that_redis_never_got_come_back(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Sql
) -> None:
    """Their rows are committed; they stand behind everything that the mirror had met, in the order of their commits."""
    queue.enqueue_many([New(n, id=f"met-{n}") for n in range(3)])
    mirrored(mirror, queue)
    sure = client_of(queue, mirror=mirror)
    sure.enqueue(0, id="sure-0", durability="checkpointed")
    sure.enqueue_many(
        [New(n, id=f"sure-{n}", delay=3600 if n == 2 else None) for n in (1, 2)], durability="checkpointed"
    )
    redis_client.flushall()
    plan = mirror.plan_rebuild(queue)
    assert plan.pending == 3
    brought_back(mirror, queue)
    again = client_of(queue)
    assert [item.id for item in again.claim(10)] == ["met-0", "met-1", "met-2", "sure-0", "sure-1"]
    assert [info.id for info in again.scan("scheduled")] == ["sure-2"]
    assert sql("SELECT count(*) FROM reliq.pending") == [(0,)]


def test_a_follower_goes_on_without_looking_at_everything_again(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Sql
) -> None:
    """The rebuilt queue keeps a journal from its first moment, and the mirror's position is its beginning."""
    queue.enqueue_many(range(20))
    mirrored(mirror, queue)
    redis_client.flushall()
    brought_back(mirror, queue)
    generation = sql("SELECT generation FROM reliq.queues")
    again = client_of(queue)
    again.finish(again.claim(5))
    again.enqueue("new")
    mirror.follow(again, once=True)
    assert_same(mirror, again)
    assert sql("SELECT generation FROM reliq.queues") == generation


def test_a_pause_comes_back(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """What people closed stays closed."""
    queue.enqueue("a")
    queue.pause()
    mirrored(mirror, queue)
    redis_client.flushall()
    brought_back(mirror, queue)
    again = client_of(queue)
    assert again.counts().paused_claim
    assert again.claim() == []


# Refusals


def test_a_server_that_has_the_queue_is_not_overwritten(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """The plan says what is there; only when told to does a rebuild remove it."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(3)])
    mirrored(mirror, queue)
    redis_client.flushall()
    stranger = client_of(queue)
    stranger.enqueue("new", id="new")
    plan = mirror.plan_rebuild(queue)
    assert plan.blocked
    assert "1 queued" in plan.hazards[0].text
    with pytest.raises(MirrorConflict):
        mirror.apply(plan)
    assert stranger.counts().queued == 1
    mirror.apply(plan, wipe=True)
    assert mirror.verify(queue)
    assert [item.id for item in client_of(queue).claim(10)] == ["0", "1", "2"]


def test_a_plan_that_is_out_of_date_is_refused(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Sql
) -> None:
    """What it was based on has changed, so nothing is touched."""
    queue.enqueue("a")
    mirrored(mirror, queue)
    redis_client.flushall()
    plan = mirror.plan_rebuild(queue)
    sql("INSERT INTO reliq.pending (queue, id, body) VALUES ('emails', 'sure', '\\x01')")
    with pytest.raises(MirrorConflict, match="changed"):
        mirror.apply(plan)
    assert redis_client.dbsize() == 0


def test_a_rebuild_that_was_done_is_not_done_again(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Its plan is refused, and a new one says that Redis has the queue."""
    queue.enqueue("a")
    mirrored(mirror, queue)
    redis_client.flushall()
    plan = mirror.plan_rebuild(queue)
    mirror.apply(plan)
    mirror.verify(queue)
    with pytest.raises(MirrorConflict):
        mirror.apply(plan)
    assert mirror.plan_rebuild(queue).blocked


def test_two_rebuilds_at_once_exclude_each_other(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """The second one is told who is at it; where it may wait, it finds the work done."""
    queue.enqueue_many(range(3000))
    mirrored(mirror, queue)
    redis_client.flushall()
    plan, running, outcome = mirror.plan_rebuild(queue), threading.Event(), list[BaseException]()

    def second() -> None:
        running.wait()
        try:
            mirror.apply(plan)
        except MirrorConflict as error:
            outcome.append(error)

    thread = threading.Thread(target=second)
    thread.start()

    def told(_: object) -> None:
        running.set()
        thread.join(0.5 if not outcome else 0)

    mirror.apply(plan, on_progress=told)
    thread.join()
    assert len(outcome) == 1
    assert str(os.getpid()) in str(outcome[0])
    assert mirror.apply(plan, wait=5).done == 3000
    assert mirror.verify(queue)


# Broken off, and run again


def test_applied_twice_is_applied_once(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """The second time changes nothing, whether with the same plan or a new one."""
    various(queue)
    mirrored(mirror, queue)
    redis_client.flushall()
    plan = mirror.plan_rebuild(queue)
    mirror.apply(plan)
    before = contents(redis_client)
    mirror.apply(plan)
    mirror.apply(mirror.plan_rebuild(queue), in_progress="hold")
    assert contents(redis_client) == before
    assert mirror.verify(queue)


def test_a_new_plan_goes_on_with_what_was_broken_off(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """With what it had begun with: the treatment of items in progress can't change half-way."""
    queue.enqueue_many(range(3000))
    queue.claim(10, lease=600)
    mirrored(mirror, queue)
    redis_client.flushall()
    first = mirror.plan_rebuild(queue)
    with pytest.raises(KeyboardInterrupt):
        mirror.apply(first, in_progress="hold", on_progress=interrupt)
    plan = mirror.plan_rebuild(queue)
    assert (plan.resumes, plan.recovery, plan.in_progress) == (True, first.recovery, "hold")
    progress = mirror.apply(plan)
    assert (progress.begun_at, progress.done) == (1000, 3000)
    assert mirror.verify(queue)
    assert client_of(queue).counts().orphaned == 10


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_redis_lost_again_in_the_middle_is_filled_from_the_start(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """What was noted as done counts only as long as Redis has it."""
    queue.enqueue_many(range(3000))
    mirrored(mirror, queue)
    redis_client.flushall()
    plan = mirror.plan_rebuild(queue)
    with pytest.raises(KeyboardInterrupt):
        mirror.apply(plan, on_progress=interrupt)
    redis_client.flushall()
    assert mirror.apply(plan).begun_at == 0
    assert mirror.verify(queue)
    assert client_of(queue).counts().queued == 3000


@pytest.mark.slow
def test_killed_at_random_points_it_ends_as_if_it_had_run_through(
    mirror: Mirror, dsn: str, queue: Queue, server: Server, redis_client: redis.Redis
) -> None:
    """Twenty processes are killed at it, one after the other; the last one finds little left to do."""
    various(queue)
    queue.enqueue_many([New(n, id=f"item-{n}", group=f"group-{n % 3}" if n % 4 == 0 else None) for n in range(20_000)])
    mirrored(mirror, queue)
    redis_client.flushall()
    for _ in range(20):
        kill_at_a_random_point(dsn, server.socket_url)
    brought_back(mirror, queue)
    broken_off = contents(redis_client)
    mirror.apply(mirror.plan_rebuild(queue), wipe=True)
    assert mirror.verify(queue)
    assert differing(contents(redis_client), broken_off) == []
    check_queue(redis_client, queue.name)


def kill_at_a_random_point(dsn: str, url: str) -> None:
    program = [sys.executable, str(Path(__file__).with_name("rebuild_program.py")), dsn, url]
    running = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    running.stdout.readline()  # it has begun
    time.sleep(random.uniform(0, 0.15))  # the point itself is what is random, nothing is waited for
    running.send_signal(signal.SIGKILL)
    running.stdout.close()
    running.wait()


def differing(one: dict[bytes, Any], other: dict[bytes, Any]) -> list[bytes]:
    return [key for key in {*one, *other} if one.get(key) != other.get(key)]


def test_a_difference_keeps_it_closed_and_is_named(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """An item that vanished from Redis is found; the rebuild goes through all of it again, and then it opens."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(5)])
    mirrored(mirror, queue)
    redis_client.flushall()
    mirror.apply(mirror.plan_rebuild(queue))
    redis_client.hdel("reliq:{emails}:items", "3")
    redis_client.lrem("reliq:{emails}:queued", 0, "3")
    found = mirror.verify(queue)
    assert not found.ok
    assert not found.opened
    assert [text.partition(":")[0] for text in found.differences] == ["3"]
    with pytest.raises(Rebuilding):
        client_of(queue).claim()
    mirror.apply(mirror.plan_rebuild(queue))
    assert mirror.verify(queue)


def test_something_that_the_mirror_does_not_know_is_a_difference_too(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """It is compared both ways: begun anew, with wipe, the stranger is gone."""
    queue.enqueue_many([New(n, id=str(n)) for n in range(3)])
    mirrored(mirror, queue)
    redis_client.flushall()
    mirror.apply(mirror.plan_rebuild(queue))
    record: Any = redis_client.hget("reliq:{emails}:items", "2")
    redis_client.hset("reliq:{emails}:items", "stranger", record)
    redis_client.rpush("reliq:{emails}:queued", "stranger")
    found = mirror.verify(queue)
    assert [text.partition(":")[0] for text in found.differences] == ["stranger"]
    mirror.apply(mirror.plan_rebuild(queue, anew=True), wipe=True)
    assert mirror.verify(queue)
    assert client_of(queue).counts().queued == 3


# How it goes about it


def test_it_keeps_to_a_rate(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Three thousand at five thousand a second take no less than 0.6 s."""
    queue.enqueue_many(range(3000))
    mirrored(mirror, queue)
    redis_client.flushall()
    progress = mirror.apply(mirror.plan_rebuild(queue), rate=5000)
    assert progress.seconds >= 0.6
    assert progress.rate <= 5000


def test_what_was_done_is_on_record(mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Sql) -> None:
    """Who did it, from which epoch to which, how far it came and what the comparison brought."""
    queue.enqueue_many(range(7))
    mirrored(mirror, queue)
    redis_client.flushall()
    plan = mirror.plan_rebuild(queue)
    assert json.dumps(plan.as_dict())
    mirror.apply(plan)
    mirror.verify(queue)
    columns = "kind, state, epoch_before, epoch_after, progress, report, finished_at IS NOT NULL, who"
    kind, state, before, after, progress, report, ended, who = sql(f"SELECT {columns} FROM reliq.recoveries")[0]
    assert (kind, state, after - before, progress["done"], report["ok"], ended) == (
        "rebuild", "verified", 1, 7, True, True,
    )  # fmt: skip
    assert str(os.getpid()) in who


def test_large_payloads_are_sent_in_small_calls(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Calls are bounded in bytes as well as in items, so that no server is held up."""
    queue.enqueue_many([bytes(300_000)] * 40)
    mirrored(mirror, queue)
    redis_client.flushall()
    redis_client.config_resetstat()
    brought_back(mirror, queue)
    stats: Any = redis_client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] > 5
    assert client_of(queue).counts().queued == 40


def test_it_goes_on_when_a_server_dies_in_the_middle(mirror: Mirror) -> None:
    """A kill of Redis with everything in it: the rebuild waits for the new, empty one, and is run again."""
    with start_server() as first, closing(Queue("emails", first.url)) as queue:
        queue.enqueue_many(range(3000))
        mirrored(mirror, queue)
        first.kill()
    with start_server() as second, closing(Queue("emails", second.url)) as queue:
        plan = mirror.plan_rebuild(queue)
        with pytest.raises(KeyboardInterrupt):
            mirror.apply(plan, on_progress=interrupt)
        second.kill()
    with start_server() as third, closing(Queue("emails", third.url)) as queue:
        plan = mirror.plan_rebuild(queue)
        assert plan.resumes
        mirror.apply(plan)
        assert mirror.verify(queue)
        wait_until(lambda: client_of(queue).counts().queued == 3000, "all items are there")


def test_a_plan_survives_json(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """What the record keeps of a plan is the plan."""
    queue.enqueue("a")
    mirrored(mirror, queue)
    redis_client.flushall()
    plan = mirror.plan_rebuild(queue)
    again = type(plan).from_dict(json.loads(json.dumps(plan.as_dict())))
    assert dataclasses.replace(again, client=None) == dataclasses.replace(plan, client=None)
