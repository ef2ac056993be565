"""The register of workers, and who of them sweeps for all."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import redis
from contract.clients import Clock

from reliq import New, Queue, _codec, _commands
from reliq._commands import Beat
from reliq._keys import Keys
from reliq.info import WORKER_FACTS

ALARM = Keys("emails")["alarm"]


def facts(**told: object) -> bytes:
    return _codec.pack_payload({"host": "here", "pid": 7, **told})


def beat(queue: Queue, worker: str, *, told: bytes | None = None, sweep: float = 10.0) -> Beat:
    """What a worker's housekeeper sends every few seconds."""
    command = _commands.beat(worker, facts() if told is None else told, sweep)
    made: Any = queue._driver.call(command)
    return queue._runner.run(made) if inspect.isawaitable(made) else made  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def made(queue: Queue) -> Queue:
    """A queue that is there."""
    queue.configure()
    return queue


def test_who_works_here(made: Queue, clock: Clock) -> None:
    """Workers say what they do; those seen last are listed first, with how long ago that was."""
    beat(made, "one", told=facts(concurrency=4, holding=3, busy=2, finished=9, kind="threads"))
    clock.advance(5)
    beat(made, "two")
    two, one = made.workers()
    assert (one.name, one.host, one.pid, one.kind, one.concurrency) == ("one", "here", 7, "threads", 4)
    assert (one.holding, one.busy, one.finished, one.failed) == (3, 2, 9, 0)
    assert (one.age, one.seen_at, two.age) == (5.0, clock.now - 5, 0.0)
    assert made.counts().workers == 2
    assert set(WORKER_FACTS) >= {"host", "pid", "concurrency"}


def test_what_a_worker_said_last(made: Queue) -> None:
    """A beat replaces what the worker said before, and a repeated one changes nothing."""
    beat(made, "one", told=facts(finished=1))
    for _ in range(2):
        beat(made, "one", told=facts(finished=2))
    assert [(worker.name, worker.finished) for worker in made.workers()] == [("one", 2)]


def test_facts_of_a_later_version(made: Queue) -> None:
    """What this version does not know of a worker is left out."""
    beat(made, "one", told=facts(colour="blue"))
    assert made.workers()[0].host == "here"


def test_a_worker_that_leaves(made: Queue) -> None:
    """It is off the list at once; leaving twice is leaving."""
    beat(made, "one")
    for _ in range(2):
        assert beat(made, "one", told=b"") == Beat(sweeps=False, next_event=None)
    assert made.workers() == []
    assert made.counts().workers == 0


def test_a_worker_that_is_not_seen_any_more(made: Queue, clock: Clock) -> None:
    """It stays on the list for an hour, and is then forgotten with what it said, when another one is seen."""
    beat(made, "gone")
    clock.advance(3599)
    beat(made, "there")
    assert [worker.name for worker in made.workers()] == ["there", "gone"]
    clock.advance(1)
    beat(made, "there")
    assert [worker.name for worker in made.workers()] == ["there"]


def test_one_of_them_sweeps(made: Queue, clock: Clock) -> None:
    """The first one gets the sweep lease and keeps it while it is seen; the others do not sweep."""
    for _ in range(3):
        assert beat(made, "one").sweeps
        assert not beat(made, "two").sweeps
        clock.advance(9)
    assert [(worker.name, worker.sweeps) for worker in made.workers()] == [("two", False), ("one", True)]


def test_another_one_takes_over(made: Queue, clock: Clock) -> None:
    """When the sweeper was not seen for the length of its lease, the next one to be seen sweeps."""
    beat(made, "one")
    clock.advance(9.999)
    assert not beat(made, "two").sweeps
    assert any(worker.sweeps for worker in made.workers())
    clock.advance(0.001)
    assert not any(worker.sweeps for worker in made.workers())
    assert beat(made, "two").sweeps
    assert not beat(made, "one").sweeps


def test_a_sweeper_that_leaves_gives_its_lease_back(made: Queue, redis_client: redis.Redis) -> None:
    """The alarm sounds, and the next one sweeps at once; one that leaves without the lease disturbs nobody."""
    beat(made, "one")
    beat(made, "two")
    beat(made, "two", told=b"")
    assert redis_client.llen(ALARM) == 0
    beat(made, "one", told=b"")
    assert redis_client.llen(ALARM) == 1
    assert beat(made, "three").sweeps


def test_one_that_does_not_sweep(made: Queue, clock: Clock) -> None:
    """A worker may be there without ever sweeping."""
    assert not beat(made, "one", sweep=0).sweeps
    assert beat(made, "two").sweeps


def test_the_sweeper_recovers(made: Queue, clock: Clock) -> None:
    """Leases that have ended and items that are due go back to the queue with its beat, and with no other's."""
    made.enqueue_many(range(3))
    made.claim(2, lease=10)
    made.enqueue("later", delay=10)
    beat(made, "one", sweep=60)
    clock.advance(10)
    beat(made, "two")
    assert made.counts().queued == 1
    assert beat(made, "one", sweep=60) == Beat(sweeps=True, next_event=None)
    assert (made.counts().queued, made.counts().in_progress, made.counts().scheduled) == (4, 0, 0)
    assert [item.payload for item in made.claim(9)] == [0, 1, 2, "later"]


def test_the_sweep_is_bounded(made: Queue, clock: Clock) -> None:
    """A beat moves up to a hundred, and says that there is more to do at once."""
    made.enqueue_many(range(150))
    made.claim(150, lease=10)
    clock.advance(10)
    assert beat(made, "one") == Beat(sweeps=True, next_event=0.0)
    assert made.counts().queued == 100
    beat(made, "one")
    assert made.counts().queued == 150


def test_the_sweeper_knows_when_to_come_back(made: Queue) -> None:
    """It is told when the next lease ends or item falls due."""
    assert beat(made, "one").next_event is None
    made.enqueue(1)
    made.claim(lease=20)
    assert beat(made, "one").next_event == pytest.approx(20, abs=0.5)
    made.enqueue(2, delay=5)
    assert beat(made, "one").next_event == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize("way", ["enqueue", "fail", "batch", "then"])
def test_the_alarm_sounds_for_what_is_due_earlier(made: Queue, redis_client: redis.Redis, way: str) -> None:
    """The sweeper sleeps until the first item that it knows of; one that is due before that wakes it, one later not."""
    made.enqueue("known", delay=50)
    made.enqueue(1)
    items = made.claim()
    beat(made, "one")
    redis_client.delete(ALARM)
    for delay, tokens in ((100, 0), (20, 1), (10, 1)):  # one token is enough until somebody took it
        match way:
            case "enqueue":
                made.enqueue("x", delay=delay)
            case "batch":
                made.batch([New("x", delay=delay)], then=New("then"))
            case "then":
                made.finish(items, then=New("x", delay=delay))
                made.enqueue(1)
                items = made.claim()
            case "fail":
                made.fail(items, retry_after=delay)
                made.enqueue(1)
                items = made.claim()
        assert redis_client.llen(ALARM) == tokens


def test_a_worker_of_no_queue(queue: Queue, redis_client: redis.Redis) -> None:
    """A worker that is there before the queue is not noted yet and makes no queue."""
    assert beat(queue, "one") == Beat(sweeps=False, next_event=None)
    assert queue.workers() == []
    assert list(redis_client.scan_iter("reliq:{*")) == []


def test_waiting_for_an_item_needs_no_sweeper(made: Queue) -> None:
    """Where nobody sweeps, an idle worker is woken for an item that is due later, and comes for it in time."""
    made.enqueue("soon", delay=0.05)
    assert [item.payload for item in made.claim(wait=5)] == ["soon"]
