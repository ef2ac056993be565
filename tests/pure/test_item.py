from __future__ import annotations

import pickle
import time

import pytest
from pure.held import item

import reliq
from reliq import (
    Batch,
    BatchProgress,
    Counts,
    Cron,
    Enqueued,
    Failed,
    ItemInfo,
    ItemState,
    Moved,
    New,
    Progress,
    Queue,
    Recovered,
    WorkerInfo,
)
from reliq.item import Claimed
from reliq.states import TRANSITIONS, sources

S = ItemState


def test_what_has_ended_stays_ended() -> None:
    """No transition leaves finished or removed."""
    assert not {t for t in TRANSITIONS if t.source in (S.FINISHED, S.REMOVED)}


def test_every_state_can_be_entered_and_every_other_left() -> None:
    """There is no state that nothing leads to, and none but the ended ones that an item can't leave."""
    assert {t.target for t in TRANSITIONS} == set(S)
    assert {t.source for t in TRANSITIONS} - {None} == set(S) - {S.FINISHED, S.REMOVED}


def test_every_verb_is_a_method() -> None:
    """The table speaks of what users can call."""
    for verb in {t.verb for t in TRANSITIONS}:
        assert callable(getattr(Queue, verb))


def test_no_transition_stands_twice() -> None:
    """One row for each way."""
    assert len({(t.verb, t.source, t.target) for t in TRANSITIONS}) == len(TRANSITIONS)


@pytest.mark.parametrize(
    ("verb", "states"),
    [
        ("finish", {S.IN_PROGRESS, S.QUEUED}),
        ("requeue", {S.SCHEDULED, S.ORPHANED, S.DEAD}),
        ("cancel", {S.QUEUED, S.SCHEDULED}),
        ("enqueue", set()),
    ],
)
def test_the_sources_of_a_verb(verb: str, states: set[ItemState]) -> None:
    """The states that a verb takes items from come from the table."""
    assert sources(verb) == states


def test_the_rest_of_a_lease() -> None:
    """`remaining` counts down on this process's own clock, below zero after the end."""
    held = item()
    held.expires = time.monotonic() + 10
    assert 9 < held.remaining() <= 10
    held.expires = time.monotonic() - 1
    assert held.remaining() < 0


VALUES = [
    Batch("b", "then", (Enqueued("a", created=True),)),
    BatchProgress(3, 1),
    Counts(queued=1),
    Cron("daily", "0 7 * * *"),
    Failed("a", S.SCHEDULED, 5.0),
    ItemInfo("a", S.DEAD, {"n": 1}, error="broken"),
    Moved(("a",), {"b": None}),
    New("payload", delay=5.0),
    Progress({"page": 3}, done=1, total=2),
    Recovered(dead=1),
    WorkerInfo("host:1:x"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_can_be_pickled(value: object) -> None:
    """What calls take and return can go to another process, under the public name that it has there."""
    assert pickle.loads(pickle.dumps(value)) == value
    assert getattr(reliq, type(value).__name__) is type(value)
    assert "._" not in type(value).__module__


def test_small_results() -> None:
    """Moved is true where nothing was skipped, recoveries add up, a claim is a list with two notes."""
    assert Moved(("a",), {})
    assert not Moved(("a",), {"b": None})
    assert Recovered(1, 2, 3, 4, 5) + Recovered(1, 1, 1, 1, 1) == Recovered(2, 3, 4, 5, 6)
    assert Claimed().lost == Claimed().unreadable == ()
