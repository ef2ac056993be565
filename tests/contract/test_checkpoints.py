"""Checkpoints: how far an item has come, for its next delivery."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from contract.clients import Clock

from reliq import InvalidArgument, Item, LeaseLost, PayloadError, Queue
from reliq.item import Progress


@pytest.fixture
def item(queue: Queue) -> Item:
    """An item that is held for ten seconds."""
    queue.enqueue("work", id="a")
    (held,) = queue.claim(lease=10)
    return held


def test_the_next_delivery_goes_on_from_it(queue: Queue, other: Queue, clock: Clock, item: Item) -> None:
    """What was stored last comes with the item when it is claimed again, with the time of it."""
    assert item.progress is None
    queue.checkpoint(item, {"row": 1})
    queue.checkpoint(item, {"row": 2}, done=2, total=10.5, note="halfway")
    stored = clock.now
    clock.advance(10)
    (again,) = other.claim()
    assert again.progress == Progress({"row": 2}, 2, 10.5, "halfway", stored)
    other.release(again)
    (third,) = queue.claim()
    assert third.progress == again.progress


@pytest.mark.parametrize("way", ["release", "fail", "dead", "orphaned"])
def test_it_stays_with_the_item(queue: Queue, clock: Clock, item: Item, way: str) -> None:
    """Whichever way an item comes back, it has its checkpoint."""
    queue.configure(expiry="hold", retry="head")
    queue.checkpoint(item, 5)
    match way:
        case "release":
            queue.release(item)
        case "fail":
            queue.fail(item)
        case "dead":
            queue.fail(item, dead=True)
            queue.redrive()
        case "orphaned":
            clock.advance(10)
            queue.recover()
            queue.resolve("a", "requeue")
    (again,) = queue.claim()
    assert again.progress is not None
    assert again.progress.state == 5


def test_those_who_look_see_it(queue: Queue, other: Queue, item: Item) -> None:
    """How far an item has come is shown while it is in progress; its holder sees it on the item."""
    queue.checkpoint(item, "s", done=1, total=4, note="n")
    progress = other.get("a").progress
    assert progress is not None
    assert (progress.state, progress.done, progress.total, progress.note) == ("s", 1, 4, "n")
    assert item.progress == Progress("s", 1, 4, "n")


def test_it_renews_the_lease(queue: Queue, clock: Clock, item: Item) -> None:
    """An item that goes on telling how far it is, is not recovered."""
    clock.advance(9)
    queue.checkpoint(item, 1)
    clock.advance(9)
    assert queue.recover().requeued == 0
    clock.advance(1)
    assert queue.recover().requeued == 1


def test_a_stale_receipt_is_refused(queue: Queue, other: Queue, clock: Clock, item: Item) -> None:
    """Who lost the item overwrites nothing, and its item says that it is lost."""
    queue.checkpoint(item, "mine")
    clock.advance(10)
    (fresh,) = other.claim()
    other.checkpoint(fresh, "theirs")
    with pytest.raises(LeaseLost):
        queue.checkpoint(item, "mine again")
    assert item.lost
    progress = queue.get("a").progress
    assert progress is not None
    assert progress.state == "theirs"


@pytest.mark.parametrize("way", ["finish", "result", "discard", "purge"])
def test_nothing_of_it_is_kept_in_the_end(queue: Queue, item: Item, way: str) -> None:
    """When an item has ended its checkpoint is gone, and a new item of that id has none."""
    queue.checkpoint(item, "left")
    match way:
        case "finish":
            queue.finish(item)
        case "result":
            queue.finish(item, result=1)
        case "discard":
            queue.fail(item, discard=True)
        case "purge":
            queue.release(item)
            queue.purge("queued")
    queue.purge("finished")
    queue.enqueue("new", id="a")
    queue.release(queue.claim())
    (again,) = queue.claim()
    assert again.progress is None


def test_an_item_of_its_own_accord(queue: Queue, item: Item) -> None:
    """`item.checkpoint` goes through the queue that claimed it; on an AsyncQueue it is awaited."""
    made: Any = item.checkpoint({"n": 1}, done=1, total=2)
    if inspect.isawaitable(made):
        queue._runner.run(made)  # type: ignore[attr-defined]  # of SyncedQueue
    assert item.progress == Progress({"n": 1}, 1, 2)


def test_what_can_not_be_stored(queue: Queue, item: Item) -> None:
    """State beyond 64 KiB, or of a kind that can't be carried, a long note, and figures that are none, are refused."""
    for state in (object(), b"x" * 70_000):
        with pytest.raises(PayloadError):
            queue.checkpoint(item, state)
    for wrong in ({"done": "1"}, {"total": float("nan")}, {"note": "x" * 201}, {"note": 5}):
        with pytest.raises(InvalidArgument):
            queue.checkpoint(item, **wrong)
    assert queue.get("a").progress is None
