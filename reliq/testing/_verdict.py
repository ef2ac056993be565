"""The verdict: all rules over one history. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from reliq.testing import _order, _rules
from reliq.testing._builder import timeline
from reliq.testing._events import Event
from reliq.testing._report import Figures, Report, Violation
from reliq.testing._timeline import TOLERANCE, Call, Delivery, Timeline

Rule = Callable[[Timeline], Iterator[Violation]]

RULES: dict[str, Rule] = {
    "lost": _rules.lost,
    "unexpected": _rules.unexpected,
    "finished twice": _rules.finished_twice,
    "redelivered": _rules.redelivered,
    "double lease": _rules.double_lease,
    "stale accepted": _rules.stale_accepted,
    "wrongly refused": _rules.wrongly_refused,
    "delivery number": _rules.delivery_number,
    "replay": _rules.replay,
    "duplicate": _rules.duplicate,
    "order": _order.order,
    "released order": _order.released_order,
    "group order": _order.group_order,
    "group overlap": _order.group_overlap,
    "counters": _rules.counters,
}
NEVER_EXCUSED = ("lost", "unexpected")
NEEDS_ALL = ("unexpected", "counters")  # of what was enqueued


def check_history(
    events: Iterable[Event], *, tolerance: float = TOLERANCE, whole: bool = True, strict_groups: bool = True
) -> Report:
    """Decides whether a history shows a queue that kept its promises.

    Args:
        events: of all processes, in any order: `read` brings them from files.
        tolerance: seconds by which the server's clock and this machine's may differ within one lease.
        whole: the history has every enqueue and every finish of the queue. False leaves out the rules that need that.
        strict_groups: items of one group are handled one at a time; False where the queue allows more.

    Returns:
        The report; it is true where nothing was broken.
    """
    known = timeline(events)
    known.tolerance = tolerance
    undecided = _undecided(known, whole=whole, strict_groups=strict_groups)
    found = [violation for name, rule in RULES.items() if name not in undecided for violation in rule(known)]
    excused = [violation for violation in found if _is_excused(known, violation)]
    left = [violation for violation in found if not _is_excused(known, violation)] if excused else found
    return Report(tuple(left), tuple(excused), undecided, figures(known))


def _undecided(t: Timeline, *, whole: bool, strict_groups: bool) -> dict[str, str]:
    why: dict[str, str] = {}
    if not t.looked:
        why["lost"] = "the history has no final states"
    if t.counts is None:
        why["counters"] = "the history has no counts"
    if not whole:
        why |= dict.fromkeys(NEEDS_ALL, "the history is a part of what happened to the queue")
    if not strict_groups:
        why |= dict.fromkeys(("group order", "group overlap"), "more than one item of a group may be handled at once")
    return why


def _is_excused(t: Timeline, violation: Violation) -> bool:
    """Whether it happened across an announced failover, or across two epochs of the item."""
    if violation.rule in NEVER_EXCUSED:
        return False
    at = bisect_left(t.announced, violation.since)
    if at < len(t.announced) and t.announced[at] <= violation.at:
        return True
    return len({delivery.epoch for delivery in t.deliveries.get(violation.id, ())}) > 1


def figures(t: Timeline) -> Figures:
    """What a history is about, in numbers."""
    answers = [{sent.answer for sent in found} for found in t.sent.values()]
    deliveries = [d for found in t.deliveries.values() for d in found]
    again = [_how_it_ended(before) for found in t.deliveries.values() for before in _all_but_last(found)]
    return Figures(
        enqueued=sum("ok" in found for found in answers),
        ambiguous=sum("ok" not in found and found != {"refused"} for found in answers),
        refused=sum(found == {"refused"} for found in answers),
        finished=sum(any(c.verb == "finish" and c.applied for c in d.calls) for d in deliveries),
        finish_unknown=sum(_finish_is_unknown(found) for found in t.deliveries.values()),
        ended=len(t.decided),
        claims=len(t.claims),
        deliveries=len(deliveries),
        again_released=again.count("release"),
        again_failed=again.count("fail"),
        again_expired=again.count("expired"),
        attempts_burnt=sum(max(d.attempt for d in found) - 1 for found in t.deliveries.values()),
        handlings=sum(map(len, t.handlings.values())),
        duplicates=sum(1 for item_id in t.handlings for _ in _rules.duplicates(t, item_id)),
        held_by_faulty=_held_by_faulty(t, deliveries),
        stale_refused=sum(call.answer == "lost" for found in t.deliveries.values() for call in _stale(found)),
        faults=sum(map(len, t.faults.values())),
    )


def _finish_is_unknown(deliveries: list[Delivery]) -> bool:
    return {c.applied for d in deliveries for c in d.calls if c.verb == "finish"} in ({None}, {None, False})


def _all_but_last(deliveries: list[Delivery]) -> list[Delivery]:
    return sorted(deliveries, key=lambda d: d.got)[:-1]


def _how_it_ended(delivery: Delivery) -> str:
    settled = delivery.settled()
    return settled.verb if settled and settled.applied is not False else "expired"


def _stale(deliveries: list[Delivery]) -> Iterator[Call]:
    return (call for _, call, _ in _rules.stale_calls(deliveries))


def _held_by_faulty(t: Timeline, deliveries: Iterable[Delivery]) -> int:
    return sum(any(_held_at(d, at) for at in t.faults.get(d.process, ())) for d in deliveries)


def _held_at(delivery: Delivery, at: float) -> bool:
    settled = delivery.settled()
    return delivery.asked <= at and (settled is None or settled.answered > at)
