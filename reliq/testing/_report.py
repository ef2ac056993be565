"""What the checker says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken.

    Attributes:
        rule: which one, as in `RULES`.
        id: the item, or the receipt where it is about a claim; empty where it is about a queue.
        since, at: seconds on the monotonic clock, between which it happened.
        text: what was seen.
    """

    rule: str
    id: str
    since: float
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What a history is about, in numbers of items unless it says otherwise.

    Attributes:
        enqueued: acknowledged enqueues.
        ambiguous: enqueues without an answer: they may have been applied.
        refused: enqueues that certainly were not.
        finished: finishes that were accepted.
        finish_unknown: items whose finish was asked for and never answered, to nobody.
        ended: discarded, cancelled, or resolved by an operator.
        claims: leases.
        deliveries: items claimed, each time counted.
        again_released, again_failed, again_expired: deliveries after the first, by how the one before it ended.
        attempts_burnt: the failures that deliveries tell of, the highest of each item.
        handlings: times that a handler began.
        duplicates: handlings of an item whose earlier handling was neither failed nor given back.
        held_by_faulty: items that killed and stopped processes held at that time: the bound of `duplicates`.
        stale_refused: calls with a receipt that was not valid any more, all of them refused.
        faults: processes killed and stopped.
    """

    enqueued: int = 0
    ambiguous: int = 0
    refused: int = 0
    finished: int = 0
    finish_unknown: int = 0
    ended: int = 0
    claims: int = 0
    deliveries: int = 0
    again_released: int = 0
    again_failed: int = 0
    again_expired: int = 0
    attempts_burnt: int = 0
    handlings: int = 0
    duplicates: int = 0
    held_by_faulty: int = 0
    stale_refused: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a history. True where nothing was broken.

    Attributes:
        violations: what was broken.
        excused: what was broken across an announced failover or a change of epoch, where no queue could keep it.
        undecided: rules that could not be decided, with the reason.
        figures: what the history is about.
    """

    violations: tuple[Violation, ...]
    excused: tuple[Violation, ...]
    undecided: dict[str, str]
    figures: Figures

    def __bool__(self) -> bool:
        return not self.violations

    def count(self, rule: str) -> int:
        """How often a rule was broken."""
        return sum(violation.rule == rule for violation in self.violations)

    def broken(self) -> dict[str, int]:
        """The rules that were broken, and how often."""
        return dict(Counter(violation.rule for violation in self.violations))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ok": bool(self),
            "figures": {name: getattr(self.figures, name) for name in Figures.__slots__},
            "violations": [_plain(violation) for violation in self.violations],
            "excused": [_plain(violation) for violation in self.excused],
            "undecided": self.undecided,
        }


def _plain(violation: Violation) -> dict[str, Any]:
    return {name: getattr(violation, name) for name in Violation.__slots__}
