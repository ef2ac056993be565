"""What consuming decides, without a server: each test performs the plan's effects itself."""

from __future__ import annotations

from typing import Any

import pytest

from reliq import Item, Unavailable
from reliq._consume_rules import Rules
from reliq._consuming import Claim, ConsumeReport, Consuming, Handle, Plan, Rest, Settle
from reliq._reading import held_under
from reliq.item import Claimed


def items(*names: str) -> Claimed:
    return Claimed(Item(held_under("q", b"r" * 16), name.encode(), name, {}) for name in names)


def begun(rules: Rules, *names: str) -> tuple[Consuming, Plan]:
    """A plan whose first claim has brought these items, and the first of them is with the handler."""
    consuming = Consuming(rules, "q")
    plan = consuming.plan()
    assert isinstance(next(plan), Claim)
    assert isinstance(plan.send(items(*names)), Handle)
    return consuming, plan


def names(effect: Any) -> list[str]:
    return [item.id for item in (effect.done if isinstance(effect, Claim) else effect.items)]


def away() -> Unavailable:
    return Unavailable("no answer", may_have_been_applied=True, attempts=1, seconds=1.0)


def ended(plan: Plan, value: Any) -> None:
    with pytest.raises(StopIteration):
        plan.send(value)


def test_a_claim_that_is_broken_off_is_asked_again_and_given_back() -> None:
    """It may have taken items: the repeat finishes what was done and brings them, and they go back."""
    consuming, plan = begun(Rules(), "a")
    assert names(plan.send(None)) == ["a"]
    again = plan.throw(KeyboardInterrupt())
    assert (names(again), again.count, again.wait) == (["a"], 1, 0.0)  # type: ignore[union-attr]
    release = plan.send(items("b"))
    assert (release.verb, names(release)) == ("release", ["b"])  # type: ignore[union-attr]
    with pytest.raises(KeyboardInterrupt):
        plan.send(())
    assert consuming.report == ConsumeReport(finished=1, released=1)


def test_a_settling_that_is_broken_off_is_repeated() -> None:
    """An interruption in the middle of a finish does not leave the items unfinished."""
    consuming, plan = begun(Rules(pause=1.0), "a")
    finish = plan.send(None)
    assert isinstance(finish, Settle)
    again = plan.throw(KeyboardInterrupt())
    assert (again.verb, names(again)) == ("finish", ["a"])  # type: ignore[union-attr]
    with pytest.raises(KeyboardInterrupt):
        plan.send(())
    assert consuming.report == ConsumeReport(finished=1)


def test_everything_goes_back_in_one_call() -> None:
    """The interrupted item and those behind it, so that nobody gets between them."""
    consuming, plan = begun(Rules(chunk=3), "a", "b", "c")
    release = plan.throw(KeyboardInterrupt())
    assert (release.verb, names(release)) == ("release", ["a", "b", "c"])  # type: ignore[union-attr]
    with pytest.raises(KeyboardInterrupt):
        plan.send(())
    assert consuming.report == ConsumeReport(released=3)


def test_the_end_has_one_patience() -> None:
    """A server that does not answer the finish at the end is not asked to take the rest back as well."""
    consuming, plan = begun(Rules(chunk=3), "a", "b", "c")
    plan.send(None)
    finish = plan.throw(SystemExit())
    assert names(finish) == ["a"]
    with pytest.raises(SystemExit):
        plan.throw(away())
    assert consuming.report == ConsumeReport(lost=3)


def test_an_unanswered_finish_goes_with_the_next_claim() -> None:
    """No item is handled twice because a finish was not answered."""
    _, plan = begun(Rules(), "a")
    plan.send(None)
    rest = plan.throw(away())
    assert isinstance(rest, Rest)
    assert names(plan.send(None)) == ["a"]


def test_a_lost_item_is_not_begun() -> None:
    """What renewing has found to be lost while it waited is counted and passed over."""
    consuming, plan = begun(Rules(chunk=3, max_items=2), "a", "b", "c")
    consuming.waiting[0].lost = True
    assert names(plan.send(None)) == ["c"]
    ended_by = plan.send(None)
    assert (ended_by.verb, names(ended_by)) == ("finish", ["a", "c"])  # type: ignore[union-attr]
    ended(plan, ())
    assert consuming.report == ConsumeReport(finished=2, lost=1)


def test_a_plan_that_is_dropped_does_nothing() -> None:
    """Closing it asks for nothing: there is nobody who would do it."""
    _, plan = begun(Rules(), "a")
    plan.close()
