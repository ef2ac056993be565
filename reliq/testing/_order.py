"""The rules about order: among the items of a queue without a group, and within each group. Pure, O(n log n)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from reliq.testing._report import Violation
from reliq.testing._timeline import NEVER, Delivery, Handling, Sent, Timeline

_LIVE = ("queued", "scheduled", "in_progress")


class _Place(NamedTuple):
    """An item in its order: when it certainly was in the queue, and when it certainly was not yet.

    `before`: whoever is behind it may not be served earlier than this. `served`: when it was itself, at the latest.
    """

    sent: Sent
    there: float
    not_yet: float
    before: float
    served: float


def order(t: Timeline) -> Iterator[Violation]:
    """Items without a group are delivered for the first time in the order in which they were enqueued."""
    places = [place for place in (_by_delivery(t, i) for i in t.sent) if place and place.sent.group is None]
    for one, other in [*_overtaken(places), *_overtaken_in_calls(places)]:
        text = f"delivered after {other.sent.id}, which was enqueued later"
        yield Violation("order", one.sent.id, one.sent.invoked, min(one.before, NEVER), text)
    yield from _order_in_claims(t)


def _by_delivery(t: Timeline, item_id: str) -> _Place | None:
    """A first delivery that is not on record (its process was killed) gives no bound."""
    sent, deliveries = min(t.sent[item_id], key=lambda s: s.invoked), t.deliveries.get(item_id, [])
    if sent.later or not deliveries:
        return None
    first = next((d for d in deliveries if d.number == 1), None)
    served = min(d.got for d in deliveries)
    return _Place(sent, t.acknowledged(item_id), sent.invoked, first.asked if first else -NEVER, served)


def _overtaken(places: Iterable[_Place]) -> Iterator[tuple[_Place, _Place]]:
    """Pairs of which the second one was enqueued later, in a later call, and served earlier."""
    there = iter(sorted(places, key=lambda p: p.there))
    slowest: _Place | None = None
    waiting = next(there, None)
    for place in sorted(places, key=lambda p: p.not_yet):
        while waiting and waiting.there < place.not_yet:
            slowest = waiting if slowest is None or waiting.before > slowest.before else slowest
            waiting = next(there, None)
        if slowest and slowest.before > place.served:
            yield slowest, place


def _overtaken_in_calls(places: Iterable[_Place]) -> Iterator[tuple[_Place, _Place]]:
    """The same within each call: its items have the order of its arguments."""
    calls: dict[tuple[str, int], list[_Place]] = defaultdict(list)
    for place in places:
        calls[place.sent.call].append(place)
    for call in calls.values():
        slowest: _Place | None = None
        for place in sorted(call, key=lambda p: p.sent.index):
            if slowest and slowest.before > place.served:
                yield slowest, place
            slowest = place if slowest is None or place.before > slowest.before else slowest


def _order_in_claims(t: Timeline) -> Iterator[Violation]:
    """Within a claim the items stand in their order, but for those that were delivered before."""
    for claim in (claims[0] for claims in t.claims.values()):
        latest, indexes = -NEVER, dict[tuple[str, int], int]()
        for item_id in claim.ids:
            sent = min(t.sent.get(item_id, ()), key=lambda s: s.invoked, default=None)
            delivery = t.delivery(item_id, claim.receipt)
            if sent is None or delivery is None or delivery.number > 1 or sent.later or sent.group is not None:
                continue
            if t.acknowledged(item_id) < latest or sent.index < indexes.get(sent.call, -1):
                text = "stands in its claim behind one that was enqueued later"
                yield Violation("order", item_id, claim.asked, claim.got, text)
            latest, indexes[sent.call] = max(latest, sent.invoked), sent.index


def released_order(t: Timeline) -> Iterator[Violation]:
    """What is released goes back to the head: nothing that was never delivered comes between."""
    fresh = sorted((d for i in t.deliveries for d in _fresh(t, i)), key=lambda d: d.asked)
    earliest: list[float] = [NEVER]
    for delivery in reversed(fresh):
        earliest.append(min(earliest[-1], delivery.got))
    earliest.reverse()  # of all that were asked for from this one on, when the first was delivered
    asked = [d.asked for d in fresh]
    for item_id, released, asked_again in _released(t):
        between = earliest[_after(asked, released)]
        if between < asked_again:
            yield Violation(
                "released order", item_id, released, asked_again, "others came before it, after its release"
            )


def _fresh(t: Timeline, item_id: str) -> Iterator[Delivery]:
    sent = t.sent.get(item_id)
    if sent and sent[0].group is None and not sent[0].later:
        yield from (d for d in t.deliveries[item_id] if d.number == 1)


def _released(t: Timeline) -> Iterator[tuple[str, float, float]]:
    """Items that were given back: id, when that was answered, when they were asked for the next time."""
    for item_id, deliveries in t.deliveries.items():
        sent = t.sent.get(item_id)
        if not sent or sent[0].group is not None or len(deliveries) < 2:
            continue
        for d in deliveries:
            back = d.settled()
            again = [other for other in deliveries if other.number == d.number + 1]
            if back and back.verb == "release" and back.applied and again:
                yield item_id, back.answered, again[0].asked


def _after(values: list[float], value: float) -> int:
    """The index of the first one beyond `value` in a sorted list."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if values[middle] > value else (middle + 1, high)
    return low


def group_order(t: Timeline) -> Iterator[Violation]:
    """No item of a group is begun before all earlier ones of the group have ended for good."""
    for group, found in _groups(t).items():
        handled = any(sent.id in t.handlings for sent in found)
        places = [
            _Place(s, t.acknowledged(s.id), s.invoked, _ended(t, s.id), _begun(t, s.id, handled=handled)) for s in found
        ]
        for one, other in [*_overtaken(places), *_overtaken_in_calls(places)]:
            text = f"group {group!r}: {other.sent.id} was begun before this one had ended"
            yield Violation("group order", one.sent.id, one.sent.invoked, other.served, text)


def _groups(t: Timeline) -> dict[str, list[Sent]]:
    """The first enqueue of each item that has a group and was not to come later, by group."""
    groups: dict[str, list[Sent]] = defaultdict(list)
    for found in t.sent.values():
        sent = min(found, key=lambda s: s.invoked)
        if sent.group is not None and not sent.later:
            groups[sent.group].append(sent)
    return groups


def _ended(t: Timeline, item_id: str) -> float:
    """Before when an item certainly had not ended for good; what ended it unseen gives no bound."""
    ends = [at for _, at in t.decided.get(item_id, ())]
    for d in t.deliveries.get(item_id, ()):
        ends += [call.invoked for call in d.calls if call.applied is not False and _may_end(call.verb, call.dead)]
    if ends:
        return min(ends)
    return NEVER if t.states.get(item_id) in _LIVE else -NEVER


def _may_end(verb: str, dead: bool | None) -> bool:
    return verb == "finish" or (verb == "fail" and dead is not False)


def _begun(t: Timeline, item_id: str, *, handled: bool) -> float:
    """When an item was begun, at the latest: where no handling of its group is on record, when it was claimed."""
    if handled:
        return min((handling.began for handling in t.handlings.get(item_id, ())), default=NEVER)
    return min((d.got for d in t.deliveries.get(item_id, ())), default=NEVER)


def group_overlap(t: Timeline) -> Iterator[Violation]:
    """No two items of one group are handled at once under leases that hold."""
    groups: dict[str, list[tuple[float, float, Handling]]] = defaultdict(list)
    for item_id, handlings in t.handlings.items():
        sent = t.sent.get(item_id)
        if sent and sent[0].group is not None:
            groups[sent[0].group] += [(h.began, _certain_end(t, h), h) for h in handlings]
    for group, spans in groups.items():
        until, busy = -math.inf, ""
        for began, ended, handling in sorted(spans, key=lambda span: span[0]):
            if min(until, ended) - began > t.tolerance and busy != handling.id:
                text = f"group {group!r}: handled at the same time as {busy}"
                yield Violation("group overlap", handling.id, began, until, text)
            if ended > until:
                until, busy = ended, handling.id


def _certain_end(t: Timeline, handling: Handling) -> float:
    delivery = t.delivery(handling.id, handling.receipt)
    held = delivery.certain_until() if delivery else handling.began
    return min(handling.ended, held, t.killed.get(handling.process, NEVER))
