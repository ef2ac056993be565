"""What is known of each item, from the events of all processes. Pure: events in, a `Timeline` out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from reliq.testing._events import Event

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


def timeline(events: Iterable[Event]) -> Timeline:
    """Puts events together; they may come in any order."""
    builder = _Builder()
    for event in sorted(events, key=lambda event: event.t):
        take = _TAKE.get(event.kind)
        if take is not None:  # a history may hold notes of its owner
            take(builder, event, event.data)
    return builder.done


class _Builder:
    """Finds the question to each answer: by the process and the number of the call."""

    def __init__(self) -> None:
        self.done = Timeline()
        self._sent: dict[tuple[str, int], dict[str, Sent]] = {}
        self._calls: dict[tuple[str, int], list[tuple[str, Call]]] = {}
        self._open: dict[tuple[str, str, str], list[Handling]] = defaultdict(list)

    def enqueue(self, event: Event, data: Any) -> None:
        key = (event.process, data["call"])
        if data["phase"] == "invoke":
            later, groups = set(data.get("later", ())), data.get("groups") or [None] * len(data["ids"])
            self._sent[key] = {
                item_id: Sent(item_id, key, index, event.t, group, item_id in later)
                for index, (item_id, group) in enumerate(zip(data["ids"], groups, strict=True))
            }
            for item_id, sent in self._sent[key].items():
                self.done.sent[item_id].append(sent)
            return
        for item_id in data["ids"]:
            if found := self._sent.get(key, {}).get(item_id):
                found.answered, found.answer = event.t, data["phase"]

    def claim(self, event: Event, data: Any) -> None:
        receipt, asked, deadline = data["receipt"], data["asked"], data["asked"] + data["lease"]
        self.done.claims[receipt].append(Claim(receipt, event.process, asked, event.t, data["ids"]))
        attempts = data.get("attempts") or [1] * len(data["ids"])
        for position, item_id in enumerate(data["ids"]):
            if known := self.done.delivery(item_id, receipt):
                known.deadline = max(known.deadline, deadline)
                continue
            number, attempt, epoch = data["deliveries"][position], attempts[position], data["epoch"]
            delivery = Delivery(
                item_id, receipt, event.process, number, attempt, epoch, position, asked, event.t, deadline
            )
            self.done.deliveries[item_id].append(delivery)

    def call(self, event: Event, data: Any) -> None:
        key = (event.process, data["call"])
        if data["phase"] == "invoke":
            calls = self._calls[key] = []
            for receipt, ids in data["held"].items():
                calls += [(i, self._new_call(i, receipt, event, data)) for i in ids]
            return
        lost, dead = set(data.get("lost", ())), data.get("dead")
        for item_id, call in self._calls.pop(key, ()):
            call.answered, call.answer = event.t, "lost" if item_id in lost else data["phase"]
            call.dead = None if dead is None else item_id in dead

    def _new_call(self, item_id: str, receipt: str, event: Event, data: Any) -> Call:
        call = Call(event.kind, event.t, float(data.get("lease", 0.0)))
        if known := self.done.delivery(item_id, receipt):
            known.calls.append(call)
        return call

    def began(self, event: Event, data: Any) -> None:
        handling = Handling(data["id"], data["receipt"], event.process, event.t)
        self.done.handlings[data["id"]].append(handling)
        self._open[event.process, data["id"], data["receipt"]].append(handling)

    def ended(self, event: Event, data: Any) -> None:
        if running := self._open.get((event.process, data["id"], data["receipt"])):
            running.pop().ended = event.t

    def process(self, event: Event, data: Any) -> None:
        if data["what"] in FAULTS:
            self.done.faults[data["who"]].append(event.t)
        if data["what"] == "killed":
            self.done.killed[data["who"]] = event.t

    def announce(self, event: Event, _: Any) -> None:
        self.done.announced.append(event.t)

    def decided(self, event: Event, data: Any) -> None:
        if event.kind == "purge":
            self.done.purged.append(event.t)
        elif data["phase"] != "info" and (event.kind != "resolve" or data.get("decision", "finish") == "finish"):
            for item_id in data["ids"]:
                self.done.decided[item_id].append((event.kind, event.t))

    def final(self, _: Event, data: Any) -> None:
        self.done.looked = True
        for item_id in data["ids"]:
            self.done.states[item_id] = data["state"]

    def counts(self, _: Event, data: Any) -> None:
        self.done.counts = dict(data["counts"])


_TAKE = {
    "enqueue": _Builder.enqueue,
    "claim": _Builder.claim,
    **dict.fromkeys((*SETTLING, "renew"), _Builder.call),
    "began": _Builder.began,
    "ended": _Builder.ended,
    "process": _Builder.process,
    "announce": _Builder.announce,
    **dict.fromkeys(("cancel", "discard", "resolve", "purge"), _Builder.decided),
    "final": _Builder.final,
    "counts": _Builder.counts,
}
