"""consume where answers get lost and servers go away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from consume.conftest import OpenQueue
from consume.test_handler import failing_at, queued
from proxy import FaultProxy, Rule

import reliq
from reliq import ConsumeReport, Queue


@pytest.mark.parametrize("verb", ["claim", "finish_and_claim"])
def test_a_lost_reply_on_the_way(
    queue: Any, other: Queue, open_queue: OpenQueue, proxy: FaultProxy, lose_reply: Callable[[str], Rule], verb: str
) -> None:
    """Every item is still handled exactly once, and in order."""
    rule = lose_reply(verb)
    seen: list[int] = []
    report = open_queue(proxy.url).consume(lambda item: seen.append(item.payload), chunk=3, return_when_empty=True)
    assert rule.fired == 1
    assert seen == list(range(10))
    assert report == ConsumeReport(finished=10)
    assert other.counts().finished == 10


@pytest.mark.parametrize("verb", ["finish", "fail", "release"])
def test_a_lost_reply_at_the_end(
    queue: Any, other: Queue, open_queue: OpenQueue, proxy: FaultProxy, lose_reply: Callable[[str], Rule], verb: str
) -> None:
    """What is settled when a handler's error ends it is settled once."""
    rule = lose_reply(verb)
    with pytest.raises(ValueError, match="no good"):
        open_queue(proxy.url).consume(failing_at(2, ValueError("no good")), chunk=5, on_error="raise")
    assert rule.fired == 1
    counts = other.counts()
    assert (counts.finished, counts.scheduled, counts.in_progress) == (2, 1, 0)
    assert queued(other) == [3, 4, 5, 6, 7, 8, 9]


def test_an_outage_is_ridden_out(queue: Any, other: Queue, open_queue: OpenQueue, proxy: FaultProxy) -> None:
    """A server that is away for longer than the patience of a call costs time, and no item is handled twice."""
    seen: list[int] = []

    def handle(item: reliq.Item) -> None:
        seen.append(item.payload)
        if item.payload == 1:
            proxy.refuse_connections()
            proxy.reset_connections()
            threading.Timer(0.5, proxy.accept_connections).start()

    report = open_queue(proxy.url, timeout=0.1).consume(handle, chunk=2, max_items=4)
    assert seen == [0, 1, 2, 3]
    assert report == ConsumeReport(finished=4)


def test_no_answer_is_not_an_empty_queue(queue: Any, open_queue: OpenQueue, proxy: FaultProxy) -> None:
    """With return_when_empty nobody is told that the queue is empty where the server did not say so."""
    proxy.refuse_connections()
    with pytest.raises(reliq.Unavailable):
        open_queue(proxy.url, timeout=0.1).consume(lambda _: None, return_when_empty=True)


def test_a_server_that_is_away_at_the_end(queue: Any, other: Queue, open_queue: OpenQueue, proxy: FaultProxy) -> None:
    """What can't be settled is counted as lost, and comes back with the end of its lease."""

    def handle(item: reliq.Item) -> None:
        if item.payload == 1:
            proxy.refuse_connections()
            proxy.reset_connections()

    report = open_queue(proxy.url, timeout=0.1).consume(handle, chunk=4, max_seconds=0.3, pause=0.01)
    assert report.finished + report.failed + report.released == 0
    assert report.lost == 4
    assert other.counts().in_progress == 4
