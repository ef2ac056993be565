from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from contract.clients import OpenQueue

from reliq import (
    InvalidArgument,
    PayloadError,
    Queue,
)


@pytest.mark.parametrize("name", ["", " ", "two words", "a{b", "a}b", "tab\t", "nul\0", "x" * 201, None, 7, b"bytes"])
def test_names_that_no_queue_can_have(open_queue: OpenQueue, name: Any) -> None:
    """A queue name has 1 to 200 printable characters, no spaces and no braces."""
    with pytest.raises(InvalidArgument, match="queue name"):
        open_queue(name)


@pytest.mark.parametrize("name", ["x", "x" * 200, "größe:42/ä", "日本", "-", "*[?", "'\"\\"])
def test_names_that_a_queue_can_have(open_queue: OpenQueue, name: str) -> None:
    """Everything else is a name."""
    queue = open_queue(name)
    queue.enqueue(1)
    (item,) = queue.claim()
    assert item.queue == name
    queue.finish(item)


@pytest.mark.parametrize("item_id", ["", "x" * 201, "ä" * 101, "new\nline", "nul\0", "\ud800", 7, b"x"])
def test_ids_that_no_item_can_have(queue: Queue, item_id: Any) -> None:
    """An id is 1 to 200 bytes of printable text, wherever one is passed."""
    calls: list[Callable[[], object]] = [
        lambda: queue.enqueue(1, id=item_id),
        lambda: queue.get(item_id),
        lambda: queue.cancel(item_id),
        lambda: queue.resolve([item_id], "finish"),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match=r"\bid\b"):
            call()
    assert queue.counts().enqueued == 0


@pytest.mark.parametrize("item_id", ["x", "x" * 200, "ä" * 100, "sixteen bytes ok", "a b", "{x}", "*"])
def test_ids_that_an_item_can_have(queue: Queue, item_id: str) -> None:
    """Every other text is an id, and comes back as it went in."""
    assert queue.enqueue(1, id=item_id).id == item_id
    assert queue.get(item_id).id == item_id
    assert [item.id for item in queue.claim()] == [item_id]


@pytest.mark.parametrize("lease", [0, -1, 0.0001, 86_400.1, float("nan"), float("inf"), True, "30", None])
def test_leases_out_of_range(queue: Queue, lease: Any) -> None:
    """A lease is a millisecond to a day."""
    queue.enqueue(1)
    for call in (
        queue.claim,
        lambda lease: queue.renew([], lease),
        lambda lease: queue.finish_and_claim([], lease=lease),
    ):
        with pytest.raises(InvalidArgument, match="lease"):
            call(lease=lease)
    assert queue.counts().in_progress == 0


@pytest.mark.parametrize("count", [0, -1, 1001, 1.0, True, "1", None])
def test_counts_out_of_range(queue: Queue, count: Any) -> None:
    """A claim takes 1 to 1,000 items."""
    for call in (lambda: queue.claim(count), lambda: queue.finish_and_claim([], count), lambda: queue.peek(count)):
        with pytest.raises(InvalidArgument, match="count"):
            call()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e6, True, "1"])
def test_waits_out_of_range(queue: Queue, open_queue: OpenQueue, seconds: Any) -> None:
    """A wait is 0 s to a day, and so is a timeout."""
    with pytest.raises(InvalidArgument, match="wait"):
        queue.claim(wait=seconds)
    with pytest.raises(InvalidArgument, match="timeout"):
        open_queue(timeout=seconds)


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (object(), "payload"),
        ({"to": [1, 2, {3}]}, "payload['to'][2]"),
        ([{"a": {"b": print}}], "payload[0]['a']['b']"),
        ({"n": 2**80, "bad": 1j}, "payload['bad']"),
        ("\ud800", "payload"),
        ({"text": ["ok", "\udfff"]}, "payload['text'][1]"),
        ({frozenset(): 1}, "payload.keys()[frozenset()]"),
    ],
)
def test_payloads_that_can_not_be_carried(queue: Queue, payload: Any, path: str) -> None:
    """The error names the part of the payload that can't be carried; nothing is sent."""
    with pytest.raises(PayloadError) as caught:
        queue.enqueue(payload)
    assert caught.value.path == path
    assert path in str(caught.value)
    assert queue.counts().enqueued == 0


def test_a_payload_without_an_end(queue: Queue) -> None:
    """A payload that contains itself is refused."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(PayloadError, match="deep"):
        queue.enqueue(endless)


def test_a_payload_that_is_too_large(open_queue: OpenQueue) -> None:
    """A payload over `max_payload` bytes is refused before it is sent; one of exactly that size is not."""
    queue = open_queue(max_payload=100)
    queue.enqueue(b"x" * 98)
    with pytest.raises(PayloadError, match="101 bytes, the limit is 100"):
        queue.enqueue(b"x" * 99)
    with pytest.raises(PayloadError, match="limit"):
        queue.enqueue(b"x" * 99, headers={"a": "b"})
    assert queue.counts().enqueued == 1


@pytest.mark.parametrize("headers", [{"a": 1}, {1: "a"}, {"a": None}])
def test_headers_are_strings(queue: Queue, headers: Any) -> None:
    """Headers are pairs of strings."""
    with pytest.raises(PayloadError, match="headers"):
        queue.enqueue(1, headers=headers)
