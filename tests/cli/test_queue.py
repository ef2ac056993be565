"""`reliq queue`."""

from __future__ import annotations

import json
import threading

import pytest
import redis

import reliq
from reliq.queue import queues

from .conftest import Call, kill, orphan


def test_names_of_queues(url: str) -> None:
    """`reliq.queue.queues` lists what was made on a server, in order; an empty server has none."""
    assert queues(url) == []
    for name in ("b", "a"):
        with reliq.Queue(name, url) as queue:
            queue.enqueue(1)
    assert queues(url) == ["a", "b"]


def test_an_unreachable_server_has_no_listing() -> None:
    """It says `Unavailable` after its time, not that there are no queues."""
    with pytest.raises(reliq.Unavailable, match=r"no answer in 0\.2 s"):
        queues("redis://127.0.0.1:1/0", timeout=0.2)


def test_ls_counts_items_by_state(run: Call, emails: reliq.Queue) -> None:
    """Each queue has a row with its counts, and the age of the item that is next."""
    kill(emails, 1, 2)
    emails.enqueue(3)
    emails.pause()
    (row,) = run("-o", "json", "queue", "ls").data
    assert row.pop("oldest") >= 0
    counts = {"queued": 1, "scheduled": 0, "in_progress": 0, "orphaned": 0, "dead": 2}
    assert row == {"queue": "emails", **counts, "open": "no claims"}


def test_ls_as_a_table(run: Call, emails: reliq.Queue) -> None:
    """A table has one line per queue under its heads."""
    ran = run("queue", "ls")
    assert [line.split() for line in ran.out.splitlines()] == [
        ["QUEUE", "QUEUED", "SCHEDULED", "IN_PROGRESS", "ORPHANED", "DEAD", "OLDEST", "OPEN"],
        ["emails", "0", "0", "0", "0", "0", "-", "open"],
    ]


def test_ls_of_an_empty_server(run: Call) -> None:
    """No queues is 3, and an empty list."""
    ran = run("queue", "ls", "-o", "json")
    assert (ran.code, ran.data) == (3, [])


def test_ls_shows_a_queue_that_was_lost(run: Call, emails: reliq.Queue, redis_client: redis.Redis) -> None:
    """A queue whose state is gone is not shown as an empty one."""
    redis_client.delete("reliq:{emails}:meta")
    (row,) = run("queue", "ls", "-o", "json").data
    assert row["open"] == "lost"


def test_a_damaged_queue_does_not_hide_the_others(run: Call, emails: reliq.Queue, redis_client: redis.Redis) -> None:
    """What can be read is listed; the exit code says that something is missing."""
    redis_client.hset("reliq:{newer}:meta", "layout", "99")
    redis_client.sadd("reliq:queues", "newer")
    ran = run("queue", "ls", "-o", "jsonl")
    assert ran.code == 6
    assert [json.loads(line)["queue"] for line in ran.out.splitlines()] == ["emails"]
    assert "layout 99" in ran.err


def test_stats(run: Call, emails: reliq.Queue) -> None:
    """Stats have the totals and the ages of all states."""
    kill(emails, 1)
    emails.enqueue(2)
    data = run("queue", "stats", "emails", "-o", "json").data
    assert (data["queued"], data["dead"], data["enqueued"]) == (1, 1, 2)
    assert data["oldest_dead"] >= data["oldest_queued"] >= 0
    assert data["oldest_orphaned"] is None


def test_stats_have_limits(run: Call, emails: reliq.Queue) -> None:
    """Those that are set, and those that hold something up."""
    emails.configure(max_length=2, rate=7.5)
    emails.enqueue_many([reliq.New(1, group="g"), reliq.New(2, group="g")])
    emails.claim(2)
    data = run("queue", "stats", "emails", "-o", "json").data
    assert (data["max_length"], data["rate"], data["max_bytes"]) == (2, 7.5, None)
    assert (data["blocked"], data["limits_reached"]) == (1, None)
    emails.enqueue(3)
    assert run("queue", "stats", "emails", "-o", "json").data["limits_reached"] == "max_length"


@pytest.mark.parametrize(
    "args",
    [
        ("queue", "stats"),
        ("queue", "pause"),
        ("queue", "resume"),
        ("queue", "drain"),
        ("queue", "purge", "--yes"),
        ("queue", "configure"),
        ("item", "ls"),
        ("item", "redrive", "--yes"),
        ("item", "requeue", "--state", "dead", "--yes"),
    ],
)
def test_a_queue_that_does_not_exist(run: Call, url: str, args: tuple[str, ...]) -> None:
    """A mistyped name is told from an empty queue, and is not made by looking at it."""
    ran = run(*args, "emials")
    assert (ran.code, ran.out) == (3, "")
    assert "no queue 'emials'" in ran.err
    assert queues(url) == []


@pytest.mark.parametrize(
    ("flags", "claim", "enqueue"),
    [
        ((), True, False),
        (("--claim",), True, False),
        (("--enqueue",), False, True),
        (("--claim", "--enqueue"), True, True),
    ],
)
def test_pause_and_resume(run: Call, emails: reliq.Queue, flags: tuple[str, ...], claim: bool, enqueue: bool) -> None:
    """Pause closes what it is told to, claims by default; resume opens both."""
    assert run("queue", "pause", "emails", *flags).code == 0
    counts = emails.counts()
    assert (counts.paused_claim, counts.paused_enqueue) == (claim, enqueue)
    assert run("queue", "resume", "emails").code == 0
    counts = emails.counts()
    assert (counts.paused_claim, counts.paused_enqueue) == (False, False)


def test_drain_waits_for_the_workers(run: Call, emails: reliq.Queue) -> None:
    """It ends when the last item is finished, and leaves the queue closed for new ones."""
    emails.enqueue(1)
    items = emails.claim()

    def finish_when_closed() -> None:
        while not emails.counts().paused_enqueue:
            pass
        emails.finish(items)

    worker = threading.Thread(target=finish_when_closed)
    worker.start()
    ran = run("queue", "drain", "emails", "--timeout", "10s", "-o", "json")
    worker.join()
    assert (ran.code, ran.data["finished"]) == (0, 1)
    assert run("enqueue", "emails", "2").code == 5


def test_drain_gives_up(run: Call, emails: reliq.Queue) -> None:
    """When the time is up it fails, and says what is left."""
    emails.enqueue(1)
    ran = run("queue", "drain", "emails", "--timeout", "0")
    assert ran.code == 1
    assert "'queued': 1" in ran.err


def test_purge_asks(run: Call, emails: reliq.Queue) -> None:
    """The question has the counts; any answer but yes, and none at all, leaves everything as it is."""
    emails.enqueue_many([1, 2])
    for answer in ("", "n\n", "\n", "yeah\n"):
        ran = run("queue", "purge", "emails", stdin=answer)
        assert (ran.code, ran.out) == (5, "")
        assert "remove 2 queued items" in ran.err
    assert emails.counts().queued == 2
    assert run("queue", "purge", "emails", stdin="y\n").code == 0
    assert emails.counts().queued == 0


def test_purge_removes_the_states_it_is_told(run: Call, emails: reliq.Queue) -> None:
    """Other states keep their items, and the output counts what was removed."""
    kill(emails, 1)
    orphan(emails, 2)
    emails.enqueue(3)
    ran = run("queue", "purge", "emails", "--state", "dead", "--state", "orphaned", "--yes", "-o", "json")
    assert ran.data == {"dead": 1, "orphaned": 1}
    assert emails.counts().queued == 1


def test_purge_dry_run(run: Call, emails: reliq.Queue) -> None:
    """It counts and touches nothing."""
    emails.enqueue(1)
    ran = run("queue", "purge", "emails", "--dry-run", "-o", "json")
    assert ran.data == {"queued": 1, "scheduled": 0, "orphaned": 0, "dead": 0}
    assert emails.counts().queued == 1


def test_purge_of_nothing(run: Call, emails: reliq.Queue) -> None:
    """Nothing to remove is 3, without a question."""
    assert run("queue", "purge", "emails").code == 3


def test_purge_forgets_ended_ids(run: Call, emails: reliq.Queue) -> None:
    """With --state finished an id that has ended can be enqueued anew."""
    emails.enqueue(1, id="a")
    emails.finish(emails.claim())
    assert run("queue", "purge", "emails", "--state", "finished", "--yes", "-o", "json").data == {"finished": 1}
    assert emails.enqueue(1, id="a").created


def test_configure_changes_and_prints(run: Call, emails: reliq.Queue) -> None:
    """Settings take numbers, words and durations; an empty value is the default again."""
    ran = run("queue", "configure", "emails", "max_attempts=7", "expiry=dead", "backoff_cap=2m", "-o", "json")
    assert (ran.data["max_attempts"], ran.data["expiry"], ran.data["backoff_cap"]) == (7, "dead", 120.0)
    default = run("queue", "configure", "emails", "expiry=", "-o", "json").data
    assert default["expiry"] == "requeue"
    assert run("queue", "configure", "emails", "-o", "json").data == default
    limits = run("queue", "configure", "emails", "rate=2.5", "max_bytes=1000", "group_limit=3", "-o", "json").data
    assert (limits["rate"], limits["max_bytes"], limits["group_limit"]) == (2.5, 1000, 3)


def test_configure_makes_a_queue(run: Call, url: str) -> None:
    """With settings it makes a queue that is not there yet."""
    assert run("queue", "configure", "films", "max_length=10").code == 0
    assert queues(url) == ["films"]


@pytest.mark.parametrize(
    "change", ["max_attempts", "colour=red", "max_attempts=many", "max_attempts=0", "expiry=maybe", "backoff_cap=soon"]
)
def test_configure_refuses(run: Call, emails: reliq.Queue, change: str) -> None:
    """An unknown setting or a value out of range is a usage error, and nothing changes."""
    before = emails.settings()
    assert run("queue", "configure", "emails", change).code == 2
    assert emails.settings() == before
