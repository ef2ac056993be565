"""What a handler may answer, and what the worker makes of errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from worker.conftest import Workers

from reliq import Item, ItemState, Queue
from reliq._ledger import WorkerReport
from reliq.answers import Answer, Discard, Release, Retry

Answering = Callable[[Answer], Callable[[Item], object]]


def returning(answer: Answer) -> Callable[[Item], object]:
    return lambda item: answer if item.delivery == 1 else None


def raising(answer: Answer) -> Callable[[Item], object]:
    def handle(item: Item) -> None:
        if item.delivery == 1:
            raise answer

    return handle


@pytest.fixture(params=[returning, raising], ids=["returned", "raised"])
def answering(request: pytest.FixtureRequest) -> Answering:
    """A handler that gives an answer to the first delivery."""
    found: Answering = request.param
    return found


def test_retry_later(queue: Queue, workers: Workers, answering: Answering) -> None:
    """`Retry(after)` counts a failed attempt, and the item is due when it says."""
    queue.enqueue("payload", id="one")
    assert workers.run(answering(Retry(600, "not yet")), return_when_empty=True) == WorkerReport(retried=1)
    info = queue.get("one")
    assert (info.state, info.failures, info.error) == (ItemState.SCHEDULED, 1, "not yet")


def test_retry_as_the_queue_says(queue: Queue, workers: Workers, answering: Answering) -> None:
    """`Retry()` leaves the time to the queue's settings: here, at once."""
    queue.enqueue("payload", id="one")
    assert workers.run(answering(Retry()), return_when_empty=True) == WorkerReport(finished=1, retried=1)


def test_discard(queue: Queue, workers: Workers, answering: Answering) -> None:
    """A discarded item is gone: no other attempt, not among the dead, its id is remembered."""
    queue.enqueue("payload", id="one")
    assert workers.run(answering(Discard("of no use")), return_when_empty=True) == WorkerReport(discarded=1)
    assert queue.get("one").state is ItemState.REMOVED


def test_release(queue: Queue, workers: Workers, answering: Answering) -> None:
    """A released item is back at the head, without blame."""
    queue.enqueue_many(["first", "second"])
    seen: list[tuple[Any, int]] = []
    answer = answering(Release())

    def handle(item: Item) -> object:
        seen.append((item.payload, item.attempt))
        return answer(item) if item.payload == "first" else None

    report = workers.run(handle, prefetch=0, return_when_empty=True)
    assert report == WorkerReport(finished=2, released=1)
    assert seen == [("first", 1), ("first", 1), ("second", 1)]


def test_results(queue: Queue, workers: Workers) -> None:
    """With results=True what the handler returns is there for those who wait for the item."""
    queue.enqueue_many([1, 2, 3])
    ids = [info.id for info in queue.peek(3)]
    report = workers.run(lambda item: item.payload * 10, results=True, return_when_empty=True)
    assert report == WorkerReport(finished=3)
    assert [queue.wait(item_id, 5).result for item_id in ids] == [10, 20, 30]


def test_result_that_cannot_be_stored(queue: Queue, workers: Workers) -> None:
    """It fails its own item and no other one."""
    queue.configure(max_attempts=1)
    queue.enqueue_many([1, 2, 3], batch=3)
    report = workers.run(
        lambda item: object() if item.payload == 2 else item.payload, results=True, prefetch=2, return_when_empty=True
    )
    assert report == WorkerReport(finished=2, failed=1)
    assert [info.payload for info in queue.scan("dead")] == [2]


def test_on_error_most_specific_type_first(queue: Queue, workers: Workers) -> None:
    """An answer is chosen by the type of the error; a type that is named itself counts before its base."""
    queue.configure(max_attempts=1)
    errors = {"value": ValueError("a"), "unicode": UnicodeError("b"), "key": KeyError("c"), "type": TypeError("d")}
    for name in errors:
        queue.enqueue(name, id=name)

    def handle(item: Item) -> None:
        raise errors[item.payload]

    def by_item(item: Item, error: BaseException) -> Answer | None:
        return Discard(f"{item.id} {error}") if item.id == "key" else None

    policies = {ValueError: Retry(60), UnicodeError: Discard, LookupError: by_item, TypeError: by_item}
    report = workers.run(handle, on_error=policies, return_when_empty=True)
    assert report == WorkerReport(failed=1, discarded=2, retried=1)
    states = {name: queue.get(name).state for name in errors}
    assert states["unicode"] is states["key"] is ItemState.REMOVED
    assert states["type"] is ItemState.DEAD


@pytest.mark.parametrize("broken", [lambda *_: 1 / 0, lambda *_: "what?"])
def test_on_error_that_fails(
    broken: Callable[..., object], queue: Queue, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler's own error counts, and the policy's is logged."""
    queue.configure(max_attempts=1)
    queue.enqueue("payload", id="one")

    def handle(_: Item) -> None:
        raise ValueError("mine")

    with caplog.at_level(logging.ERROR, "reliq.worker"):
        assert workers.run(handle, on_error={ValueError: broken}, return_when_empty=True) == WorkerReport(failed=1)
    assert queue.get("one").error == "ValueError: mine"
    assert "on_error" in caplog.text


def test_errors_are_logged_with_their_item(queue: Queue, workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    """A failed attempt is logged with its traceback, and with the item in fields of its own."""
    queue.configure(max_attempts=1)
    queue.enqueue("payload", id="one")

    def handle(_: Item) -> None:
        raise ValueError("mine")

    with caplog.at_level(logging.WARNING, "reliq.worker"):
        workers.run(handle, return_when_empty=True)
    record: Any = next(record for record in caplog.records if "failed" in record.message)
    assert (record.reliq_queue, record.reliq_item, record.reliq_attempt) == ("q", "one", 1)
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("after", [-1, "soon", True])
def test_an_answer_that_is_none(after: Any, queue: Queue, workers: Workers) -> None:
    """A wait that can't be is an error of the handler, a failed attempt, and no end of the worker."""
    queue.configure(max_attempts=1)
    queue.enqueue("payload", id="one")
    workers.run(lambda _: Retry(after=after), return_when_empty=True)
    assert queue.get("one").state is ItemState.DEAD
