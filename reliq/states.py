"""The states that an item can be in, and the only ways from one to another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ItemState(StrEnum):
    """Where an item is. An item that the queue knows is in exactly one of these."""

    SCHEDULED = "scheduled"  # due later: delayed, or waiting for its next attempt
    QUEUED = "queued"  # waits for its turn
    IN_PROGRESS = "in_progress"  # held under a lease
    ORPHANED = "orphaned"  # the lease ended and the policy is that somebody looks
    DEAD = "dead"  # attempts or deliveries used up
    FINISHED = "finished"  # done; its id is remembered for the retention
    REMOVED = "removed"  # cancelled or discarded; its id is remembered as well


@dataclass(frozen=True, slots=True)
class Transition:
    """One way from a state to another. `source` is None where the item is new."""

    verb: str
    source: ItemState | None
    target: ItemState
    when: str = ""


_S = ItemState
TRANSITIONS: tuple[Transition, ...] = (
    Transition("enqueue", None, _S.QUEUED),
    Transition("enqueue", None, _S.SCHEDULED, "due later"),
    Transition("claim", _S.SCHEDULED, _S.QUEUED, "due"),
    Transition("claim", _S.QUEUED, _S.IN_PROGRESS),
    Transition("claim", _S.QUEUED, _S.DEAD, "its record or payload is unreadable"),
    Transition("finish", _S.IN_PROGRESS, _S.FINISHED),
    Transition("finish", _S.QUEUED, _S.FINISHED, "its claim was lost in a failover, and nobody else had it"),
    Transition("release", _S.IN_PROGRESS, _S.QUEUED, "at the head"),
    Transition("fail", _S.IN_PROGRESS, _S.SCHEDULED, "retry later"),
    Transition("fail", _S.IN_PROGRESS, _S.QUEUED, "retry head or tail"),
    Transition("fail", _S.IN_PROGRESS, _S.DEAD, "attempts used up"),
    Transition("fail", _S.IN_PROGRESS, _S.REMOVED, "discarded by its holder"),
    Transition("recover", _S.IN_PROGRESS, _S.QUEUED, "expiry requeue, at the head"),
    Transition("recover", _S.IN_PROGRESS, _S.ORPHANED, "expiry hold"),
    Transition("recover", _S.IN_PROGRESS, _S.DEAD, "expiry dead, or deliveries used up"),
    Transition("recover", _S.SCHEDULED, _S.QUEUED, "due"),
    Transition("requeue", _S.SCHEDULED, _S.QUEUED),
    Transition("requeue", _S.ORPHANED, _S.QUEUED),
    Transition("requeue", _S.DEAD, _S.QUEUED),
    Transition("redrive", _S.DEAD, _S.QUEUED),
    Transition("resolve", _S.ORPHANED, _S.FINISHED, "finish"),
    Transition("resolve", _S.ORPHANED, _S.QUEUED, "requeue, at the head"),
    Transition("resolve", _S.ORPHANED, _S.DEAD, "dead"),
    Transition("resolve", _S.DEAD, _S.FINISHED, "finish"),
    Transition("resolve", _S.DEAD, _S.QUEUED, "requeue, at the head"),
    Transition("cancel", _S.QUEUED, _S.REMOVED),
    Transition("cancel", _S.SCHEDULED, _S.REMOVED),
    Transition("discard", _S.ORPHANED, _S.REMOVED),
    Transition("discard", _S.DEAD, _S.REMOVED),
)


def sources(verb: str) -> frozenset[ItemState]:
    """The states that a verb takes items from."""
    return frozenset(t.source for t in TRANSITIONS if t.verb == verb and t.source is not None)
