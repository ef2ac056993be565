"""The pure part: what fits together, and how a refusal of all is taken apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reliq import Enqueued, MemoryFull, QueueFull, ReliqError, Unavailable, _ids
from reliq._commands import Body
from reliq._gathering import Enqueues, Entry, Gathering, own, settle
from reliq._policy import MAX_BATCH, MAX_BATCH_BYTES

Parts = list[list[int]]


def entries(count: int, *, made_up: bool = True) -> list[Entry[Body, Enqueued]]:
    return [Entry(Body(f"{n}".encode(), b"x", made_up=made_up)) for n in range(count)]


def served(given: Sequence[Entry[Body, Enqueued]], refusal: Callable[[int], ReliqError | None]) -> Parts:
    """Runs the plan against a queue that refuses calls of some sizes. Returns the numbers in each call, in order."""
    plan, parts = settle(Enqueues(), given), Parts()
    try:
        command = next(plan)
        while True:
            keys: Sequence[bytes] = getattr(command, "keys")  # noqa: B009  a plan may yield other effects as well
            parts.append([int(key) for key in keys])
            error = refusal(len(keys))
            command = plan.throw(error) if error else plan.send([Enqueued(_ids.unpack(key), True) for key in keys])
    except StopIteration:
        return parts


def full(*, length: int = 0, max_length: int = 0) -> QueueFull:
    return QueueFull("q", length=length, max_length=max_length)


def created(given: Sequence[Entry[Body, Enqueued]]) -> int:
    return sum(entry.error is None for entry in given)


def test_a_call_for_all() -> None:
    """Where nothing is in the way one call serves all."""
    given = entries(5)
    assert served(given, lambda _: None) == [[0, 1, 2, 3, 4]]
    assert [entry.answer().id for entry in given] == list("01234")


def test_the_room_that_is_left() -> None:
    """The first ones take the room, and the others are refused by one more call, not by one each."""
    given, room = entries(10), [4]

    def refusal(size: int) -> ReliqError | None:
        if size > room[0]:
            return full(length=10 - room[0], max_length=10)
        room[0] -= size
        return None

    assert served(given, refusal) == [[*range(10)], [0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]
    assert [entry.error is None for entry in given] == [True] * 4 + [False] * 6


def test_a_full_queue_refuses_new_items_at_once() -> None:
    """Where there is no room at all the refusal of the call is that of each of its new items."""
    given = entries(100)
    assert len(served(given, lambda _: full(length=10, max_length=10))) == 1
    assert created(given) == 0


def test_ids_of_the_users_are_asked_for_one_by_one() -> None:
    """In a full queue an id may be known, and then its enqueue is not refused: only the queue can tell."""
    given = entries(3, made_up=False)
    assert served(given, lambda size: full(length=10, max_length=10) if size > 1 else None) == [
        [0, 1, 2],
        [0],
        [1],
        [2],
    ]
    assert created(given) == 3


def test_a_bound_that_is_not_the_length() -> None:
    """Where it can't be told how many fit, halves are tried, in order, down to single ones."""
    given = entries(4)
    parts = served(given, lambda size: full() if size > 1 else None)
    assert parts == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3], [2], [3]]
    assert created(given) == 4


def test_an_error_is_each_callers_own() -> None:
    """Objects of their own, alike but for the ids, with the cause of the first and no traceback of another's."""
    cause = ConnectionError("reset")
    error = Unavailable("no answer", may_have_been_applied=True, attempts=3, seconds=5.0, ids=["0", "1", "2"])
    error.__cause__ = cause
    given = entries(3)
    served(given, lambda _: error)
    errors: list[Any] = [entry.error for entry in given]
    assert len({id(each) for each in [*errors, error]}) == 4
    assert [each.ids for each in errors] == [("0",), ("1",), ("2",)]
    assert {(each.attempts, each.seconds, str(each), each.__cause__) for each in errors} == {
        (3, 5.0, "no answer", cause)
    }
    assert all(each.may_have_been_applied and each.__traceback__ is None for each in errors)


def test_a_server_that_goes_away_between_two_parts() -> None:
    """The deadline holds for all: those whose part was not sent yet don't wait for as long again."""
    given = entries(8)
    gone = Unavailable("no answer", may_have_been_applied=True, attempts=3, seconds=5.0)
    assert len(served(given, lambda size: full() if size == 8 else gone)) == 2
    assert [type(entry.error) for entry in given] == [Unavailable] * 8


@pytest.mark.parametrize("error", [full(length=1, max_length=2), MemoryFull("no memory")])
def test_an_error_keeps_what_it_says(error: ReliqError) -> None:
    """Whatever a class of errors asks for when it is made, a twin has the same."""
    twin = own(error, b"0")
    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))


def test_begun_again_it_sends_what_has_no_answer() -> None:
    """A call that was broken off between two parts goes on with those that are not settled."""
    together = Gathering[Entry[Body, Enqueued]](Enqueues())
    given = entries(4)
    assert all(together.add(entry) for entry in given)
    given[1].done(Enqueued("1", True))
    assert together.unsettled() == [given[0], given[2], given[3]]


def test_bounds_of_a_call() -> None:
    """1,000 items, or 4 MiB; and one that is larger by itself goes by itself."""
    many, large = Gathering[Any](Enqueues()), Gathering[Any](Enqueues())
    assert [many.add(entry) for entry in entries(MAX_BATCH + 1)] == [True] * MAX_BATCH + [False]
    assert large.add(Entry(Body(b"a", b"x" * (MAX_BATCH_BYTES + 1))))
    assert not large.add(Entry(Body(b"b", b"x")))


def test_room_of_those_who_left() -> None:
    """An entry that was taken back makes room for another."""
    some = Gathering[Any](Enqueues())
    first = Entry[Body, Enqueued](Body(b"a", b"x" * (MAX_BATCH_BYTES - 1)))
    second = Entry[Body, Enqueued](Body(b"b", first.value.body))
    assert some.add(first)
    assert some.add(Entry(Body(b"c", b"x")))
    assert not some.add(second)
    some.remove(first)
    assert some.add(second)
