from __future__ import annotations

import pytest
from contract.clients import Clock

from reliq import Counts, InvalidArgument, ItemInfo, ItemNotFound, ItemState, New, Queue
from reliq._codec import STAMP

S = ItemState


def ids_in(queue: Queue, state: str, page: int = 100) -> list[str]:
    return [info.id for info in queue.scan(state, page=page)]


def test_everything_about_an_item(queue: Queue, clock: Clock) -> None:
    """`get` tells where an item is, what it carries and what it went through."""
    began = clock.now
    queue.configure(retry="head")
    queue.enqueue([1, 2], id="a", headers={"k": "v"})
    queue.fail(queue.claim(), "first")
    queue.release(queue.claim())
    queue.claim(lease=5)
    clock.advance(5)
    queue.recover()
    info = queue.get("a")
    assert info == ItemInfo("a", S.QUEUED, [1, 2], {"k": "v"}, info.enqueued_at, 3, 1, 1, "first", None, None, info.raw)
    assert info.enqueued_at == pytest.approx(began, abs=0.001)


def test_the_life_of_an_item_by_its_states(queue: Queue, clock: Clock) -> None:
    """Whatever happens to an item, `get` knows where it is."""
    queue.configure(retry="tail", expiry="hold", max_attempts=2)
    queue.enqueue(1, id="a", delay=1)
    seen = [queue.get("a").state]
    clock.advance(1)
    queue.recover()
    seen.append(queue.get("a").state)
    items = queue.claim(lease=5)
    seen.append(queue.get("a").state)
    queue.release(items)
    seen.append(queue.get("a").state)
    queue.claim(lease=5)
    seen.append(queue.get("a").state)
    clock.advance(5)
    queue.recover()
    seen.append(queue.get("a").state)
    queue.requeue("a")
    queue.fail(queue.claim())
    seen.append(queue.get("a").state)
    queue.fail(queue.claim())
    seen.append(queue.get("a").state)
    queue.redrive()
    queue.finish(queue.claim())
    seen.append(queue.get("a").state)
    assert seen == [
        S.SCHEDULED,
        S.QUEUED,
        S.IN_PROGRESS,
        S.QUEUED,
        S.IN_PROGRESS,
        S.ORPHANED,
        S.QUEUED,
        S.DEAD,
        S.FINISHED,
    ]


def test_an_unknown_item(queue: Queue) -> None:
    """An id that the queue does not know is an error with its name."""
    with pytest.raises(ItemNotFound, match="nobody") as caught:
        queue.get("nobody")
    assert (caught.value.id, caught.value.queue) == ("nobody", "emails")


def test_when_an_item_ended(queue: Queue, clock: Clock) -> None:
    """Of an ended item the queue knows how and when it ended."""
    queue.enqueue_many([New(1, id="a"), New(2, id="b")])
    queue.finish(queue.claim())
    clock.advance(3)
    queue.cancel("b")
    assert queue.get("a").at == pytest.approx(clock.now - 3, abs=0.001)
    assert queue.get("b").at == pytest.approx(clock.now, abs=0.001)
    assert queue.get("b").state is S.REMOVED


@pytest.mark.parametrize("page", [1, 2, 100])
def test_scan_goes_through_a_state(queue: Queue, clock: Clock, page: int) -> None:
    """Each state can be gone through in its order, whatever the size of the pages."""
    queue.configure(expiry="hold")
    queue.enqueue_many([New(n, id=f"{n}") for n in range(15)])
    finished, dead, orphaned = (queue.claim(3, lease=10) for _ in range(3))
    queue.finish(finished)
    queue.fail(dead, dead=True)
    clock.advance(10)
    queue.recover()
    queue.claim(2)
    queue.claim(1)
    queue.cancel("13")
    queue.enqueue_many([New(n, id=f"later-{n}", delay=n) for n in (3, 1, 2)])
    assert ids_in(queue, "queued", page) == ["12", "14"]
    assert ids_in(queue, "scheduled", page) == ["later-1", "later-2", "later-3"]
    assert sorted(ids_in(queue, "in_progress", page)) == ["10", "11", "9"]
    assert ids_in(queue, "orphaned", page) == [item.id for item in orphaned]
    assert ids_in(queue, "dead", page) == [item.id for item in dead]
    assert ids_in(queue, "finished", page) == [item.id for item in finished]


@pytest.mark.parametrize("state", ["scheduled", "orphaned", "dead"])
def test_items_may_be_moved_while_scanning(queue: Queue, clock: Clock, state: str) -> None:
    """Sorted states meet each item exactly once, also when what was seen leaves on the way."""
    queue.configure(expiry="hold")
    ids = [f"{n:02}" for n in range(20)]
    queue.enqueue_many(New(n, id=n, delay=60 if state == "scheduled" else None) for n in ids)
    held = queue.claim(20, lease=5)
    if state == "dead":
        queue.fail(held, dead=True)
    clock.advance(5)
    queue.recover()
    seen = []
    for info in queue.scan(state, page=3):
        seen.append(info.id)
        if int(info.id) % 3 != 1:
            queue.requeue(info.id)
    assert seen == ids


def test_scan_of_nothing(queue: Queue) -> None:
    """An empty state has no items; an unknown state is refused when the scan begins."""
    assert [ids_in(queue, state) for state in S] == [[]] * len(S)
    with pytest.raises(InvalidArgument, match="state"):
        ids_in(queue, "lost")
    with pytest.raises(InvalidArgument, match="page"):
        ids_in(queue, "dead", page=0)


def test_peek_takes_nothing(queue: Queue) -> None:
    """Peek shows what would be claimed next, and leaves it where it is."""
    queue.enqueue_many(range(5))
    assert [info.payload for info in queue.peek(3)] == [0, 1, 2]
    assert queue.counts().queued == 5
    assert queue.peek(1)[0].state is S.QUEUED


def test_peek_passes_over_cancelled_items(queue: Queue) -> None:
    """The next item to be claimed is not one that was cancelled."""
    ids = [enqueued.id for enqueued in queue.enqueue_many(range(5))]
    queue.cancel(*ids[:3])
    assert [info.payload for info in queue.peek(1)] == [3]


def test_counts(queue: Queue, clock: Clock) -> None:
    """Counts has each item once, in the state that it is in, and what is due or has expired."""
    assert queue.counts() == Counts()
    queue.enqueue_many([*range(6), New(6, delay=5), New(7, delay=50)])
    finished, held, dead = queue.claim(1), queue.claim(2, lease=5), queue.claim(1)
    queue.finish(finished)
    queue.fail(dead, dead=True)
    queue.cancel(queue.peek()[0].id)
    clock.advance(5)
    assert queue.counts() == Counts(
        queued=1,
        scheduled=2,
        in_progress=2,
        dead=1,
        finished=1,
        removed=1,
        enqueued=8,
        remembered=1,
        claims=1,
        expired_claims=1,
        due=1,
        waiting_bytes=3 * (STAMP + 1),
    )
    assert queue.counts().waiting == 5
    assert len(held) == 2


def test_the_age_of_the_oldest(queue: Queue, clock: Clock) -> None:
    """The age is counted from the enqueue of the item that stands first in a state."""
    assert queue.oldest_age() is None
    ids = []
    for _ in range(3):
        ids.append(queue.enqueue(1).id)
        clock.advance(10)
    assert queue.oldest_age() == pytest.approx(30, abs=0.01)
    queue.cancel(ids[0])
    assert queue.oldest_age("queued") == pytest.approx(20, abs=0.01)
    queue.fail(queue.claim(), dead=True)
    assert queue.oldest_age(S.DEAD) == pytest.approx(20, abs=0.01)
    queue.claim()
    assert queue.oldest_age("in_progress") == pytest.approx(10, abs=0.01)
    assert [queue.oldest_age(state) for state in ("queued", "scheduled", "orphaned")] == [None] * 3
    with pytest.raises(InvalidArgument, match="state"):
        queue.oldest_age("finished")


def test_looking_changes_nothing(queue: Queue, clock: Clock) -> None:
    """Due items and expired leases stay where they are, whoever looks."""
    queue.enqueue_many([New(1, id="late"), New(2, id="due", delay=5)])
    queue.claim(lease=5)
    clock.advance(60)
    before = queue.counts()
    queue.peek()
    queue.settings()
    queue.oldest_age()
    assert [queue.get(i).state for i in ("late", "due")] == [S.IN_PROGRESS, S.SCHEDULED]
    assert queue.counts() == before
