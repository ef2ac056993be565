"""What a worker holds, how fast it gets through that, and how much more it may claim. Pure: no clock of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields

from reliq import _policy
from reliq.item import Item

PACE_SECONDS = 0.005  # over which the rate of handling is taken: short, so that a start is not slow for long
LINGER = 0.02  # seconds: what has been handled is settled no later than this after the next chance
SETTLED = ("finished", "failed", "lost", "discarded", "retried")


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker did.

    Attributes:
        finished: items whose handler returned.
        failed: attempts that ended with an error.
        released: items that were given back: unstarted, or because the handler answered `Release`.
        lost: items whose lease was lost, or that could not be settled: they are handled again, by somebody.
        discarded, retried: items whose handler answered `Discard`, `Retry`.
        abandoned: ids of items whose handlers still ran when the worker did not wait for them any longer. Their leases
            run out.
    """

    finished: int = 0
    failed: int = 0
    released: int = 0
    lost: int = 0
    discarded: int = 0
    retried: int = 0
    abandoned: tuple[str, ...] = ()

    def __add__(self, other: WorkerReport) -> WorkerReport:
        return WorkerReport(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(WorkerReport)))


class Pace:
    """How many items a second were handled of late."""

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        self._count, self._since = 0, now
        self._moved = now

    def add(self, count: int, now: float) -> None:
        """Notes how many items were handled since the last time."""
        self._count += count
        if count:
            self._moved = now
        elapsed = now - self._since
        if elapsed >= PACE_SECONDS:
            self.rate = self._count / elapsed
            self._count, self._since = 0, now

    def standstill(self, now: float) -> float:
        """Seconds since an item was handled."""
        return now - self._moved


class Ledger:
    """The items that a worker holds, and what became of those that it held.

    Args:
        concurrency: handlers.
        prefetch: items to hold beyond those that are handled, None: by pace.
        max_items: items to settle at most, None for no end.
    """

    def __init__(self, concurrency: int, prefetch: int | None, max_items: int | None) -> None:
        self.concurrency = concurrency
        self.prefetch = prefetch
        self.max_items = max_items
        self.held: set[Item] = set()  # claimed and not settled
        self.handled = 0  # of these: those that a handler is through with
        self.reserved = 0  # that are asked for, and have not come
        self._counts: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """Items that a handler has, or will have."""
        return len(self.held) - self.handled

    @property
    def idle(self) -> bool:
        """Whether there is a handler without an item."""
        return self.under_way < self.concurrency

    def claimed(self, items: Iterable[Item]) -> None:
        """Items came."""
        self.held.update(items)

    def settled(self, items: Collection[Item], lost: Collection[str], kind: str) -> None:
        """Items went: `kind` says how, except for those whose lease was lost."""
        self.held.difference_update(items)
        self.handled -= len(items)
        gone = 0
        if lost:
            for item in items:
                if item.id in lost:
                    item.lost = True
                    gone += 1
        self._counts["lost"] += gone
        self._counts[kind] += len(items) - gone

    def capacity(self, rate: float) -> int:
        """Items to hold at most."""
        ahead = _policy.prefetch(self.concurrency, rate) if self.prefetch is None else self.prefetch
        return min(_policy.MAX_BATCH, self.concurrency + ahead)

    def room(self, rate: float) -> int:
        """Items to claim now: none while half of what may be held is there and every handler has an item.

        By pace no more than half of it at once: handlers have the one half while the other is on its way.
        """
        capacity, busy = self.capacity(rate), self.under_way + self.reserved
        low = self._low(capacity)
        if busy > low:
            return 0
        if self.max_items is not None:
            capacity = min(capacity, self.max_items - self.count_settled() - self.handled)
        return max(0, capacity - busy if self.prefetch is not None else min(capacity - busy, low + 1))

    def enough(self, rate: float) -> int:
        """Items to be handled from now on before a round trip is worth it: where none is at hand, one."""
        to_low = self.under_way - self._low(self.capacity(rate))
        return max(1, min(to_low, int(rate * LINGER)))

    def _low(self, capacity: int) -> int:
        return max((capacity + 1) // 2, self.concurrency - 1)

    def count_settled(self) -> int:
        """Items that are through, one way or another."""
        return sum(self._counts[kind] for kind in SETTLED)

    def full(self) -> bool:
        """Whether `max_items` is reached."""
        return self.max_items is not None and self.count_settled() >= self.max_items

    def facts(self) -> dict[str, int]:
        """What a worker says of itself: fields of `WorkerInfo`."""
        failed = self._counts["failed"] + self._counts["retried"] + self._counts["discarded"]
        done = {"finished": self._counts["finished"], "failed": failed, "lost": self._counts["lost"]}
        return {"holding": len(self.held), **done}

    def report(self, abandoned: Iterable[Item] = ()) -> WorkerReport:
        """What was done so far."""
        return WorkerReport(**self._counts, abandoned=tuple(sorted(item.id for item in abandoned)))


class Shares:
    """Who of several queues may fill how much of the room: in order of priority, or by weight so that none starves.

    Smooth weighted round robin: over any stretch each gets its share, as evenly spread as it can be.
    """

    def __init__(self, weights: Sequence[int] | None) -> None:
        self.weights = weights
        self._credit = [0] * len(weights or ())

    def divide(self, room: int, hungry: Sequence[int]) -> list[tuple[int, int]]:
        """Pairs of a queue's number and the items that it may bring. By priority, each may bring all that is left."""
        if self.weights is None:
            return [(number, room) for number in hungry]
        shares: Counter[int] = Counter()
        for _ in range(room):
            shares[self._next(hungry, self.weights)] += 1
        return [(number, shares[number]) for number in hungry if shares[number]]

    def _next(self, hungry: Sequence[int], weights: Sequence[int]) -> int:
        for number in hungry:
            self._credit[number] += weights[number]
        chosen = max(hungry, key=lambda number: self._credit[number])
        self._credit[chosen] -= sum(weights[number] for number in hungry)
        return chosen
