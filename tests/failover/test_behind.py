"""The new master lacks the last that the old one took. docs/explanation/after-a-failover.md has a row for each test."""

from __future__ import annotations

import pytest
from failover.behind import Behind, one

from reliq import DurabilityNotReached, ItemNotFound, LeaseLost, New


def test_enqueue_is_lost(behind: Behind) -> None:
    """What only the old master took is nowhere; the producer who repeats it with its id adds it, once."""
    behind.queue.enqueue("first")
    behind.part()
    behind.queue.enqueue("second", id="mine")
    new = behind.switch()
    with pytest.raises(ItemNotFound):
        new.get("mine")
    assert new.enqueue("second", id="mine").created
    assert not new.enqueue("second", id="mine").created
    assert [item.payload for item in new.claim(10)] == ["first", "second"]


def test_enqueue_is_not_lost_in_silence(behind: Behind) -> None:
    """With `replicated:all` the producer knows that it is not safe, before anything fails."""
    careful = behind.open(behind.old.url, durability="replicated:all", durability_timeout=0.2)
    careful.enqueue("first")
    behind.part()
    with pytest.raises(DurabilityNotReached) as caught:
        careful.enqueue("second", id="mine")
    assert caught.value.achieved == "memory"
    assert behind.switch().enqueue("second", id="mine").created


def test_claim_is_lost_and_finished(behind: Behind) -> None:
    """The item is queued again; its holder ends it where it stands, and nobody gets it a second time."""
    behind.queue.enqueue_many(["first", "second"])
    behind.part()
    held = one(behind.queue)
    new = behind.switch()
    assert new.get(held.id).state == "queued"
    new.finish(held)
    new.finish(held)
    assert new.get(held.id).state == "finished"
    assert [item.payload for item in new.claim(10)] == ["second"]
    assert (new.counts().queued, new.counts().finished) == (0, 1)


def test_claim_is_lost_and_finished_with_the_next_claim(behind: Behind) -> None:
    """The same in one round trip, as a loop does it: the item that this claims again is ended and not handed out."""
    behind.queue.enqueue_many(["first", "second", "third"])
    behind.part()
    held = behind.queue.claim(2)
    new = behind.switch()
    theirs = one(new)
    assert theirs.id == held[0].id
    claimed = new.finish_and_claim(held, 10)
    assert claimed.lost == (theirs.id,)
    assert [item.payload for item in claimed] == ["third"]
    assert new.get(held[1].id).state == "finished"


def test_claim_is_lost_and_somebody_else_has_it(behind: Behind) -> None:
    """The new master's own holder has the item; the old one is refused, also when the item is back in the queue."""
    behind.queue.enqueue("payload")
    behind.part()
    held = one(behind.queue)
    new = behind.switch()
    theirs = one(new)
    with pytest.raises(LeaseLost):
        new.finish(held)
    new.release(theirs)
    with pytest.raises(LeaseLost):
        new.finish(held)
    new.finish(one(new))
    with pytest.raises(LeaseLost):
        new.finish(held)


def test_claim_is_lost_and_finished_with_a_result(behind: Behind) -> None:
    """The same with results, and with what comes next: each is there once, and no item is delivered again."""
    behind.queue.enqueue_many(["first", "second", "third"])
    behind.part()
    held = behind.queue.claim(3)
    new = behind.switch()
    for _ in range(2):
        new.finish(held[0], result="sent", then=New("next", id="next"))
        new.finish_each([(held[1], 2), (held[2], 3)])
    assert [new.get(item.id).result for item in held] == ["sent", 2, 3]
    assert [item.payload for item in new.claim(10)] == ["next"]
    assert [new.get(item.id).result for item in held] == ["sent", 2, 3]
    assert (new.counts().finished, new.counts().enqueued) == (3, 4)


def test_claim_is_lost_and_somebody_else_finishes(behind: Behind) -> None:
    """Whoever has the item now says what its result is, and what follows it; the old holder is refused."""
    behind.queue.enqueue("payload")
    behind.part()
    held = one(behind.queue)
    new = behind.switch()
    theirs = one(new)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            new.finish(held, result="old", then=New("old"))
        new.finish(theirs, result="new", then=New("new", id="new"))
    assert new.get(held.id).result == "new"
    assert [item.payload for item in new.claim(10)] == ["new"]


@pytest.mark.parametrize("verb", ["release", "fail", "renew", "checkpoint"])
def test_claim_is_lost_and_not_finished(verb: str, behind: Behind) -> None:
    """Everything else is refused: the item stays where it is, no failure is counted, and it is delivered."""
    behind.queue.enqueue("payload")
    behind.part()
    held = one(behind.queue)
    new = behind.switch()
    with pytest.raises(LeaseLost):
        getattr(new, verb)(held)
    assert (one(new).attempt, new.counts().queued) == (1, 0)


def test_enqueue_and_claim_are_lost(behind: Behind) -> None:
    """The holder's item is unknown; where the producer repeats the enqueue that is another item, which it can't end."""
    behind.queue.enqueue(0)
    behind.queue.finish(one(behind.queue))
    behind.part()
    behind.queue.enqueue("payload", id="mine")
    held = one(behind.queue)
    new = behind.switch()
    with pytest.raises(LeaseLost):
        new.finish(held)
    new.enqueue("payload", id="mine")
    with pytest.raises(LeaseLost):
        new.finish(held)
    assert one(new).id == "mine"


def test_finish_is_lost_and_repeated(behind: Behind) -> None:
    """The item is in progress under the old receipt: a finish that is repeated counts."""
    behind.queue.enqueue("payload")
    held = one(behind.queue)
    behind.part()
    behind.queue.finish(held)
    new = behind.switch()
    assert new.get(held.id).state == "in_progress"
    new.finish(held)
    assert new.get(held.id).state == "finished"


def test_finish_is_lost_and_not_repeated(behind: Behind) -> None:
    """The lease ends, and the item is delivered again: its handler has run twice."""
    behind.queue.enqueue("payload")
    (held,) = behind.queue.claim(lease=0.2)
    behind.part()
    behind.queue.finish(held)
    new = behind.switch()
    (again,) = new.claim(wait=5.0)
    assert (again.id, again.delivery) == (held.id, 2)
    with pytest.raises(LeaseLost):
        new.finish(held)


def test_claim_and_finish_are_lost(behind: Behind) -> None:
    """The item is queued: delivered again, unless its holder is quicker and repeats its finish."""
    behind.queue.enqueue_many(["first", "second"])
    behind.part()
    for item in (items := behind.queue.claim(2)):
        behind.queue.finish(item)
    new = behind.switch()
    new.finish(items[1])
    assert [item.payload for item in new.claim(10)] == ["first"]


def test_release_is_lost(behind: Behind) -> None:
    """The item is held by nobody under the old receipt, until its lease ends or its release is repeated."""
    behind.queue.enqueue("payload")
    held = one(behind.queue)
    behind.part()
    behind.queue.release(held)
    new = behind.switch()
    assert new.claim() == []
    new.release(held)
    assert one(new).attempt == 1


def test_fail_is_lost(behind: Behind) -> None:
    """The failure is not counted, until it is repeated; and then once."""
    behind.queue.configure(retry="tail")
    behind.queue.enqueue("payload")
    held = one(behind.queue)
    behind.part()
    behind.queue.fail(held, "broken")
    new = behind.switch()
    assert (new.get(held.id).state, new.get(held.id).failures) == ("in_progress", 0)
    new.fail(held, "broken")
    new.fail(held, "broken")
    assert new.get(held.id).failures == 1


def test_renew_is_lost(behind: Behind) -> None:
    """The lease ends when it would have ended without it; until somebody takes the item back its finish counts."""
    behind.queue.enqueue_many(["first", "second"])
    (first,), (second,) = behind.queue.claim(1, lease=0.2), behind.queue.claim(1, lease=0.2)
    behind.part()
    behind.queue.renew([first, second], 60.0)
    new = behind.switch()
    new.finish(first)
    assert [item.payload for item in new.claim(wait=5.0)] == ["second"]
    with pytest.raises(LeaseLost):
        new.finish(second)


def test_decision_is_lost(behind: Behind) -> None:
    """What a person cancelled is queued again, and can be cancelled again."""
    ids = [each.id for each in behind.queue.enqueue_many(["first", "second"])]
    behind.part()
    behind.queue.cancel(*ids)
    new = behind.switch()
    assert new.cancel(ids[0]).ids == (ids[0],)
    assert [item.payload for item in new.claim(10)] == ["second"]


def test_batch_is_behind(behind: Behind) -> None:
    """The last member was finished and what follows had been enqueued: both are so again, once, by its repeat."""
    batch = behind.queue.batch(["first", "second"], then=New("after"))
    held = behind.queue.claim(2)
    behind.queue.finish(held[0])
    behind.part()
    behind.queue.finish(held[1])
    new = behind.switch()
    with pytest.raises(ItemNotFound):
        new.get(batch.then_id)
    for _ in range(2):
        new.finish(held[1])
    assert [item.payload for item in new.claim(10)] == ["after"]


def test_turn_of_a_group_is_behind(behind: Behind) -> None:
    """The turn is with the item that was finished, and nobody overtakes it: the next one waits for it to end again."""
    behind.queue.enqueue_many([New("first", group="g"), New("second", group="g"), "other"])
    first = one(behind.queue)
    behind.part()
    behind.queue.finish(first)
    second = one(behind.queue)
    new = behind.switch()
    assert [item.payload for item in new.claim(10)] == ["other"]
    with pytest.raises(LeaseLost):
        new.finish(second)
    new.finish(first)
    assert [item.payload for item in new.claim(10)] == ["second"]
