"""The rules about single items: what may not happen to any of them, whatever dies or hangs. Pure.

Each rule takes a timeline and yields what broke it. Between asking and being told the server acts at a moment that
nobody sees, so a rule looks only at what holds whichever moment that was: what it reports did happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from reliq.testing._report import Violation
from reliq.testing._timeline import NEVER, SETTLING, Call, Claim, Delivery, Handling, Timeline


def lost(t: Timeline) -> Iterator[Violation]:
    """An item whose enqueue was acknowledged is finished, ended by an operator, or in a state at the end."""
    for item_id in t.sent:
        since = t.acknowledged(item_id)
        if since == NEVER or item_id in t.states or item_id in t.decided or any(since < at for at in t.purged):
            continue
        if not any(
            call.verb == "finish" and call.applied is not False
            for d in t.deliveries.get(item_id, ())
            for call in d.calls
        ):
            yield Violation("lost", item_id, since, NEVER, "its enqueue was acknowledged, and now it is nowhere")


def unexpected(t: Timeline) -> Iterator[Violation]:
    """Only items are delivered that somebody tried to enqueue, and not before that."""
    for item_id, deliveries in t.deliveries.items():
        first = min((d for d in deliveries), key=lambda d: d.got, default=None)
        if first and item_id not in t.sent:
            yield Violation("unexpected", item_id, first.asked, first.got, "delivered, and nobody enqueued it")
        elif first and first.got < t.invoked(item_id):
            yield Violation("unexpected", item_id, first.got, t.invoked(item_id), "delivered before it was enqueued")


def finished_twice(t: Timeline) -> Iterator[Violation]:
    """An item is finished under one receipt."""
    for item_id, finishes in _finishes(t):
        for (one, at), (other, again) in pairwise(finishes):
            text = f"finished by {one.process} and by {other.process}"
            yield Violation("finished twice", item_id, at, again, text)


def redelivered(t: Timeline) -> Iterator[Violation]:
    """What was finished is not delivered again."""
    for item_id, finishes in _finishes(t):
        done, at = finishes[0]
        for other in t.deliveries[item_id]:
            if other is not done and other.asked > at:
                text = f"finished by {done.process}, then delivered to {other.process}"
                yield Violation("redelivered", item_id, at, other.got, text)


def _finishes(t: Timeline) -> Iterator[tuple[str, list[tuple[Delivery, float]]]]:
    """Items with the first accepted finish of each receipt, in the order of the answers."""
    for item_id, deliveries in t.deliveries.items():
        found = []
        for d in deliveries:
            answers = [call.answered for call in d.calls if call.verb == "finish" and call.applied]
            found += [(d, min(answers))] if answers else []
        if found:
            yield item_id, sorted(found, key=lambda pair: pair[1])


def double_lease(t: Timeline) -> Iterator[Violation]:
    """An item has one valid receipt at any time."""
    for item_id, deliveries in t.deliveries.items():
        holder: Delivery | None = None
        for d in sorted(deliveries, key=lambda d: d.got):
            until = holder.certain_until() if holder else -NEVER
            if holder and min(until, d.certain_until()) - d.got > t.tolerance:
                text = f"held by {holder.process} up to {until:.3f}, and claimed by {d.process}"
                yield Violation("double lease", item_id, holder.got, d.got, text)
            if d.certain_until() > until:
                holder = d


def stale_accepted(t: Timeline) -> Iterator[Violation]:
    """From the moment that somebody else has an item, calls with the old receipt are refused."""
    for item_id, deliveries in t.deliveries.items():
        for old, call, since in stale_calls(deliveries):
            if call.applied:
                text = f"{call.verb} by {old.process} was accepted after somebody else had claimed it"
                yield Violation("stale accepted", item_id, since, call.answered, text)


def stale_calls(deliveries: list[Delivery]) -> Iterator[tuple[Delivery, Call, float]]:
    """Calls that were made after somebody else had claimed the item, without repeats of what was done before that."""
    for old in deliveries if len(deliveries) > 1 else ():
        since = min((d.got for d in deliveries if d is not old and d.asked > old.got), default=NEVER)
        earlier = {call.verb for call in old.calls if call.verb in SETTLING and call.applied is not False}
        for call in old.calls:
            if call.invoked <= since:
                continue
            if call.verb not in earlier or not _said_before(old, call, since):
                yield old, call, since


def _said_before(old: Delivery, call: Call, since: float) -> bool:
    return any(c.verb == call.verb and c.applied is not False and c.invoked < since for c in old.calls)


def wrongly_refused(t: Timeline) -> Iterator[Violation]:
    """A call is accepted while its receipt is valid."""
    for item_id, deliveries in t.deliveries.items():
        for d in deliveries:
            until = d.deadline
            for call in d.calls:
                if call.applied and call.verb == "renew":
                    until = max(until, call.invoked + call.lease)
                ended = any(c.verb in SETTLING and c is not call and c.invoked < call.answered for c in d.calls)
                if call.answer == "lost" and not ended and call.answered < until - t.tolerance:
                    text = (
                        f"{call.verb} by {d.process} was refused, {until - call.answered:.3f} s before its lease ended"
                    )
                    yield Violation("wrongly refused", item_id, call.invoked, call.answered, text)


def delivery_number(t: Timeline) -> Iterator[Violation]:
    """The number of the delivery grows from one delivery of an item to the next."""
    for item_id, deliveries in t.deliveries.items():
        for one, other in pairwise(sorted(deliveries, key=lambda d: d.got)):
            if one.got < other.asked and other.number <= one.number:
                text = f"delivery {one.number} is followed by delivery {other.number}"
                yield Violation("delivery number", item_id, one.got, other.got, text)


def replay(t: Timeline) -> Iterator[Violation]:
    """A claim that is asked for again brings what it still holds, in the same order and to the same process."""
    for receipt, claims in t.claims.items():
        first = claims[0]
        for again in claims[1:]:
            held = [i for i in first.ids if _held_throughout(t, i, again)]
            wrong = held and (set(held) - set(again.ids) or set(again.ids) - set(first.ids))
            order = [i for i in first.ids if i in set(again.ids)]
            if wrong or (held and order != again.ids) or again.process != first.process:
                text = f"brought {len(first.ids)} items to {first.process}, then {len(again.ids)} to {again.process}"
                yield Violation("replay", receipt, first.got, again.got, text)


def _held_throughout(t: Timeline, item_id: str, claim: Claim) -> bool:
    delivery = t.delivery(item_id, claim.receipt)
    return delivery is not None and delivery.certain_until() > claim.got


def duplicate(t: Timeline) -> Iterator[Violation]:
    """An item is handled again only where it was failed or given back, or where its lease ended with its worker."""
    for item_id in t.handlings:
        for before, again in duplicates(t, item_id):
            if not _explained(t, before, again):
                text = (
                    f"handled by {before.process} and {again.process}; neither a fault nor the end of a lease tells why"
                )
                yield Violation("duplicate", item_id, before.began, again.began, text)


def duplicates(t: Timeline, item_id: str) -> Iterator[tuple[Handling, Handling]]:
    """Pairs of handlings, of which the earlier one was neither failed nor given back."""
    for before, again in pairwise(sorted(t.handlings[item_id], key=lambda h: h.began)):
        delivery = t.delivery(item_id, before.receipt)
        settled = delivery.settled() if delivery else None
        if settled is None or settled.verb == "finish" or before.receipt == again.receipt:
            yield before, again


def _explained(t: Timeline, before: Handling, again: Handling) -> bool:
    """Either of the two was handled by a process that was killed or stopped, or under a lease that was over by then."""
    if before.receipt == again.receipt:
        return False
    return any(_left_behind(t, handling, again.began) for handling in (before, again))


def _left_behind(t: Timeline, handling: Handling, at: float) -> bool:
    delivery = t.delivery(handling.id, handling.receipt)
    if delivery is None or any(delivery.asked <= fault <= at for fault in t.faults.get(handling.process, ())):
        return True
    settled = delivery.settled()
    return delivery.certain_until() < at and (settled is None or not settled.applied)


def counters(t: Timeline) -> Iterator[Violation]:
    """Everything that was enqueued is counted in one state, and the counts agree with what is on record."""
    counts = t.counts or {}
    places = sum(counts.get(name, 0) for name in _PLACES)
    if counts and counts.get("enqueued", 0) != places:
        yield _miscounted(f"{counts.get('enqueued')} were enqueued, and {places} are in some state")
    for name, low, high in bounds(t) if counts else ():
        if not low <= counts.get(name, 0) <= high:
            yield _miscounted(f"{name} is {counts.get(name, 0)}, by the history it is {low} to {high}")


_PLACES = ("queued", "scheduled", "in_progress", "orphaned", "dead", "finished", "removed")


def bounds(t: Timeline) -> Iterator[tuple[str, int, int]]:
    """What counts can be, from those calls that certainly were applied to those that may have been."""
    answers = [{call.applied for d in ds for call in d.calls if call.verb == "finish"} for ds in t.deliveries.values()]
    resolved = sum(any(kind == "resolve" for kind, _ in decided) for decided in t.decided.values())
    yield "finished", sum(True in a for a in answers), sum(bool(a & {True, None}) for a in answers) + resolved
    sent = [{s.answer for s in found} for found in t.sent.values()]
    if not t.purged:
        yield "enqueued", sum("ok" in a for a in sent), sum(a != {"refused"} for a in sent)


def _miscounted(text: str) -> Violation:
    return Violation("counters", "", -NEVER, NEVER, text)
