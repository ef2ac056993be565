"""Each rule of the checker finds the histories that break it, and leaves alone those that don't."""

from __future__ import annotations

import pytest
from history.bad import ALSO_BAD, BAD, GOOD
from history.simulation import simulate
from history.stories import Story

from reliq.testing import RULES, check_history

BAD_ONES = [*((rule, rule, story) for rule, story in BAD.items()), *((n, r, s) for n, (r, s) in ALSO_BAD.items())]


def test_every_rule_has_a_history_that_breaks_it() -> None:
    """A rule that nothing was ever seen to break may not work at all."""
    assert set(BAD) == set(RULES)


@pytest.mark.parametrize(("rule", "story"), [pytest.param(r, s, id=n) for n, r, s in BAD_ONES])
def test_a_broken_promise_is_found(rule: str, story: Story) -> None:
    """The smallest history that breaks a rule breaks that rule."""
    report = check_history(story.events)
    assert not report
    assert rule in report.broken()


@pytest.mark.parametrize(("rule", "story"), [pytest.param(r, s, id=n) for n, r, s in BAD_ONES if r != "counters"])
def test_a_broken_promise_is_found_beside_thousands_of_good_events(rule: str, story: Story) -> None:
    """The same in one history with many other items, of which nothing is reported."""
    large = [event for event in simulate(seed=7, items=600) if event.kind != "counts"]
    assert check_history(large)
    report = check_history([*large, *story.events])
    assert rule in report.broken()
    assert {violation.id for violation in report.violations} <= {"a", "b", "r1"}


@pytest.mark.parametrize("story", [pytest.param(story, id=name) for name, story in GOOD.items()])
def test_a_good_history_passes(story: Story) -> None:
    """What may happen is not reported, however odd it looks."""
    assert check_history(story.events).violations == ()


def test_two_leases_across_a_failover_are_counted_apart() -> None:
    """Where a failover was announced between the two claims, the second one is excused."""
    story = Story().enqueue(0, "a").claim(1, "w1", "r1", "a")
    story.add(2, "injector", "announce", what="failover").claim(3, "w2", "r2", "a", number=2)
    report = check_history(story.events)
    assert report
    assert [violation.rule for violation in report.excused] == ["double lease"]


def test_two_leases_of_two_epochs_are_counted_apart() -> None:
    """A rebuilt queue does not know the leases of the one before it."""
    story = Story().enqueue(0, "a").claim(1, "w1", "r1", "a", epoch=1).claim(2, "w2", "r2", "a", epoch=2, number=2)
    report = check_history(story.events)
    assert report
    assert [violation.rule for violation in report.excused] == ["double lease"]


def test_a_failover_excuses_no_loss() -> None:
    """An acknowledged item that is gone is lost, whatever happened meanwhile."""
    story = Story().enqueue(0, "a").add(1, "injector", "announce", what="failover").final(9, queued=[])
    assert check_history(story.events).broken() == {"lost": 1}


def test_what_cannot_be_decided_is_said() -> None:
    """Without final states nothing is known of losses; of a part nothing of what it lacks."""
    report = check_history(Story().enqueue(0, "a").claim(1, "w1", "r1", "b").events, whole=False)
    assert report
    assert set(report.undecided) == {"lost", "counters", "unexpected"}


def test_groups_may_be_allowed_more_than_one() -> None:
    """Where the queue handles several of a group at once, the rules of groups are left out."""
    report = check_history(BAD["group order"].events, strict_groups=False)
    assert report
    assert {"group order", "group overlap"} <= set(report.undecided)


def test_tolerance_is_between_the_clocks() -> None:
    """Two leases that overlap by less than the tolerance are none that overlap."""
    story = Story().enqueue(0, "a").claim(1, "w1", "r1", "a", lease=1).claim(1.9, "w2", "r2", "a", number=2)
    assert check_history(story.events, tolerance=0.2)
    assert check_history(story.events, tolerance=0.05).broken() == {"double lease": 1}


def test_figures() -> None:
    """The numbers say what the history is about."""
    story = (
        Story()
        .enqueue(0, "a", "b", "c")
        .enqueue(0, "d", phase="info")
        .enqueue(0, "e", phase="refused")
        .claim(1, "w1", "r1", "a", "b", lease=1)
        .handle(1, "w1", "r1", "a")
        .signal(1.5, "killed", "w1")
        .claim(3, "w2", "r2", "a", "b", number=2)
        .handle(3, "w2", "r2", "a", 4)
        .settle(4, "w2", "release", "r2", "b")
        .finish(5, "w2", "r2", "a")
        .finish(6, "w1", "r1", "a", answer="lost")
        .claim(7, "w2", "r3", "b", number=3)
    )
    figures = check_history(story.events).figures
    assert (figures.enqueued, figures.ambiguous, figures.refused) == (3, 1, 1)
    assert (figures.claims, figures.deliveries, figures.finished) == (3, 5, 1)
    assert (figures.again_expired, figures.again_released, figures.again_failed) == (2, 1, 0)
    assert (figures.handlings, figures.duplicates, figures.held_by_faulty) == (2, 1, 2)
    assert (figures.stale_refused, figures.faults) == (1, 1)
