"""consume without a handler: a loop, and every way out of it, on both clients."""

from __future__ import annotations

from typing import Any

import pytest
from consume.test_handler import Sudden, queued, taken_over

import reliq
from reliq import ConsumeReport, ItemInfo, Queue

LEFT = "the loop was left before this item was finished"


def failed(queue: Queue) -> ItemInfo:
    """The one item that failed, and is tried again later."""
    (info,) = queue.scan("scheduled")
    return info


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_loop_to_the_end_finishes_everything(queue: Any, other: Queue, chunk: int) -> None:
    """Each item once, oldest first; the last one too."""
    items = queue.consume(chunk=chunk, return_when_empty=True)
    assert [item.payload for item in items] == list(range(10))
    assert items.report == ConsumeReport(finished=10)
    assert other.counts().finished == 10


def test_asking_for_the_next_item_finishes_the_one_before(queue: Any, other: Queue) -> None:
    """One by one: while the body has an item, those before it are finished and it is not."""
    for item in queue.consume(max_items=3):
        counts = other.counts()
        assert (counts.finished, counts.in_progress) == (item.payload, 1)


def test_a_loop_goes_once(queue: Any, other: Queue) -> None:
    """At its end it is used up, as an iterator is."""
    items = queue.consume(max_items=2)
    assert len(list(items)) == 2
    assert list(items) == []
    assert other.counts().queued == 8


def test_a_loop_that_is_never_begun_claims_nothing(queue: Any, other: Queue) -> None:
    """Neither by itself nor in a with block."""
    queue.consume()
    with queue.consume():
        pass
    assert other.counts().queued == 10


def test_a_break_out_of_a_plain_loop_fails_the_item(queue: Any, other: Queue) -> None:
    """It can't be told from an error, so an attempt counts; what was not begun is given back in order."""
    items = queue.consume(chunk=5)
    for item in items:
        if item.payload == 2:
            break
    assert (failed(other).payload, failed(other).error, failed(other).failures) == (2, LEFT, 1)
    assert queued(other) == [3, 4, 5, 6, 7, 8, 9]
    assert items.report == ConsumeReport(finished=2, failed=1, released=2)


def test_a_break_after_a_finish_by_hand(queue: Any, other: Queue) -> None:
    """The way to stop after an item that is done."""
    items = queue.consume(chunk=5)
    for item in items:
        if item.payload == 2:
            other.finish(item)
            break
    assert items.report == ConsumeReport(finished=2, released=2, by_hand=1)
    assert other.counts().finished == 3
    assert queued(other) == [3, 4, 5, 6, 7, 8, 9]


def test_an_error_out_of_a_plain_loop(queue: Any, other: Queue) -> None:
    """It comes out as it is, and the item has failed."""
    with pytest.raises(Sudden):  # noqa: PT012
        for item in queue.consume(chunk=5):
            if item.payload == 2:
                raise Sudden("in the body")
    assert (failed(other).payload, failed(other).error) == (2, LEFT)
    assert queued(other) == [3, 4, 5, 6, 7, 8, 9]


def test_what_the_body_settled_by_hand_is_left_alone(queue: Any, other: Queue) -> None:
    """Fail and release by hand, and go on."""
    items = queue.consume(chunk=2, max_items=4)
    for item in items:
        if item.payload == 1:
            other.fail(item, "by hand")
    assert items.report == ConsumeReport(finished=3, by_hand=1)
    assert failed(other).error == "by hand"


def test_an_error_out_of_a_with_block_is_that_of_the_item(queue: Any, other: Queue) -> None:
    """The item that the loop was at fails with it, and it comes out."""
    with pytest.raises(Sudden), queue.consume(chunk=5) as items:  # noqa: PT012
        for item in items:
            if item.payload == 2:
                raise Sudden("in the body")
    assert (failed(other).payload, failed(other).error) == (2, "Sudden: in the body")
    assert queued(other) == [3, 4, 5, 6, 7, 8, 9]
    assert items.report == ConsumeReport(finished=2, failed=1, released=2)


def test_a_break_in_a_with_block_blames_nobody(queue: Any, other: Queue) -> None:
    """The item that the loop was at goes back first, and is not finished."""
    with queue.consume(chunk=5) as items:
        for item in items:
            if item.payload == 2:
                break
    assert items.report == ConsumeReport(finished=2, released=3)
    assert queued(other) == [2, 3, 4, 5, 6, 7, 8, 9]
    (item,) = other.claim()
    assert (item.payload, item.attempt) == (2, 1)
    other.release(item)


def test_a_with_block_may_loop_again(queue: Any, other: Queue) -> None:
    """A second loop in the block goes on where the first was left, and so finishes that item."""
    seen: list[int] = []
    with queue.consume(chunk=5, max_items=6) as items:
        for item in items:
            seen.append(item.payload)
            if item.payload == 2:
                break
        seen += [item.payload for item in items]
    assert seen == [0, 1, 2, 3, 4, 5]
    assert items.report == ConsumeReport(finished=6)


def test_ctrl_c_in_a_with_block_blames_nobody(queue: Any, other: Queue) -> None:
    """An interruption is not the item's doing."""
    with pytest.raises(KeyboardInterrupt), queue.consume(chunk=5) as items:  # noqa: PT012
        for item in items:
            if item.payload == 2:
                raise KeyboardInterrupt
    assert queued(other) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert other.counts().scheduled == 0


def test_a_lost_item_in_a_loop(queue: Any, other: Queue) -> None:
    """The loop goes on, and counts it."""
    theirs: list[reliq.Item] = []
    items = queue.consume(max_items=2)
    for item in items:
        if item.payload == 0:
            theirs += taken_over(other)
    assert items.report == ConsumeReport(finished=1, lost=1)
    other.finish(theirs)
