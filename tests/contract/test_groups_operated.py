"""Groups under the hands of people: whoever removes the item that has the turn passes it on."""

from __future__ import annotations

import pytest
import redis
from contract.clients import Clock
from contract.grouped import add, claimed, drained

from reliq import ItemState, New, Queue
from reliq._keys import Keys


@pytest.fixture
def blocked(queue: Queue) -> Queue:
    """A queue in which a1 is in progress, and a2 and a3 wait for its turn."""
    add(queue, "a1 a2 a3")
    assert claimed(queue) == "a1"
    assert claimed(queue) == ""
    return queue


@pytest.mark.parametrize("retry", ["tail", "head", "later"])
def test_cancelling_the_one_that_has_the_turn(queue: Queue, retry: str) -> None:
    """An item that waits for its retry, and with it the group, can be cancelled: the group goes on."""
    queue.configure(retry=retry)
    add(queue, "a1 a2 -1")
    items = queue.claim(9)
    queue.finish(items[1])
    queue.claim(9)
    queue.fail(items[0])
    assert queue.cancel("a1")
    assert drained(queue) == "a2"


def test_cancelling_one_that_waits_for_its_turn(blocked: Queue, clock: Clock) -> None:
    """It leaves the queue, its id stays known, and the others keep their order."""
    assert blocked.cancel("a2")
    assert blocked.cancel("a2")
    assert (blocked.get("a2").state, blocked.counts().blocked) == (ItemState.REMOVED, 1)
    assert not blocked.enqueue("again", id="a2").created
    add(blocked, "a4")
    clock.advance(30)
    assert drained(blocked) == "a1 | a3 | a4"


@pytest.mark.parametrize("verb", ["cancel", "purge"])
def test_removing_the_one_whose_turn_has_come(blocked: Queue, clock: Clock, verb: str) -> None:
    """An item that got the turn and was not claimed yet passes it on when it is removed."""
    blocked.configure(expiry="dead")
    clock.advance(30)
    blocked.recover()  # now a2 has the turn and stands at the head
    if verb == "cancel":
        assert blocked.cancel("a2")
        assert drained(blocked) == "a3"
    else:
        assert blocked.purge("queued") == 2
        add(blocked, "a4")
        assert drained(blocked) == "a4"


def test_cancelling_before_the_first_claim(queue: Queue) -> None:
    """An item that never had the turn leaves nothing of it behind."""
    add(queue, "a1 a2")
    queue.cancel("a1")
    assert drained(queue) == "a2"


def test_an_id_comes_back_in_another_group(queue: Queue) -> None:
    """A purged id may be used again, and is then of the group that it is enqueued with."""
    add(queue, "a1 a2")
    queue.claim(1)
    queue.claim(1)
    queue.purge("queued")
    queue.enqueue(1, id="a2", group="b")
    assert [(item.id, item.group) for item in queue.claim(9)] == [("a2", "b")]


def test_purging_those_that_wait_for_their_turn(blocked: Queue, clock: Clock) -> None:
    """A purge of the queued ones takes them as well; the one in progress stays."""
    add(blocked, "-1 b1")
    assert blocked.purge("queued") == 4
    assert (blocked.counts().queued, blocked.counts().in_progress) == (0, 1)
    add(blocked, "a4")
    assert claimed(blocked) == ""
    clock.advance(30)
    assert drained(blocked) == "a1 | a4"


@pytest.mark.parametrize("state", ["scheduled", "orphaned"])
def test_purging_the_one_that_has_the_turn(blocked: Queue, clock: Clock, state: str) -> None:
    """The group goes on behind what was purged."""
    blocked.configure(expiry="hold")
    clock.advance(30)
    assert claimed(blocked) == ""
    if state == "scheduled":
        blocked.resolve("a1", "requeue")
        blocked.fail(blocked.claim(), retry_after=50)
        assert claimed(blocked) == ""
    assert blocked.purge(state) == 1
    assert drained(blocked) == "a2 | a3"


def test_purging_the_dead_changes_no_turn(blocked: Queue, clock: Clock) -> None:
    """They have none; their group is forgotten with them."""
    blocked.configure(expiry="dead")
    clock.advance(30)
    blocked.recover()
    assert claimed(blocked) == "a2"
    assert blocked.purge("dead") == 1
    assert claimed(blocked) == ""


def test_discarding_an_orphan_passes_the_turn_on(blocked: Queue, clock: Clock) -> None:
    """So does discarding the item that somebody had to look at."""
    blocked.configure(expiry="hold")
    clock.advance(30)
    blocked.recover()
    assert claimed(blocked) == ""
    assert blocked.discard("a1")
    assert drained(blocked) == "a2 | a3"


def test_its_holder_discards_an_item(queue: Queue) -> None:
    """A handler that gives an item up for good passes the turn on."""
    add(queue, "a1 a2")
    queue.fail(queue.claim(), "not wanted", discard=True)
    assert drained(queue) == "a2"


@pytest.mark.parametrize("verb", ["redrive", "requeue", "resolve"])
def test_a_dead_item_that_comes_back(queue: Queue, verb: str) -> None:
    """It goes before those of its group that wait still, and waits itself while another has the turn."""
    add(queue, "a1 a2 a3 a4")
    queue.fail(queue.claim(), dead=True)
    (second,) = queue.claim(9)
    assert claimed(queue) == ""
    match verb:
        case "redrive":
            assert queue.redrive() == 1
        case "requeue":
            assert queue.requeue("a1")
        case "resolve":
            assert queue.resolve("a1", "requeue")
    assert claimed(queue) == ""
    queue.finish(second)
    assert drained(queue) == "a1 | a3 | a4"


@pytest.mark.parametrize("verb", ["redrive", "requeue"])
def test_a_dead_item_goes_before_its_group(queue: Queue, verb: str) -> None:
    """It stands at the head of the queue, before what was enqueued after it; one of no group goes to the tail."""
    add(queue, "a1 -1")
    queue.fail(queue.claim(9), dead=True)
    add(queue, "-2 a2")
    assert queue.redrive() == 2 if verb == "redrive" else queue.requeue("a1", "-1")
    assert drained(queue) == "a1 -2 -1 | a2"


@pytest.mark.parametrize("state", ["orphaned", "scheduled"])
def test_requeueing_keeps_the_turn(blocked: Queue, clock: Clock, state: str) -> None:
    """What somebody puts at the tail of the queue goes before the rest of its group still."""
    blocked.configure(expiry="hold")
    clock.advance(30)
    blocked.recover()
    if state == "scheduled":
        blocked.resolve("a1", "requeue")
        blocked.fail(blocked.claim(), retry_after=50)
    add(blocked, "-1")
    assert blocked.requeue("a1")
    assert drained(blocked) == "-1 a1 | a2 | a3"


@pytest.mark.parametrize("record", [None, b"?"], ids=["missing", "cut off"])
def test_an_unreadable_item_passes_its_turn_on(queue: Queue, redis_client: redis.Redis, record: bytes | None) -> None:
    """A damaged record holds up its group no longer than until it is met."""
    queue.configure(retry="tail")
    add(queue, "a1 a2")
    (first,) = queue.claim(9)
    assert claimed(queue) == ""
    queue.fail(first)
    items = Keys("emails")["items"]
    size = redis_client.hstrlen(items, "a1")
    if record is None:
        redis_client.hdel(items, "a1")
    else:
        redis_client.hset(items, "a1", record)
    assert claimed(queue) == ""
    assert claimed(queue) == "a2"
    assert queue.counts().dead == 1
    lost = size - len(record or b"")  # the bytes that the damage took
    assert queue.counts().waiting_bytes == lost
    redis_client.hincrby(Keys("emails")["meta"], "waiting_bytes", -lost)
    redis_client.hset(items, "a1", b"?")  # so that what is dead is there


def test_a_drained_queue_has_no_one_waiting_for_a_turn(queue: Queue) -> None:
    """When all is done nothing of groups and turns is left on the server."""
    queue.enqueue_many([New(n, group=f"g{n % 5}") for n in range(50)])
    drained(queue)
    counts = queue.counts()
    assert (counts.finished, counts.queued, counts.blocked, counts.waiting_bytes) == (50, 0, 0, 0)


def test_calls_do_not_grow_with_the_number_of_groups(queue: Queue, redis_client: redis.Redis) -> None:
    """With ten thousand groups on the server a claim and a finish send as many commands as with ten."""

    def commands(groups: int) -> int:
        queue.purge()
        queue.purge("finished")
        queue.enqueue_many([New(n, group=f"g{n % groups}") for n in range(groups)])
        queue.enqueue_many([New(n, group=f"g{n % groups}") for n in range(groups)])
        queue.finish(queue.claim(10))
        redis_client.config_resetstat()
        queue.finish(queue.claim(10))
        stats = redis_client.info("commandstats")
        return sum(stat["calls"] for name, stat in stats.items() if name not in ("cmdstat_info", "cmdstat_config"))

    commands(10)
    assert commands(10_000) <= commands(10) + 2
