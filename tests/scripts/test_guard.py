"""The door of every script: what it refuses, and that a refusal changes nothing."""

from __future__ import annotations

import re

import pytest
import redis
from scripts.harness import START_MS, Scripts, receipt, uid

from reliq import _scripts

READERS = ("batch_progress", "crons", "get", "inspect", "oldest", "scan", "workers")
REBUILDERS = {"rebuild", "restore", "restore_batch"}  # their door is the other way round: what a rebuild is, they ask
VERBS = [verb for verb in _scripts.names() if verb not in REBUILDERS]
WRITERS = tuple(verb for verb in VERBS if verb not in READERS)
THEN = b"\x10" + uid(10) + b"\x00\x00\x01"  # an item that follows a batch, as lua/_batch.lua packs it
# A call of each verb that would do something to the queue of `prepared`.
CALLS: dict[str, tuple[tuple[bytes | str | int, ...], dict[str, bytes | str | int]]] = {
    "await_room": ((), {"producer": "p", "wait_ms": 100, "wants": 9, "weighs": 99}),
    "batch": (
        (uid(9), b"\x01", "", ""),
        {
            "batch_id": "b",
            "follow_when": "finished",
            "sealed_now": 1,
            "then_id": uid(10),
            "then_due": "",
            "then_group": "",
            "then_body": b"\x01",
        },
    ),
    "batch_progress": ((), {"batch_id": "b"}),
    "beat": ((), {"worker": "w", "facts": b"\x80", "sweep_ms": 1000}),
    "cancel": ((uid(3),), {}),
    "checkpoint": ((), {"held_by": receipt(), "item_id": uid(1), "lease_ms": 9000, "progress": b"\xc0"}),
    "claim": ((), {"claim_id": receipt(2), "count": 1, "lease_ms": 1000, "worker": "w", "wait_ms": 100}),
    "configure": (("max_length", 9), {}),
    "cron_set": ((), {"cron_name": "c", "seen": "", "revision": "ab", "definition": b"\x90", "next_at": "inf"}),
    "cron_tick": ((), {"cron_name": "c", "revision": "ab", "seen": 1, "next_at": 2, "last_at": ""}),
    "crons": ((), {"which": "all", "cron_name": "", "offset": 0}),
    "discard": ((uid(2),), {}),
    "end_again": ((uid(3), b"\xff" + b"\x7f" * 6 + b"f"), {}),
    "enqueue": ((uid(9), b"\x01"), {"stride": 2}),
    "fail": ((receipt(), 1, uid(1), "", "0.5", "broken"), {}),
    "finish": ((receipt(), 1, uid(1)), {}),
    "finish_unseen": ((receipt(), uid(1), b"\x00" * 6, "0", "", uid(9), b"\x01", "", ""), {"ending": 1}),
    "finish_with": ((receipt(), uid(1), b"\x02", uid(9), b"\x01", "", ""), {"ending": 1}),
    "finish_and_claim": (
        (receipt(), 1, uid(1)),
        {"claim_id": receipt(2), "count": 1, "lease_ms": 1000, "worker": "w", "wait_ms": 100},
    ),
    "get": ((uid(1),), {}),
    "inspect": ((), {}),
    "mirror": ((), {"wanted": 1, "most": ""}),
    "oldest": ((), {"state": "queued"}),
    "pause": ((), {"claim": 1, "enqueue": 1}),
    "purge": ((), {"state": "queued", "limit": 10}),
    "put_back": ((uid(9), "queued", b"\x01" * 7, "", "", "", "", "", ""), {}),
    "put_back_batch": (
        (),
        {"batch_id": "b", "phase": "open", "follow_when": "finished", "in_all": 1, "following": THEN},
    ),
    "recover": ((), {"limit": 10}),
    "redrive": ((), {"token": "t", "limit": 10}),
    "release": ((receipt(), 1, uid(1)), {}),
    "renew": ((receipt(), 1, uid(1)), {"lease_ms": 9000}),
    "requeue": ((uid(2),), {}),
    "resolve": ((uid(2),), {"decision": "finish"}),
    "resume": ((), {}),
    "scan": ((), {"state": "queued", "cursor": "", "limit": 10}),
    "watch": ((), {"item_id": uid(1), "wait_ms": 100}),
    "workers": ((), {}),
}


@pytest.fixture
def prepared(scripts: Scripts) -> Scripts:
    """Item 1 is in progress, 2 is dead, 3 is queued."""
    scripts.enqueue(uid(2))
    scripts.claim(receipt(9))
    scripts.fail(receipt(9), uid(2), after="dead")
    scripts.enqueue(uid(1), uid(3))
    scripts.claim(receipt(), 1)
    return scripts


def call(scripts: Scripts, verb: str) -> list[object]:
    rest, named = CALLS[verb]
    return scripts.call(verb, *rest, **named)


def refused(scripts: Scripts, verb: str) -> str:
    """The error of a call, which must have changed nothing."""
    before = scripts.contents()
    with pytest.raises(redis.ResponseError) as caught:
        call(scripts, verb)
    assert scripts.contents() == before
    return re.sub(r" script: .*", "", str(caught.value))


@pytest.mark.parametrize("verb", VERBS)
def test_state_lost(scripts: Scripts, verb: str) -> None:
    """A client that knows an epoch is told that the queue is gone, and nothing is made in its place."""
    scripts.epoch = b"1700000000000"
    assert refused(scripts, verb) == "STATE_LOST 1700000000000"


@pytest.mark.parametrize("verb", VERBS)
def test_stale_epoch(prepared: Scripts, verb: str) -> None:
    """A client from before a rebuild is told the epoch that the queue has now."""
    prepared.epoch = b"1700000000000"
    assert refused(prepared, verb) == f"STALE_EPOCH {START_MS}"


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_layout(prepared: Scripts, verb: str) -> None:
    """A queue that a newer version wrote is not touched, and not read either."""
    prepared.client.hset(prepared.keys["meta"], "layout", "2")
    assert refused(prepared, verb) == "UNKNOWN_LAYOUT 2"


@pytest.mark.parametrize("verb", WRITERS)
def test_rebuilding_closes_the_queue(prepared: Scripts, verb: str) -> None:
    """While a queue is rebuilt nobody changes it."""
    prepared.client.hset(prepared.keys["meta"], "state", "rebuilding")
    assert refused(prepared, verb) == f"REBUILDING {START_MS}"


@pytest.mark.parametrize("verb", READERS)
def test_rebuilding_can_be_watched(prepared: Scripts, verb: str) -> None:
    """While a queue is rebuilt it can be read."""
    prepared.client.hset(prepared.keys["meta"], "state", "rebuilding")
    assert call(prepared, verb)


@pytest.mark.parametrize("verb", VERBS)
def test_current_epoch_is_admitted(prepared: Scripts, verb: str) -> None:
    """A client that knows the queue's epoch gets its answer."""
    prepared.epoch = str(START_MS).encode()
    call(prepared, verb)
    prepared.counts()


@pytest.mark.parametrize("verb", VERBS)
def test_no_queue_yet(scripts: Scripts, verb: str) -> None:
    """Without an epoch every verb works on a queue that does not exist; only those that add something make it."""
    if verb in ("finish", "finish_with", "release", "renew", "finish_and_claim"):
        lost = call(scripts, verb)[0]
        assert lost == [0]
    elif verb == "put_back":
        assert call(scripts, verb)[0] == [0]  # not put
        assert not scripts.contents()
    elif verb == "put_back_batch":
        assert call(scripts, verb)[0] == b"through"
        assert not scripts.contents()
    else:
        call(scripts, verb)
    made = scripts.meta("layout") is not None
    assert made == (verb in ("enqueue", "batch", "configure", "pause", "cron_set", "mirror"))


def test_epoch_is_the_time_of_creation(scripts: Scripts) -> None:
    """A queue that is made again after a loss has a greater epoch than before."""
    scripts.enqueue(uid(1))
    assert scripts.meta("epoch") == str(START_MS).encode()
    scripts.client.flushall()
    scripts.now_ms += 1
    scripts.enqueue(uid(1))
    assert scripts.meta("epoch") == str(START_MS + 1).encode()


def test_queue_full_counts_what_waits(scripts: Scripts) -> None:
    """The limit is on queued and scheduled items; a batch that does not fit is refused whole."""
    scripts.configure(max_length=3)
    scripts.enqueue(uid(1))
    scripts.enqueue(uid(2), due="+5000")
    before = scripts.contents()
    with pytest.raises(redis.ResponseError, match="QUEUE_FULL 2 3"):
        scripts.enqueue(uid(3), uid(4))
    assert scripts.contents() == before
    assert scripts.enqueue(uid(1), uid(2), uid(3)) == [0, 1]


def test_queue_full_leaves_out_cancelled_places(scripts: Scripts) -> None:
    """A cancelled item makes room at once, although its place is still in the list."""
    scripts.configure(max_length=1)
    scripts.enqueue(uid(1))
    scripts.call("cancel", uid(1))
    assert scripts.enqueue(uid(2)) == []


def test_queue_full_still_admits_repeats(scripts: Scripts) -> None:
    """A full queue answers the repeat of an enqueue that succeeded."""
    scripts.configure(max_length=1)
    scripts.enqueue(uid(1))
    assert scripts.enqueue(uid(1)) == [0]


def test_paused_for_new_items(scripts: Scripts) -> None:
    """A queue that is closed for new items refuses these and goes on giving out what it has."""
    scripts.enqueue(uid(1))
    scripts.call("pause", claim=0, enqueue=1)
    with pytest.raises(redis.ResponseError, match="PAUSED"):
        scripts.enqueue(uid(2))
    assert scripts.claim() == [uid(1)]


def test_paused_for_claims(scripts: Scripts) -> None:
    """A queue that is closed for claims brings nothing, and settles what is held."""
    scripts.enqueue(uid(1), uid(2))
    scripts.claim(receipt(), 1)
    scripts.call("pause", claim=1, enqueue=0)
    assert scripts.claim(receipt(2)) == []
    assert scripts.settle("finish", receipt(), uid(1)) == []
    scripts.call("resume")
    assert scripts.claim(receipt(2)) == [uid(2)]


def test_server_clock_without_now_ms(scripts: Scripts) -> None:
    """Without a time from a test the script takes the server's."""
    scripts.client.flushall()
    scripts.call("enqueue", uid(1), b"\x01", stride=2, now_ms="")
    seconds = scripts.client.time()[0]
    assert abs(int(scripts.meta("epoch") or 0) - seconds * 1000) < 60_000
