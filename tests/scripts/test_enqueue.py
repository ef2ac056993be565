"""What enqueue leaves in each key, and stamps."""

from __future__ import annotations

import pytest
from scripts.harness import START_MS, Scripts, receipt, stamp_of, uid

TICKS_MS = 200  # a stamp counts ticks of 5 us since 2025
STAMP_EPOCH_MS = 1_735_689_600_000


def stamps(scripts: Scripts) -> list[int]:
    """Stamps of all queued items, in the order of the queue."""
    records = scripts.hash("items")
    return [stamp_of(records[i]) for i in scripts.queued()]


def test_new_items_stand_in_the_order_given(scripts: Scripts) -> None:
    """A batch is queued in order, each record is a stamp and the body, and nothing else is kept."""
    assert scripts.enqueue(uid(3), uid(1), uid(2), body=b"body") == []
    assert scripts.queued() == [uid(3), uid(1), uid(2)]
    assert {record[6:] for record in scripts.hash("items").values()} == {b"body"}
    assert scripts.hash("attempts") == {}
    assert scripts.scores("scheduled") == {}
    counts = scripts.counts()
    assert (counts["enqueued"], counts["queued"]) == (3, 3)


def test_known_ids_are_left_alone(scripts: Scripts) -> None:
    """A repeat tells which ids were there, changes none of them and adds only the others."""
    scripts.enqueue(uid(1), uid(2), body=b"first")
    assert scripts.enqueue(uid(2), uid(3), uid(1), body=b"second") == [0, 2]
    assert scripts.queued() == [uid(1), uid(2), uid(3)]
    assert [scripts.hash("items")[uid(n)][6:] for n in (1, 2, 3)] == [b"first", b"first", b"second"]
    assert scripts.counts()["enqueued"] == 3


@pytest.mark.parametrize("how", ["claimed", "finished", "dead", "scheduled", "cancelled"])
def test_id_is_known_in_every_state(scripts: Scripts, how: str) -> None:
    """An id is refused wherever its item is, and after it ended."""
    scripts.enqueue(uid(1), due="+1000" if how == "scheduled" else None)
    if how == "cancelled":
        scripts.call("cancel", uid(1))
    elif how != "scheduled":
        scripts.claim()
    if how == "finished":
        scripts.settle("finish", receipt(), uid(1))
    if how == "dead":
        scripts.fail(receipt(), uid(1), after="dead")
    before = scripts.contents()
    assert scripts.enqueue(uid(1)) == [0]
    assert scripts.contents() == before


@pytest.mark.parametrize(
    ("due", "score"),
    [("+5000", START_MS + 5000), (str(START_MS + 1), START_MS + 1), ("", None), ("+0", None), (str(START_MS), None)],
)
def test_due_time(scripts: Scripts, due: str, score: int | None) -> None:
    """A due time is relative or absolute; one that has come queues the item at once."""
    scripts.enqueue(uid(1), due=due)
    assert scripts.scores("scheduled") == ({} if score is None else {uid(1): score})
    assert scripts.queued() == ([uid(1)] if score is None else [])
    assert scripts.states(uid(1)) == ["queued" if score is None else "scheduled"]


def test_due_and_undue_items_in_one_call(scripts: Scripts) -> None:
    """A batch may mix both; scheduled items have a history from the start, others have none."""
    rest = (uid(1), b"a", "", uid(2), b"b", "+1000", uid(3), b"c", "")
    scripts.call("enqueue", *rest, stride=3)
    assert scripts.queued() == [uid(1), uid(3)]
    assert scripts.scores("scheduled") == {uid(2): START_MS + 1000}
    assert scripts.hash("attempts") == {uid(2): b"q 0 0 0 "}


def test_stamp_is_the_time_of_the_server(scripts: Scripts) -> None:
    """The first stamp of a moment is that moment, in ticks of 5 us."""
    scripts.enqueue(uid(1))
    assert stamps(scripts) == [(START_MS - STAMP_EPOCH_MS) * TICKS_MS]


def test_stamps_grow_within_a_tick(scripts: Scripts) -> None:
    """Items of one call and of one instant have stamps that grow by one."""
    scripts.enqueue(*map(uid, range(3)))
    scripts.enqueue(*map(uid, range(3, 6)))
    found = stamps(scripts)
    assert found == list(range(found[0], found[0] + 6))


def test_stamps_grow_when_the_clock_goes_back(scripts: Scripts) -> None:
    """A new master whose clock is behind goes on from the last stamp."""
    scripts.enqueue(uid(1), uid(2))
    scripts.now_ms -= 3_600_000
    scripts.enqueue(uid(3))
    scripts.now_ms += 1
    scripts.enqueue(uid(4))
    found = stamps(scripts)
    assert found == sorted(set(found))
    assert found[3] - found[0] == 3


def test_stamps_grow_across_each_byte(scripts: Scripts) -> None:
    """Stamps are packed right where a batch carries over into higher bytes."""
    scripts.enqueue(uid(0))
    scripts.client.hset(scripts.keys["meta"], "stamp", str(0x7F_FF_03_FF_FF_FA))
    scripts.enqueue(*map(uid, range(1, 13)))
    assert stamps(scripts)[1:] == list(range(0x7F_FF_03_FF_FF_FB, 0x7F_FF_03_FF_FF_FB + 12))


def test_a_thousand_items_in_one_call(scripts: Scripts) -> None:
    """The largest batch goes in, with and without due times."""
    scripts.enqueue(*map(uid, range(1000)))
    scripts.enqueue(*map(uid, range(1000, 2000)), due="+1000")
    counts = scripts.counts()
    assert (counts["queued"], counts["scheduled"]) == (1000, 1000)
