from __future__ import annotations

import dataclasses
import datetime as dt
import threading

import pytest
from contract.clients import Clock, LoseReply, OpenQueue
from proxy import FaultProxy
from servers import wait_until

from reliq import DrainTimeout, InvalidArgument, ItemNotFound, ItemState, New, Queue, QueuePaused
from reliq.embedded import Server
from reliq.item import sources

S = ItemState


def one_of_each(queue: Queue, clock: Clock) -> None:
    """An item in each state, whose id is the state's name."""
    queue.configure(expiry="hold")
    queue.enqueue_many([New(name, id=name) for name in ("finished", "dead", "orphaned")])
    finished, dead, _ = queue.claim(3, lease=10)
    queue.finish(finished)
    queue.fail(dead, dead=True)
    clock.advance(10)
    queue.recover()
    queue.enqueue_many([New(name, id=name) for name in ("in_progress", "queued", "removed")])
    queue.cancel("removed")
    queue.claim()
    queue.enqueue("scheduled", id="scheduled", delay=60)


STATES = ("queued", "scheduled", "in_progress", "orphaned", "dead", "finished", "removed")


@pytest.mark.parametrize(("verb", "target"), [("requeue", S.QUEUED), ("cancel", S.REMOVED), ("discard", S.REMOVED)])
def test_a_verb_takes_items_from_its_states_only(queue: Queue, clock: Clock, verb: str, target: ItemState) -> None:
    """It moves those that are in one of its states, tells of the others where they are, and can be repeated."""
    one_of_each(queue, clock)
    moves = {state.value for state in sources(verb)}
    for _ in range(2):
        moved = getattr(queue, verb)(*STATES, "unknown")
        assert set(moved.ids) == moves | {target.value}
        expected = {name: S(name) for name in STATES if name not in moved.ids}
        assert moved.skipped == {**expected, "unknown": None}
        assert not moved
    assert {queue.get(name).state for name in moves} == {target}
    assert queue.get("in_progress").state is S.IN_PROGRESS


@pytest.mark.parametrize(("decision", "target"), [("finish", S.FINISHED), ("requeue", S.QUEUED), ("dead", S.DEAD)])
def test_resolving(queue: Queue, clock: Clock, decision: str, target: ItemState) -> None:
    """An orphaned item is finished, requeued or buried, as somebody decides who has looked."""
    one_of_each(queue, clock)
    for _ in range(2):
        assert queue.resolve("orphaned", decision)
        assert queue.get("orphaned").state is target
    assert not queue.resolve(["in_progress", "unknown"], decision)
    assert queue.get("in_progress").state is S.IN_PROGRESS


def test_a_dead_item_can_be_resolved(queue: Queue, clock: Clock) -> None:
    """Also a dead item may turn out to be done, or not to be."""
    one_of_each(queue, clock)
    assert queue.resolve("dead", "finish")
    assert queue.get("dead").state is S.FINISHED


def test_what_somebody_resolved_is_not_the_workers_any_more(queue: Queue, clock: Clock) -> None:
    """An item that was resolved as undone goes to the head of the queue: it was its turn."""
    queue.configure(expiry="hold")
    ids = [enqueued.id for enqueued in queue.enqueue_many(range(4))]
    queue.claim(2, lease=5)
    clock.advance(5)
    queue.recover()
    queue.resolve(ids[1::-1], "requeue")
    assert [item.payload for item in queue.claim(9)] == [0, 1, 2, 3]


def test_requeued_items_go_to_the_tail_in_the_order_given(queue: Queue) -> None:
    """Requeue is a new turn, and a scheduled item loses its time."""
    ids = [queue.enqueue(n, delay=60).id for n in range(2)]
    queue.enqueue(2)
    queue.requeue(ids[1], ids[0])
    assert [item.payload for item in queue.claim(9)] == [2, 1, 0]


def test_a_requeued_dead_item_starts_its_attempts_afresh(queue: Queue) -> None:
    """Its failures are forgiven; its deliveries go on, because they number the deliveries for systems further on."""
    queue.configure(max_attempts=1)
    queue.enqueue(1, id="a")
    queue.fail(queue.claim())
    queue.requeue("a")
    (item,) = queue.claim()
    assert (item.attempt, item.delivery) == (1, 2)


def test_redrive_takes_the_longest_dead_first(queue: Queue, clock: Clock) -> None:
    """Dead items go back to the tail, those first that died first, up to the limit."""
    queue.enqueue_many(range(4))
    for item in queue.claim(4)[::-1]:
        queue.fail(item, dead=True)
        clock.advance(1)
    assert queue.redrive(limit=3) == 3
    assert [item.payload for item in queue.claim(9)] == [3, 2, 1]
    assert queue.redrive() == 1
    assert queue.redrive() == 0


def test_redrive_of_many(queue: Queue) -> None:
    """One call moves more than one script does."""
    queue.enqueue_many(range(2300))
    for _ in range(3):
        queue.fail(queue.claim(1000), dead=True)
    assert queue.redrive(limit=2200) == 2200
    assert (queue.counts().queued, queue.counts().dead) == (2200, 100)


def test_a_lost_reply_redrives_no_further(open_queue: OpenQueue, proxy: FaultProxy, lose_reply: LoseReply) -> None:
    """A redrive that is repeated after a lost reply moves as many items as were asked for."""
    queue = open_queue(url=proxy.url)
    queue.enqueue_many(range(4))
    queue.fail(queue.claim(4), dead=True)
    lose_reply("redrive")
    assert queue.redrive(limit=2) == 2
    assert queue.counts().queued == 2


def test_cancelled_ids_stay_known(queue: Queue) -> None:
    """A cancelled item is not delivered, and its id can't be enqueued again within the retention."""
    queue.enqueue_many([New(n, id=f"id-{n}") for n in range(3)])
    assert queue.cancel("id-0", "id-2")
    assert not queue.enqueue("again", id="id-0").created
    assert [item.payload for item in queue.claim(9)] == [1]
    assert not queue.enqueue("again", id="id-0").created
    assert (queue.counts().removed, queue.counts().remembered) == (2, 2)


def test_purge_by_state(queue: Queue, clock: Clock) -> None:
    """Purging a state removes its items, and forgets their ids; other states stay."""
    one_of_each(queue, clock)
    for state in ("queued", "scheduled", "orphaned", "dead"):
        assert queue.purge(state) == 1
        assert queue.purge(S(state)) == 0
        with pytest.raises(ItemNotFound):
            queue.get(state)
    counts = queue.counts()
    assert (counts.in_progress, counts.finished, counts.removed) == (1, 1, 5)
    assert queue.enqueue("anew", id="dead").created


def test_purge_of_everything_that_waits(queue: Queue, clock: Clock) -> None:
    """Without a state a purge takes all that is not in progress and has not ended."""
    one_of_each(queue, clock)
    assert queue.purge() == 4
    assert queue.counts().in_progress == 1
    assert queue.get("finished").state is S.FINISHED


def test_a_purge_does_not_forget_what_was_cancelled_before(queue: Queue) -> None:
    """The ids of cancelled items stay known when the queue that they stood in is purged."""
    queue.enqueue_many([New(1, id="a"), New(2, id="b")])
    queue.cancel("a")
    assert queue.purge("queued") == 1
    assert queue.get("a").state is S.REMOVED
    assert not queue.enqueue("again", id="a").created
    assert queue.enqueue("anew", id="b").created


def test_purge_of_ended_ids(queue: Queue, clock: Clock) -> None:
    """Purging `finished` forgets ended ids and changes no total."""
    one_of_each(queue, clock)
    queue.discard("dead")
    assert queue.purge("finished") == 2
    assert (queue.counts().finished, queue.counts().remembered) == (1, 0)
    assert queue.enqueue("anew", id="finished").created


def test_purge_of_many(queue: Queue) -> None:
    """A purge goes on until the state is empty."""
    ids = [enqueued.id for enqueued in queue.enqueue_many(range(2500))]
    queue.cancel(*ids[500:1500])
    assert queue.purge("queued") == 1500
    assert queue.counts().removed == 2500
    assert queue.claim() == []


def test_items_in_progress_can_not_be_purged(queue: Queue) -> None:
    """Somebody works on them; and there is no such state as the others that are refused."""
    for state in ("in_progress", "removed", "nonsense"):
        with pytest.raises(InvalidArgument, match="state"):
            queue.purge(state)


def test_pause_and_resume(queue: Queue, other: Queue) -> None:
    """A pause holds for all clients, leaves items in progress alone, and can be repeated, as can its end."""
    queue.enqueue_many(range(2))
    held = queue.claim()
    for _ in range(2):
        queue.pause(enqueue=True)
    assert (other.counts().paused_claim, other.counts().paused_enqueue) == (True, True)
    assert other.claim() == []
    with pytest.raises(QueuePaused):
        other.enqueue(3)
    assert other.finish_and_claim(held, 5) == []
    for _ in range(2):
        other.resume()
    assert len(queue.claim()) == 1
    queue.enqueue(3)


def test_resuming_a_queue_that_does_not_exist(queue: Queue) -> None:
    """It changes nothing: there is no queue afterwards either."""
    queue.resume()
    assert queue.counts().enqueued == 0


def test_resume_wakes_those_who_wait(queue: Queue, server: Server) -> None:
    """A claim that waits on a paused queue gets its item when the queue is opened."""
    queue.enqueue(1)
    queue.pause()

    def open_it() -> None:
        with Queue("emails", server.socket_url) as operator:
            wait_until(lambda: operator.counts().paused_claim, "it is paused")
            operator.resume()

    opening = threading.Thread(target=open_it)
    opening.start()
    assert len(queue.claim(wait=30)) == 1
    opening.join()


def test_draining_an_idle_queue(queue: Queue) -> None:
    """A drained queue is empty and stays closed for new items until it is resumed."""
    queue.enqueue(1)
    queue.finish(queue.claim())
    assert queue.drain(timeout=0).waiting == 0
    with pytest.raises(QueuePaused):
        queue.enqueue(2)
    queue.resume()
    queue.enqueue(2)


def test_draining_waits_for_the_workers(queue: Queue, server: Server) -> None:
    """Drain returns when the last item has been dealt with."""
    queue.enqueue_many(range(3))

    def work() -> None:
        with Queue("emails", server.socket_url) as worker:
            wait_until(lambda: worker.counts().paused_enqueue, "it drains")
            worker.finish(worker.claim(3))

    working = threading.Thread(target=work)
    working.start()
    assert queue.drain(timeout=30).finished == 3
    working.join()


def test_a_drain_that_takes_too_long(queue: Queue) -> None:
    """When the time is up the error says what is left, dead and orphaned items not counted."""
    queue.enqueue_many([1, 2, New(3, delay=60), 4])
    queue.fail(queue.claim(1), dead=True)
    queue.claim(1)
    with pytest.raises(DrainTimeout) as caught:
        queue.drain(timeout=0.01)
    assert caught.value.left == {"queued": 1, "scheduled": 1, "in_progress": 1}


def test_settings_are_the_queues(queue: Queue, other: Queue) -> None:
    """Settings hold for all clients; what is not named stays; None puts one back to its default."""
    defaults = queue.settings()
    changed = queue.configure(
        max_length=9,
        max_attempts=2,
        max_deliveries=3,
        expiry="hold",
        retry="tail",
        backoff_base=0.5,
        backoff_cap=dt.timedelta(minutes=1),
        finished_age=7,
        finished_count=8,
    )
    assert dataclasses.astuple(changed) == (9, 2, 3, "hold", "tail", 0.5, 60.0, 7.0, 8)
    assert other.settings() == changed
    assert other.configure(max_length=None).max_length == 0
    assert queue.configure() == dataclasses.replace(changed, max_length=0)
    names = [field.name for field in dataclasses.fields(defaults)]
    assert queue.configure(**dict.fromkeys(names)) == defaults


@pytest.mark.parametrize(
    "change",
    [
        {"max_speed": 1},
        {"max_length": -1},
        {"max_length": 1.5},
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_deliveries": 10**7},
        {"expiry": "explode"},
        {"retry": "sideways"},
        {"backoff_base": float("nan")},
        {"backoff_cap": -1},
        {"finished_age": "long"},
        {"finished_count": -1},
    ],
)
def test_a_setting_out_of_range(queue: Queue, change: dict[str, object]) -> None:
    """A wrong setting is refused by its name, and with it the whole call."""
    with pytest.raises(InvalidArgument, match=next(iter(change))):
        queue.configure(retry="head", **change) if "retry" not in change else queue.configure(**change)
    assert queue.settings().retry == "later"


@pytest.mark.parametrize("verb", ["requeue", "cancel", "discard"])
def test_how_many_ids(queue: Queue, verb: str) -> None:
    """A call takes 1 to 1,000 ids; the same one twice is one."""
    call = getattr(queue, verb)
    for ids in ([], ["x"] * 1001):
        with pytest.raises(InvalidArgument, match="ids"):
            call(*ids)
    assert call("x", "x").skipped == {"x": None}


def test_an_unknown_decision(queue: Queue) -> None:
    """There are three decisions, and a list of ids has to have some."""
    with pytest.raises(InvalidArgument, match="decision"):
        queue.resolve("x", "maybe")
    with pytest.raises(InvalidArgument, match="ids"):
        queue.resolve([], "finish")
