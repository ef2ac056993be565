"""The scripts of a rebuild: rebuild, restore and restore_batch, with each outcome and each refusal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from scripts.harness import STAMP, START_MS, Scripts, receipt, uid, unpacked

from reliq import _scripts
from reliq._keys import Keys
from reliq.embedded import Server

Part = bytes | str | int
REBUILD = b"rebuild-of-16-by"
OTHER = b"another-16-bytes"
EPOCH = START_MS + 5
THEN = b"\x10" + uid(99) + b"\x00\x00\x01"
USER, PASSWORD = "limited", "throwaway"
READS = set("HGET HMGET HEXISTS LRANGE ZSCORE ZMSCORE EXISTS TIME".split())


def begin(scripts: Scripts, phase: str = "begin", by: bytes = REBUILD, epoch: int = EPOCH, **settings: Part) -> bytes:
    fields = [part for pair in settings.items() for part in pair]
    state: bytes = scripts.call("rebuild", *fields, phase=phase, rebuild_id=by, new_epoch=epoch)[0]
    return state


def entry(
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
    """An item as restore takes it."""
    return [key, state, stamp.to_bytes(STAMP, "big") + b"\x01", history, at, error, group, progress, batch]


def end(key: bytes, how: bytes = b"f") -> list[Part]:
    """An ended id as restore takes it."""
    state = "finished" if how in b"fF" else "removed"
    return [key, state, b"\xff" + (9).to_bytes(STAMP, "big") + how, "", "", "", "", "", ""]


def restore(scripts: Scripts, *items: list[Part], by: bytes = REBUILD) -> int:
    put: int = scripts.call("restore", *[part for item in items for part in item], rebuild_id=by)[0]
    return put


def restore_batch(scripts: Scripts, sealed: int, total: int, awaited: int, by: bytes = REBUILD) -> None:
    named: dict[str, Part] = {"batch_id": "b", "follow_when": "finished", "sealed_then": sealed, "in_all": total}
    scripts.call("restore_batch", **named, left=awaited, following=THEN, rebuild_id=by)


@pytest.fixture
def begun(scripts: Scripts) -> Scripts:
    begin(scripts)
    return scripts


# rebuild


def test_an_empty_queue_is_opened_for_a_rebuild(scripts: Scripts) -> None:
    """Under the new epoch, with its settings, and closed to everybody else."""
    assert begin(scripts, max_attempts=7) == b"rebuilding"
    assert scripts.meta("epoch") == str(EPOCH).encode()
    assert scripts.meta("max_attempts") == b"7"
    with pytest.raises(redis.ResponseError, match=f"REBUILDING {EPOCH}"):
        scripts.enqueue(uid(1))


def test_a_mirrored_one_has_a_journal_from_the_start(scripts: Scripts) -> None:
    """Its first entry stands for all that is restored."""
    begin(scripts, mirrored=1)
    assert scripts.client.xlen(scripts.keys["journal"]) == 1


def test_a_queue_that_has_something_is_refused(scripts: Scripts) -> None:
    """With its epoch and state; 'wipe' removes what is there."""
    scripts.enqueue(uid(1))
    before = scripts.contents()
    with pytest.raises(redis.ResponseError, match=f"NOT_EMPTY {START_MS} ready"):
        begin(scripts)
    assert scripts.contents() == before
    assert begin(scripts, "wipe") == b"rebuilding"
    assert scripts.states(uid(1)) == [""]


def test_an_epoch_that_is_not_later_is_refused(scripts: Scripts) -> None:
    """Also with 'wipe': clients of the old one could not be told from those of the new."""
    scripts.enqueue(uid(1))
    with pytest.raises(redis.ResponseError, match=f"STALE_EPOCH {START_MS}"):
        begin(scripts, "wipe", epoch=START_MS)
    assert scripts.states(uid(1)) == ["queued"]


def test_beginning_again_changes_nothing(begun: Scripts) -> None:
    """The same rebuild goes on, whether it says 'begin' or 'wipe'."""
    restore(begun, entry(uid(1), 7))
    before = begun.contents()
    assert begin(begun) == begin(begun, "wipe") == b"rebuilding"
    assert begun.contents() == before


def test_another_rebuild_is_refused(begun: Scripts) -> None:
    """What one has begun the other one does not touch."""
    with pytest.raises(redis.ResponseError, match="NOT_EMPTY"):
        begin(begun, by=OTHER, epoch=EPOCH + 1)
    with pytest.raises(redis.ResponseError, match="REBUILDING"):
        begin(begun, "end", by=OTHER)


def test_its_end_opens_the_queue(begun: Scripts) -> None:
    """To everybody; a repeat changes nothing more."""
    restore(begun, entry(uid(1), 7), entry(uid(2), 8))
    assert begin(begun, "end") == b"ready"
    before = begun.contents()
    assert begin(begun, "end") == b"ready"
    assert begun.contents() == before
    assert begun.claim() == [uid(1), uid(2)]


# restore


def test_items_of_each_state(begun: Scripts) -> None:
    """Each in its place, with what goes with it, and counted."""
    items = [
        entry(uid(1), 1, history="q 2 1 0 ", error="broken"),
        entry(uid(2), 2, "scheduled", at=START_MS + 60_000, history="q 0 0 0 "),
        entry(uid(3), 3, "orphaned", at=START_MS, history="q 1 0 1 ", progress="1 \xc0"),
        entry(uid(4), 4, "dead", at=START_MS, history="q 3 3 0 "),
        end(uid(5)),
        end(uid(6), b"r"),
    ]
    assert restore(begun, *items) == 6
    states = ["queued", "scheduled", "orphaned", "dead", "finished", "removed"]
    assert begun.states(*[uid(n) for n in range(1, 7)]) == states
    assert begun.counts()["enqueued"] == 6
    assert begun.hash("errors") == {uid(1): b"broken"}
    assert begun.ended_calls() == [[uid(5), uid(6)]]
    assert int(begun.meta("stamp") or 0) == 4


def test_restoring_again_puts_only_what_is_missing(begun: Scripts) -> None:
    """So a rebuild that was broken off goes through a page a second time."""
    restore(begun, entry(uid(1), 1, batch="b"), end(uid(9)))
    before = begun.contents()
    assert restore(begun, entry(uid(1), 1, batch="b"), end(uid(9))) == 0
    assert begun.contents() == before
    assert restore(begun, entry(uid(1), 1, batch="b"), entry(uid(2), 2)) == 1
    assert begun.queued() == [uid(1), uid(2)]
    restore_batch(begun, 1, 1, 1)


def test_the_first_of_those_who_worked_has_the_turn(begun: Scripts) -> None:
    """Of a group whose items come back orphaned or to be tried again, in one call or in several."""
    restore(begun, entry(uid(1), 1, "orphaned", at=START_MS, history="q 1 0 0 ", group="g"))
    again = entry(uid(2), 2, "scheduled", at=START_MS + 1, history="q 1 1 0 ", group="g")
    restore(begun, again, entry(uid(3), 3, group="g"))
    assert unpacked(begun.hash("turns")[b"g"]) == [uid(1)]
    begin(begun, "end")
    begun.now_ms += 1000
    assert begun.claim() == []
    begun.call("resolve", uid(1), decision="finish")
    assert begun.claim(receipt(2)) == [uid(2)]


def test_a_group_of_several_turns_gives_as_many(scripts: Scripts) -> None:
    """The limit of the queue counts, which was written when the rebuild began."""
    begin(scripts, group_limit=2)
    held = [entry(uid(n), n, "orphaned", at=START_MS, history="q 1 0 0 ", group="g") for n in (1, 2)]
    restore(scripts, *held, entry(uid(3), 3, group="g"))
    assert unpacked(scripts.hash("turns")[b"g"]) == [uid(1), uid(2)]


@pytest.mark.parametrize("verb", ["restore", "restore_batch"])
def test_who_did_not_begin_it_is_refused(begun: Scripts, verb: str) -> None:
    """And so is everybody when it is over, or was never begun."""
    do: dict[str, Callable[[bytes], object]] = {
        "restore": lambda by: restore(begun, entry(uid(1), 1), by=by),
        "restore_batch": lambda by: restore_batch(begun, 0, 1, 0, by=by),
    }
    before = begun.contents()
    with pytest.raises(redis.ResponseError, match="REBUILDING"):
        do[verb](OTHER)
    assert begun.contents() == before
    begin(begun, "end")
    with pytest.raises(redis.ResponseError, match="REBUILDING"):
        do[verb](REBUILD)
    begun.client.flushall()
    with pytest.raises(redis.ResponseError, match="REBUILDING"):
        do[verb](REBUILD)
    assert not begun.contents()


@pytest.mark.parametrize("refusal", ["STALE_EPOCH", "UNKNOWN_LAYOUT"])
@pytest.mark.parametrize("verb", ["rebuild", "restore", "restore_batch"])
def test_the_door_is_that_of_every_script(begun: Scripts, verb: str, refusal: str) -> None:
    """Another epoch, or a layout that is not this one, and nothing is touched."""
    if refusal == "STALE_EPOCH":
        begun.epoch = b"1700000000000"
    else:
        begun.client.hset(begun.keys["meta"], "layout", "2")
    before = begun.contents()
    with pytest.raises(redis.ResponseError, match=refusal):
        CALLS[verb](begun)
    assert begun.contents() == before


# restore_batch


def test_a_batch_goes_on_counting(begun: Scripts) -> None:
    """Its members are awaited as before, and what follows comes behind the last of them."""
    restore(begun, entry(uid(1), 1, batch="b"), entry(uid(2), 2, batch="b"))
    restore_batch(begun, 1, 5, 2)
    begin(begun, "end")
    begun.settle("finish", receipt(), *begun.claim())
    assert begun.claim(receipt(2)) == [uid(99)]
    assert begun.hash("batches") == {}


def test_one_that_awaits_nobody_is_followed_at_once_and_once(begun: Scripts) -> None:
    """A repeat finds what follows there."""
    restore_batch(begun, 1, 5, 0)
    restore_batch(begun, 1, 5, 0)
    assert begun.queued() == [uid(99)]
    assert begun.hash("batches") == {}


def test_one_that_is_open_waits_for_its_seal(begun: Scripts) -> None:
    """Also where it awaits nobody; a repeat changes nothing."""
    restore_batch(begun, 0, 5, 0)
    before = begun.contents()
    restore_batch(begun, 0, 5, 0)
    assert begun.contents() == before
    assert begun.hash("batches")[b"bb"] == b"finished 0 5 0"


# Broken off at every command

CALLS: dict[str, Callable[[Scripts], object]] = {
    "rebuild": lambda s: begin(s, "wipe", by=OTHER, epoch=EPOCH + 1, mirrored=1),
    "restore": lambda s: restore(
        s,
        entry(uid(1), 1, history="q 2 1 0 ", error="broken", group="g", progress="1 \xc0"),
        entry(uid(2), 2, "scheduled", at=START_MS, history="q 1 0 0 ", group="g", batch="b"),
        entry(uid(3), 3, "orphaned", at=START_MS, history="q 1 0 1 ", group="h"),
        entry(uid(4), 4, "dead", at=START_MS, history="q 3 3 0 "),
        end(uid(5)),
    ),
    "restore_batch": lambda s: restore_batch(s, 1, 5, 0),
}


@pytest.fixture
def limited(server: Server, begun: Scripts) -> Iterator[Scripts]:
    """The same queue for a user whose rights the test takes away. It has something of its own already."""
    restore(begun, entry(uid(50), 50), end(uid(51)))
    admin: Any = begun.client
    admin.acl_setuser(USER, enabled=True, reset=True, passwords=[f"+{PASSWORD}"], keys=["*"], commands=["+@all"])
    client = redis.Redis(unix_socket_path=str(server.socket), username=USER, password=PASSWORD)
    begun.is_whole = False  # a member of a batch comes back in some of these tests, and the batch in others
    yield Scripts(client)
    admin.acl_deluser(USER)
    client.close()


def break_off(begun: Scripts, limited: Scripts, verb: str, mend: Callable[[], object]) -> bool:
    """One call under a fault: it is refused whole, and works when that is mended. Returns whether it met the fault."""
    before = begun.contents()
    try:
        CALLS[verb](limited)
    except redis.ResponseError:
        assert begun.contents() == before
        mend()
        CALLS[verb](limited)
        return True
    mend()
    return False


@pytest.mark.parametrize("verb", CALLS)
def test_right_to_each_command_revoked(begun: Scripts, limited: Scripts, verb: str) -> None:
    """Whichever command the user may not call, nothing is written; the call works when the right is back."""
    met, dumps = [], begun.contents()

    def mend() -> None:
        begun.client.acl_setuser(USER, enabled=True, commands=["+@all"])

    for command in sorted(set(re.findall(r"\bcall\('(\w+)'", _scripts.load(verb).source))):
        begun.client.flushall()
        for key, dump in dumps.items():
            begun.client.restore(key, 0, dump)
        begun.client.acl_setuser(USER, enabled=True, commands=["+@all", f"-{command}"])
        if break_off(begun, limited, verb, mend):
            met.append(command)
    assert set(met) - READS, "no write was ever refused: the fault is not met"


@pytest.mark.parametrize("verb", ["restore", "restore_batch"])  # rebuild removes whatever is there
def test_wrong_type_in_each_key(begun: Scripts, limited: Scripts, verb: str) -> None:
    """Whichever key holds something else, nothing is written; the call works when the key is right again."""
    met = []
    dumps = begun.contents()
    for name in _scripts.load(verb).keys:
        begun.client.flushall()
        for key, dump in dumps.items():
            begun.client.restore(key, 0, dump)
        spoiled = Keys("q")[name]

        def mend(key: bytes = spoiled) -> None:
            begun.client.delete(key)
            if key in dumps:
                begun.client.restore(key, 0, dumps[key])

        begun.client.set(spoiled, "something else")
        if break_off(begun, limited, verb, mend):
            met.append(name)
    assert {"meta", "items"} <= set(met)
