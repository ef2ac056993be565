"""Repairs of what a failover took back: batches and their members, and the ends of items."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import redis
from contract.evidence import check_queue
from mirror.queues import client_of, mirrored
from servers import start_server, wait_until

from reliq import New, Queue
from reliq.embedded import Server
from reliq.mirror import Mirror
from reliq.mirror._filling import Filling
from reliq.mirror._mending import Batches
from reliq.mirror._recoveries import Recoveries
from reliq.mirror.reconcile import Reconciliation

Dumps = dict[bytes, bytes]


def kinds(report: Reconciliation) -> dict[str, tuple[str, bool]]:
    return {difference.id: (difference.kind, difference.repaired) for difference in report.differences}


def copy_of(client: redis.Redis) -> Dumps:
    """What the next master has: everything up to now."""
    c: Any = client
    return {key: c.dump(key) for key in c.keys("*")}


def fail_over(client: redis.Redis, dumps: Dumps) -> None:
    """Everything since is lost."""
    client.flushall()
    for key, dump in dumps.items():
        client.restore(key, 0, dump)


def members(count: int) -> list[New]:
    return [New(n, id=f"member-{n}") for n in range(count)]


def followed_by(queue: Queue) -> list[str]:
    """Handles everything that is queued, and what comes of it. Returns the ids in the order of delivery."""
    delivered: list[str] = []
    while items := queue.claim(100):
        delivered += [item.id for item in items]
        queue.finish(items)
    return delivered


def repaired(mirror: Mirror, queue: Queue) -> Reconciliation:
    """A repair after which both sides agree."""
    report = mirror.reconcile(client_of(queue), repair=True)
    assert report.ok, report.differences
    assert mirrored(mirror, client_of(queue)).reconcile(client_of(queue)).found == 0
    return report


def test_a_batch_that_was_lost_with_its_members_is_followed_once(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """They count in it again, those that had ended do not, and what follows comes behind the last of them."""
    queue.enqueue("before", id="before")
    lost = copy_of(redis_client)
    queue.batch(members(5), then=New("all", id="then"), id="batch")
    queue.cancel("member-4")
    mirrored(mirror, queue)
    fail_over(redis_client, lost)
    report = repaired(mirror, queue)
    assert kinds(report)["batch"] == ("batch", True)
    again = client_of(queue)
    progress = again.batch_progress("batch")
    assert progress is not None
    assert (progress.total, progress.awaited) == (5, 4)
    check_queue(redis_client, queue.name)
    assert followed_by(again) == ["before", *(f"member-{n}" for n in range(4)), "then"]
    assert again.batch_progress("batch") is None


def test_members_that_were_lost_from_a_batch_that_is_there_count_again(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """And the batch is sealed, whose last call was lost with them."""
    ids = [New(n, id=f"{n:04}") for n in range(2500)]
    unsealed: list[Dumps] = []

    def all_of_them() -> Iterator[New]:
        for number, new in enumerate(ids):
            if number == 2200:  # the first call is through, and the second one waits for what this yields
                unsealed.append(copy_of(redis_client))
            yield new

    queue.batch(all_of_them(), then=New("all", id="then"), id="batch")
    mirrored(mirror, queue)
    fail_over(redis_client, unsealed[0])
    found = client_of(queue).batch_progress("batch")
    assert found is not None
    assert found.total == 1000
    assert repaired(mirror, queue).repaired == 1501
    check_queue(redis_client, queue.name)
    assert followed_by(client_of(queue)) == [*(f"{n:04}" for n in range(2500)), "then"]


def test_a_repair_that_was_broken_off_before_the_seal_is_completed(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """The items are back, the batch is open: the next repair seals it, and nothing counts twice."""
    queue.enqueue("before")
    lost = copy_of(redis_client)
    queue.batch(members(3), then=New("all", id="then"), id="batch")
    mirrored(mirror, queue)
    fail_over(redis_client, lost)
    with closing(Filling(queue)) as filling:
        known = Recoveries(mirror.store, queue.name)
        rows = known.by_id([f"member-{n}".encode() for n in range(3)])
        Batches(known, filling).open_for(rows)
        filling.put_back(rows)
    mirrored(mirror, client_of(queue))
    assert kinds(repaired(mirror, queue)) == {"batch": ("batch", True)}
    assert followed_by(client_of(queue))[-1] == "then"
    check_queue(redis_client, queue.name)


def test_a_batch_whose_members_have_ended_is_followed(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """The mirror had read of the end of all, and not yet of what followed them."""
    queue.enqueue("before")
    lost = copy_of(redis_client)
    queue.batch([New(1, id="member")], then=New("all", id="then"), id="batch")
    mirrored(mirror, queue)
    mirror.store.rows("end_items", queue="emails", ids=[b"member"], markers=[b"\xff" * 7 + b"f"], seconds=[2e9])
    fail_over(redis_client, lost)
    report = repaired(mirror, queue)
    assert kinds(report) == {"batch": ("batch", True)}
    assert followed_by(client_of(queue))[-1] == "then"


# Ends


def test_a_finish_that_was_lost_is_done_again(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Nobody gets the item a second time, its result is there, and its holder's finish is a quiet yes."""
    queue.enqueue_many(members(3))
    mirrored(mirror, queue)
    lost = copy_of(redis_client)
    (item,) = queue.claim(1)
    queue.finish(item, result={"sent": True})
    mirrored(mirror, queue)
    fail_over(redis_client, lost)
    report = repaired(mirror, queue)
    assert kinds(report) == {"member-0": ("ended", True)}
    again = client_of(queue)
    found = again.get("member-0")
    assert found is not None
    assert (found.state, found.result) == ("finished", {"sent": True})
    again.finish(item)
    assert followed_by(again) == ["member-1", "member-2"]
    check_queue(redis_client, queue.name)


def test_one_that_somebody_holds_again_is_named_and_left(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """Its holder is at work: the receipt stays good."""
    queue.enqueue_many(members(2))
    mirrored(mirror, queue)
    lost = copy_of(redis_client)
    queue.finish(queue.claim(1))
    mirrored(mirror, queue)
    fail_over(redis_client, lost)
    again = client_of(queue)
    held = again.claim(1)
    report = mirrored(mirror, again).reconcile(again, repair=True)
    assert kinds(report) == {"member-0": ("ended", False)}
    again.finish(held)


def test_what_was_cancelled_is_cancelled_again(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """A scheduled one and a queued one."""
    queue.enqueue_many([*members(2), New(1, id="later", delay=3600)])
    mirrored(mirror, queue)
    lost = copy_of(redis_client)
    queue.cancel("member-1", "later")
    mirrored(mirror, queue)
    fail_over(redis_client, lost)
    assert repaired(mirror, queue).repaired == 2
    assert followed_by(client_of(queue)) == ["member-0"]
    assert client_of(queue).counts().scheduled == 0


def test_the_last_member_whose_end_was_lost_is_counted_off(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis
) -> None:
    """And what follows its batch comes, as it would have."""
    queue.batch(members(1), then=New("all", id="then"), id="batch")
    mirrored(mirror, queue)
    lost = copy_of(redis_client)
    queue.finish(queue.claim(1))
    mirrored(mirror, queue)
    fail_over(redis_client, lost)
    mirror.reconcile(client_of(queue), repair=True)
    assert followed_by(client_of(queue)) == ["then"]
    check_queue(redis_client, queue.name)


def test_an_id_that_is_used_anew_is_another_item(mirror: Mirror, queue: Queue, redis_client: redis.Redis) -> None:
    """Its earlier end says nothing about it, and where it is lost it is put back."""
    queue.configure(finished_count=0)
    queue.enqueue(1, id="again")
    mirrored(mirror, queue)
    queue.finish(queue.claim(1))
    mirrored(mirror, queue)
    lost = copy_of(redis_client)
    queue.enqueue(2, id="again")
    mirrored(mirror, queue)
    assert mirror.reconcile(queue, repair=True).found == 0
    fail_over(redis_client, lost)
    assert kinds(repaired(mirror, queue)) == {"again": ("missing in redis", True)}
    assert [item.payload for item in client_of(queue).claim()] == [2]


# A failover that is one


@contextmanager
def replica_of(server: Server) -> Iterator[Server]:
    """A second server that has what the first one has."""
    with start_server() as other, redis.Redis.from_url(other.url) as client:
        client.replicaof("127.0.0.1", str(server.port))
        wait_until(lambda: client.info("replication").get("master_link_status") == "up", "it is in step", 30)
        yield other


def test_a_failover_that_loses_finishes_and_enqueues(mirror: Mirror) -> None:
    """The replica is promoted without the last instants; the follower goes on there, and a repair mends both."""
    with start_server() as first, replica_of(first) as second:
        with Queue("emails", first.url) as queue, redis.Redis.from_url(second.url) as promoted:
            queue.enqueue_many(members(6))
            mirrored(mirror, queue)
            wait_until(lambda: promoted.hlen("reliq:{emails}:items") == 6, "the replica has them")
            promoted.replicaof("NO", "ONE")
            queue.finish(queue.claim(3))
            queue.enqueue("new", id="new")
            mirrored(mirror, queue)
        first.kill()
        with Queue("emails", second.url) as queue, redis.Redis.from_url(second.url) as client:
            mirror.follow(client_of(queue), once=True)
            report = mirror.reconcile(queue, repair=True)
            ended = {f"member-{n}": ("ended", True) for n in range(3)}
            assert kinds(report) == {**ended, "new": ("missing in redis", True)}
            check_queue(client, "emails")
            assert followed_by(client_of(queue)) == ["member-3", "member-4", "member-5", "new"]
