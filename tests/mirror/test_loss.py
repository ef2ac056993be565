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
from mirror.queues import contents
from mirror.workload import Known, Workload, unread
from servers import start_server, wait_until

from reliq import Queue
from reliq.item import ItemState
from reliq.mirror import Mirror

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
            deliver(work, again, in_doubt)


def compare(work: Workload, queue: Queue, in_doubt: set[str]) -> None:
    """Every item is where the answers said, unless the mirror had not read of it yet."""
    found: dict[str, ItemState] = {}
    for state in LIVE:
        for info in queue.scan(state):
            assert info.id not in found, f"{info.id} is {state} and {found[info.id]}"
            found[info.id] = info.state
            known = work.known(info.id)
            assert info.id in in_doubt or info.failures >= known.failures
    for item in work.items.values():
        if item.id not in in_doubt:
            assert (item.id in found) is not item.ended, item
        elif item.sure and not item.ended:
            assert item.id in found, f"a checkpointed item is lost: {item}"


def deliver(work: Workload, queue: Queue, in_doubt: set[str]) -> None:
    """In the order of their enqueues; with attempts and deliveries that go on; none that is known to have ended."""
    for info in list(queue.scan("orphaned")):
        queue.resolve(info.id, "requeue")
    delivered: list[tuple[Known, float]] = []
    while items := queue.claim(7):
        for item in items:
            known = work.known(item.id)
            assert item.id in in_doubt or not known.ended, f"{item.id} had ended"
            assert item.id in in_doubt or item.delivery > known.deliveries
            assert item.id in in_doubt or item.attempt == known.failures + 1
            delivered.append((known, item.enqueued_at))
        queue.finish(items)
    for group in {known.group for known, _ in delivered if known.group}:
        # What had ended and comes again, because the mirror had not read of it, may come out of turn.
        in_turn = [(known, at) for known, at in delivered if known.group == group and not known.ended]
        stamps = [at for _, at in in_turn]
        assert stamps == sorted(stamps), f"{group} is out of order: {in_turn}"
    stamps = [at for known, at in delivered if known.group is None and not known.deliveries]
    assert stamps == sorted(stamps)
    counts = queue.counts()
    assert counts.queued == counts.blocked  # behind one of their group that is to be tried again later
    if retried := [info.id for info in queue.scan("scheduled") if info.failures]:
        queue.requeue(*retried)
    while items := queue.claim(7):
        queue.finish(items)
    assert queue.counts().queued == 0


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_but_what_the_mirror_had_not_read(mirror: Mirror, seed: int) -> None:
    """Checkpointed items never; of the others only those that the journal named and the mirror had not read."""
    lose(mirror, seed)


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
