"""What claim takes, in which order, and what it leaves in each key."""

from __future__ import annotations

import pytest
from scripts.harness import START_MS, Scripts, receipt, stamp_of, uid

IDS, RECORDS, HISTORIES, GROUPS, CHECKPOINTS, MORE, NEXT = range(7)
SKIP = 1000  # cancelled places that one claim passes over
PAGE = 100


def damage(scripts: Scripts, key: bytes, record: bytes | None) -> None:
    scripts.is_whole = False
    if record is None:
        scripts.client.hdel(scripts.keys["items"], key)
    else:
        scripts.client.hset(scripts.keys["items"], key, record)


def test_oldest_items_under_one_lease(scripts: Scripts) -> None:
    """A claim takes from the head, in order, as one lease; records come as they are stored."""
    scripts.enqueue(*map(uid, range(5)))
    reply = scripts.claim_reply(receipt(), 3, lease_ms=7000)
    assert reply[IDS] == [uid(0), uid(1), uid(2)]
    assert reply[RECORDS] == [scripts.hash("items")[uid(n)] for n in range(3)]
    assert reply[HISTORIES:] == [[], [], [], 0, -1]
    assert scripts.queued() == [uid(3), uid(4)]
    assert scripts.held() == {receipt(): [uid(0), uid(1), uid(2)]}
    assert scripts.scores("leases") == {receipt(): START_MS + 7000}
    assert scripts.counts()["in_progress"] == 3


def test_repeat_brings_the_same_items(scripts: Scripts) -> None:
    """The same claim id brings what it holds, takes no more, and its lease counts from the repeat."""
    scripts.enqueue(*map(uid, range(5)))
    first = scripts.claim_reply(receipt(), 2, lease_ms=7000)
    scripts.now_ms += 100
    assert scripts.claim_reply(receipt(), 5, lease_ms=7000) == first
    assert scripts.scores("leases") == {receipt(): START_MS + 7100}
    assert scripts.queued() == [uid(2), uid(3), uid(4)]
    assert scripts.counts()["in_progress"] == 2


def test_repeat_never_shortens_the_lease(scripts: Scripts) -> None:
    """A repeat that arrives with a shorter lease leaves the deadline where it was."""
    scripts.enqueue(uid(1))
    scripts.claim(lease_ms=7000)
    scripts.claim(lease_ms=10)
    assert scripts.scores("leases") == {receipt(): START_MS + 7000}


def test_repeat_brings_what_is_left_of_a_claim(scripts: Scripts) -> None:
    """What was settled since does not come again."""
    scripts.enqueue(*map(uid, range(3)))
    scripts.claim()
    scripts.settle("finish", receipt(), uid(1))
    assert scripts.claim() == [uid(0), uid(2)]


def test_claim_id_may_be_used_again_when_it_holds_nothing(scripts: Scripts) -> None:
    """A claim id whose items have all been settled takes new ones."""
    scripts.enqueue(uid(1), uid(2))
    scripts.claim(receipt(), 1)
    scripts.settle("finish", receipt(), uid(1))
    assert scripts.claim(receipt(), 1) == [uid(2)]


def test_histories_of_items_that_came_back(scripts: Scripts) -> None:
    """Where any item has a history, the reply has a place for each item, empty for those without."""
    scripts.enqueue(uid(1))
    scripts.claim()
    scripts.settle("release", receipt(), uid(1))
    scripts.enqueue(uid(2))
    reply = scripts.claim_reply(receipt(2))
    assert reply[HISTORIES] == [b"h 1 0 0 " + receipt(), None]
    assert scripts.hash("attempts") == {uid(1): b"p 1 0 0 " + receipt()}


def test_due_items_come_first_to_last(scripts: Scripts) -> None:
    """A claim queues what has fallen due, earliest first, behind what was queued before."""
    scripts.enqueue(uid(1), due="+2000")
    scripts.enqueue(uid(2), due="+1000")
    scripts.enqueue(uid(3), due="+9000")
    scripts.enqueue(uid(4))
    scripts.now_ms += 2000
    assert scripts.claim() == [uid(4), uid(2), uid(1)]
    assert list(scripts.scores("scheduled")) == [uid(3)]


def test_more_due_items_than_one_call_moves(scripts: Scripts) -> None:
    """Due items are moved a page at a time; none is lost between."""
    scripts.enqueue(*map(uid, range(PAGE + 20)), due="+10")
    scripts.now_ms += 10
    assert len(scripts.claim(receipt(1), 1000)) == PAGE
    assert len(scripts.claim(receipt(2), 1000)) == 20


def test_cancelled_places_are_skipped(scripts: Scripts) -> None:
    """A cancelled item's place is taken off with the next claim, and its end is then remembered in order."""
    scripts.enqueue(*map(uid, range(4)))
    scripts.call("cancel", uid(0), uid(2))
    assert scripts.counts()["queued"] == 2
    assert scripts.queued() == list(map(uid, range(4)))
    assert scripts.claim() == [uid(1), uid(3)]
    assert scripts.queued() == []
    assert scripts.ended_calls() == [[uid(0), uid(2)]]
    assert scripts.meta("cancelled_places") == b"0"
    assert scripts.states(uid(0)) == ["removed"]


def test_search_ends_at_its_bound(scripts: Scripts) -> None:
    """Behind many cancelled places a claim says `more`, and asking again finds the item."""
    ids = [uid(n) for n in range(2 * SKIP + 1)]
    for start in range(0, len(ids), SKIP):
        scripts.enqueue(*ids[start : start + SKIP])
    scripts.call("cancel", *ids[:SKIP])
    scripts.call("cancel", *ids[SKIP:-1])
    replies = [scripts.claim_reply(receipt(), 1, worker=b"w", wait_ms=100)]
    while not replies[-1][IDS]:
        assert replies[-1][MORE] == 1
        replies.append(scripts.claim_reply(receipt(), 1, worker=b"w", wait_ms=100))
    assert replies[-1][IDS] == [ids[-1]]
    assert 2 <= len(replies) <= 4
    assert scripts.scores("waiting") == {}
    assert scripts.counts()["queued"] == 0


@pytest.mark.parametrize("record", [None, b"", b"\x00", b"abc", b"\x00" * 6], ids=repr)
def test_record_that_is_missing_or_cut_off(scripts: Scripts, record: bytes | None) -> None:
    """A place whose record is gone or too short holds up nobody: the item goes to the dead, where people look."""
    scripts.enqueue(uid(1), uid(2))
    damage(scripts, uid(1), record)
    assert scripts.claim() == [uid(2)]
    assert scripts.queued() == []
    assert scripts.scores("dead") == {uid(1): START_MS}
    assert scripts.hash("errors") == {uid(1): b"its record is missing or unreadable"}
    assert scripts.states(uid(1)) == ["dead"]
    counts = scripts.counts()
    assert (counts["dead"], counts["in_progress"], counts["queued"]) == (1, 1, 0)


def test_claim_of_nothing_but_broken_records(scripts: Scripts) -> None:
    """Where every record is broken the claim brings nothing, and the next one finds an empty queue."""
    scripts.enqueue(uid(1), uid(2))
    damage(scripts, uid(1), None)
    damage(scripts, uid(2), b"x")
    assert scripts.claim_reply() == [[], [], [], [], [], 0, -1]
    assert scripts.held() == {}
    assert scripts.counts()["dead"] == 2


def test_nothing_there(scripts: Scripts) -> None:
    """An empty queue gives an empty reply and keeps no trace of the claim."""
    scripts.enqueue(uid(1))
    scripts.claim()
    assert scripts.claim_reply(receipt(2)) == [[], [], [], [], [], 0, -1]
    assert list(scripts.held()) == [receipt()]


def test_claimed_stamp_is_the_last_new_item(scripts: Scripts) -> None:
    """One number tells which items without a history have left the queue; items that came back don't move it."""
    scripts.enqueue(*map(uid, range(3)))
    records = scripts.hash("items")
    scripts.claim(receipt(1), 2)
    assert int(scripts.meta("claimed_stamp") or 0) == stamp_of(records[uid(1)])
    scripts.settle("release", receipt(1), uid(0))
    scripts.claim(receipt(2), 1)
    assert int(scripts.meta("claimed_stamp") or 0) == stamp_of(records[uid(1)])
    assert scripts.states(*map(uid, range(3))) == ["in_progress", "in_progress", "queued"]


def test_get_tells_every_state_apart(scripts: Scripts) -> None:
    """`get` knows where an item is from history, stamps and sets, and agrees with where it really stands."""
    scripts.configure(expiry="hold", retry="tail")
    scripts.enqueue(uid(1))
    scripts.claim(receipt(1), lease_ms=1000)
    scripts.now_ms += 1000
    scripts.recover()
    scripts.enqueue(*map(uid, range(2, 8)))
    scripts.claim(receipt(2), 5)
    scripts.fail(receipt(2), uid(2))  # to the tail, behind 7
    scripts.fail(receipt(2), uid(3), after="dead")
    scripts.settle("finish", receipt(2), uid(4))
    scripts.settle("release", receipt(2), uid(5))  # to the head
    scripts.claim(receipt(3), 1)  # takes 5 again
    scripts.enqueue(uid(8), due="+1000")
    scripts.enqueue(uid(9))
    scripts.call("cancel", uid(9))
    found = dict(zip(range(1, 11), scripts.states(*map(uid, range(1, 11))), strict=True))
    assert found == {
        1: "orphaned",
        2: "queued",
        3: "dead",
        4: "finished",
        5: "in_progress",
        6: "in_progress",
        7: "queued",
        8: "scheduled",
        9: "removed",
        10: "",
    }


def test_scheduled_items_do_not_confuse_claimed_stamp(scripts: Scripts) -> None:
    """An item that was scheduled enters the queue out of the order of stamps and is still placed right."""
    scripts.enqueue(uid(1), due="+1000")
    scripts.enqueue(uid(2))
    scripts.claim(receipt(1), 1)
    assert scripts.states(uid(1), uid(2)) == ["scheduled", "in_progress"]
    scripts.now_ms += 1000
    scripts.recover()
    assert scripts.states(uid(1)) == ["queued"]
    scripts.claim(receipt(2))
    assert scripts.states(uid(1)) == ["in_progress"]


def test_finish_and_claim_does_both(scripts: Scripts) -> None:
    """One call finishes what is held, tells what was lost, and takes the next items."""
    scripts.enqueue(*map(uid, range(4)))
    scripts.claim(receipt(1), 2)
    rest = (receipt(1), 3, uid(0), uid(3), uid(1))
    reply = scripts.call("finish_and_claim", *rest, claim_id=receipt(2), count=5, lease_ms=1000, worker="", wait_ms=0)
    assert reply[0] == [1]
    assert reply[1] == [uid(2), uid(3)]
    assert scripts.held() == {receipt(2): [uid(2), uid(3)]}
    assert scripts.counts()["finished"] == 2


def test_finish_and_claim_notes_an_idle_worker(scripts: Scripts) -> None:
    """Where nothing is left the worker waits, and is told when something falls due; where it gets items it does not."""
    options: dict[str, bytes | str | int] = {"count": 1, "lease_ms": 9000, "worker": "w", "wait_ms": 2000}
    scripts.enqueue(uid(1), uid(2))
    scripts.claim(receipt(1), 1)
    reply = scripts.call("finish_and_claim", receipt(1), 1, uid(1), claim_id=receipt(2), **options)
    assert (reply[1], reply[-1], scripts.scores("waiting")) == ([uid(2)], -1, {})
    scripts.enqueue(uid(3), due="+500")
    reply = scripts.call("finish_and_claim", receipt(2), 1, uid(2), claim_id=receipt(3), **options)
    assert (reply[1], reply[-1]) == ([], 500)
    assert list(scripts.scores("waiting")) == [b"w"]


def test_finish_and_claim_repeated(scripts: Scripts) -> None:
    """A repeat gives the same answer and changes no counter."""
    scripts.enqueue(*map(uid, range(4)))
    scripts.claim(receipt(1), 2)
    rest = (receipt(1), 2, uid(0), uid(1))
    options: dict[str, bytes | str | int] = {
        "claim_id": receipt(2),
        "count": 1,
        "lease_ms": 1000,
        "worker": "w",
        "wait_ms": 100,
    }
    first = scripts.call("finish_and_claim", *rest, **options)
    counts = scripts.counts()
    assert scripts.call("finish_and_claim", *rest, **options) == first
    assert scripts.counts() == counts
