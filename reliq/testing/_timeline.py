"""What is known of each item, and of the processes, when all events have been put together by _builder.py. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

NEVER = math.inf
TOLERANCE = 0.005  # seconds that the server's clock may differ from ours within a lease; deadlines are cut to ms
SETTLING = ("finish", "fail", "release")
FAULTS = ("killed", "stopped")


@dataclass(slots=True, eq=False)
class Sent:
    """An enqueue of one item. `answer` is `ok`, `info` (may have been applied), `refused`, or empty: none was seen."""

    id: str
    call: tuple[str, int]
    index: int
    invoked: float
    group: str | None = None
    later: bool = False  # it was not to be delivered at once
    answered: float = NEVER
    answer: str = ""


@dataclass(slots=True, eq=False)
class Call:
    """A finish, fail, release or renew of one item under one receipt."""

    verb: str
    invoked: float
    lease: float = 0.0
    answered: float = NEVER
    answer: str = ""  # as in Sent, and `lost`
    dead: bool | None = None  # of a fail: whether it was the last attempt; None where that is not known

    @property
    def applied(self) -> bool | None:
        """Whether it took effect; None where that is not known."""
        return {"ok": True, "lost": False, "refused": False}.get(self.answer)


@dataclass(slots=True, eq=False)
class Delivery:
    """One item under one receipt."""

    id: str
    receipt: str
    process: str
    number: int
    attempt: int
    epoch: int
    position: int  # in its claim
    asked: float
    got: float
    deadline: float
    calls: list[Call] = field(default_factory=list)

    def settled(self) -> Call | None:
        """The first call that may have ended it."""
        return next((call for call in self.calls if call.verb in SETTLING and call.applied is not False), None)

    def certain_until(self) -> float:
        """Up to when this receipt certainly was the valid one: the server may have gone on for longer.

        A call that was accepted proves that the receipt was valid until it was made, its lease over or not.
        """
        until = self.deadline
        for call in self.calls:
            if call.verb == "renew":
                until = max(until, call.invoked + call.lease) if call.applied else until
            elif call.applied is not False or call.answer == "lost":
                return call.invoked if call.applied else min(until, call.invoked)
        return until


@dataclass(slots=True, eq=False)
class Handling:
    """A handler at work on an item."""

    id: str
    receipt: str
    process: str
    began: float
    ended: float = NEVER


@dataclass(slots=True, eq=False)
class Claim:
    """The answer to one claim."""

    receipt: str
    process: str
    asked: float
    got: float
    ids: list[str]


@dataclass(slots=True)
class Timeline:
    """All of it, by item."""

    sent: dict[str, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    deliveries: dict[str, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    handlings: dict[str, list[Handling]] = field(default_factory=lambda: defaultdict(list))
    claims: dict[str, list[Claim]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # process -> when
    killed: dict[str, float] = field(default_factory=dict)
    announced: list[float] = field(default_factory=list)
    decided: dict[str, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))  # by operators
    purged: list[float] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    looked: bool = False  # somebody looked where all items are at the end
    counts: dict[str, int] | None = None
    tolerance: float = TOLERANCE

    def acknowledged(self, item_id: str) -> float:
        """When the item's enqueue was first answered with yes; NEVER where it was not."""
        return min((sent.answered for sent in self.sent.get(item_id, ()) if sent.answer == "ok"), default=NEVER)

    def invoked(self, item_id: str) -> float:
        """When the item was first sent."""
        return min((sent.invoked for sent in self.sent.get(item_id, ())), default=-NEVER)

    def delivery(self, item_id: str, receipt: str) -> Delivery | None:
        """An item's delivery under a receipt, where it is on record."""
        return next((found for found in self.deliveries.get(item_id, ()) if found.receipt == receipt), None)
