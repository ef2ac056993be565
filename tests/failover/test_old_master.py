"""An old master that is still there, or there again, and a client that knows of no other: what it may still do.

Everything that it is told there is told as `memory`, which promises no more than that this server has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from failover.behind import Behind, one
from servers import wait_until

from reliq import DurabilityNotReached, Item, ItemNotFound, LeaseLost, Queue, Unavailable
from reliq.testing.node import Node

CALLS: dict[str, Callable[[Queue, Item], object]] = {
    "enqueue": lambda queue, _: queue.enqueue("stale", id="mine"),
    "claim": lambda queue, _: queue.claim(),
    "finish": lambda queue, held: queue.finish(held),
    "claim and finish": lambda queue, _: queue.finish(one(queue)),
}


@contextmanager
def min_replicas(node: Node) -> Iterator[None]:
    """A master that takes nothing without a replica, also when it is started again."""
    for word in ("min-replicas-max-lag", "min-replicas-to-write"):
        node.call("CONFIG", "SET", word, 1)
    node.call("CONFIG", "REWRITE")
    try:
        yield
    finally:
        node.call("CONFIG", "SET", "min-replicas-to-write", 0)
        node.call("CONFIG", "REWRITE")


def test_old_master_with_its_client(behind: Behind) -> None:
    """What a client still does at the old master is gone when that follows the new one. No receipt of there counts."""
    behind.queue.enqueue_many(["first", "second"])
    stale = one(behind.queue)
    behind.part()
    new = behind.switch()
    behind.queue.finish(stale)
    theirs = one(behind.queue)
    behind.queue.enqueue("stale", id="mine")
    wait_until(lambda: new.counts().queued == 1, "the new master to stand alone")
    ours = one(new)
    assert ours.id == theirs.id
    behind.rejoin()
    with pytest.raises(LeaseLost):
        new.finish(theirs)
    new.finish(stale)  # held under its receipt on both sides: a repeat
    new.finish(ours)
    assert (new.counts().finished, new.counts().waiting) == (2, 0)
    with pytest.raises(ItemNotFound):
        new.get("mine")


def test_old_master_promises_nothing_that_it_cannot_keep(behind: Behind) -> None:
    """There `replicated` is never confirmed; with `min-replicas-to-write` nothing is taken at all."""
    behind.queue.enqueue("payload")
    held = one(behind.queue)
    behind.part()
    behind.switch()
    stale = behind.open(behind.old.url, durability="replicated:1", durability_timeout=0.2, timeout=1.0)
    for call in (lambda: stale.enqueue("stale"), lambda: stale.finish(held)):
        with pytest.raises(DurabilityNotReached):
            call()
    behind.old.call("CONFIG", "SET", "min-replicas-max-lag", 1, "min-replicas-to-write", 1)
    try:
        wait_until(lambda: behind.old.info()["min_slaves_good_slaves"] == "0", "the replica to be missed", 20)
        with pytest.raises(Unavailable, match="NOREPLICAS") as caught:
            stale.enqueue("stale", durability="memory")
        assert not caught.value.may_have_been_applied
    finally:
        behind.old.call("CONFIG", "SET", "min-replicas-to-write", 0)


def test_old_master_that_is_started_again(behind: Behind) -> None:
    """Killed, it comes back as a master with what it had. What its client claims, ends and adds there is contradicted
    by the new side in nothing but `memory`: not one of its receipts counts there, and none of its items is there."""
    behind.queue.enqueue_many(["held", "ended", "free"])
    held = one(behind.queue)
    behind.part()
    behind.kill_old()
    new = behind.switch()
    new.finish(one(new))
    behind.resurrect()
    again = one(behind.queue)
    assert again.payload == "ended"  # a second time: the old master can't know
    free = one(behind.queue)
    behind.queue.finish([held, again])
    behind.queue.enqueue("stale", id="mine")
    ours = one(new)
    assert ours.id == free.id
    behind.rejoin()
    for stale in (again, free):
        with pytest.raises(LeaseLost):
            new.finish(stale)
    new.finish([held, ours])  # the first from before the cut, good on both sides: its finish is repeated
    with pytest.raises(ItemNotFound):
        new.get("mine")
    assert (new.counts().finished, new.counts().waiting) == (3, 0)


@pytest.mark.parametrize("verb", ["enqueue", "finish", "claim and finish"])
def test_old_master_that_is_started_again_confirms_nothing(verb: str, behind: Behind) -> None:
    """With `replicated` its client is told that nothing of what it does there is safe."""
    behind.queue.enqueue_many(["held", "free"])
    held = one(behind.queue)
    behind.part()
    behind.kill_old()
    behind.switch()
    behind.resurrect()
    stale = behind.open(behind.old.url, durability="replicated:1", durability_timeout=0.2)
    with pytest.raises(DurabilityNotReached) as caught:
        CALLS[verb](stale, held)
    assert caught.value.achieved == "memory"


@pytest.mark.parametrize("verb", ["enqueue", "claim", "finish"])
def test_old_master_that_is_started_again_takes_nothing(verb: str, behind: Behind) -> None:
    """With `min-replicas-to-write` it refuses everything from its first moment: it has no replica."""
    behind.queue.enqueue_many(["held", "free"])
    held = one(behind.queue)
    with min_replicas(behind.old):
        behind.part()
        behind.kill_old()
        new = behind.switch()
        behind.resurrect()
        stale = behind.open(behind.old.url, timeout=1.0)
        with pytest.raises(Unavailable, match="NOREPLICAS") as caught:
            CALLS[verb](stale, held)
    assert not caught.value.may_have_been_applied
    assert (new.counts().queued, new.counts().in_progress) == (1, 1)
