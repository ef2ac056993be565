"""The verbs of people and programs that look after a queue: each from every state."""

from __future__ import annotations

import pytest
import redis
from scripts.harness import START_MS, Scripts, receipt, uid

from reliq.states import TRANSITIONS

STATES = ("scheduled", "queued", "in_progress", "orphaned", "dead", "finished", "removed", "")
IDS = {state: uid(n) for n, state in enumerate(STATES)}
NAMED: dict[str, dict[str, bytes | str | int]] = {
    "cancel": {},
    "discard": {},
    "requeue": {},
    "resolve finish": {"decision": "finish"},
    "resolve requeue": {"decision": "requeue"},
    "resolve dead": {"decision": "dead"},
}


@pytest.fixture
def every(scripts: Scripts) -> Scripts:
    """A queue with an item in every state, and one id that it does not know."""
    scripts.configure(expiry="hold")
    scripts.enqueue(IDS["orphaned"])
    scripts.claim(receipt(1), 1, 500)
    scripts.now_ms += 500
    scripts.recover()
    scripts.enqueue(IDS["dead"], IDS["finished"])
    scripts.claim(receipt(2), 2)
    scripts.fail(receipt(2), IDS["dead"], after="dead")
    scripts.settle("finish", receipt(2), IDS["finished"])
    scripts.enqueue(IDS["scheduled"], due="+60000")
    scripts.enqueue(IDS["removed"], due="+60000")
    scripts.call("cancel", IDS["removed"])
    scripts.enqueue(IDS["in_progress"])
    scripts.claim(receipt(3))
    scripts.enqueue(IDS["queued"])
    assert scripts.states(*IDS.values()) == list(STATES)
    return scripts


def moves(case: str) -> dict[str, str]:
    """What the table of transitions says: state before -> state after."""
    verb, _, decision = case.partition(" ")
    rows = [t for t in TRANSITIONS if t.verb == verb and t.source and t.when.startswith(decision)]
    return {str(row.source): str(row.target) for row in rows}


@pytest.mark.parametrize("case", NAMED)
def test_moves_what_the_table_says_and_nothing_else(every: Scripts, case: str) -> None:
    """The reply has the states before, and the states after are those of the table of transitions."""
    assert every.call(case.partition(" ")[0], *IDS.values(), **NAMED[case])[0] == [state.encode() for state in STATES]
    expected = moves(case)
    assert every.states(*IDS.values()) == [expected.get(state, state) for state in STATES]
    every.counts()


@pytest.mark.parametrize("case", NAMED)
def test_repeat_changes_nothing_more(every: Scripts, case: str) -> None:
    """A second call finds the states of the first one's end."""
    verb = case.partition(" ")[0]
    every.call(verb, *IDS.values(), **NAMED[case])
    if case in {"resolve requeue", "requeue"}:
        assert b"dead" not in every.call(verb, *IDS.values(), **NAMED[case])[0]
    before = every.contents()
    every.call(verb, *IDS.values(), **NAMED[case])
    assert every.contents() == before


def test_requeue_at_the_tail_with_attempts_afresh(every: Scripts) -> None:
    """Requeued items stand last; the dead one starts over, but its count of claims goes on."""
    every.call("requeue", IDS["dead"], IDS["orphaned"])
    assert every.queued() == [IDS["queued"], IDS["dead"], IDS["orphaned"]]
    assert every.hash("attempts")[IDS["dead"]] == b"q 1 0 0 "
    assert every.hash("attempts")[IDS["orphaned"]] == b"q 1 0 1 "


def test_resolve_requeue_at_the_head(every: Scripts) -> None:
    """What is resolved to requeue keeps its turn: the head, in the order of enqueue."""
    every.call("resolve", IDS["dead"], IDS["orphaned"], decision="requeue")
    assert every.queued() == [IDS["orphaned"], IDS["dead"], IDS["queued"]]


def test_resolve_dead_dates_the_death(every: Scripts) -> None:
    """An item that nobody can tell about dies at the time of the decision."""
    every.now_ms += 77
    every.call("resolve", IDS["orphaned"], decision="dead")
    assert every.scores("dead")[IDS["orphaned"]] == START_MS + 577


def test_redrive_takes_the_first_to_die(scripts: Scripts) -> None:
    """Dead items come back in the order of their death, a bounded number at a time."""
    scripts.enqueue(*map(uid, range(4)))
    scripts.claim()
    for n in (2, 0, 3, 1):
        scripts.fail(receipt(), uid(n), after="dead")
        scripts.now_ms += 1
    assert scripts.call("redrive", token="a", limit=3) == [3]
    assert scripts.queued() == [uid(2), uid(0), uid(3)]
    assert scripts.call("redrive", token="b", limit=3) == [1]
    assert scripts.call("redrive", token="c", limit=3) == [0]


def test_redrive_repeated_with_its_token(scripts: Scripts) -> None:
    """The token makes a repeat harmless: same answer, nothing moved."""
    scripts.enqueue(*map(uid, range(4)))
    scripts.claim()
    scripts.fail(receipt(), *map(uid, range(4)), after="dead")
    assert scripts.call("redrive", token="a", limit=2) == [2]
    before = scripts.contents()
    assert scripts.call("redrive", token="a", limit=2) == [2]
    assert scripts.contents() == before


@pytest.mark.parametrize("state", ["queued", "scheduled", "orphaned", "dead"])
def test_purge_forgets_one_state(every: Scripts, state: str) -> None:
    """A purge empties its state, forgets the ids, and leaves everything else."""
    assert every.call("purge", state=state, limit=10)[0] == 1
    expected = ["" if found == state else found for found in STATES]
    assert every.states(*IDS.values()) == expected
    assert every.counts()["removed"] == 2
    assert every.call("purge", state=state, limit=10) == [0, 0]


def test_purge_in_parts(scripts: Scripts) -> None:
    """A purge is bounded, oldest first, and says when there is more."""
    scripts.enqueue(*map(uid, range(5)))
    scripts.call("cancel", uid(0))
    assert scripts.call("purge", state="queued", limit=3) == [2, 1]
    assert scripts.queued() == [uid(3), uid(4)]
    assert scripts.call("purge", state="queued", limit=3) == [2, 1]
    assert scripts.call("purge", state="queued", limit=3) == [0, 0]
    assert scripts.counts()["removed"] == 5


def test_purge_finished_forgets_ended_ids(every: Scripts) -> None:
    """Forgetting what ended goes call by call, oldest first, and lets the ids be used again."""
    assert every.call("purge", state="finished", limit=10) == [1, 1]
    assert every.call("purge", state="finished", limit=10) == [1, 1]
    assert every.call("purge", state="finished", limit=10) == [0, 0]
    assert every.enqueue(IDS["finished"], IDS["removed"]) == []


def test_scan_meets_every_item_of_a_state(every: Scripts) -> None:
    """A scan of each state brings the ids in it."""
    for state in STATES[:-1]:
        if state == "removed":
            continue
        found, cursor = [], b""
        while True:
            ids, cursor = every.call("scan", state=state, cursor=cursor, limit=1)
            found += ids
            if not cursor:
                break
        assert IDS[state] in found, state
        assert set(found) <= {IDS[state], IDS["removed"]}


@pytest.mark.parametrize("state", ["scheduled", "dead"])
def test_scan_loses_nothing_when_what_it_showed_leaves(scripts: Scripts, state: str) -> None:
    """Pages of sorted states go on behind the last id, also with equal times and when that id is gone."""
    ids = [uid(n) for n in range(7)]
    scripts.enqueue(*ids, due="+5000" if state == "scheduled" else None)
    if state == "dead":
        scripts.claim()
        scripts.fail(receipt(), *ids, after="dead")
    found: list[bytes] = []
    cursor = b""
    while True:
        page, cursor = scripts.call("scan", state=state, cursor=cursor, limit=2)
        found += page
        scripts.call("requeue", *page)
        if not cursor:
            break
    assert found == ids


def test_oldest_age_of_each_state(every: Scripts) -> None:
    """The age of the first item of a state is told in ms since its enqueue; an empty state has none."""
    every.now_ms += 1000
    ages = {state: int(every.call("oldest", state=state)[0]) for state in STATES[:5]}
    expected = {"scheduled": 1000, "queued": 1000, "in_progress": 1000, "orphaned": 1500, "dead": 1000}
    assert ages == pytest.approx(expected, abs=1)  # a stamp may be a few ticks ahead of its time
    every.call("cancel", IDS["queued"])
    assert every.call("oldest", state="queued") == [-1]


def test_configure_and_defaults(scripts: Scripts) -> None:
    """An empty value puts a setting back to its default, and the reply has all of them."""
    flat = scripts.call("configure", "max_attempts", 2, "retry", "tail")[0]
    assert (dict(zip(flat[::2], flat[1::2], strict=True))[b"max_attempts"], scripts.meta("retry")) == (b"2", b"tail")
    flat = scripts.call("configure", "max_attempts", "")[0]
    assert dict(zip(flat[::2], flat[1::2], strict=True))[b"max_attempts"] == b"5"
    assert scripts.meta("max_attempts") is None


def test_pause_and_resume_leave_nothing(scripts: Scripts) -> None:
    """Resuming takes back both halves of a pause."""
    scripts.call("pause", claim=1, enqueue=1)
    counts = scripts.counts()
    assert (counts["paused_claim"], counts["paused_enqueue"]) == (1, 1)
    scripts.call("resume")
    assert (scripts.meta("paused_claim"), scripts.meta("paused_enqueue")) == (None, None)


def test_resume_that_is_refused_changes_nothing(scripts: Scripts) -> None:
    """A queue stays closed where resuming it fails half-way."""
    scripts.enqueue(uid(1))
    scripts.call("pause", claim=1, enqueue=1)
    scripts.is_whole = False
    scripts.client.delete(scripts.keys["queued"])
    scripts.client.set(scripts.keys["queued"], "something else")
    before = scripts.contents()
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        scripts.call("resume")
    assert scripts.contents() == before
