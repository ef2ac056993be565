"""What a repair does to a live queue: put_back, put_back_batch and end_again, with each outcome and each refusal."""

from __future__ import annotations

import pytest
import redis
from scripts.harness import STAMP, START_MS, Scripts, receipt, stamp_of, uid, unpacked

Part = bytes | str
DUE = START_MS + 60_000
THEN = b"\x10" + uid(99) + b"\x00\x00\x01"  # follows a batch: lengths and values of id, due and group, then the body


def record(stamp: int, body: bytes = b"\x01") -> bytes:
    return stamp.to_bytes(STAMP, "big") + body


def lost(
    key: bytes,
    stamp: int,
    state: str = "queued",
    *,
    history: Part = "",
    at: Part = "",
    error: Part = "",
    group: Part = "",
    progress: Part = "",
    batch: Part = "",
) -> list[Part]:
    """An item as put_back takes it."""
    return [key, state, record(stamp), history, at, error, group, progress, batch]


def put_back(scripts: Scripts, *items: list[Part]) -> list[int]:
    """Puts items, and returns the indexes of those that were there."""
    there: list[int] = scripts.call("put_back", *[part for item in items for part in item])[0]
    return there


def stamps_of(scripts: Scripts, *ids: bytes) -> list[int]:
    return [stamp_of(scripts.hash("items")[i]) for i in ids]


@pytest.fixture
def three(scripts: Scripts) -> Scripts:
    """Three queued items with ten ticks between them."""
    for number in (1, 2, 3):
        scripts.enqueue(uid(number))
        scripts.now_ms += 1
    return scripts


def test_a_queued_item_goes_between_its_neighbours(three: Scripts) -> None:
    """By its stamp, with its record; later stamps stay the last ones."""
    first, second, third = stamps_of(three, uid(1), uid(2), uid(3))
    assert put_back(three, lost(uid(9), third + 5), lost(uid(8), first + 5)) == []
    assert three.queued() == [uid(1), uid(8), uid(2), uid(3), uid(9)]
    assert three.hash("items")[uid(8)] == record(first + 5)
    assert int(three.meta("stamp") or 0) == third + 5
    assert second < third
    assert three.claim() == [uid(1), uid(8), uid(2), uid(3), uid(9)]


def test_it_is_claimed_although_later_items_have_been(three: Scripts) -> None:
    """Its history says that it is queued: its stamp alone would have it in progress."""
    three.claim()
    assert put_back(three, lost(uid(9), stamps_of(three, uid(1))[0] + 1)) == []
    assert three.states(uid(9)) == ["queued"]
    assert three.claim(receipt(2)) == [uid(9)]


def test_each_state_comes_back_as_it_was(scripts: Scripts) -> None:
    """With what goes with it: time, error, history and checkpoint."""
    scripts.enqueue(uid(1))
    stamp = stamps_of(scripts, uid(1))[0]
    put = [
        lost(uid(2), stamp - 5, "scheduled", at=str(DUE), history="q 1 1 0 ", error="broken"),
        lost(uid(3), stamp - 4, "orphaned", at=str(START_MS), history="q 1 0 1 ", progress="1 \xc0"),
        lost(uid(4), stamp - 3, "dead", at=str(START_MS), history="q 2 2 0 ", error="again"),
    ]
    assert put_back(scripts, *put) == []
    assert scripts.states(uid(2), uid(3), uid(4)) == ["scheduled", "orphaned", "dead"]
    assert scripts.scores("scheduled") == {uid(2): DUE}
    assert scripts.scores("orphaned") == {uid(3): START_MS}
    assert scripts.hash("errors") == {uid(2): b"broken", uid(4): b"again"}
    assert set(scripts.hash("checkpoints")) == {uid(3)}
    assert scripts.counts()["enqueued"] == 4


def test_what_the_queue_knows_is_left_alone(three: Scripts) -> None:
    """In whatever state it is, also ended."""
    three.claim(receipt(), 2)
    three.settle("finish", receipt(), uid(1))
    before = three.contents()
    assert put_back(three, *[lost(uid(n), 7, "dead", at="1") for n in (1, 2, 3)]) == [0, 1, 2]
    assert three.contents() == before


def test_a_repeat_changes_nothing(three: Scripts) -> None:
    """The second call finds everything there."""
    items = [lost(uid(8), 50, batch="b"), lost(uid(9), 60, "scheduled", at=str(DUE))]
    put_back(three, *items)
    before = three.contents()
    assert put_back(three, *items) == [0, 1]
    assert three.contents() == before


def test_a_queue_that_is_not_there_gets_nothing(scripts: Scripts) -> None:
    """That is what a rebuild is for."""
    assert put_back(scripts, lost(uid(1), 7)) == [0]
    assert not scripts.contents()


@pytest.mark.parametrize("key", ["turns", "groups", "errors", "checkpoints", "members", "batches", "scheduled"])
def test_a_key_of_another_type_is_refused_before_anything_is_written(three: Scripts, key: str) -> None:
    """The error names it, and nothing has changed."""
    three.client.set(three.keys[key], "something else")
    three.is_whole = False
    before = three.contents()
    with pytest.raises(redis.ResponseError, match=r"WRONG_?TYPE"):
        put_back(three, lost(uid(9), 7))
    assert three.contents() == before


def test_an_idle_worker_is_woken(three: Scripts) -> None:
    """As by an enqueue."""
    three.claim(receipt(), 10)
    three.claim_reply(receipt(2), worker=b"idle", wait_ms=1000)
    put_back(three, lost(uid(9), 7))
    assert three.tokens() == 1


def test_an_orphaned_item_of_a_group_has_the_turn_again(scripts: Scripts) -> None:
    """The others of its group wait for it, as before it was lost."""
    scripts.enqueue(uid(1))
    put_back(scripts, lost(uid(2), 7, "orphaned", at=str(START_MS), history="q 1 0 1 ", group="g"))
    put_back(scripts, lost(uid(3), 8, group="g"))
    assert unpacked(scripts.hash("turns")[b"g"]) == [uid(2)]
    assert scripts.claim() == [uid(1)]
    assert scripts.counts()["blocked"] == 1


def test_one_that_comes_late_waits_for_who_has_the_turn_meanwhile(scripts: Scripts) -> None:
    """Two of a group at work at the same time would be worse than one out of turn."""
    scripts.call("enqueue", uid(1), b"\x01", "", "g", stride=4)
    assert scripts.claim(lease_ms=600_000) == [uid(1)]
    retried = lost(uid(2), 7, "scheduled", at=str(DUE), history="q 1 1 0 ", group="g")
    assert put_back(scripts, retried) == []
    assert unpacked(scripts.hash("turns")[b"g"]) == [uid(1)]
    scripts.now_ms = DUE
    assert scripts.claim(receipt(2)) == []
    scripts.settle("finish", receipt(), uid(1))
    assert scripts.claim(receipt(3)) == [uid(2)]


# Batches


def open_batch(scripts: Scripts, when: str = "finished", total: int = 0) -> bytes:
    named: dict[str, bytes | str | int] = {"batch_id": "b", "phase": "open", "follow_when": when, "in_all": total}
    outcome: bytes = scripts.call("put_back_batch", **named, following=THEN)[0]
    return outcome


def seal_batch(scripts: Scripts) -> bytes:
    named: dict[str, bytes | str | int] = {"batch_id": "b", "phase": "seal", "follow_when": "finished", "in_all": 0}
    outcome: bytes = scripts.call("put_back_batch", **named, following=THEN)[0]
    return outcome


def batch(scripts: Scripts, *ids: bytes, sealed: int = 1) -> None:
    """Enqueues members of a batch, as a producer does."""
    named: dict[str, bytes | str | int] = {"batch_id": "b", "follow_when": "finished", "sealed_now": sealed}
    named |= {"then_id": uid(99), "then_due": "", "then_group": "", "then_body": b"\x01"}
    scripts.call("batch", *[part for i in ids for part in (i, b"\x01", "", "")], **named)


def test_members_count_again_in_a_batch_that_is_there(scripts: Scripts) -> None:
    """Once each, in all and among those awaited, and what follows comes behind them."""
    batch(scripts, uid(1))
    put_back(scripts, lost(uid(2), 7, batch="b"), lost(uid(3), 8, batch="b"))
    assert scripts.hash("batches")[b"bb"] == b"finished 1 3 3"
    assert put_back(scripts, lost(uid(2), 7, batch="b")) == [0]
    assert scripts.hash("batches")[b"bb"] == b"finished 1 3 3"
    held = scripts.claim()
    scripts.settle("finish", receipt(), *held[:2])
    assert scripts.claim(receipt(2)) == []
    scripts.settle("finish", receipt(), *held[2:])
    assert scripts.claim(receipt(3)) == [uid(99)]


def test_a_member_that_is_awaited_still_counts_no_second_time(scripts: Scripts) -> None:
    """Where only its record was lost, the batch knows it."""
    batch(scripts, uid(1), uid(2))
    scripts.client.hdel(scripts.keys["items"], uid(2))
    scripts.client.lrem(scripts.keys["queued"], 0, uid(2))
    scripts.client.hincrby(scripts.keys["meta"], "enqueued", -1)
    scripts.client.hincrby(scripts.keys["meta"], "waiting_bytes", -7)
    put_back(scripts, lost(uid(2), 7, batch="b"))
    assert scripts.hash("batches")[b"bb"] == b"finished 1 2 2"


def test_a_member_of_a_batch_that_is_not_there_comes_back_alone(three: Scripts) -> None:
    """Nobody knows what would follow it."""
    put_back(three, lost(uid(9), 7, batch="b"))
    assert three.hash("members") == {}
    assert three.states(uid(9)) == ["queued"]


def test_a_batch_that_was_lost_is_followed_when_it_is_sealed_and_through(three: Scripts) -> None:
    """Opened, filled and sealed: members that finish before the seal don't let it be followed too early."""
    assert open_batch(three, total=4) == b"open"
    put_back(three, lost(uid(8), 7, batch="b"), lost(uid(9), 8, batch="b"))
    assert three.hash("batches") == {b"bb": b"finished 0 6 2", b"tb": THEN}
    held = three.claim()
    three.settle("finish", receipt(), *held)
    assert three.states(uid(99)) == [""]
    assert seal_batch(three) == b"followed"
    assert three.states(uid(99)) == ["queued"]
    assert three.hash("batches") == {}


def test_a_batch_that_awaits_somebody_is_sealed(three: Scripts) -> None:
    """And followed by the end of its last member."""
    open_batch(three)
    put_back(three, lost(uid(9), 7, batch="b"))
    assert seal_batch(three) == b"sealed"
    assert three.hash("batches")[b"bb"] == b"finished 1 1 1"
    three.settle("finish", receipt(), *three.claim())
    assert three.claim(receipt(2)) == [uid(99)]


def test_a_batch_that_is_there_stays_as_it_is(scripts: Scripts) -> None:
    """Opening it again changes nothing, and neither does a second seal."""
    batch(scripts, uid(1), sealed=0)
    before = scripts.contents()
    assert open_batch(scripts, "settled", 9) == b"open"
    assert scripts.contents() == before
    assert seal_batch(scripts) == b"sealed"
    before = scripts.contents()
    assert seal_batch(scripts) == b"sealed"
    assert open_batch(scripts) == b"sealed"
    assert scripts.contents() == before


def test_a_batch_whose_follower_the_queue_knows_is_through(scripts: Scripts) -> None:
    """Nothing is made, and what followed it comes no second time."""
    scripts.enqueue(uid(99))
    before = scripts.contents()
    assert open_batch(scripts) == b"through"
    assert seal_batch(scripts) == b"through"
    assert scripts.contents() == before


def test_a_lost_batch_of_none_is_followed_once(three: Scripts) -> None:
    """All of its members had ended; repeating the seal finds it through."""
    open_batch(three, total=2)
    assert seal_batch(three) == b"followed"
    before = three.contents()
    assert seal_batch(three) == b"through"
    assert open_batch(three) == b"through"
    assert three.contents() == before


# Ends


def ended(how: bytes = b"f", words: bytes = receipt(7), ms: int = 60_000) -> bytes:
    """An end marker, from a time after all enqueues of a test."""
    ticks = (START_MS + ms - 1_735_689_600_000) * 200
    return b"\xff" + ticks.to_bytes(STAMP, "big") + how + words


def end_again(scripts: Scripts, *pairs: tuple[bytes, bytes]) -> list[int]:
    """The indexes of those that it left."""
    left: list[int] = scripts.call("end_again", *[part for pair in pairs for part in pair])[0]
    return left


def test_a_queued_item_ends_as_it_had(three: Scripts) -> None:
    """Its place is passed over, and a repeat of the finish by its holder is a quiet yes."""
    assert end_again(three, (uid(2), ended())) == []
    assert three.states(uid(2)) == ["finished"]
    assert three.hash("items")[uid(2)] == ended(b"p")
    assert three.claim() == [uid(1), uid(3)]
    assert three.settle("finish", receipt(7), uid(2)) == []
    assert three.counts()["finished"] == 1


def test_its_result_comes_back_with_it(three: Scripts) -> None:
    """Behind the length of the receipt, as the marker has it."""
    words = b"\x10" + receipt(7) + b"\xa4done"
    assert end_again(three, (uid(2), ended(b"F", words))) == []
    assert three.hash("items")[uid(2)] == ended(b"P", words)
    three.claim()
    assert three.hash("items")[uid(2)][7:] == b"F" + words


def test_what_was_removed_is_removed_again(three: Scripts) -> None:
    """Cancelled in its place, and counted as removed."""
    assert end_again(three, (uid(1), ended(b"c", b"")), (uid(2), ended(b"r", b""))) == []
    assert three.states(uid(1), uid(2)) == ["removed", "removed"]
    assert three.counts()["removed"] == 2
    assert three.claim() == [uid(3)]


@pytest.mark.parametrize("how", [b"f", b"p", b"r", b"c", b"R"])
def test_items_that_stand_aside_end(scripts: Scripts, how: bytes) -> None:
    """Scheduled, orphaned and dead ones leave their places, whatever place the marker is from."""
    scripts.configure(expiry="hold")
    scripts.enqueue(uid(1), uid(2))
    scripts.claim(receipt(1), 1, 500)
    scripts.now_ms += 500
    scripts.recover()
    scripts.claim(receipt(2), 1)
    scripts.fail(receipt(2), uid(2), after="dead")
    scripts.enqueue(uid(3), due="+60000")
    assert scripts.states(uid(1), uid(2), uid(3)) == ["orphaned", "dead", "scheduled"]
    words = b"" if how in b"rc" else b"\x00why" if how == b"R" else receipt(7)
    assert end_again(scripts, *[(uid(n), ended(how, words)) for n in (1, 2, 3)]) == []
    state = "finished" if how in b"fp" else "removed"
    assert scripts.states(uid(1), uid(2), uid(3)) == [state] * 3
    assert scripts.counts()[state] == 3
    assert scripts.ended_calls() == [[uid(1), uid(2), uid(3)]]


def test_what_somebody_holds_is_left_and_so_is_what_has_ended_or_is_unknown(three: Scripts) -> None:
    """It is for their holders, or over."""
    three.claim(receipt(), 2)
    three.settle("finish", receipt(), uid(1))
    before = three.contents()
    assert end_again(three, *[(uid(n), ended()) for n in (1, 2, 77)]) == [0, 1, 2]
    assert three.contents() == before


def test_an_item_that_was_enqueued_after_the_end_is_another_one(three: Scripts) -> None:
    """The same id may be used again when it is forgotten."""
    before = three.contents()
    assert end_again(three, (uid(2), ended(ms=-60_000))) == [0]
    assert three.contents() == before


def test_a_second_call_changes_nothing(three: Scripts) -> None:
    """It finds them ended."""
    end_again(three, (uid(1), ended()), (uid(3), ended(b"r", b"")))
    before = three.contents()
    assert end_again(three, (uid(1), ended()), (uid(3), ended(b"r", b""))) == [0, 1]
    assert three.contents() == before


def test_it_goes_on_in_its_group_and_its_batch(scripts: Scripts) -> None:
    """One that waits for its turn leaves the line; one that had the turn passes it on; members are counted off."""
    for number in (1, 2, 3):
        scripts.call("enqueue", uid(number), b"\x01", "", "g", stride=4)
    batch(scripts, uid(5))
    assert scripts.claim(receipt(), 10) == [uid(1), uid(5)]
    scripts.settle("release", receipt(), uid(1))
    assert scripts.counts()["blocked"] == 2
    assert end_again(scripts, (uid(2), ended()), (uid(1), ended())) == []
    assert scripts.claim(receipt(2)) == [uid(3)]
    scripts.settle("release", receipt(), uid(5))
    assert end_again(scripts, (uid(5), ended())) == []
    assert scripts.claim(receipt(3)) == [uid(99)]
