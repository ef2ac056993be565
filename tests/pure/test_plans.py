"""The loops, driven by hand: what they ask for next, given what came of it. No server, no clock but a list of times."""

from __future__ import annotations

from typing import Any

import pytest

from reliq import DrainTimeout, PayloadError, QueueFull, Unavailable, _commands, _ids, _plans, _policy
from reliq._commands import ClaimReply
from reliq._plans import Block, ClaimRequest, Effect, Listen, Plan, Sleep
from reliq._policy import Applied, Retry
from reliq._session import Command, Session
from reliq.info import Counts, ItemInfo
from reliq.item import Claimed
from reliq.outcomes import Enqueued, Recovered
from reliq.states import ItemState


class FakeClock:
    """Time passes only when a plan is told that it did."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ended(plan: Plan[Any], value: Any = None) -> Any:
    """The result of a plan that has to end now."""
    with pytest.raises(StopIteration) as stop:
        plan.send(value)
    return stop.value.value


def some_items(count: int) -> Claimed:
    return Claimed([object()] * count)  # type: ignore[list-item]  # no plan looks into them


def nothing(*, more: bool = False, next_ms: int = -1) -> ClaimReply:
    return ClaimReply(Claimed(), [], more, next_ms)


# Riding out faults


def test_a_command_is_repeated_until_it_succeeds() -> None:
    """Between attempts there is a pause; the repeat is the very same command."""
    command, clock = _commands.recover(5), FakeClock()
    plan = _plans.persist(command, 10.0, Retry("first", Applied.NO), clock=clock)
    assert isinstance(next(plan), Sleep)
    assert plan.send(None) is command
    assert isinstance(plan.throw(Retry("second", Applied.NO)), Sleep)
    assert plan.send(None) is command
    assert ended(plan, "done") == "done"


@pytest.mark.parametrize(
    ("attempts", "maybe"),
    [([Applied.NO, Applied.NO], False), ([Applied.MAYBE, Applied.NO], True), ([Applied.NO, Applied.MAYBE], True)],
)
def test_giving_up(attempts: list[Applied], maybe: bool) -> None:
    """When the time is up the error says whether an attempt may have been applied, how many there were, and the ids."""
    clock = FakeClock()
    plan = _plans.persist(_commands.cancel(["a", "b"]), 10.0, Retry("first", attempts[0]), clock=clock)
    next(plan)
    plan.send(None)
    clock.now += 10
    with pytest.raises(Unavailable, match="last words") as caught:
        plan.throw(Retry("last words", attempts[1]))
    error = caught.value
    assert (error.may_have_been_applied, error.attempts, error.seconds, error.ids) == (maybe, 2, 10.0, ("a", "b"))


def test_no_time_at_all() -> None:
    """With a timeout of 0 s there is one attempt."""
    with pytest.raises(Unavailable) as caught:
        next(_plans.persist(_commands.recover(5), 0.0, Retry("first", Applied.MAYBE), clock=FakeClock()))
    assert caught.value.attempts == 1


def test_a_refusal_ends_it() -> None:
    """What is no fault is not repeated."""
    plan = _plans.persist(_commands.recover(5), 10.0, Retry("first", Applied.NO), clock=FakeClock())
    next(plan)
    plan.send(None)
    with pytest.raises(QueueFull):
        plan.throw(QueueFull("q", length=1, max_length=1))


# Enqueueing in batches


def answered(effect: Effect) -> list[Enqueued]:
    """What a server would answer to an enqueue."""
    assert isinstance(effect, Command)
    return [Enqueued(_ids.unpack(key), True) for key in effect.keys]


def test_batches_by_count() -> None:
    """Batches have so many items, and the results are in the order of the source."""
    plan = _plans.enqueue_many(Session("q"), range(5), 2)
    batches = [answered(next(plan))]
    for _ in range(2):
        batches.append(answered(plan.send(batches[-1])))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert ended(plan, batches[-1]) == [result for batch in batches for result in batch]


def test_batches_by_bytes() -> None:
    """A batch has at most 4 MiB, unless a single item has more."""
    payload = bytes(_policy.MAX_BATCH_BYTES // 4)
    plan = _plans.enqueue_many(Session("q", max_payload=2**30), [payload] * 4 + [payload * 8, b""], 100)
    batches = [answered(next(plan))]
    for _ in range(3):
        batches.append(answered(plan.send(batches[-1])))
    ended(plan, batches[-1])
    assert [len(batch) for batch in batches] == [3, 1, 1, 1]


def test_a_payload_that_can_not_be_carried_says_what_was_enqueued_before_it() -> None:
    """Its batch is not sent; the error has the results of those before."""
    plan = _plans.enqueue_many(Session("q"), [1, 2, 3, object()], 2)
    first = answered(next(plan))
    with pytest.raises(PayloadError) as caught:
        plan.send(first)
    assert list(caught.value.enqueued) == first


def test_a_refused_batch_says_what_was_enqueued_before_it() -> None:
    """So does an error of the server."""
    plan = _plans.enqueue_many(Session("q"), [1, 2, 3, 4], 2)
    first = answered(next(plan))
    plan.send(first)
    with pytest.raises(QueueFull) as caught:
        plan.throw(QueueFull("q", length=1, max_length=1))
    assert list(caught.value.enqueued) == first


# Waiting for room


FULL = QueueFull("q", length=1, max_length=1)


def test_waiting_for_room() -> None:
    """It tells how much room it wants, blocks until there may be some, and tries again, until the time is up."""
    clock = FakeClock()
    bodies = [_commands.Body(b"a", b"12"), _commands.Body(b"b", b"345")]
    plan = _plans.enqueue(Session("q"), bodies, 1.5 * _policy.BLOCK, clock=clock)
    next(plan)
    for expected in (_policy.BLOCK, _policy.BLOCK / 2):
        asked = plan.throw(FULL)
        assert isinstance(asked, Command)
        assert asked.script.name == "await_room"
        assert list(asked.args[1:]) == [round(expected * 1000), 2, 17]  # two stamps of 6 bytes, and 5 bytes
        assert plan.send(False) == Block(expected, (b"reliq:{q}:room",))
        clock.now += expected
        again = plan.send(None)
        assert isinstance(again, Command)
        assert again.script.name == "enqueue"
    with pytest.raises(QueueFull):
        plan.throw(FULL)


def test_room_that_came_meanwhile() -> None:
    """Where there is room by the time of the question, it tries again at once."""
    plan = _plans.enqueue(Session("q"), [_commands.Body(b"a", b"1")], 5.0, clock=FakeClock())
    next(plan)
    plan.throw(FULL)
    again = plan.send(True)
    assert isinstance(again, Command)
    assert ended(plan, answered(again)) == [Enqueued("a", True)]


# Batches


def test_a_batch_is_sealed_with_its_last_call() -> None:
    """Members go out a thousand at a time; only the last call says that there are no more."""
    spec = _commands.BatchSpec(b"b", "finished", _commands.Body(b"t", b"1"))
    plan = _plans.batch(Session("q"), spec, range(2500))
    sealed, command = [], next(plan)
    for _ in range(2):
        assert isinstance(command, Command)
        sealed.append((command.args[2], len(command.keys)))
        command = plan.send(frozenset())
    assert isinstance(command, Command)
    assert [*sealed, (command.args[2], len(command.keys))] == [(0, 1000), (0, 1000), (1, 500)]
    members = ended(plan, frozenset(command.keys[:2]))
    assert [member.created for member in members].count(False) == 2


def test_a_batch_of_none_is_sealed() -> None:
    """Without members there is one call, which seals it."""
    spec = _commands.BatchSpec(b"b", "finished", _commands.Body(b"t", b"1"))
    plan = _plans.batch(Session("q"), spec, [])
    command = next(plan)
    assert isinstance(command, Command)
    assert command.args[2] == 1
    assert ended(plan, frozenset()) == []


# Waiting for the end of an item


@pytest.mark.parametrize(
    ("state", "answer"),
    [(b"", True), (b"finished", True), (b"removed", True), (b"dead", True), (b"queued", None), (b"orphaned", None)],
)
def test_which_states_are_an_end(state: bytes, answer: bool | None) -> None:
    """Finished, removed, dead and unknown items are not waited for; others are, the orphaned ones as well."""
    listen = next(_plans.wait_for_end(Session("q"), b"a", 7.0))
    assert isinstance(listen, Listen)
    assert (listen.channel, listen.seconds) == (b"reliq:{q}:ended", 7.0)
    command = listen.ask(2.5)
    assert (command.script.name, list(command.args)) == ("watch", [b"a", 2500])
    assert command.decode([b"ok", b"1", state]) is answer


def test_what_became_of_an_item() -> None:
    """When it has ended it is looked at; of one that is not there any more the problem says so."""
    plan = _plans.wait_for_end(Session("q"), b"a", 7.0)
    next(plan)
    assert isinstance(plan.send(True), Command)
    info = ItemInfo("a", ItemState.FINISHED)
    assert ended(plan, [info]) is info
    plan = _plans.wait_for_end(Session("q"), b"a", 7.0)
    next(plan)
    plan.send(True)
    assert ended(plan, [None]).problem == _plans.UNKNOWN


def test_the_time_is_up() -> None:
    """Without an answer in time there is none."""
    plan = _plans.wait_for_end(Session("q"), b"a", 7.0)
    next(plan)
    assert ended(plan, None) is None


# Claiming


def test_a_claim_that_does_not_wait() -> None:
    """One question, one answer."""
    plan = _plans.claim(Session("q"), ClaimRequest(5, 30.0, 0.0), clock=FakeClock())
    command = next(plan)
    assert isinstance(command, Command)
    assert command.args[3:] == (b"", 0)  # no worker is noted as idle
    assert ended(plan, nothing()) == []


def test_a_claim_that_waits() -> None:
    """It is noted as idle, blocks for a few seconds at most in one go, asks again after each, and ends in time."""
    clock = FakeClock()
    plan = _plans.claim(Session("q"), ClaimRequest(5, 30.0, 2.25 * _policy.BLOCK), clock=clock)
    blocks, effect = [], next(plan)
    for _ in range(3):
        assert isinstance(effect, Command)
        assert effect.args[3] != b""
        block = plan.send(nothing())
        assert isinstance(block, Block)
        blocks.append(block.seconds)
        clock.now += block.seconds
        effect = plan.send(None)
    assert blocks == [_policy.BLOCK, _policy.BLOCK, _policy.BLOCK / 4]
    assert ended(plan, nothing()) == []


def test_a_claim_wakes_up_for_what_falls_due() -> None:
    """It blocks no longer than until the next item is due or the next lease ends."""
    plan = _plans.claim(Session("q"), ClaimRequest(5, 30.0, 60.0), clock=FakeClock())
    next(plan)
    assert plan.send(nothing(next_ms=250)) == Block(0.25)
    plan.send(None)
    assert plan.send(nothing(next_ms=0)) == Block(0.001)
    plan.send(None)
    assert ended(plan, ClaimReply(some_items(2), []))


def test_a_search_that_met_its_bound_goes_on_at_once() -> None:
    """Where the server has more to look through, the claim asks again without a wait."""
    plan = _plans.claim(Session("q"), ClaimRequest(5, 30.0, 0.0), clock=FakeClock())
    next(plan)
    assert isinstance(plan.send(nothing(more=True)), Command)
    assert len(ended(plan, ClaimReply(some_items(2), []))) == 2


def test_the_receipt_of_a_claim_that_was_broken_off() -> None:
    """It is kept for the next claim, whatever broke it off; a claim that got its answer leaves nothing."""
    session = Session("q")
    request = ClaimRequest(5, 30.0, 0.0)
    receipts = []
    for error in (Unavailable("x", may_have_been_applied=True, attempts=1, seconds=1), KeyboardInterrupt()):
        plan = _plans.claim(session, request, clock=FakeClock())
        command = next(plan)
        assert isinstance(command, Command)
        receipts.append(command.args[0])
        with pytest.raises(type(error)):
            plan.throw(error)
    cancelled = _plans.claim(session, request, clock=FakeClock())
    command = next(cancelled)
    assert isinstance(command, Command)
    receipts.append(command.args[0])
    cancelled.close()
    assert len(set(receipts)) == 1
    last = _plans.claim(session, request, clock=FakeClock())
    next(last)
    ended(last, nothing())
    following = next(_plans.claim(session, request, clock=FakeClock()))
    assert isinstance(following, Command)
    assert following.args[0] not in receipts


# The rest


def test_more_than_one_script_takes() -> None:
    """Values go out a thousand at a time, and their results come back as one list."""
    asked: list[int] = []

    def make(part: Any) -> Command[list[Any]]:
        asked.append(len(part))
        return _commands.finish([])

    plan = _plans.in_batches(make, range(2500))
    next(plan)
    plan.send(["a"])
    plan.send(["b"])
    assert ended(plan, ["c"]) == ["a", "b", "c"]
    assert asked == [1000, 1000, 500]


def test_a_recovery_goes_on_while_leases_are_left() -> None:
    """It adds up, and stops at its limit or when nothing is left."""
    plan = _plans.recover(5000)
    next(plan)
    assert isinstance(plan.send((Recovered(requeued=1000), 3)), Command)
    assert ended(plan, (Recovered(dead=2, orphaned=1), 0)) == Recovered(requeued=1000, dead=2, orphaned=1)
    plan = _plans.recover(1000)
    next(plan)
    assert ended(plan, (Recovered(requeued=1000), 9)) == Recovered(requeued=1000)


def test_a_recovery_ends_also_where_leases_hold_nothing() -> None:
    """A server that reports leases for ever and moves nothing does not hold the caller for ever."""
    plan = _plans.recover(3)
    next(plan)
    plan.send((Recovered(), 1))
    plan.send((Recovered(), 1))
    assert ended(plan, (Recovered(), 1)) == Recovered()


def test_every_redrive_has_its_own_token() -> None:
    """Only the repeat of the very same call is harmless, so each call is told apart."""
    plan = _plans.redrive(2500)
    tokens, command = [], next(plan)
    for moved in (1000, 1000):
        assert isinstance(command, Command)
        tokens.append(command.args[0])
        command = plan.send(moved)
    assert isinstance(command, Command)
    assert command.args[1] == 500
    assert len({*tokens, command.args[0]}) == 3
    assert ended(plan, 17) == 2017


def test_a_purge_goes_on_while_there_may_be_more() -> None:
    """State by state."""
    plan = _plans.purge([ItemState.QUEUED, ItemState.DEAD])
    states, command = [], next(plan)
    for answer in ((1000, True), (5, False)):
        assert isinstance(command, Command)
        states.append(command.args[0])
        command = plan.send(answer)
    assert isinstance(command, Command)
    assert [*states, command.args[0]] == ["queued", "queued", "dead"]
    assert ended(plan, (1, False)) == 1006


def test_draining_closes_first_and_then_looks() -> None:
    """It closes the queue for new items, looks less and less often, and gives up with what is left."""
    clock = FakeClock()
    plan = _plans.drain("q", 10.0, clock=clock)
    closing = next(plan)
    assert isinstance(closing, Command)
    assert closing.script.name == "pause"
    plan.send(None)
    first = plan.send((Counts(in_progress=2), None))
    assert isinstance(first, Sleep)
    plan.send(None)
    second = plan.send((Counts(in_progress=1), None))
    assert isinstance(second, Sleep)
    assert first.seconds < second.seconds
    plan.send(None)
    clock.now += 10
    with pytest.raises(DrainTimeout) as caught:
        plan.send((Counts(in_progress=1, dead=5), None))
    assert caught.value.left == {"queued": 0, "scheduled": 0, "in_progress": 1}
