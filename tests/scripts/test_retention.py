"""How long ended ids are remembered: by age, by count, a bounded number at a time."""

from __future__ import annotations

import pytest
from scripts.harness import Scripts, receipt, uid

DEFAULT_AGE_MS = 3_600_000


def finish(scripts: Scripts, *numbers: int) -> None:
    """Enqueues and finishes items in one call."""
    ids = [uid(n) for n in numbers]
    scripts.enqueue(*ids)
    by = receipt(numbers[0] + 1)
    assert scripts.claim(by, 1000) == ids
    assert scripts.settle("finish", by, *ids) == []


def known(scripts: Scripts, count: int) -> list[int]:
    return [n for n in range(count) if scripts.states(uid(n)) == ["finished"]]


def test_record_shrinks_to_how_it_ended(scripts: Scripts) -> None:
    """A finished item keeps no payload: a mark, when, and the receipt that finished it."""
    scripts.enqueue(uid(1), body=b"p" * 5000)
    scripts.claim()
    scripts.settle("finish", receipt(), uid(1))
    record = scripts.hash("items")[uid(1)]
    assert (record[:1], record[7:]) == (b"\xff", b"f" + receipt())
    assert scripts.ended_calls() == [[uid(1)]]
    assert scripts.counts()["remembered"] == 1


def test_history_and_error_end_with_the_item(scripts: Scripts) -> None:
    """What was kept beside an item goes with it."""
    scripts.configure(retry="tail")
    scripts.enqueue(uid(1))
    scripts.claim(receipt(1))
    scripts.fail(receipt(1), uid(1))
    scripts.claim(receipt(2))
    scripts.settle("finish", receipt(2), uid(1))
    assert (scripts.hash("attempts"), scripts.hash("errors")) == ({}, {})


def test_forgotten_by_age(scripts: Scripts) -> None:
    """Ids older than finished_age are forgotten with the next call that ends something, and may come again."""
    scripts.configure(finished_age_ms=1000)
    finish(scripts, 0)
    scripts.now_ms += 1000
    finish(scripts, 1)
    assert known(scripts, 2) == [1]
    assert scripts.counts()["remembered"] == 1
    assert scripts.enqueue(uid(0), uid(1)) == [1]


def test_remembered_up_to_its_age(scripts: Scripts) -> None:
    """A millisecond before that age an id is still known; the default is an hour. Ages are looked at once a second."""
    finish(scripts, 0)
    scripts.now_ms += DEFAULT_AGE_MS - 1
    finish(scripts, 1)
    assert known(scripts, 2) == [0, 1]
    scripts.now_ms += 1000
    finish(scripts, 2)
    assert known(scripts, 3) == [1, 2]


def test_forgotten_by_count(scripts: Scripts) -> None:
    """Over finished_count the oldest go first."""
    scripts.configure(finished_count=2)
    for n in range(5):
        finish(scripts, n)
    assert known(scripts, 5) == [3, 4]
    assert scripts.counts()["finished"] == 5


def test_no_call_forgets_more_than_two_others(scripts: Scripts) -> None:
    """A change of the retention is paid by many calls a little, not by one."""
    for n in range(6):
        finish(scripts, n)
    scripts.configure(finished_count=0)
    finish(scripts, 6)
    assert known(scripts, 7) == [2, 3, 4, 5, 6]
    for n in range(7, 12):
        finish(scripts, n)
    assert known(scripts, 12) == []


@pytest.mark.parametrize("size", [1, 1000])
def test_ids_that_ended_together_are_forgotten_together(scripts: Scripts, size: int) -> None:
    """One entry has all ids of a call, UUIDs or not."""
    scripts.configure(finished_age_ms=1000)
    finish(scripts, *range(size))
    scripts.now_ms += 1000
    finish(scripts, 5000)
    assert scripts.ended_calls() == [[uid(5000)]]
    assert len(scripts.hash("items")) == 1


def test_removed_ids_are_remembered_too(scripts: Scripts) -> None:
    """Cancelled and discarded ids are known for the retention as finished ones are."""
    scripts.configure(finished_age_ms=1000)
    scripts.enqueue(uid(0))
    scripts.claim()
    scripts.fail(receipt(), uid(0), after="dead")
    scripts.call("discard", uid(0))
    scripts.enqueue(uid(1), due="+9000")
    scripts.call("cancel", uid(1))
    assert scripts.enqueue(uid(0), uid(1)) == [0, 1]
    scripts.now_ms += 1000
    finish(scripts, 2)
    assert scripts.enqueue(uid(0), uid(1)) == []


def test_cancelled_id_is_known_while_its_place_is_in_the_queue(scripts: Scripts) -> None:
    """However old, a cancelled id can't come again before its place is gone: it would be delivered twice."""
    scripts.configure(finished_age_ms=1000)
    scripts.enqueue(uid(1), uid(2))
    scripts.call("cancel", uid(2))
    scripts.now_ms += 10_000
    finish_first = scripts.claim(receipt(5), 1)
    scripts.settle("finish", receipt(5), *finish_first)
    assert scripts.enqueue(uid(2)) == [0]
    assert scripts.claim(receipt(6)) == []
    scripts.now_ms += 10_000
    finish(scripts, 3)
    assert scripts.enqueue(uid(2)) == []
    assert scripts.claim(receipt(7)) == [uid(2)]
