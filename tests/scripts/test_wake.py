"""Tokens for idle workers: one for each item that there is a worker for, never more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scripts.harness import START_MS, Scripts, receipt, uid

WAIT_MS = 2000
LATE_MS = 1000  # a worker is noted for so much longer than it will block


def wait(scripts: Scripts, *workers: int, wait_ms: int = WAIT_MS) -> int:
    """Notes workers as idle and returns what the last one was told about the next due time."""
    reply: list[int] = [-1]
    for number in workers:
        reply = scripts.claim_reply(receipt(number), 1, worker=b"w%d" % number, wait_ms=wait_ms)
    return reply[-1]


def test_idle_worker_is_noted_until_its_wait_ends(scripts: Scripts) -> None:
    """A claim that finds nothing notes its worker, with room for the round trip."""
    assert wait(scripts, 1) == -1
    assert scripts.scores("waiting") == {b"w1": START_MS + WAIT_MS + LATE_MS}


def test_claim_that_brings_items_notes_nobody(scripts: Scripts) -> None:
    """A worker that has work does not wait."""
    scripts.enqueue(uid(1))
    wait(scripts, 1)
    assert scripts.scores("waiting") == {}


def test_claim_without_a_worker_notes_nobody(scripts: Scripts) -> None:
    """A claim that will not wait gets no token."""
    scripts.claim()
    assert scripts.scores("waiting") == {}


@pytest.mark.parametrize(("workers", "items"), [(1, 1), (3, 1), (3, 2), (2, 5), (3, 3), (0, 4)])
def test_as_many_tokens_as_items_and_workers(scripts: Scripts, workers: int, items: int) -> None:
    """A batch wakes as many workers as it has items for, and each leaves the set of those who wait."""
    wait(scripts, *range(workers))
    scripts.enqueue(*map(uid, range(items)))
    assert scripts.tokens() == min(workers, items)
    assert len(scripts.scores("waiting")) == workers - min(workers, items)


def test_repeated_enqueue_wakes_nobody_more(scripts: Scripts) -> None:
    """A repeat after a lost reply adds no item and so no token."""
    wait(scripts, 1, 2)
    scripts.enqueue(uid(1))
    scripts.enqueue(uid(1))
    assert scripts.tokens() == 1


def test_worker_whose_wait_is_over_gets_no_token(scripts: Scripts) -> None:
    """A worker that died, or waits no longer, costs no token and is forgotten."""
    wait(scripts, 1)
    scripts.now_ms += WAIT_MS + LATE_MS
    scripts.enqueue(uid(1))
    assert scripts.tokens() == 0
    assert scripts.scores("waiting") == {}


def test_tokens_go_to_those_who_wait_longest_from_now(scripts: Scripts) -> None:
    """The worker that came last is taken first: its wait is the least likely to be over."""
    wait(scripts, 1)
    scripts.now_ms += 10
    wait(scripts, 2)
    scripts.enqueue(uid(1))
    assert list(scripts.scores("waiting")) == [b"w1"]


def test_next_waiter_clears_the_forgotten_ones(scripts: Scripts) -> None:
    """Dead workers don't pile up: each new wait takes off those that are over."""
    wait(scripts, 1)
    scripts.now_ms += WAIT_MS + LATE_MS
    wait(scripts, 2)
    assert list(scripts.scores("waiting")) == [b"w2"]


def test_worker_is_told_when_something_falls_due(scripts: Scripts) -> None:
    """The wait ends with the first due item or ending lease, whichever comes first."""
    scripts.enqueue(uid(1), due="+900")
    assert wait(scripts, 1) == 900
    scripts.enqueue(uid(2))
    scripts.claim(receipt(9), lease_ms=400)
    assert wait(scripts, 2) == 400


def test_scheduled_item_wakes_one_worker(scripts: Scripts) -> None:
    """A worker that sleeps until a later time has to hear of an earlier one."""
    wait(scripts, 1, 2)
    scripts.enqueue(uid(1), uid(2), due="+100")
    assert scripts.tokens() == 1


def expire_and_recover(scripts: Scripts) -> object:
    scripts.now_ms += 1500
    return scripts.recover()


RETURNS: dict[str, tuple[int, Callable[[Scripts], object]]] = {
    "release": (2, lambda s: s.settle("release", receipt(9), uid(1), uid(2))),
    "fail to the tail": (2, lambda s: s.fail(receipt(9), uid(1), uid(2))),
    "fail later": (1, lambda s: s.fail(receipt(9), uid(1), uid(2), after="500")),
    "fail for good": (0, lambda s: s.fail(receipt(9), uid(1), uid(2), after="dead")),
    "finish": (0, lambda s: s.settle("finish", receipt(9), uid(1), uid(2))),
    "recover": (2, expire_and_recover),
}


@pytest.mark.parametrize("verb", RETURNS)
def test_items_that_come_back_wake_workers(scripts: Scripts, verb: str) -> None:
    """Whatever puts items back into the queue wakes as many workers as there are for them."""
    tokens, act = RETURNS[verb]
    scripts.configure(retry="tail")
    scripts.enqueue(uid(1), uid(2))
    scripts.claim(receipt(9), lease_ms=1500)
    wait(scripts, 1, 2, 3)
    act(scripts)
    assert scripts.tokens() == tokens


@pytest.mark.parametrize("verb", ["requeue", "resolve", "redrive"])
def test_operators_wake_workers(scripts: Scripts, verb: str) -> None:
    """Items that a person sends back wake workers as well."""
    scripts.enqueue(uid(1))
    scripts.claim(receipt(9))
    scripts.fail(receipt(9), uid(1), after="dead")
    wait(scripts, 1, 2)
    if verb == "redrive":
        scripts.call(verb, token="t", limit=5)
    else:
        scripts.call(verb, uid(1), **({"decision": "requeue"} if verb == "resolve" else {}))
    assert scripts.tokens() == 1


def test_claim_wakes_others_for_what_it_leaves(scripts: Scripts) -> None:
    """A claim that returns more expired items than it takes wakes workers for the others only."""
    scripts.enqueue(*map(uid, range(3)))
    scripts.claim(receipt(9), lease_ms=100)
    wait(scripts, 1, 2, 3)
    scripts.now_ms += 100
    assert len(scripts.claim(receipt(8), 2)) == 2
    assert scripts.tokens() == 1


def test_resume_wakes_workers(scripts: Scripts) -> None:
    """Workers that wait while a queue is closed hear of its opening, as many as there are items."""
    scripts.enqueue(uid(1), uid(2))
    scripts.call("pause", claim=1, enqueue=0)
    wait(scripts, 1, 2, 3)
    assert scripts.tokens() == 0
    scripts.call("resume")
    assert scripts.tokens() == 2


def test_paused_claim_gives_its_worker_no_stale_token(scripts: Scripts) -> None:
    """Enqueueing to a queue that is closed for claims may wake workers, never more than there are."""
    scripts.call("pause", claim=1, enqueue=0)
    wait(scripts, 1)
    scripts.enqueue(uid(1), uid(2))
    assert scripts.tokens() <= 1
