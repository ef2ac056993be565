"""Leases that ended: where their items go, how many at a time, and what fail does."""

from __future__ import annotations

import pytest
from scripts.harness import START_MS, Scripts, receipt, uid

BOUND = 100  # items that a claim recovers


def expire(scripts: Scripts, count: int, lease_ms: int = 1000) -> list[bytes]:
    """Items of one claim whose lease has ended."""
    ids = [uid(n) for n in range(count)]
    scripts.enqueue(*ids)
    assert scripts.claim(receipt(), 1000, lease_ms) == ids
    scripts.now_ms += lease_ms
    return ids


def test_live_lease_is_left_alone(scripts: Scripts) -> None:
    """A millisecond before its end a lease holds, and from its end on it does not."""
    ids = expire(scripts, 2)
    scripts.now_ms -= 1
    assert scripts.recover()["requeued"] == 0
    scripts.now_ms += 1
    assert scripts.recover()["requeued"] == 2
    assert scripts.queued() == ids


def test_requeue_puts_items_at_the_head_in_order(scripts: Scripts) -> None:
    """Expired items stand before those that were enqueued after them."""
    ids = expire(scripts, 3)
    scripts.enqueue(uid(9))
    assert scripts.recover() == {"requeued": 3, "orphaned": 0, "dead": 0, "unreadable": 0, "due": 0, "left": 0}
    assert scripts.queued() == [*ids, uid(9)]
    assert scripts.hash("attempts")[ids[0]] == b"h 1 0 1 "
    assert (scripts.held(), scripts.scores("leases")) == ({}, {})


def test_hold_sets_items_aside(scripts: Scripts) -> None:
    """With the policy `hold` items wait until somebody decides."""
    scripts.configure(expiry="hold")
    ids = expire(scripts, 2)
    assert scripts.recover()["orphaned"] == 2
    assert scripts.scores("orphaned") == dict.fromkeys(ids, START_MS + 1000)
    assert scripts.states(*ids) == ["orphaned"] * 2


def test_dead_policy(scripts: Scripts) -> None:
    """With the policy `dead` nothing is delivered twice."""
    scripts.configure(expiry="dead")
    ids = expire(scripts, 2)
    assert scripts.recover()["dead"] == 2
    assert scripts.scores("dead") == dict.fromkeys(ids, START_MS + 1000)
    assert scripts.hash("errors") == dict.fromkeys(ids, b"its lease expired")


@pytest.mark.parametrize("expiry", ["requeue", "hold"])
def test_deliveries_used_up(scripts: Scripts, expiry: str) -> None:
    """An item whose workers go away again and again ends among the dead, failures and expiries together."""
    scripts.configure(max_deliveries=3, retry="head", expiry="requeue")
    scripts.enqueue(uid(1))
    for number in (1, 2):
        scripts.claim(receipt(number), 1, 1000)
        if number == 1:
            scripts.fail(receipt(number), uid(1))
        scripts.now_ms += 1000
        scripts.recover()
    scripts.configure(expiry=expiry)
    scripts.claim(receipt(3), 1, 1000)
    scripts.now_ms += 1000
    assert scripts.recover()["dead"] == 1
    assert scripts.hash("errors") == {uid(1): b"its lease expired, and all 3 deliveries are used up"}


@pytest.mark.parametrize("size", [BOUND - 1, BOUND, BOUND + 1, 2 * BOUND + 50])
def test_large_claim_is_recovered_in_parts(scripts: Scripts, size: int) -> None:
    """A claim takes back 100 items at most; the rest stays held until the next one, in order."""
    ids = expire(scripts, size)
    assert scripts.claim(receipt(2), 1000, 1000) == ids[:BOUND]
    assert scripts.held().get(receipt(), []) == ids[BOUND:]
    assert scripts.counts()["in_progress"] == size
    assert scripts.claim(receipt(3), 1000, 1000) == ids[BOUND : 2 * BOUND]


def test_part_of_a_claim_that_is_left_can_still_be_finished(scripts: Scripts) -> None:
    """Items that recovery has not reached are still held under their receipt."""
    ids = expire(scripts, BOUND + 2)
    scripts.recover(BOUND)
    assert scripts.settle("finish", receipt(), ids[0], ids[-1]) == [ids[0]]
    assert scripts.held() == {receipt(): [ids[-2]]}


def test_limit_reaches_over_several_claims(scripts: Scripts) -> None:
    """The limit counts items, whatever claims they were in, and the reply says how many leases are left."""
    ids = [uid(n) for n in range(6)]
    scripts.enqueue(*ids)
    for number in range(3):
        scripts.claim(receipt(number), 2, 1000)
    scripts.now_ms += 1000
    found = scripts.recover(3)
    assert (found["requeued"], found["left"]) == (3, 2)
    assert scripts.queued() == ids[:3]
    assert scripts.held() == {receipt(1): [ids[3]], receipt(2): ids[4:]}
    assert scripts.recover(1000)["requeued"] == 3


def test_claims_that_expire_together_go_back_in_one_order(scripts: Scripts) -> None:
    """Items of several claims that one call takes back stand in the order of enqueue, not of their claims."""
    ids = [uid(n) for n in range(6)]
    scripts.enqueue(*ids)
    for number in range(3):
        scripts.claim(receipt(number), 2, 1000)
    scripts.now_ms += 1000
    assert scripts.claim(receipt(9)) == ids


def test_thousand_expired_items_at_once(scripts: Scripts) -> None:
    """The largest limit over the largest claim is one call."""
    ids = expire(scripts, 1000)
    assert scripts.recover(1000)["requeued"] == 1000
    assert scripts.queued() == ids


@pytest.mark.parametrize("record", [None, b"", b"abc", b"\xff" * 3], ids=repr)
def test_unreadable_record_does_not_stop_a_sweep(scripts: Scripts, record: bytes | None) -> None:
    """An item whose record is gone or damaged is set aside among the dead and counted; the others go on."""
    ids = expire(scripts, 3)
    scripts.is_whole = False
    if record is None:
        scripts.client.hdel(scripts.keys["items"], ids[1])
    else:
        scripts.client.hset(scripts.keys["items"], ids[1], record)
    found = scripts.recover()
    assert (found["requeued"], found["unreadable"], found["left"]) == (2, 1, 0)
    assert scripts.queued() == [ids[0], ids[2]]
    assert scripts.scores("dead") == {ids[1]: START_MS + 1000}
    assert scripts.hash("items").get(ids[1]) == record
    scripts.counts()


def test_lease_without_a_claim_is_dropped(scripts: Scripts) -> None:
    """What a broken-off call can leave, a lease that holds nothing, is cleared away."""
    scripts.enqueue(uid(1))
    scripts.client.zadd(scripts.keys["leases"], {receipt(9): START_MS - 1})
    assert scripts.recover()["left"] == 0
    assert scripts.scores("leases") == {}


def test_due_items_are_queued_by_a_sweep(scripts: Scripts) -> None:
    """recover queues due items too, and says how many."""
    scripts.enqueue(uid(1), uid(2), due="+1000")
    scripts.now_ms += 1000
    assert scripts.recover()["due"] == 2
    assert scripts.queued() == [uid(1), uid(2)]


@pytest.mark.parametrize(("retry", "order"), [("tail", [2, 3, 0, 1]), ("head", [0, 1, 2, 3])])
def test_failed_items_go_where_retry_says(scripts: Scripts, retry: str, order: list[int]) -> None:
    """At the tail a retry waits for all others; at the head it keeps its turn."""
    scripts.configure(retry=retry)
    scripts.enqueue(*map(uid, range(4)))
    scripts.claim(receipt(), 2)
    assert scripts.fail(receipt(), uid(0), uid(1)) == [b"queued"] * 2
    assert scripts.queued() == [uid(n) for n in order]
    assert scripts.hash("errors")[uid(0)] == b"broken"


@pytest.mark.parametrize(("failures", "delay"), [(1, 1000), (2, 2000), (3, 4000), (4, 5000)])
def test_backoff_doubles_up_to_its_cap(scripts: Scripts, failures: int, delay: int) -> None:
    """The n-th retry waits base * 2 ** (n - 1), at most the cap, times the jitter that the client drew."""
    scripts.configure(backoff_base_ms=1000, backoff_cap_ms=5000, max_attempts=9)
    scripts.enqueue(uid(1))
    outcome: list[bytes] = []
    for number in range(failures):
        scripts.now_ms += 10_000
        scripts.claim(receipt(number))
        outcome = scripts.fail(receipt(number), uid(1), jitter=0.5)
    assert outcome == [str(scripts.now_ms + delay // 2).encode()]
    assert scripts.scores("scheduled") == {uid(1): scripts.now_ms + delay // 2}


def test_attempts_used_up(scripts: Scripts) -> None:
    """The last allowed failure is the end, whatever the caller asked for."""
    scripts.configure(max_attempts=2)
    scripts.enqueue(uid(1))
    for number, outcome in ((1, b"queued"), (2, b"dead")):
        scripts.configure(retry="tail")
        scripts.claim(receipt(number))
        assert scripts.fail(receipt(number), uid(1), after="" if number == 1 else "500") == [outcome]
    assert scripts.scores("dead") == {uid(1): START_MS}


@pytest.mark.parametrize("after", ["", "700", "dead"])
def test_fail_repeated(scripts: Scripts, after: str) -> None:
    """The same receipt again gives the same outcome and counts no second failure."""
    scripts.enqueue(uid(1), uid(2))
    scripts.claim()
    first = scripts.fail(receipt(), uid(1), after=after)
    before = scripts.contents()
    scripts.now_ms += 10
    assert scripts.fail(receipt(), uid(1), after=after) == first
    assert scripts.contents() == before


def test_fail_with_an_outcome_for_each(scripts: Scripts) -> None:
    """One call may send each item elsewhere; outcomes come in the order of the items, over several receipts."""
    scripts.enqueue(*map(uid, range(4)))
    scripts.claim(receipt(1), 2)
    scripts.claim(receipt(2), 2)
    first = (receipt(1), 3, uid(1), "dead", 1, "a", uid(9), "", 1, "b", uid(0), "250", 1, "c")
    outcomes = scripts.call("fail", *first, receipt(2), 1, uid(3), "0", 1, "d")[0]
    assert outcomes == [b"dead", b"lost", str(START_MS + 250).encode(), str(START_MS).encode()]
    assert scripts.hash("errors") == {uid(1): b"a", uid(0): b"c", uid(3): b"d"}
    assert scripts.held() == {receipt(2): [uid(2)]}
