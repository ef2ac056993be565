"""What a queue does, in lists and dicts: no server, no receipts in bytes, no batches. The words are those of lua/."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from reliq import ItemState
from reliq._ids import pack

S = ItemState
MAX_ATTEMPTS, MAX_DELIVERIES, BACKOFF_CAP = 2, 3, 20


@dataclass
class History:
    """What an item went through.

    `back_by`: the receipt that gave it back last, so that a repeat of that is known. `at_head`: it was put there.
    """

    claims: int = 0
    failures: int = 0
    expiries: int = 0
    back_by: str = ""
    at_head: bool = False


@dataclass
class Lease:
    deadline: int
    ids: list[str]


@dataclass
class Model:
    """A queue. Times are whole milliseconds."""

    expiry: str
    retry: str
    now: int
    order: dict[str, int] = field(default_factory=dict)  # when it was enqueued, by number
    history: dict[str, History] = field(default_factory=dict)
    queued: list[str] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)
    aside: dict[S, dict[str, int]] = field(default_factory=lambda: {S.SCHEDULED: {}, S.ORPHANED: {}, S.DEAD: {}})
    ended: dict[str, tuple[S, str]] = field(default_factory=dict)  # how, and the receipt that finished it
    enqueued: int = 0
    purged: int = 0

    def state(self, item_id: str) -> S | None:
        """The one state that an item is in."""
        found = [state for state, ids in self.aside.items() if item_id in ids]
        found += [S.QUEUED] * self.queued.count(item_id)
        found += [S.IN_PROGRESS for lease in self.leases.values() if item_id in lease.ids]
        found += [self.ended[item_id][0]] if item_id in self.ended else []
        assert len(found) <= 1, f"the model is wrong: {item_id} is in {found}"
        return found[0] if found else None

    def holds(self, receipt: str, item_id: str) -> bool:
        return receipt in self.leases and item_id in self.leases[receipt].ids

    def enqueue(self, item_id: str, delay: int) -> bool:
        if self.state(item_id) is not None:
            return False
        self.enqueued += 1
        self.order[item_id] = self.enqueued
        self.history[item_id] = History()
        if delay:
            self.aside[S.SCHEDULED][item_id] = self.now + delay
        else:
            self.queued.append(item_id)
        return True

    def claim(self, count: int) -> list[str]:
        self.recover()
        ids = self.queued[:count]
        del self.queued[: len(ids)]
        return ids

    def hold(self, receipt: str, ids: list[str], lease: int) -> None:
        if ids:
            self.leases[receipt] = Lease(self.now + lease, list(ids))

    def recover(self) -> None:
        back: list[str] = []
        for receipt, lease in list(self.leases.items()):
            if lease.deadline <= self.now:
                back += [item_id for item_id in lease.ids if self._expired(item_id)]
                del self.leases[receipt]
        self._at_head(back)
        due = [item_id for item_id in self.first(S.SCHEDULED) if self.aside[S.SCHEDULED][item_id] <= self.now]
        for item_id in due:
            del self.aside[S.SCHEDULED][item_id]
        self.queued += due

    def _expired(self, item_id: str) -> bool:
        """Counts a lost lease. True where the item goes back to the queue."""
        history = self.history[item_id]
        history.claims, history.expiries, history.back_by = history.claims + 1, history.expiries + 1, ""
        if self.expiry == "dead" or history.failures + history.expiries >= MAX_DELIVERIES:
            self.aside[S.DEAD][item_id] = self.now
        elif self.expiry == "hold":
            self.aside[S.ORPHANED][item_id] = self.now
        else:
            return True
        return False

    def first(self, state: S) -> list[str]:
        """The ids of a sorted state, in its order."""
        times = self.aside[state]
        return sorted(times, key=lambda item_id: (times[item_id], pack(item_id)))

    def _at_head(self, ids: Iterable[str]) -> None:
        """Puts ids before those that were enqueued after them; what stands there with an earlier turn keeps it."""
        back = list(ids)
        last = max((self.order[item_id] for item_id in back), default=0)
        in_turn = (self.history[item_id].at_head and self.order[item_id] < last for item_id in self.queued)
        ahead = next((i for i, good in enumerate(in_turn) if not good), len(self.queued))
        for item_id in back:
            self.history[item_id].at_head = True
        self.queued[:ahead] = sorted(self.queued[:ahead] + back, key=lambda item_id: self.order[item_id])

    def _let_go(self, receipt: str, item_id: str) -> None:
        self.leases[receipt].ids.remove(item_id)
        if not self.leases[receipt].ids:
            del self.leases[receipt]

    def _end(self, item_id: str, how: S, receipt: str = "") -> None:
        self.ended[item_id] = (how, receipt)
        del self.history[item_id]

    def finish(self, receipt: str, item_id: str) -> bool:
        if not self.holds(receipt, item_id):
            return self.ended.get(item_id) == (S.FINISHED, receipt)
        self._let_go(receipt, item_id)
        self._end(item_id, S.FINISHED, receipt)
        return True

    def release(self, receipt: str, ids: list[str]) -> list[str]:
        """Returns the ids that were lost."""
        lost = [i for i in ids if not self.holds(receipt, i) and not self._gave_back(receipt, i)]
        mine = [i for i in ids if self.holds(receipt, i)]
        for item_id in mine:
            self._let_go(receipt, item_id)
            self.history[item_id].claims += 1
            self.history[item_id].back_by = receipt
        self._at_head(mine)
        return lost

    def _gave_back(self, receipt: str, item_id: str) -> bool:
        return item_id in self.history and self.history[item_id].back_by == receipt

    def fail(self, receipt: str, ids: list[str], *, dead: bool) -> dict[str, S | None]:
        """Where each item went, SCHEDULED without a time yet; None where the lease was lost."""
        again: list[str] = []
        outcomes = {item_id: self._failed(receipt, item_id, dead, again) for item_id in ids}
        if self.retry == "head":
            self._at_head(again)
        else:
            self.queued += again
        return outcomes

    def _failed(self, receipt: str, item_id: str, dead: bool, again: list[str]) -> S | None:
        if not self.holds(receipt, item_id):
            known = (s for s in (S.DEAD, S.SCHEDULED) if item_id in self.aside[s])
            return next(known, S.QUEUED) if self._gave_back(receipt, item_id) else None
        self._let_go(receipt, item_id)
        history = self.history[item_id]
        history.claims, history.failures, history.back_by = history.claims + 1, history.failures + 1, receipt
        history.at_head = False
        if dead or history.failures >= MAX_ATTEMPTS:
            self.aside[S.DEAD][item_id] = self.now
            return S.DEAD
        if self.retry == "later":
            self.aside[S.SCHEDULED][item_id] = -1  # the server draws the time
            return S.SCHEDULED
        again.append(item_id)
        return S.QUEUED

    def renew(self, receipt: str, item_id: str, lease: int) -> bool:
        if not self.holds(receipt, item_id):
            return False
        held = self.leases[receipt]
        held.deadline = max(held.deadline, self.now + lease)
        return True

    def _take_aside(self, ids: Iterable[str], states: set[S]) -> list[str]:
        taken = [i for i in dict.fromkeys(ids) if self.state(i) in states]
        for item_id in taken:
            state = self.state(item_id)
            assert state is not None
            del self.aside[state][item_id]
            history = self.history[item_id]
            history.back_by, history.at_head = "", False
            if state is S.DEAD:
                history.failures = history.expiries = 0
        return taken

    def requeue(self, ids: Iterable[str]) -> None:
        self.queued += self._take_aside(ids, {S.SCHEDULED, S.ORPHANED, S.DEAD})

    def redrive(self, limit: int) -> int:
        moved = self._take_aside(self.first(S.DEAD)[:limit], {S.DEAD})
        self.queued += moved
        return len(moved)

    def resolve(self, ids: Iterable[str], decision: str) -> None:
        if decision == "requeue":
            self._at_head(self._take_aside(ids, {S.ORPHANED, S.DEAD}))
        elif decision == "finish":
            for item_id in self._take_aside(ids, {S.ORPHANED, S.DEAD}):
                self._end(item_id, S.FINISHED)
        else:
            for item_id in [i for i in dict.fromkeys(ids) if i in self.aside[S.ORPHANED]]:
                del self.aside[S.ORPHANED][item_id]
                self.aside[S.DEAD][item_id] = self.now

    def cancel(self, ids: Iterable[str]) -> None:
        for item_id in [i for i in dict.fromkeys(ids) if self.state(i) in (S.QUEUED, S.SCHEDULED)]:
            if item_id in self.queued:
                self.queued.remove(item_id)
            else:
                del self.aside[S.SCHEDULED][item_id]
            self._end(item_id, S.REMOVED)

    def discard(self, ids: Iterable[str]) -> None:
        for item_id in self._take_aside(ids, {S.ORPHANED, S.DEAD}):
            self._end(item_id, S.REMOVED)

    def purge(self, state: S) -> None:
        ids = list(self.queued) if state is S.QUEUED else list(self.aside[state])
        self.purged += len(ids)
        for item_id in ids:
            del self.history[item_id]
        (self.queued if state is S.QUEUED else self.aside[state]).clear()
