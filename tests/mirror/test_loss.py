"""Redis is killed in the middle of a random workload, with all of its data, and rebuilt from Postgres."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
import redis
from contract.evidence import check_queue
from mirror.queues import brought_back, client_of, contents, mirrored
from mirror.workload import Known, Workload, unread
from servers import start_server, wait_until

from reliq import Item, New, Queue
from reliq.mirror import Mirror
from reliq.states import ItemState

LIVE = ("queued", "scheduled", "in_progress", "orphaned", "dead")


@contextmanager
def followed(mirror: Mirror, queue: Queue) -> Iterator[None]:
    """A follower beside the workload."""
    stop = threading.Event()
    thread = threading.Thread(target=mirror.follow, args=(queue,), kwargs={"stop": stop})
    thread.start()
    try:
        wait_until(lambda: [s.state for s in mirror.status()] == ["following"], "the queue is followed")
        yield
    finally:
        stop.set()
        thread.join()


def lose(mirror: Mirror, seed: int) -> None:
    """One run: a workload up to a random step, the loss, the rebuild, and the comparison."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        server = stack.enter_context(start_server())
        queue = stack.enter_context(Queue("emails", server.url))
        queue.configure(backoff_base=3600, max_attempts=3)
        stack.enter_context(followed(mirror, stack.enter_context(Queue("emails", server.url, timeout=0.5))))
        sure = stack.enter_context(Queue("emails", server.url, mirror=mirror, durability="checkpointed"))
        work = Workload(queue, sure, chance)
        for _ in range(chance.randint(1, 120)):
            work.step()
        in_doubt = unread(mirror, queue)
        server.kill()
    with start_server() as server, closing(Queue("emails", server.url)) as queue:
        plan = mirror.plan_rebuild(queue)
        way = chance.choice(["requeue", "hold"])
        mirror.apply(plan, in_progress=way)
        with closing(redis.Redis.from_url(server.url)) as client:
            once = contents(client)
            mirror.apply(plan, in_progress=way)
            assert contents(client) == once
            assert mirror.verify(queue)
            check_queue(client, queue.name)
        with closing(Queue("emails", server.url)) as again:
            compare(work, again, in_doubt)
            check_order(deliver(work, again, in_doubt))


def compare(work: Workload, queue: Queue, in_doubt: set[str]) -> None:
    """Every item is where the answers said, unless the mirror had not read of it yet."""
    found: dict[str, ItemState] = {}
    for state in LIVE:
        for info in queue.scan(state):
            assert info.id not in found, f"{info.id} is {state} and {found[info.id]}"
            found[info.id] = info.state
            known = work.known(info.id)
            if info.id not in in_doubt:
                assert info.failures == known.failures
                assert (info.state == "dead") is known.dead
    for item in work.items.values():
        if item.id not in in_doubt:
            assert (item.id in found) is not item.ended, item
        elif item.sure and not item.ended:
            assert item.id in found, f"a checkpointed item is lost: {item}"


def deliver(work: Workload, queue: Queue, in_doubt: set[str]) -> list[tuple[Known, Item]]:
    """All that can be delivered, as it comes: with attempts and deliveries that go on, and none that is known to have
    ended. What people would have looked at first is queued again before, what is to be tried later is behind that."""
    for info in list(queue.scan("orphaned")):
        work.known(info.id).held = True
        queue.resolve(info.id, "requeue")
    delivered = drain(work, queue)
    counts = queue.counts()
    assert counts.queued == counts.blocked  # behind one of their group that is to be tried again later
    if retried := [info.id for info in queue.scan("scheduled") if info.failures]:
        for item_id in retried:
            work.known(item_id).retried = True
        queue.requeue(*retried)
    delivered += drain(work, queue)
    assert queue.counts().queued == 0
    for known, item in delivered:
        if item.id not in in_doubt:
            assert not known.ended, f"{item.id} had ended"
            assert (item.delivery, item.attempt) == (known.deliveries + 1, known.failures + 1), known
    assert len({item.id for _, item in delivered}) == len(delivered)
    return delivered


def drain(work: Workload, queue: Queue) -> list[tuple[Known, Item]]:
    """What is queued, in the order in which it is delivered."""
    delivered: list[tuple[Known, Item]] = []
    while items := queue.claim(7):
        delivered += [(work.known(item.id), item) for item in items]
        queue.finish(items)
    return delivered


def check_order(delivered: list[tuple[Known, Item]]) -> None:
    """Groups in the order of their enqueues, whatever their items went through. Other items too, but for those that
    were put elsewhere by hand.

    That holds also for one that had ended, and comes again because the mirror had not read of it: unless another one of
    its group was held or waits for another attempt. That one has the turn, and the rest of the group stays behind it.
    """
    for group in {known.group for known, _ in delivered if known.group}:
        of_group = [(known, item.enqueued_at) for known, item in delivered if known.group == group]
        kept = any(known.held or known.retried for known, _ in of_group)
        stamps = [at for known, at in of_group if not (kept and known.ended)]
        assert stamps == sorted(stamps), f"{group} is out of order: {delivered}"
    alone = [item.enqueued_at for known, item in delivered if not (known.group or known.held or known.retried)]
    assert alone == sorted(alone)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_but_what_the_mirror_had_not_read(mirror: Mirror, seed: int) -> None:
    """Checkpointed items never; of the others only those that the journal named and the mirror had not read."""
    lose(mirror, seed)


@pytest.mark.parametrize("way", ["requeue", "hold"])
def test_a_group_comes_back_in_turn_where_an_end_was_not_read(
    mirror: Mirror, queue: Queue, redis_client: redis.Redis, sql: Callable[[str], list[Any]], way: str
) -> None:
    """The mirror saw `a` at work, and then `b`, and not that `a` had ended between: both come again, one at a time."""
    queue.enqueue_many([New(i, id=i, group="g") for i in ("a", "b", "c")])
    mirrored(mirror, queue)
    sql("UPDATE reliq.items SET state = 'in_progress' WHERE id IN ('a', 'b')")
    redis_client.flushall()
    again = client_of(queue)
    brought_back(mirror, again, in_progress=way)
    check_queue(redis_client, queue.name)
    for item_id in [info.id for info in again.scan("orphaned")][::-1]:
        again.resolve(item_id, "requeue")
    delivered: list[str] = []
    while items := again.claim(3):
        assert len(items) == 1
        delivered += [item.id for item in items]
        again.finish(items)
    assert delivered == ["a", "b", "c"]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("hundred", range(2))
def test_it_holds_two_hundred_times(dsn: str, sql: Callable[[str], list[Any]], hundred: int) -> None:
    """The same, each time with another workload and another moment."""
    for seed in range(100 * hundred + 1000, 100 * hundred + 1100):
        sql("DROP SCHEMA IF EXISTS reliq CASCADE")
        with Mirror(dsn) as mirror:
            mirror.init()
            try:
                lose(mirror, seed)
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise
