"""A function that decides on orphaned items."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from servers import wait_until

from reliq import ItemInfo, ItemState, Queue
from reliq._resolver import resolve_orphaned


@pytest.fixture
def orphans(queue: Queue) -> Queue:
    """A queue with the orphaned items 0 to 4."""
    queue.configure(expiry="hold")
    for number in range(5):
        queue.enqueue(number, id=f"item-{number}")
    queue.claim(5, lease=0.001)
    wait_until(lambda: queue.recover() is not None and queue.counts().orphaned == 5, "all are orphaned")
    return queue


def test_does_what_the_function_says(orphans: Queue) -> None:
    """Each item goes where the function says; None leaves it."""
    decisions: list[str | None] = ["finish", "requeue", "dead", None, "finish"]

    def decide(info: ItemInfo) -> str | None:
        return decisions[int(info.payload)]

    assert resolve_orphaned(orphans, decide, 100) == 4
    states = [orphans.get(f"item-{number}").state for number in range(5)]
    wanted = [ItemState.FINISHED, ItemState.QUEUED, ItemState.DEAD, ItemState.ORPHANED, ItemState.FINISHED]
    assert states == wanted


def test_no_more_than_the_limit(orphans: Queue) -> None:
    """It asks about so many items and no more."""
    asked: list[Any] = []
    assert resolve_orphaned(orphans, lambda info: asked.append(info.payload), 2) == 0
    assert len(asked) == 2


@pytest.mark.parametrize("wrong", [lambda _: 1 / 0, lambda _: "destroy"])
def test_a_function_that_fails(wrong: Any, orphans: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """Items that it fails on stay where they are, and it is logged."""
    with caplog.at_level(logging.ERROR, "reliq.worker"):
        assert resolve_orphaned(orphans, wrong, 100) == 0
    assert orphans.counts().orphaned == 5
    assert "item-0" in caplog.text


def test_nothing_orphaned(queue: Queue) -> None:
    """Without orphaned items the function is not called."""
    assert resolve_orphaned(queue, lambda _: "finish", 100) == 0
