"""Keeping recurring items: what is set, changed, paused and removed, on both clients."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from contract.clients import Clock
from cron.conftest import START, OpenQueue, at, ids, send, tick

from reliq import InvalidArgument, PayloadError, Queue, _cron
from reliq._keys import Keys


def test_what_is_set_is_listed(queue: Queue) -> None:
    """Everything about it, with its next tick; a queue that did not exist is made."""
    made = queue.set_cron(
        "report",
        "30 9 * * 1-5",
        {"to": "ann"},
        time_zone="Europe/Berlin",
        headers={"by": "ops"},
        group="g",
        missed="all",
    )
    assert queue.crons() == [made]
    assert (made.name, made.expression, made.payload, made.headers) == (
        "report",
        "30 9 * * 1-5",
        {"to": "ann"},
        {"by": "ops"},
    )
    assert (made.time_zone, made.group, made.missed, made.paused) == ("Europe/Berlin", "g", "all", False)
    assert (made.next_at, made.last_at, made.problem) == (START + 1800, None, None)
    assert queue.counts().enqueued == 0


def test_listed_by_their_next_tick(queue: Queue) -> None:
    """The next one first, paused ones last."""
    for name, expression in (
        ("hourly", "0 * * * *"),
        ("paused", "* * * * *"),
        ("yearly", "0 0 1 1 *"),
        ("often", "* * * * *"),
    ):
        queue.set_cron(name, expression, None)
    queue.pause_cron("paused")
    assert [entry.name for entry in queue.crons()] == ["often", "hourly", "yearly", "paused"]


def test_set_again_keeps_the_next_tick(queue: Queue, clock: Clock) -> None:
    """A program that sets it at each start changes its payload and does not lose the tick that is due."""
    queue.set_cron("report", "* * * * *", 1)
    clock.advance(90)
    again = queue.set_cron("report", "* * * * *", 2, missed="skip")
    assert again.next_at == START + 60
    assert tick(queue) == 1
    assert queue.claim()[0].payload == 2


@pytest.mark.parametrize("change", [{"expression": "*/5 * * * *"}, {"time_zone": "Asia/Kathmandu"}])
def test_other_ticks_count_from_now(queue: Queue, clock: Clock, change: dict[str, str]) -> None:
    """Another expression or zone begins with its first tick after the change."""
    queue.set_cron("report", "0 * * * *", 1)
    clock.advance(3700)
    arguments: dict[str, Any] = {"expression": "0 * * * *", "payload": 1, **change}
    changed = queue.set_cron("report", **arguments)
    assert changed.next_at is not None
    assert changed.next_at > clock.now
    assert tick(queue) == 0


def test_paused_until_resumed(queue: Queue, clock: Clock) -> None:
    """It has no ticks meanwhile, also when it is set again; those of the pause are not made up for."""
    queue.set_cron("report", "* * * * *", 1, missed="all")
    assert queue.pause_cron("report")
    clock.advance(300)
    again = queue.set_cron("report", "*/2 * * * *", 1, missed="all")
    assert (again.paused, again.next_at) == (True, None)
    assert tick(queue) == 0
    assert queue.resume_cron("report")
    assert [(entry.paused, entry.next_at) for entry in queue.crons()] == [(False, START + 360)]
    assert tick(queue) == 0


def test_pausing_and_resuming_twice(queue: Queue, clock: Clock) -> None:
    """The second time changes nothing: a tick that is due when it is resumed is still due."""
    queue.set_cron("report", "* * * * *", 1)
    assert queue.pause_cron("report")
    assert queue.pause_cron("report")
    assert queue.resume_cron("report")
    clock.advance(60)
    assert queue.resume_cron("report")
    assert tick(queue) == 1


def test_removed(queue: Queue, clock: Clock, redis_client: redis.Redis) -> None:
    """Nothing of it is left but the items that it had."""
    queue.set_cron("report", "* * * * *", 1)
    clock.advance(60)
    tick(queue)
    clock.advance(60)
    assert queue.remove_cron("report")
    assert tick(queue) == 0
    assert queue.crons() == []
    assert ids(queue) == at("report", "08:01:00")
    assert not redis_client.exists(Keys("q")["crons"], Keys("q")["ticks"])


def test_nothing_of_that_name(queue: Queue) -> None:
    """Removing, pausing and resuming say that there is none."""
    assert not queue.remove_cron("report")
    assert not queue.pause_cron("report")
    assert not queue.resume_cron("report")
    assert queue.crons() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"name": 7},
        {"expression": "61 * * * *"},
        {"time_zone": "Mars/Base"},
        {"group": ""},
        {"missed": "later"},
        {"payload": object()},
        {"payload": "x" * 70_000},
        {"headers": {"a": 1}},
    ],
)
def test_wrong_arguments_are_refused(queue: Queue, wrong: dict[str, Any]) -> None:
    """Nothing is kept, and the message says what is wrong."""
    arguments: dict[str, Any] = {"name": "report", "expression": "* * * * *", "payload": 1, **wrong}
    with pytest.raises((InvalidArgument, PayloadError)):
        queue.set_cron(**arguments)
    assert queue.crons() == []


def test_a_thousand_of_them(queue: Queue, clock: Clock) -> None:
    """The queue takes no more than can be listed in a call; all of them are enqueued when they are due."""
    for number in range(1000):
        queue.set_cron(f"r{number}", "* * * * *", number)
    with pytest.raises(InvalidArgument, match="1,000"):
        queue.set_cron("one more", "* * * * *", 1)
    queue.set_cron("r7", "*/1 * * * *", 7)  # changing one of them is no more
    assert len(queue.crons()) == 1000
    clock.advance(60)
    assert tick(queue) == 1000
    assert tick(queue) == 0


def test_changed_by_somebody_else_meanwhile(open_queue: OpenQueue) -> None:
    """A change that was overtaken reads again, so that none is half of one and half of another."""
    one, other = open_queue(), open_queue()
    one.set_cron("report", "* * * * *", 1)
    pausing = _cron.pause("report")
    seen = send(one, next(pausing))
    write = pausing.send(seen)
    other.set_cron("report", "*/5 * * * *", 2)
    answer = send(one, write)
    assert answer == "changed"
    read_again = pausing.send(answer)
    assert send(one, pausing.send(send(one, read_again))) == "done"
    assert [(entry.expression, entry.payload, entry.paused) for entry in one.crons()] == [("*/5 * * * *", 2, True)]
