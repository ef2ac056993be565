"""The decisions of a worker, without a server: how much to claim, when to settle, whose turn it is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pure.held import item as item_named

from reliq._ledger import Ledger, Pace, Shares, WorkerReport


def test_pace() -> None:
    """The rate is that of the last stretch, and stands still when nothing comes."""
    pace = Pace(0.0)
    pace.add(10, 0.1)
    assert pace.rate == pytest.approx(100)
    pace.add(0, 1.1)
    assert pace.rate == 0
    assert pace.standstill(1.1) == pytest.approx(1.0)


@given(
    concurrency=st.integers(1, 50),
    prefetch=st.none() | st.integers(0, 100),
    rate=st.floats(0, 1e6),
    count=st.integers(0, 400),
)
def test_handlers_are_never_starved(concurrency: int, prefetch: int | None, rate: float, count: int) -> None:
    """Where a handler is idle there is room; and the loop is woken before one is, where items may wait."""
    ledger = Ledger(concurrency, prefetch, None)
    ledger.claimed([item_named(str(n)) for n in range(count)])
    room = ledger.room(rate)
    assert (room > 0) or not ledger.idle
    assert count + room <= max(count, ledger.capacity(rate))
    assert ledger.enough(rate) == 1 or count - ledger.enough(rate) >= concurrency - 1


@given(limit=st.integers(1, 20), settled=st.integers(0, 20), held=st.integers(0, 20))
def test_never_more_than_max_items(limit: int, settled: int, held: int) -> None:
    """What is settled, held and asked for is never more than the limit."""
    ledger = Ledger(4, 50, limit)
    items = [item_named(str(n)) for n in range(min(settled, limit))]
    ledger.claimed(items)
    ledger.handled += len(items)
    ledger.settled(items, (), "finished")
    ledger.claimed([item_named(f"h{n}") for n in range(min(held, limit - len(items)))])
    assert len(items) + len(ledger.held) + ledger.room(100.0) <= limit


def test_by_priority_each_may_take_all() -> None:
    """The first may fill the room; the next gets what it leaves."""
    assert Shares(None).divide(5, [0, 1, 2]) == [(0, 5), (1, 5), (2, 5)]


@given(weights=st.lists(st.integers(1, 9), min_size=2, max_size=4), rooms=st.lists(st.integers(1, 20), min_size=1))
def test_weights_are_kept_over_any_stretch(weights: list[int], rooms: list[int]) -> None:
    """However the room comes, each gets its share of it to within one round."""
    shares, got = Shares(weights), Counter[int]()
    for room in rooms:
        for number, count in shares.divide(room, range(len(weights))):
            got[number] += count
    for number, weight in enumerate(weights):
        assert abs(got[number] - sum(rooms) * weight / sum(weights)) <= len(weights)


def test_reports_add_up() -> None:
    """The reports of several workers are one."""
    one = WorkerReport(finished=1, failed=2, abandoned=("a",))
    assert one + WorkerReport(finished=3, lost=1, abandoned=("b",)) == WorkerReport(
        finished=4, failed=2, lost=1, abandoned=("a", "b")
    )
