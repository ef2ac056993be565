"""What becomes of ticks: one item each, later where the queue is closed, and as was said where nobody looked."""

from __future__ import annotations

import pytest
from contract.clients import Clock
from cron.conftest import START, OpenQueue, at, ids, send, tick

from reliq import Queue, _codec, _commands
from reliq.codecs import AesGcm, ClaimCheck, FileStore, Zstd


def test_one_item_at_each_tick(queue: Queue, clock: Clock) -> None:
    """When it is due, not before, and once; the item has the tick in its id."""
    queue.set_cron("report", "*/2 * * * *", {"to": "ann"})
    for passed, made in ((119.999, 0), (0.001, 1), (1, 0), (119, 1), (0, 0)):
        clock.advance(passed)
        assert tick(queue) == made
    assert ids(queue) == at("report", "08:02:00", "08:04:00")
    assert [entry.last_at for entry in queue.crons()] == [START + 240]


def test_the_item_is_as_it_was_set(queue: Queue, clock: Clock) -> None:
    """Payload, headers and group are those of the definition."""
    queue.set_cron("report", "* * * * *", ["ann", 3], headers={"trace": "7"}, group="ann")
    clock.advance(60)
    tick(queue)
    (item,) = queue.claim()
    assert (item.payload, item.headers, item.group) == (["ann", 3], {"trace": "7"}, "ann")


@pytest.mark.parametrize("length", [10, 11])  # "cron:" and this: an id of 16 bytes has another form on the server
def test_names_of_any_length(queue: Queue, clock: Clock, length: int) -> None:
    """The payload of a name of 11 bytes is encoded for an id of 16 bytes."""
    queue.set_cron("x" * length, "* * * * *", 1)
    clock.advance(60)
    assert tick(queue) == 1
    assert queue.crons()[0].payload == 1


@pytest.mark.parametrize(
    ("missed", "late", "expected"),
    [
        ("one", 330, ["08:05:00"]),
        ("all", 330, ["08:01:00", "08:02:00", "08:03:00", "08:04:00", "08:05:00"]),
        ("skip", 330, ["08:05:00"]),
        ("one", 60, ["08:01:00"]),
        ("all", 60, ["08:01:00"]),
        ("skip", 60, ["08:01:00"]),
    ],
)
def test_ticks_that_nobody_saw(queue: Queue, clock: Clock, missed: str, late: float, expected: list[str]) -> None:
    """`one` has an item for the last, `all` for each, in order; the next tick is one that is still to come."""
    queue.set_cron("report", "* * * * *", 1, missed=missed)
    clock.advance(late)
    assert tick(queue) == len(expected)
    assert ids(queue) == at("report", *expected)
    assert [entry.next_at for entry in queue.crons()] == [START + (late // 60 + 1) * 60]


def test_skipping_what_is_over_for_a_minute(queue: Queue, clock: Clock) -> None:
    """An hourly one that is missed by two minutes has no item for this hour."""
    queue.set_cron("report", "0 * * * *", 1, missed="skip")
    clock.advance(3600 + 120)
    assert tick(queue) == 0
    assert [(entry.next_at, entry.last_at) for entry in queue.crons()] == [(START + 7200, None)]
    clock.advance(3600 - 120 + 60)
    assert tick(queue) == 1
    assert ids(queue) == at("report", "10:00:00")


def test_a_thousand_missed_ticks_at_most(queue: Queue, clock: Clock) -> None:
    """Of many more, the last thousand have items, in their order, also where these take several calls."""
    queue.set_cron("report", "* * * * * *", "x" * 10_000, missed="all")
    clock.advance(86400)
    assert tick(queue) == 1000
    last = START + 86400
    assert [entry.last_at for entry in queue.crons()] == [last]
    found = ids(queue)
    assert found == sorted(found)
    assert found[0].endswith("T07:43:21Z")
    assert found[-1].endswith("T08:00:00Z")


def test_closed_for_new_items(queue: Queue, clock: Clock) -> None:
    """A tick of a paused queue waits, and its item comes when the queue is open again."""
    queue.set_cron("report", "0 * * * *", 1)
    queue.pause(claim=False, enqueue=True)
    clock.advance(3600 + 900)
    assert tick(queue) == 0
    assert tick(queue) == 0
    assert [entry.next_at for entry in queue.crons()] == [START + 3600]
    queue.resume()
    assert tick(queue) == 1
    assert ids(queue) == at("report", "09:00:00")


@pytest.mark.parametrize("limit", [{"max_length": 1}, {"max_bytes": 8}])
def test_full(queue: Queue, clock: Clock, limit: dict[str, int]) -> None:
    """A tick waits for room, and then has its item."""
    queue.configure(**limit)
    queue.set_cron("report", "* * * * *", 1, missed="all")
    queue.set_cron("skipped", "* * * * *", 1, missed="skip")
    queue.enqueue(1)
    clock.advance(60)
    assert tick(queue) == 0
    queue.finish(queue.claim())
    assert tick(queue) == 1
    assert ids(queue) == at("report", "08:01:00")


def test_the_full_do_not_hold_up_the_others(queue: Queue, clock: Clock) -> None:
    """Whose item does not fit waits; one that fits, and comes after 150 of them, is enqueued."""
    queue.configure(max_bytes=100)
    for number in range(150):
        queue.set_cron(f"large{number:03}", "* * * * *", "x" * 200)
    queue.set_cron("small", "* * * * *", 1)
    clock.advance(60)
    assert tick(queue) == 1
    assert ids(queue) == at("small", "08:01:00")


def test_clock_set_back(queue: Queue, clock: Clock) -> None:
    """Ticks that were done are not done again; the next one is the next one."""
    queue.set_cron("report", "* * * * *", 1)
    clock.advance(120)
    assert tick(queue) == 1
    clock.advance(-100)
    for _ in range(5):
        clock.advance(40)
        tick(queue)
    assert ids(queue) == at("report", "08:02:00", "08:03:00")


def test_clock_set_forward(queue: Queue, clock: Clock) -> None:
    """A jump is time in which nobody looked."""
    queue.set_cron("report", "* * * * *", 1)
    clock.advance(7 * 86400)
    assert tick(queue) == 1
    assert tick(queue) == 0


def test_an_id_that_is_known_already(queue: Queue, clock: Clock) -> None:
    """Somebody who has enqueued an item under the id of a tick has done it: the tick goes on."""
    queue.set_cron("report", "* * * * *", 1)
    queue.enqueue("by hand", id=at("report", "08:01:00")[0])
    clock.advance(60)
    assert tick(queue) == 0
    clock.advance(60)
    assert tick(queue) == 1
    assert [item.payload for item in queue.claim(9)] == ["by hand", 1]


def test_payloads_that_go_through_codecs(open_queue: OpenQueue, clock: Clock, tmp_path: object) -> None:
    """Each item is encrypted for its own id, and the definition for the name: neither can be moved or read without."""
    codecs = [Zstd(threshold=1), AesGcm({"k": b"k" * 16}, "k"), ClaimCheck(FileStore(str(tmp_path)), threshold=10)]
    queue = open_queue(codecs=codecs)
    queue.set_cron("report", "* * * * *", {"secret": "x" * 100})
    clock.advance(60)
    assert tick(queue) == 1
    assert queue.claim()[0].payload == {"secret": "x" * 100}


def test_a_scheduler_without_the_codec(open_queue: OpenQueue, clock: Clock) -> None:
    """It leaves the tick to one that can read the payload, and does the others."""
    codecs = [AesGcm({"k": b"k" * 16}, "k")]
    able, other = open_queue(codecs=codecs), open_queue()
    able.set_cron("secret", "* * * * *", "x")
    other.set_cron("plain", "* * * * *", "y")
    clock.advance(60)
    assert tick(other) == 1
    (secret,) = [entry for entry in other.crons() if entry.name == "secret"]
    assert secret.payload is None
    assert "codec" in (secret.problem or "")
    assert tick(able) == 1
    assert sorted(ids(other)) == at("plain", "08:01:00") + at("secret", "08:01:00")


def test_one_that_can_not_be_read(queue: Queue, clock: Clock) -> None:
    """A definition of another reliq holds up no other one."""
    queue.set_cron("good", "* * * * *", 1)
    for name, parts in (
        ("zone", ["* * * * *", "Mars/Base", "", "one", b"\x01"]),
        ("expression", ["?", "UTC", "", "one", b"\x01"]),
        ("form", [1]),
    ):
        packed = _codec.pack_payload(parts)
        send(queue, _commands.cron_set(name, b"", b"ab", packed, str(START * 1000 + 1000)))
    clock.advance(60)
    assert tick(queue) == 1
    assert ids(queue) == at("good", "08:01:00")
    assert {entry.name: bool(entry.problem) for entry in queue.crons()} == {
        "good": False,
        "zone": False,
        "expression": False,
        "form": True,
    }
