"""consume with a handler: what becomes of items, on both clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from servers import wait_until

import reliq
from reliq import ConsumeReport, Queue
from reliq.answers import Answer, Discard, Release, Retry


class Sudden(Exception):
    """What a handler raises here."""


def queued(queue: Queue) -> list[Any]:
    """Payloads in the order in which they will be claimed."""
    return [info.payload for info in queue.peek(100)]


def failing_at(payload: int, error: BaseException | None = None) -> Callable[[reliq.Item], None]:
    def handle(item: reliq.Item) -> None:
        if item.payload == payload:
            raise error or Sudden("at this one")

    return handle


@pytest.mark.parametrize("chunk", [1, 4, 10, 1000])
def test_items_are_handled_in_order_and_finished(queue: Any, other: Queue, chunk: int) -> None:
    """Whatever the size of a chunk, each item is handled once, oldest first."""
    seen: list[int] = []
    report = queue.consume(lambda item: seen.append(item.payload), chunk=chunk, return_when_empty=True)
    assert seen == list(range(10))
    assert report == ConsumeReport(finished=10)
    assert other.counts().finished == 10


def test_a_chunk_costs_one_round_trip(queue: Any, other: Queue, redis_client: redis.Redis) -> None:
    """Items are finished by the very call that brings the next ones."""

    def calls() -> int:
        return int(redis_client.info("commandstats")["cmdstat_evalsha"]["calls"])

    queue.consume(lambda _: None, chunk=5, return_when_empty=True)  # the server knows the scripts now
    other.enqueue_many(range(10))
    before = calls()
    queue.consume(lambda _: None, chunk=5, return_when_empty=True)
    assert calls() - before == 3  # five, the next five, nothing


def test_a_whole_chunk_in_one_call(queue: Any) -> None:
    """With process_all the handler gets lists."""
    seen: list[list[int]] = []
    report = queue.consume(
        lambda items: seen.append([item.payload for item in items]), chunk=4, process_all=True, return_when_empty=True
    )
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert report == ConsumeReport(finished=10)


def test_a_chunk_fails_together(queue: Any, other: Queue) -> None:
    """With process_all an error is that of all items of the chunk, and of none in another chunk."""

    def handle(items: list[reliq.Item]) -> None:
        if items[0].payload == 4:
            raise Sudden("all four")

    report = queue.consume(handle, chunk=4, process_all=True, return_when_empty=True)
    assert report == ConsumeReport(finished=6, failed=4)
    assert {info.payload for info in other.scan("scheduled")} == {4, 5, 6, 7}


def test_an_end_after_so_many_items(queue: Any, other: Queue) -> None:
    """max_items claims no more than it will handle."""
    seen: list[int] = []
    report = queue.consume(lambda item: seen.append(item.payload), chunk=4, max_items=6)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert report == ConsumeReport(finished=6)
    assert queued(other) == [6, 7, 8, 9]
    assert queue.consume(lambda _: None, max_items=0) == ConsumeReport()


def test_an_end_after_so_many_seconds(queue: Any, other: Queue) -> None:
    """When the time is up, items that were not begun go back in order, without blame."""
    began = time.monotonic()

    def handle(item: reliq.Item) -> None:
        if item.payload == 2:
            wait_until(lambda: time.monotonic() > began + 0.3, "the time is up")

    report = queue.consume(handle, chunk=5, max_seconds=0.2)
    assert report == ConsumeReport(finished=3, released=2)
    assert queued(other) == [3, 4, 5, 6, 7, 8, 9]
    assert other.claim()[0].attempt == 1
    other.release(other.claim(10))


def test_it_waits_for_items_no_longer_than_it_may(queue: Any, other: Queue) -> None:
    """An empty queue is waited at until max_seconds are over."""
    other.purge()
    began = time.monotonic()
    assert queue.consume(lambda _: None, max_seconds=0.2) == ConsumeReport()
    assert 0.2 <= time.monotonic() - began < 5


def test_items_are_finished_before_a_pause(queue: Any, other: Queue) -> None:
    """A pause holds nothing, and ends with max_seconds."""
    began = time.monotonic()
    report = queue.consume(lambda _: None, chunk=3, pause=60, max_seconds=0.3)
    assert 0.3 <= time.monotonic() - began < 30
    assert report == ConsumeReport(finished=3)
    assert queued(other) == [3, 4, 5, 6, 7, 8, 9]


# Errors


def test_an_error_fails_its_item(queue: Any, other: Queue) -> None:
    """The others of the chunk are handled; the item knows the error."""
    report = queue.consume(failing_at(3), chunk=5, return_when_empty=True)
    assert report == ConsumeReport(finished=9, failed=1)
    (info,) = other.scan("scheduled")
    assert (info.payload, info.failures, info.error) == (3, 1, "Sudden: at this one")


def test_on_error_release(queue: Any, other: Queue) -> None:
    """The item goes back to the head and no attempt is counted."""
    report = queue.consume(failing_at(3), chunk=2, max_items=4, on_error="release")
    assert report == ConsumeReport(finished=3, released=1)
    (item,) = other.claim()
    assert (item.payload, item.attempt, item.delivery) == (3, 1, 2)
    other.release(item)


def test_on_error_discard(queue: Any, other: Queue) -> None:
    """The item ends, not finished and not dead."""
    report = queue.consume(failing_at(3), chunk=2, return_when_empty=True, on_error="discard")
    assert report == ConsumeReport(finished=9, discarded=1)
    counts = other.counts()
    assert (counts.finished, counts.removed, counts.dead) == (9, 1, 0)


def test_on_error_raise(queue: Any, other: Queue) -> None:
    """The error comes out when everything is settled: its item failed, those before finished, the rest given back."""
    error = Sudden("at this one")
    with pytest.raises(Sudden) as caught:
        queue.consume(failing_at(3, error), chunk=6, on_error="raise")
    assert caught.value is error
    assert queued(other) == [4, 5, 6, 7, 8, 9]
    counts = other.counts()
    assert (counts.finished, counts.scheduled, counts.in_progress) == (3, 1, 0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, ConsumeReport(finished=9, failed=1)),
        ("fail", ConsumeReport(finished=9, failed=1)),
        (Retry(after=60), ConsumeReport(finished=9, failed=1)),
        ("discard", ConsumeReport(finished=9, discarded=1)),
        (Discard("of no use"), ConsumeReport(finished=9, discarded=1)),
    ],
)
def test_a_function_decides_on_an_error(queue: Any, answer: object, expected: ConsumeReport) -> None:
    """It is asked with the item and the error, and its answer is carried out."""
    asked: list[tuple[int, str]] = []

    def decide(item: reliq.Item, error: Exception) -> object:
        asked.append((item.payload, str(error)))
        return answer

    assert queue.consume(failing_at(3), chunk=5, return_when_empty=True, on_error=decide) == expected
    assert asked == [(3, "at this one")]


def test_a_function_decides_on_a_chunk(queue: Any, other: Queue) -> None:
    """With process_all it is asked with the list."""
    asked: list[list[int]] = []

    def handle(items: list[reliq.Item]) -> None:
        raise Sudden("no")

    def decide(items: list[reliq.Item], error: Exception) -> Answer:
        asked.append([item.payload for item in items])
        return Release()

    report = queue.consume(handle, chunk=3, process_all=True, max_items=3, on_error=decide)
    assert asked == [[0, 1, 2]]
    assert report == ConsumeReport(released=3)
    assert queued(other) == list(range(10))


@pytest.mark.parametrize("answer", ["raise", "drop it", 7])
def test_a_function_ends_it(queue: Any, other: Queue, answer: object) -> None:
    """`raise` does, and so does an answer that means nothing; the item has failed and the rest is settled."""
    with pytest.raises(Sudden if answer == "raise" else reliq.InvalidArgument):
        queue.consume(failing_at(3), chunk=5, on_error=lambda *_: answer)
    counts = other.counts()
    assert (counts.finished, counts.scheduled, counts.queued) == (3, 1, 6)


def test_a_function_that_fails_itself(queue: Any, other: Queue) -> None:
    """Its error comes out; the item has failed with the handler's."""

    def decide(item: reliq.Item, error: Exception) -> object:
        raise LookupError("nothing decided")

    with pytest.raises(LookupError):
        queue.consume(failing_at(3), chunk=5, on_error=decide)
    (info,) = other.scan("scheduled")
    assert info.error == "Sudden: at this one"
    assert other.counts().queued == 6


# Answers


@pytest.mark.parametrize("raised", [False, True])
def test_answers_of_a_handler(queue: Any, other: Queue, raised: bool) -> None:
    """Retry, Discard and Release are carried out, whether they are returned or raised; on_error is not asked."""
    answers: dict[int, Answer] = {1: Retry(60, "later, please"), 2: Discard("of no use"), 4: Release()}

    def handle(item: reliq.Item) -> object:
        if raised and item.payload in answers:
            raise answers[item.payload]
        return answers.get(item.payload)

    report = queue.consume(handle, chunk=5, max_items=5, on_error="raise")
    assert report == ConsumeReport(finished=2, failed=1, discarded=1, released=1)
    (later,) = other.scan("scheduled")
    assert (later.payload, later.error) == (1, "later, please")
    assert queued(other) == [4, 5, 6, 7, 8, 9]


def test_an_answer_that_makes_no_sense(queue: Any, other: Queue) -> None:
    """Retry with an impossible time is the handler's mistake: a failed attempt."""
    assert queue.consume(lambda _: Retry(after=-1), max_items=1) == ConsumeReport(failed=1)
    (info,) = other.scan("scheduled")
    assert "after is a number of seconds" in (info.error or "")


def test_what_was_settled_by_hand_is_left_alone(queue: Any, other: Queue) -> None:
    """A handler may finish, fail or release its item itself, and may even raise after that."""

    def handle(item: reliq.Item) -> None:
        if item.payload == 1:
            other.finish(item)
        elif item.payload == 2:
            other.fail(item, "by hand")
            raise Sudden("too late to matter")

    assert queue.consume(handle, chunk=3, max_items=3) == ConsumeReport(finished=1, by_hand=2)
    (info,) = other.scan("scheduled")
    assert (info.failures, info.error) == (1, "by hand")
    assert other.counts().finished == 2


# Interruptions and leases


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_item_is_given_back(queue: Any, other: Queue, kind: type[BaseException]) -> None:
    """Ctrl-C and SystemExit are nobody's fault: the item goes back before the others that were not begun."""
    with pytest.raises(kind):
        queue.consume(failing_at(3, kind()), chunk=6)
    assert queued(other) == [3, 4, 5, 6, 7, 8, 9]
    (item,) = other.claim()
    assert item.attempt == 1
    assert other.counts().finished == 3
    other.release(item)


def test_leases_are_renewed_beside_the_handler(queue: Any, other: Queue) -> None:
    """A handler that takes many times the lease keeps its item, and those of its chunk that wait."""
    until = time.monotonic() + 1.0

    def handle(item: reliq.Item) -> None:
        if item.payload == 0:
            wait_until(lambda: time.monotonic() > until, "three leases are over")
            assert [taken.payload for taken in other.claim(10)] == [2, 3, 4, 5, 6, 7, 8, 9]

    assert queue.consume(handle, chunk=2, lease=0.3, max_items=2) == ConsumeReport(finished=2)


def taken_over(other: Queue) -> reliq.Claimed:
    """Claims the first item under somebody's live lease, as after its end: this client tells a later time."""
    other._session.now_ms = b"%d" % round((time.time() + 3600) * 1000)
    return other.claim()


def test_a_lost_item_is_not_finished(queue: Any, other: Queue) -> None:
    """Where somebody else has the item by now the finish is refused; the report counts it and the rest goes on."""
    theirs: list[reliq.Item] = []

    def handle(item: reliq.Item) -> None:
        if item.payload == 0:
            theirs.extend(taken_over(other))

    report = queue.consume(handle, max_items=3)
    assert report == ConsumeReport(finished=2, lost=1)
    assert [item.payload for item in theirs] == [0]
    other.finish(theirs)


def test_a_handler_can_see_that_its_item_is_lost(queue: Any, other: Queue) -> None:
    """Renewing finds out, and nothing is settled for the item any more, an error included."""
    theirs: list[reliq.Item] = []

    def handle(item: reliq.Item) -> None:
        theirs.extend(taken_over(other))
        wait_until(lambda: item.lost, "the item is marked as lost")
        raise Sudden("the work was in vain")

    assert queue.consume(handle, lease=0.3, max_items=1) == ConsumeReport(lost=1)
    other.finish(theirs)
    assert other.counts().scheduled == 0


# Arguments


@pytest.mark.parametrize(
    "options",
    [
        {"chunk": 0},
        {"chunk": 1001},
        {"pause": -1},
        {"max_items": -1},
        {"max_seconds": "soon"},
        {"lease": 0},
        {"on_error": "ignore"},
        {"handler": 7},
        {"handler": None, "process_all": True},
        {"handler": None, "on_error": "raise"},
    ],
)
def test_bad_arguments(queue: Any, other: Queue, options: dict[str, Any]) -> None:
    """They are refused before anything is claimed."""
    with pytest.raises(reliq.InvalidArgument):
        queue.consume(**{"handler": lambda _: None, **options})
    assert other.counts().queued == 10
