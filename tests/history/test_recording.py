"""Recorded queues on a real server: they work like others, and the record says what happened."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest
from proxy import FaultProxy
from servers import wait_until

from reliq import AsyncQueue, InvalidArgument, LeaseLost, New, PayloadError, Queue, QueueFull, Unavailable, Worker
from reliq.embedded import Server
from reliq.testing import AsyncRecording, History, Recording, Report, check_history, final_state, read


def kinds(history: History) -> list[str]:
    """What was recorded: kind, and phase where there is one."""
    events = read(history.path)[1:]
    return [" ".join(filter(None, (event.kind, event.data.get("phase")))) for event in events]


def judged(history: History) -> Report:
    return check_history(read(history.path))


def test_a_worker_on_a_recorded_queue(queue: Queue, history: History) -> None:
    """A whole life of items, retries included: nothing is broken, and the figures tell it."""
    recorded = Recording(queue, history)
    recorded.enqueue_many([New({"fail": number % 10 == 0}) for number in range(100)])

    def handle(item: object) -> None:
        with history.handling(item):  # type: ignore[arg-type]  # a worker passes items
            if item.payload["fail"] and item.attempt == 1:  # type: ignore[attr-defined]
                raise RuntimeError

    report = Worker(recorded, handle, concurrency=2, return_when_empty=True).run()
    assert (report.finished, report.failed) == (100, 10)
    final_state(recorded, history)
    verdict = judged(history)
    assert verdict.broken() == {}
    assert verdict.undecided == {}
    figures = verdict.figures
    assert (figures.enqueued, figures.finished, figures.handlings, figures.again_failed) == (100, 100, 110, 10)
    assert figures.attempts_burnt == 10


def test_ids_are_on_record_before_they_are_sent(queue: Queue, history: History) -> None:
    """Those that the caller leaves open are made by the recording; the caller sees them as new."""
    recorded = Recording(queue, history)
    results = [recorded.enqueue("one"), *recorded.enqueue_many(["two", New("three", id="3")])]
    assert all(result.created for result in results)
    asked = [event for event in read(history.path) if event.data.get("phase") == "invoke"]
    assert [i for event in asked for i in event.data["ids"]] == [result.id for result in results]
    assert [item.id for item in queue.claim(3)] == [result.id for result in results]


def test_an_id_that_was_there_is_no_new_one(queue: Queue, history: History) -> None:
    """What the caller numbers itself is answered as ever."""
    recorded = Recording(queue, history)
    assert recorded.enqueue("payload", id="one").created
    assert not recorded.enqueue("payload", id="one").created


def test_each_verb_is_recorded(queue: Queue, history: History) -> None:
    """Question and answer of every call that moves items."""
    recorded = Recording(queue, history)
    recorded.enqueue_many(range(5))
    one, two, three = recorded.claim(3)
    recorded.renew([one, two, three], 10)
    recorded.finish(one)
    recorded.release(two)
    recorded.fail(three, "no", dead=True)
    (again,) = recorded.finish_and_claim([], 1)
    assert again.id == two.id
    recorded.discard(three.id)
    recorded.cancel(*[info.id for info in queue.peek(1)])
    recorded.purge()
    assert kinds(history) == [
        "enqueue invoke",
        "enqueue ok",
        "claim",
        *(f"{verb} {phase}" for verb in ("renew", "finish", "release", "fail", "finish") for phase in ("invoke", "ok")),
        "claim",
        *(f"{verb} {phase}" for verb in ("discard", "cancel", "purge") for phase in ("invoke", "ok")),
    ]
    assert judged(history).broken() == {}


def test_a_lease_may_be_a_timedelta(queue: Queue, history: History) -> None:
    """What a queue takes as a length of time, its record takes as well."""
    recorded = Recording(queue, history)
    recorded.enqueue(1)
    items = recorded.claim(lease=dt.timedelta(seconds=5))
    recorded.renew(items, dt.timedelta(minutes=1))
    assert items[0].remaining() > 30
    assert kinds(history)[-2:] == ["renew invoke", "renew ok"]


def test_a_recording_stays_in_its_process(queue: Queue, history: History) -> None:
    """Handing it to a worker with processes is refused, with what to do instead."""
    worker = Worker(Recording(queue, history), print, processes=2)
    with pytest.raises(InvalidArgument, match="a history of its own"):
        worker.run(signals=False)


def test_what_is_lost_is_recorded_and_raised(queue: Queue, history: History) -> None:
    """The error of the queue goes on to the caller."""
    recorded = Recording(queue, history)
    recorded.enqueue("payload", id="one")
    (item,) = recorded.claim(lease=0.001)
    (again,) = wait_until(recorded.claim, "the lease to end")
    with pytest.raises(LeaseLost):
        recorded.finish(item)
    assert recorded.finish_and_claim(item).lost == ("one",)
    recorded.finish(again)
    verdict = judged(history)
    assert verdict.broken() == {}
    assert (verdict.figures.stale_refused, verdict.figures.finished) == (2, 1)


def test_what_was_refused_was_not_enqueued(queue: Queue, history: History) -> None:
    """A queue that is full has nothing of the call; what an earlier batch of the call brought is acknowledged."""
    queue.configure(max_length=2)
    recorded = Recording(queue, history)
    with pytest.raises(QueueFull) as caught:
        recorded.enqueue_many(range(4), batch=2)
    assert len(caught.value.enqueued) == 2
    with pytest.raises(PayloadError):
        recorded.enqueue(object())
    figures = judged(history).figures
    assert (figures.enqueued, figures.ambiguous, figures.refused) == (2, 0, 3)


def test_what_may_have_been_applied_is_open(queue: Queue, history: History, proxy: FaultProxy) -> None:
    """A reply that never came leaves it open, and neither outcome is called a broken promise."""
    with Queue("q", proxy.url, timeout=0) as cut_off:
        recorded = Recording(cut_off, history)
        cut_off.counts()
        proxy.lose_reply(match=b"EVALSHA")
        with pytest.raises(Unavailable):
            recorded.enqueue("payload")
    final_state(queue, history)
    verdict = judged(history)
    assert verdict.broken() == {}
    assert (verdict.figures.enqueued, verdict.figures.ambiguous) == (0, 1)


def test_an_asyncio_queue_is_recorded(server: Server, queue: Queue, history: History) -> None:
    """The same words with await."""

    async def use() -> None:
        async with AsyncQueue("q", server.socket_url) as plain:
            recorded = AsyncRecording(plain, history)
            await recorded.enqueue("zero")
            await recorded.enqueue_many(range(5))
            one, two, three = await recorded.claim(3)
            await recorded.renew(one)
            await recorded.release(two)
            await recorded.fail(three, "no")
            for item in await recorded.finish_and_claim(one, 2):
                await recorded.finish(item)

    asyncio.run(use())
    final_state(queue, history)
    verdict = judged(history)
    assert verdict.broken() == {}
    assert (verdict.figures.enqueued, verdict.figures.finished, verdict.figures.again_released) == (6, 3, 1)


def test_final_state_lists_every_item(queue: Queue, history: History, tmp_path: Path) -> None:
    """Items of each state, more than fit on a page, and the counts."""
    recorded = Recording(queue, history)
    recorded.enqueue_many(range(2500))
    recorded.enqueue("later", delay=600)
    recorded.finish(recorded.claim(10))
    recorded.cancel(queue.peek(1)[0].id)
    states = final_state(recorded, history)
    found = {state.value: len(ids) for state, ids in states.items() if ids and state != "removed"}
    assert found == {"queued": 2489, "scheduled": 1, "finished": 10}
    assert judged(history).broken() == {}
    assert judged(history).undecided == {}
