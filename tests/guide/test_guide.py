"""What reliq is for, as stories. Read from top to bottom; each of them runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

import reliq


def test_from_hand_to_hand(emails: reliq.Queue) -> None:
    """A producer enqueues, a worker claims, does the work, and finishes."""
    emails.enqueue({"to": "ann@example.org"})
    emails.enqueue({"to": "bo@example.org"})

    sent = []
    for item in emails.claim(10, lease=30):
        sent.append(item.payload["to"])
        emails.finish(item)

    assert sent == ["ann@example.org", "bo@example.org"]
    assert emails.counts().finished == 2


def test_nothing_is_sent_twice_because_it_was_asked_for_twice(emails: reliq.Queue) -> None:
    """With an id of your own an enqueue can be repeated: a second one changes nothing, also when the work is done."""
    first = emails.enqueue({"to": "ann@example.org"}, id="welcome-42")
    again = emails.enqueue({"to": "ann@example.org"}, id="welcome-42")
    assert (first.created, again.created) == (True, False)

    emails.finish(emails.claim(10))
    assert not emails.enqueue({"to": "ann@example.org"}, id="welcome-42").created


def test_a_worker_dies(emails: reliq.Queue, url: str) -> None:
    """What a worker held when it died is delivered to another when the lease ends. Its late words don't count."""
    emails.enqueue({"to": "ann@example.org"})
    (held_by_the_dead,) = emails.claim(lease=0.2)

    with reliq.Queue("emails", url) as other_worker:
        (item,) = other_worker.claim(wait=10)  # waits, without polling, until the lease has ended
        assert item.id == held_by_the_dead.id
        assert item.delivery == 2

        with pytest.raises(reliq.LeaseLost):
            emails.finish(held_by_the_dead)
        other_worker.finish(item)


def test_an_attempt_fails(emails: reliq.Queue) -> None:
    """A failed item is tried again; when its attempts are used up it is dead, and a person decides."""
    emails.configure(max_attempts=2, retry="head")
    emails.enqueue({"to": "nobody@example.org"}, id="letter")

    for _ in range(2):
        (item,) = emails.claim()
        emails.fail(item, ConnectionError("mailbox unavailable"))

    letter = emails.get("letter")
    assert letter.state == "dead"
    assert letter.error == "ConnectionError: mailbox unavailable"

    emails.redrive()  # somebody has created the mailbox
    (item,) = emails.claim()
    assert item.attempt == 1
    emails.finish(item)


def test_exactly_once_by_looking(emails: reliq.Queue) -> None:
    """Where work must not be done twice, lost items are held until somebody has looked whether it was done."""
    emails.configure(expiry="hold")
    emails.enqueue_many(reliq.New({"invoice": n}, id=f"invoice-{n}") for n in (1, 2))
    emails.claim(2, lease=0.01)
    sent = {"invoice-1"}  # the worker got this far before it died

    while emails.counts().orphaned < 2:
        emails.recover()
    for item in emails.scan("orphaned"):
        emails.resolve(item.id, "finish" if item.id in sent else "requeue")

    assert [item.id for item in emails.claim(10)] == ["invoice-2"]


def test_for_later(emails: reliq.Queue) -> None:
    """An item may be due later. Until then it can be called off."""
    emails.enqueue("reminder", delay=0.1)
    emails.enqueue("party", id="party", at=time.time() + 3600)
    assert emails.cancel("party")

    (item,) = emails.claim(wait=10)
    assert item.payload == "reminder"


def test_a_worker_that_does_all_that(emails: reliq.Queue) -> None:
    """A Worker claims, calls a handler in threads, renews, finishes, retries, and stops when it is told."""
    emails.configure(retry="head")
    emails.enqueue_many({"to": f"user-{n}@example.org"} for n in range(20))
    sent: list[str] = []

    def send(item: reliq.Item) -> None:
        if item.attempt == 1 and item.payload["to"].startswith("user-7@"):
            raise ConnectionError("try again")
        sent.append(item.payload["to"])

    report = reliq.Worker(emails, send, concurrency=4, return_when_empty=True).run()

    assert sorted(sent) == sorted(f"user-{n}@example.org" for n in range(20))
    assert (report.finished, report.failed) == (20, 1)


def test_the_same_with_asyncio(url: str) -> None:
    """AsyncQueue has the same words."""

    async def story(work: Callable[[object], None]) -> None:
        async with reliq.AsyncQueue("emails", url) as queue:
            await queue.enqueue_many(range(250))
            items = await queue.claim(100)
            while items:
                for item in items:
                    work(item.payload)
                items = await queue.finish_and_claim(items, 100)  # a round trip for a hundred items
            assert (await queue.counts()).finished == 250

    done: list[object] = []
    asyncio.run(story(done.append))
    assert done == list(range(250))
