"""`reliq item`."""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
from decimal import Decimal

import pytest
import redis

import reliq

from .conftest import Call, kill, orphan


def ids_in(queue: reliq.Queue, state: str) -> list[str]:
    return [info.id for info in queue.scan(state)]


def test_ls_shows_the_items_of_a_state(run: Call, emails: reliq.Queue) -> None:
    """Items come oldest first with what went wrong, and others are left out."""
    dead = kill(emails, {"to": "ann"}, {"to": "bo"})
    emails.enqueue(3)
    rows = run("item", "ls", "emails", "--state", "dead", "-o", "json").data
    assert [row["id"] for row in rows] == dead
    assert rows[0]["payload"] == {"to": "ann"}
    assert rows[0]["error"] == "no such address"
    assert rows[0]["failures"] == 1


def test_ls_as_json_has_all_that_is_known(run: Call, emails: reliq.Queue) -> None:
    """What a table has no room for too, so that items can be enqueued elsewhere as they are here."""
    emails.enqueue("payload", id="a", headers={"h": "v"}, group="g", delay=60)
    (row,) = run("item", "ls", "emails", "--state", "scheduled", "-o", "json").data
    assert (row["id"], row["payload"], row["headers"], row["group"]) == ("a", "payload", {"h": "v"}, "g")
    assert row["at"] > row["enqueued_at"]


def test_ls_of_nothing(run: Call, emails: reliq.Queue) -> None:
    """No item in the state is 3."""
    ran = run("item", "ls", "emails", "-o", "json")
    assert (ran.code, ran.data) == (3, [])


def test_ls_stops_at_the_limit(run: Call, emails: reliq.Queue) -> None:
    """The oldest come first, and the message says that there may be more."""
    emails.enqueue_many([1, 2, 3])
    ran = run("item", "ls", "emails", "--limit", "2", "-o", "jsonl")
    assert [json.loads(line)["payload"] for line in ran.out.splitlines()] == [1, 2]
    assert "--limit" in ran.err


def test_older_than_goes_by_the_servers_clock(run: Call, emails: reliq.Queue, redis_client: redis.Redis) -> None:
    """The age of a dead item counts from its death, however old the item is."""
    old, young = kill(emails, 1, 2)
    redis_client.zincrby("reliq:{emails}:dead", -600_000, _key(old))
    rows = run("item", "ls", "emails", "--state", "dead", "--older-than", "5m", "-o", "json").data
    assert [row["id"] for row in rows] == [old]
    assert 600 <= rows[0]["age"] < 660
    assert young in ids_in(emails, "dead")


def _key(item_id: str) -> bytes:
    return bytes.fromhex(item_id.replace("-", ""))


def test_show_has_everything(run: Call, emails: reliq.Queue) -> None:
    """Times are ISO 8601 in UTC, and what JSON can't carry is shown by the documented forms."""
    moment = dt.datetime(2025, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC)
    payload = {"b": b"\xff", "d": Decimal("1.50"), "t": moment, "n": float("nan"), 5: (1, 2), "big": 10**30}
    emails.enqueue(payload, id="a", headers={"h": "v"}, delay=60)
    data = run("item", "show", "emails", "a", "-o", "json").data
    assert data["payload"] == {
        "b": {"$bytes": base64.b64encode(b"\xff").decode()},
        "d": "1.50",
        "t": "2025-01-02T03:04:05.678Z",
        "n": "nan",
        "5": [1, 2],
        "big": 10**30,
    }
    assert (data["state"], data["headers"], data["error"]) == ("scheduled", {"h": "v"}, None)
    due = dt.datetime.fromisoformat(data["at"]) - dt.datetime.fromisoformat(data["enqueued_at"])
    assert 59 < due.total_seconds() < 61
    assert data["at"].endswith("Z")


def test_show_how_far_it_has_come(run: Call, emails: reliq.Queue) -> None:
    """The last checkpoint, with a bar where the handler said of how much; its group and its batch."""
    emails.batch([reliq.New(1, id="a", group="ann")], then=reliq.New(2), id="mailing")
    (item,) = emails.claim()
    item.checkpoint({"line": 30}, done=30, total=120, note="page 2")
    data = run("item", "show", "emails", "a", "-o", "json").data
    assert (data["group"], data["batch"], data["progress"], data["progress_note"]) == ("ann", "mailing", 0.25, "page 2")
    assert (data["progress_state"], data["progress_done"], data["progress_total"]) == ({"line": 30}, 30, 120)
    table = run("item", "show", "emails", "a").out
    assert "#####............... 25% (30 of 120)" in table
    item.checkpoint(done=7)
    assert run("item", "show", "emails", "a", "-o", "json").data["progress"] is None  # of how much is not known


def test_show_a_result(run: Call, emails: reliq.Queue) -> None:
    """What an item was finished with."""
    emails.enqueue(1, id="a")
    emails.finish(emails.claim()[0], result={"sent": 3})
    data = run("item", "show", "emails", "a", "-o", "json").data
    assert (data["state"], data["result"]) == ("finished", {"sent": 3})


def test_wait_for_the_end(run: Call, emails: reliq.Queue) -> None:
    """It ends with the item, and shows its result."""
    emails.enqueue(1, id="a")
    (item,) = emails.claim()
    worker = threading.Thread(target=emails.finish, args=(item,), kwargs={"result": 42})
    worker.start()
    ran = run("-o", "json", "item", "wait", "emails", "a", "--timeout", "20s")
    worker.join()
    assert (ran.code, ran.data["result"]) == (0, 42)


def test_wait_in_vain(run: Call, emails: reliq.Queue) -> None:
    """1 for one that is dead, and for one that is not at an end in time; 3 for one that is not known."""
    (dead,) = kill(emails, 1)
    assert run("item", "wait", "emails", dead).code == 1
    emails.enqueue(1, id="a")
    assert run("item", "wait", "emails", "a", "--timeout", "50ms").code == 1
    assert run("item", "wait", "emails", "nobody").code == 3


def test_show_an_item_without_readable_payload(run: Call, emails: reliq.Queue, redis_client: redis.Redis) -> None:
    """The bytes are there, and why they can't be decoded."""
    emails.enqueue(1, id="a")
    record = redis_client.hget("reliq:{emails}:items", "a")
    redis_client.hset("reliq:{emails}:items", "a", bytes(record)[:6] + b"\xc7")  # type: ignore[arg-type]  # sync client
    data = run("item", "show", "emails", "a", "-o", "json").data
    assert data["payload"] is None
    assert data["raw"] == {"$bytes": "xw=="}
    assert "can't be decoded" in data["problem"]


def test_show_a_payload_that_is_nested_deeply(run: Call, emails: reliq.Queue) -> None:
    """It is not shown, and does not hide the rest."""
    deep: object = 1
    for _ in range(900):
        deep = [deep]
    emails.enqueue(deep, id="a")
    data = run("item", "show", "emails", "a", "-o", "json").data
    assert data["payload"] == "(nested too deeply to be shown)"
    assert data["state"] == "queued"


def test_show_an_unknown_item(run: Call, emails: reliq.Queue) -> None:
    """An id that the queue does not know is 3."""
    ran = run("item", "show", "emails", "nobody")
    assert (ran.code, ran.out) == (3, "")
    assert "nobody" in ran.err


def test_what_could_steer_a_terminal_is_escaped(run: Call, emails: reliq.Queue) -> None:
    """Errors and payloads come from others: a table shows their control characters as text."""
    emails.enqueue("\x1b[2J\x9b", id="a")
    emails.fail(emails.claim(), "boom\n\x1b]0;title\x07")
    for args in (("ls", "emails", "--state", "dead"), ("show", "emails", "a")):
        out = run("item", *args).out
        assert "\\n\\x1b]0;title\\x07" in out
        assert "\\x9b" in out
        assert all(character.isprintable() or character == "\n" for character in out)


@pytest.mark.parametrize(
    ("verb", "word", "target", "make"),
    [
        ("requeue", "requeued", "queued", kill),
        ("requeue", "requeued", "queued", orphan),
        ("finish", "finished", "finished", kill),
        ("finish", "finished", "finished", orphan),
        ("discard", "discarded", "removed", kill),
        ("discard", "discarded", "removed", orphan),
    ],
)
def test_verbs_by_id_and_by_state(
    run: Call, emails: reliq.Queue, verb: str, word: str, target: str, make: object
) -> None:
    """A verb moves the ids it is given, or all items of a state."""
    state = "dead" if make is kill else "orphaned"
    first, second, third = make(emails, 1, 2, 3)  # type: ignore[operator]  # kill or orphan
    assert run("item", verb, "emails", second, "--yes", "-o", "json").data == {word: 1, "skipped": 0}
    assert emails.get(second).state == target
    assert ids_in(emails, state) == [first, third]
    assert run("item", verb, "emails", "--state", state, "--yes", "-o", "json").data == {word: 2, "skipped": 0}
    assert ids_in(emails, state) == []
    assert {emails.get(item_id).state for item_id in (first, third)} == {target}


def test_the_limit_takes_the_oldest(run: Call, emails: reliq.Queue) -> None:
    """Of the items of a state the oldest are taken, as the listing shows them."""
    dead = kill(emails, 1, 2, 3)
    assert run("item", "requeue", "emails", "--state", "dead", "--limit", "2", "--yes").code == 0
    assert ids_in(emails, "queued") == dead[:2]


def test_older_than_selects(run: Call, emails: reliq.Queue, redis_client: redis.Redis) -> None:
    """Only what has been dead for long enough is discarded."""
    first, second = kill(emails, 1, 2)
    redis_client.zincrby("reliq:{emails}:dead", -600_000, _key(first))
    args = ("item", "discard", "emails", "--state", "dead", "--older-than", "5m", "--yes")
    assert run(*args, "-o", "json").data == {"discarded": 1, "skipped": 0}
    assert ids_in(emails, "dead") == [second]
    assert run(*args).code == 3


def test_a_bulk_verb_goes_on_beyond_a_batch(run: Call, emails: reliq.Queue) -> None:
    """More items than a call may carry are moved in several, in their order."""
    emails.enqueue_many(range(2500))
    while items := emails.claim(1000):
        emails.fail(items, "x")
    dead = ids_in(emails, "dead")
    assert run("item", "requeue", "emails", "--state", "dead", "--yes", "-o", "json").data["requeued"] == 2500
    assert ids_in(emails, "queued") == dead


def test_skipped_ids_are_named(run: Call, emails: reliq.Queue) -> None:
    """Some done is 6, and stderr has the others and where they are."""
    (dead,) = kill(emails, 1)
    emails.enqueue(2, id="waits")
    ran = run("item", "finish", "emails", dead, "waits", "nobody", "--yes", "-o", "json")
    assert (ran.code, ran.data) == (6, {"finished": 1, "skipped": 2})
    assert "skipped waits: queued" in ran.err
    assert "skipped nobody: unknown" in ran.err


def test_none_done_is_refused_or_not_found(run: Call, emails: reliq.Queue) -> None:
    """Where all ids are in another state that is 5, where the queue knows none of them 3."""
    emails.enqueue(2, id="waits")
    assert run("item", "finish", "emails", "waits", "--yes").code == 5
    assert run("item", "finish", "emails", "nobody", "--yes").code == 3


def test_bulk_and_destructive_verbs_ask(run: Call, emails: reliq.Queue) -> None:
    """The question has the count; no answer is no, and nothing happens."""
    dead = kill(emails, 1, 2)
    for args in (("requeue", "emails", "--state", "dead"), ("discard", "emails", *dead), ("redrive", "emails")):
        ran = run("item", *args)
        assert (ran.code, ran.out) == (5, "")
        assert "2 " in ran.err
    assert ids_in(emails, "dead") == dead
    assert run("item", "requeue", "emails", "--state", "dead", stdin="yes\n").code == 0
    assert ids_in(emails, "queued") == dead


def test_requeue_of_ids_does_not_ask(run: Call, emails: reliq.Queue) -> None:
    """Who names the ids of items to be done again has decided, and it can be undone."""
    (dead,) = kill(emails, 1)
    assert run("item", "requeue", "emails", dead).code == 0


def test_dry_run_shows_exactly_what_would_be_done(run: Call, emails: reliq.Queue) -> None:
    """Items that would be moved are listed, others named; nothing is moved."""
    dead = kill(emails, 1, 2)
    emails.enqueue(3, id="waits")
    ran = run("item", "discard", "emails", dead[0], "waits", "nobody", "--dry-run", "-o", "json")
    assert [row["id"] for row in ran.data] == [dead[0]]
    assert "would skip waits: queued" in ran.err
    assert "would skip nobody: unknown" in ran.err
    for args in (("discard", "emails", "--state", "dead"), ("redrive", "emails")):
        ran = run("item", *args, "--dry-run", "-o", "json")
        assert [row["id"] for row in ran.data] == dead
    assert ids_in(emails, "dead") == dead


def test_redrive(run: Call, emails: reliq.Queue) -> None:
    """The items that died first come back first; none left is 3."""
    dead = kill(emails, 1, 2, 3)
    assert run("item", "redrive", "emails", "--limit", "2", "--yes", "-o", "json").data == {"redriven": 2}
    assert ids_in(emails, "queued") == dead[:2]
    assert run("item", "redrive", "emails", "--yes", "-o", "json").data == {"redriven": 1}
    assert run("item", "redrive", "emails", "--yes").code == 3


def test_cancel(run: Call, emails: reliq.Queue) -> None:
    """Queued and scheduled items go; those in progress stay and are named."""
    emails.enqueue(0, id="held")
    emails.claim()
    emails.enqueue(1, id="a")
    emails.enqueue(2, id="b", delay=60)
    ran = run("item", "cancel", "emails", "a", "b", "held", "--yes", "-o", "json")
    assert (ran.code, ran.data) == (6, {"cancelled": 2, "skipped": 1})
    assert "held: in_progress" in ran.err
    assert emails.counts().removed == 2


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("a", "--state", "dead"),
        ("a", "--limit", "1"),
        ("a", "--older-than", "1m"),
        ("--state", "in_progress"),
        ("--state", "finished"),
    ],
)
def test_ids_or_a_filter(run: Call, emails: reliq.Queue, args: tuple[str, ...]) -> None:
    """What to act on is said in one way, and only states that the verb takes are allowed."""
    assert run("item", "discard", "emails", *args, "--yes").code == 2
