"""What a queue does, in lists and dicts: no server, no receipts in bytes, no batches. The words are those of lua/."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from properties.turns import Batch, Turns

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
    turns: Turns
    max_in_progress: int = 0
    order: dict[str, int] = field(default_factory=dict)  # when it was enqueued, by number
    history: dict[str, History] = field(default_factory=dict)
    queued: list[str] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)
    aside: dict[S, dict[str, int]] = field(default_factory=lambda: {S.SCHEDULED: {}, S.ORPHANED: {}, S.DEAD: {}})
    ended: dict[str, tuple[S, str]] = field(default_factory=dict)  # how, and the receipt that finished it
    batch: Batch | None = None  # one at a time: of two that one call settles, either may be followed first
    progress: dict[str, object] = field(default_factory=dict)
    results: dict[str, object] = field(default_factory=dict)
    enqueued: int = 0
    purged: int = 0

    def state(self, item_id: str) -> S | None:
        """The one state that an item is in."""
        found = [state for state, ids in self.aside.items() if item_id in ids]
        found += [S.QUEUED] * (self.queued.count(item_id) + (item_id in self.turns.parked))
        found += [S.IN_PROGRESS for lease in self.leases.values() if item_id in lease.ids]
        found += [self.ended[item_id][0]] if item_id in self.ended else []
        assert len(found) <= 1, f"the model is wrong: {item_id} is in {found}"
        return found[0] if found else None

    def holds(self, receipt: str, item_id: str) -> bool:
        return receipt in self.leases and item_id in self.leases[receipt].ids

    def enqueue(self, item_id: str, delay: int = 0, group: str | None = None) -> bool:
        if self.state(item_id) is not None:
            return False
        if group:
            self.turns.group[item_id] = group
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
        if self.max_in_progress:
            count = min(count, self.max_in_progress - sum(len(lease.ids) for lease in self.leases.values()))
        ids: list[str] = []
        while self.queued and len(ids) < count:
            item_id = self.queued.pop(0)
            if self.turns.may_go(item_id):
                ids.append(item_id)
            else:
                self.turns.parked[item_id] = self.order[item_id]
                self.history[item_id].at_head = False
        return ids

    def _go_on(self, ids: Iterable[str], *, died: bool = False) -> None:
        """What the end of items, or their death, sets going."""
        ended = list(ids)
        self._at_head(self.turns.pass_on(ended, gone=not died))
        if self.batch and self.batch.settle(ended, died=died):
            then, self.batch = self.batch.then, None
            self.enqueue(then)

    def hold(self, receipt: str, ids: list[str], lease: int) -> None:
        if ids:
            self.leases[receipt] = Lease(self.now + lease, list(ids))

    def recover(self) -> None:
        back: list[str] = []
        died: list[str] = []
        for receipt, lease in list(self.leases.items()):
            if lease.deadline <= self.now:
                for item_id in lease.ids:
                    self._expired(item_id, back, died)
                del self.leases[receipt]
        self._at_head(back)
        self._go_on(died, died=True)
        due = [item_id for item_id in self.first(S.SCHEDULED) if self.aside[S.SCHEDULED][item_id] <= self.now]
        for item_id in due:
            del self.aside[S.SCHEDULED][item_id]
        self.queued += due

    def _expired(self, item_id: str, back: list[str], died: list[str]) -> None:
        """Counts a lost lease, and says where the item goes."""
        history = self.history[item_id]
        history.claims, history.expiries, history.back_by = history.claims + 1, history.expiries + 1, ""
        if self.expiry == "dead" or history.failures + history.expiries >= MAX_DELIVERIES:
            self.aside[S.DEAD][item_id] = self.now
            died.append(item_id)
        elif self.expiry == "hold":
            self.aside[S.ORPHANED][item_id] = self.now
        else:
            back.append(item_id)

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

    def _end(self, ids: list[str], how: S, receipt: str = "") -> None:
        for item_id in ids:
            self.ended[item_id] = (how, receipt)
            del self.history[item_id]
            self.progress.pop(item_id, None)
        self._go_on(ids)

    def finish(self, receipt: str, ids: list[str]) -> list[str]:
        """Returns the ids that were lost."""
        mine = [i for i in ids if self.holds(receipt, i)]
        lost = [i for i in ids if i not in mine and self.ended.get(i) != (S.FINISHED, receipt)]
        for item_id in mine:
            self._let_go(receipt, item_id)
        self._end(mine, S.FINISHED, receipt)
        return lost

    def finish_with(self, receipt: str, item_id: str, result: object, then: list[tuple[str, str | None]]) -> list[str]:
        """Returns the ids that were lost."""
        if self.holds(receipt, item_id):
            for following, group in then:
                self.enqueue(following, group=group)
            self.results[item_id] = result
        return self.finish(receipt, [item_id])

    def checkpoint(self, receipt: str, item_id: str, lease: int, state: object) -> bool:
        if self.renew(receipt, item_id, lease):
            self.progress[item_id] = state
        return self.holds(receipt, item_id)

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

    def fail(self, receipt: str, ids: list[str], how: str) -> dict[str, S | None]:
        """Where each item went, SCHEDULED without a time yet; None where the lease was lost."""
        mine = [i for i in ids if self.holds(receipt, i)]
        outcomes = {i: self._failed(receipt, i, how) if i in mine else self._failed_before(receipt, i) for i in ids}
        again = [i for i in mine if outcomes[i] is S.QUEUED]
        if self.retry == "head":
            self._at_head(again)
        else:
            self.queued += again
        self._go_on([i for i in mine if outcomes[i] is S.DEAD], died=True)
        self._end([i for i in mine if outcomes[i] is S.REMOVED], S.REMOVED, receipt)
        return outcomes

    def _failed_before(self, receipt: str, item_id: str) -> S | None:
        """What this receipt did with an item that it does not hold."""
        if self.ended.get(item_id) == (S.REMOVED, receipt):
            return S.REMOVED
        known = (s for s in (S.DEAD, S.SCHEDULED) if item_id in self.aside[s])
        return next(known, S.QUEUED) if self._gave_back(receipt, item_id) else None

    def _failed(self, receipt: str, item_id: str, how: str) -> S:
        self._let_go(receipt, item_id)
        if how == "discard":
            return S.REMOVED
        history = self.history[item_id]
        history.claims, history.failures, history.back_by = history.claims + 1, history.failures + 1, receipt
        history.at_head = False
        if how == "dead" or history.failures >= MAX_ATTEMPTS:
            self.aside[S.DEAD][item_id] = self.now
            return S.DEAD
        if self.retry == "later":
            self.aside[S.SCHEDULED][item_id] = -1  # the server draws the time
            return S.SCHEDULED
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
        """To the tail; those of a group that were dead go before what waits of their group."""
        dead = set(self.aside[S.DEAD]) & set(self.turns.group)
        taken = self._take_aside(ids, {S.SCHEDULED, S.ORPHANED, S.DEAD})
        self.queued += [i for i in taken if i not in dead]
        self._at_head(i for i in taken if i in dead)

    def redrive(self, limit: int) -> int:
        ids = self.first(S.DEAD)[:limit]
        self.requeue(ids)
        return len(ids)

    def resolve(self, ids: Iterable[str], decision: str) -> None:
        if decision == "requeue":
            self._at_head(self._take_aside(ids, {S.ORPHANED, S.DEAD}))
        elif decision == "finish":
            self._end(self._take_aside(ids, {S.ORPHANED, S.DEAD}), S.FINISHED)
        else:
            buried = [i for i in dict.fromkeys(ids) if i in self.aside[S.ORPHANED]]
            for item_id in buried:
                del self.aside[S.ORPHANED][item_id]
                self.aside[S.DEAD][item_id] = self.now
            self._go_on(buried, died=True)

    def cancel(self, ids: Iterable[str]) -> None:
        gone = [i for i in dict.fromkeys(ids) if self.state(i) in (S.QUEUED, S.SCHEDULED)]
        for item_id in gone:
            self._leave(item_id)
        self._end(gone, S.REMOVED)

    def _leave(self, item_id: str) -> None:
        """Out of the place where it waits. Where it waits for its turn it is forgotten with its group."""
        if item_id in self.queued:
            self.queued.remove(item_id)
        else:
            self.aside[S.SCHEDULED].pop(item_id, None)

    def discard(self, ids: Iterable[str]) -> None:
        self._end(self._take_aside(ids, {S.ORPHANED, S.DEAD}), S.REMOVED)

    def purge(self, state: S) -> None:
        if state is not S.QUEUED:
            ids = list(self.aside[state])
            self.aside[state].clear()
            self._purge(ids)
            return
        while ids := list(self.queued) or list(self.turns.parked):  # also what comes to the queue by it
            self.queued.clear()
            self._purge(ids)

    def _purge(self, ids: list[str]) -> None:
        self.purged += len(ids)
        self._end(ids, S.REMOVED)
        for item_id in ids:
            del self.ended[item_id]
