"""What can happen to a queue, as rules that do it to the queue and to the model."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from properties.model import BACKOFF_CAP, MAX_ATTEMPTS, MAX_DELIVERIES, Model, S
from properties.side_by_side import KNOWN_IDS, SideBySide, numbers
from properties.turns import Batch, Turns

from reliq import Enqueued, Failed, Item, ItemNotFound, New, QueuePaused

LEASES = st.sampled_from([5, 10, 30])  # seconds
DELAYS = st.sampled_from([0, 0, 0, 0, 5, 15])
GROUPS = st.sampled_from([None, None, "a", "bb"])
claims = st.integers(0, 6) | st.integers(0, 6) | st.integers(0, 200)  # how far back
FAULTS = st.sampled_from(["", "", "reply lost", "reply lost", "scripts lost"])
some_ids = st.lists(st.integers(0, 40), min_size=1, max_size=5)


class QueueMachine(SideBySide):
    """Rules call the queue and the model alike; what they return is compared."""

    @initialize(
        expiry=st.sampled_from(["requeue", "hold", "dead"]),
        retry=st.sampled_from(["later", "tail", "head"]),
        group_limit=st.sampled_from([1, 1, 2]),
        max_in_progress=st.sampled_from([0, 0, 6]),
        when=st.sampled_from(["finished", "settled"]),
    )
    def settings(self, expiry: str, retry: str, group_limit: int, max_in_progress: int, when: str) -> None:
        self.model = Model(expiry, retry, self.now_ms(), Turns(group_limit), max_in_progress)
        self.queue.configure(
            expiry=expiry,
            retry=retry,
            group_limit=group_limit,
            max_in_progress=max_in_progress,
            max_attempts=MAX_ATTEMPTS,
            max_deliveries=MAX_DELIVERIES,
            backoff_base=5,
            backoff_cap=BACKOFF_CAP,
            finished_age=10 * 86400,
        )
        self.batch(2, when, None, "")
        groups = [None, "a", "a", "a", None, "bb", "bb"]
        self._enqueue([New(f"p{next(numbers)}", group=group) for group in groups], "")  # something to do at once
        self.claim(4, 30, "")
        self.did = {"enqueue", "claim", "recover"}

    # Producers

    @rule(fault=FAULTS, data=st.data())
    def enqueue(self, fault: str, data: st.DataObject) -> None:
        ids = st.none() | st.none() | st.sampled_from(KNOWN_IDS)
        new = data.draw(st.lists(st.tuples(ids, DELAYS, GROUPS), min_size=1, max_size=8))
        entries = [
            New(f"p{next(numbers)}", id=item_id, delay=delay or None, group=group) for item_id, delay, group in new
        ]
        self._enqueue(entries, fault)

    def _enqueue(self, entries: list[New], fault: str) -> None:
        self.did = {"enqueue"}
        results = self.under(fault, lambda: self.queue.enqueue_many(entries))
        for entry, result in zip(entries, results, strict=True):
            self._enqueued(entry, result, certain=fault != "reply lost" or entry.id is None)

    def _enqueued(self, entry: New, result: Enqueued, *, certain: bool) -> None:
        delay = entry.delay or 0
        assert isinstance(delay, int)
        created = self.model.enqueue(result.id, delay * 1000, entry.group)
        assert result.created == created or not certain
        if created:
            self.payloads[result.id] = entry.payload
            if result.id not in self.ids:
                self.ids.append(result.id)

    @precondition(lambda self: self.model.batch is None)
    @rule(count=st.integers(1, 4), when=st.sampled_from(["finished", "settled"]), group=GROUPS, fault=FAULTS)
    def batch(self, count: int, when: str, group: str | None, fault: str) -> None:
        """One batch at a time is open: of two that one call settles, either may be followed first."""
        self.did = {"enqueue"}
        number = next(numbers)
        members = [New(f"p{number}", id=f"m{number}-{n}", group=group) for n in range(count)]
        then = New(f"p{number}", id=f"then{number}")
        made = self.under(fault, lambda: self.queue.batch(members, then=then, when=when, id=f"batch{number}"))
        for entry, result in zip(members, made.members, strict=True):
            self._enqueued(entry, result, certain=False)
        self.ids.append(made.then_id)
        self.payloads[made.then_id] = then.payload
        self.model.batch = Batch(when, made.then_id, {member.id for member in made.members})
        self.batches[made.id] = self.model.batch

    # Workers

    @rule(count=st.integers(1, 5), lease=LEASES, fault=FAULTS)
    def claim(self, count: int, lease: int, fault: str) -> None:
        self.did = {"claim", "recover"}
        expected = self.model.claim(count)
        self._claimed(self.under(fault, lambda: self.queue.claim(count, lease=lease)), expected, lease)

    def _claimed(self, items: list[Item], expected: list[str], lease: int) -> None:
        assert [item.id for item in items] == expected
        for item in items:
            history = self.model.history[item.id]
            assert item.payload == self.payloads[item.id]
            assert (item.delivery, item.attempt) == (history.claims + 1, history.failures + 1)
            assert item.group == self.model.turns.group.get(item.id)
            assert (item.progress and item.progress.state) == self.model.progress.get(item.id)
        if items:
            assert items[0].receipt not in {item.receipt for item in self.held}
            self.model.hold(items[0].receipt, expected, lease * 1000)
        self.held += items

    @precondition(lambda self: self.held)
    @rule(
        number=claims,
        count=st.integers(1, 4),
        fault=FAULTS,
    )
    def finish(self, number: int, count: int, fault: str) -> None:
        self.did = {"finish"}
        items = self.items_of(number, count)
        lost = self.model.finish(items[0].receipt, [item.id for item in items])
        assert self.lost_in(lambda: self.queue.finish(items), fault) == lost

    @precondition(lambda self: self.held)
    @rule(number=claims, count=st.integers(1, 5), lease=LEASES, fault=FAULTS)
    def finish_and_claim(self, number: int, count: int, lease: int, fault: str) -> None:
        self.did = {"finish", "claim", "recover"}
        items = self.items_of(number, count)
        lost = self.model.finish(items[0].receipt, [item.id for item in items])
        expected = self.model.claim(count)
        claimed = self.under(fault, lambda: self.queue.finish_and_claim(items, count, lease=lease))
        assert list(claimed.lost) == lost
        self._claimed(claimed, expected, lease)

    @precondition(lambda self: self.held)
    @rule(number=claims, count=st.integers(1, 4), fault=FAULTS)
    def release(self, number: int, count: int, fault: str) -> None:
        self.did = {"release"}
        items = self.items_of(number, count)
        lost = self.model.release(items[0].receipt, [item.id for item in items])
        assert self.lost_in(lambda: self.queue.release(items), fault) == lost

    @precondition(lambda self: self.held)
    @rule(number=claims, count=st.integers(1, 4), how=st.sampled_from(["", "dead", "discard"]), fault=FAULTS)
    def fail(self, number: int, count: int, how: str, fault: str) -> None:
        self.did = {"fail"}
        items = self.items_of(number, count)
        expected = self.model.fail(items[0].receipt, [item.id for item in items], how)
        outcomes: list[Failed] = []
        options = {how: True} if how else {}
        lost = self.lost_in(lambda: outcomes.extend(self.queue.fail(items, "no", **options)), fault)
        assert lost == [item_id for item_id, state in expected.items() if state is None]
        assert lost or {outcome.id: outcome.state for outcome in outcomes} == expected
        for item_id in [i for i, state in expected.items() if state is S.SCHEDULED]:
            self._due(item_id, self.eyes.get(item_id).at)
        for outcome in outcomes:
            at = self.model.aside[S.SCHEDULED].get(outcome.id)
            assert outcome.due_at == (None if at is None else at / 1000)

    def _due(self, item_id: str, due: float | None) -> None:
        """Takes over the time that the server drew, within the bounds of the backoff."""
        scheduled = self.model.aside[S.SCHEDULED]
        if scheduled.get(item_id, 0) < 0:
            assert due is not None
            scheduled[item_id] = round(due * 1000)
            assert self.model.now <= scheduled[item_id] <= self.model.now + BACKOFF_CAP * 1000

    @precondition(lambda self: self.held)
    @rule(number=claims, count=st.integers(0, 2), group=GROUPS, fault=FAULTS)
    def finish_with(self, number: int, count: int, group: str | None, fault: str) -> None:
        """Finishes an item with a result, and enqueues what comes next."""
        self.did = {"finish"}
        (item,) = self.items_of(number, 1)
        then = [New(f"p{next(numbers)}", id=f"next{next(numbers)}", group=group) for _ in range(count)]
        following = [(new.id or "", new.group) for new in then]
        for new in then:
            self.ids.append(new.id or "")
            self.payloads[new.id or ""] = new.payload
        result = f"r{next(numbers)}"
        lost = self.model.finish_with(item.receipt, item.id, result, following)
        assert self.lost_in(lambda: self.queue.finish(item, result=result, then=then), fault) == lost
        if item.id in self.model.results and self.model.state(item.id) is S.FINISHED:
            assert self.eyes.get(item.id).result == self.model.results[item.id]

    @precondition(lambda self: self.held)
    @rule(number=claims, fault=FAULTS)
    def checkpoint(self, number: int, fault: str) -> None:
        self.did = set()
        (item,) = self.items_of(number, 1)
        state = next(numbers)
        kept = self.model.checkpoint(item.receipt, item.id, round(item.lease * 1000), state)
        lost = [] if kept else [item.id]
        assert self.lost_in(lambda: self.queue.checkpoint(item, state), fault) == lost

    @precondition(lambda self: self.held)
    @rule(number=claims, lease=LEASES, fault=FAULTS)
    def renew(self, number: int, lease: int, fault: str) -> None:
        self.did = set()
        (item,) = self.items_of(number, 1)
        lost = [] if self.model.renew(item.receipt, item.id, lease * 1000) else [item.id]
        assert self.lost_in(lambda: self.queue.renew(item, lease), fault) == lost

    # Time and operators

    @rule(seconds=st.sampled_from([0.001, 1, 4.999, 5, 10, 31]))
    def time_passes(self, seconds: float) -> None:
        self.did = set()
        self.clock.advance(seconds)
        self.model.now = self.now_ms()

    @rule(fault=FAULTS)
    def recover(self, fault: str) -> None:
        self.did = {"recover"}
        self.model.recover()
        self.under(fault, self.queue.recover)

    @rule(
        chosen=some_ids,
        verb=st.sampled_from(["requeue", "cancel", "discard"]),
        fault=FAULTS,
    )
    def move(self, chosen: list[int], verb: str, fault: str) -> None:
        self.did = {verb}
        ids = self.chosen(chosen)
        getattr(self.model, verb)(ids)
        moved = self.under(fault, lambda: getattr(self.queue, verb)(*ids))
        target = S.QUEUED if verb == "requeue" else S.REMOVED
        assert set(moved.ids) == {i for i in ids if self.model.state(i) is target}
        assert moved.skipped == {i: self.model.state(i) for i in ids if i not in moved.ids}

    @rule(
        chosen=some_ids,
        decision=st.sampled_from(["finish", "requeue", "dead"]),
        fault=FAULTS,
    )
    def resolve(self, chosen: list[int], decision: str, fault: str) -> None:
        self.did = {"resolve"}
        ids = self.chosen(chosen)
        self.model.resolve(ids, decision)
        moved = self.under(fault, lambda: self.queue.resolve(ids, decision))
        assert moved.skipped == {i: self.model.state(i) for i in ids if i not in moved.ids}

    @rule(limit=st.integers(1, 3), fault=FAULTS)
    def redrive(self, limit: int, fault: str) -> None:
        self.did = {"redrive"}
        expected = self.model.redrive(limit)
        assert self.under(fault, lambda: self.queue.redrive(limit)) == expected

    @precondition(lambda self: len(self.ids) > 10)
    @rule(state=st.sampled_from([S.QUEUED, S.SCHEDULED, S.ORPHANED, S.DEAD]))
    def purge(self, state: S) -> None:
        self.did = {"purge"}
        before = self.model.purged
        self.model.purge(state)
        assert self.queue.purge(state) == self.model.purged - before

    @rule(fault=FAULTS)
    def pause_and_resume(self, fault: str) -> None:
        """While it is closed nothing comes in or goes out, but leases end and items fall due; then it opens again."""
        self.did = {"recover"}
        self.under(fault, lambda: self.queue.pause(enqueue=True))
        with pytest.raises(QueuePaused):
            self.queue.enqueue("refused")
        self.model.recover()
        assert self.queue.claim(5) == []
        self.under(fault, self.queue.resume)

    @rule(number=st.integers(0, 40))
    def look(self, number: int) -> None:
        self.did = set()
        (item_id,) = self.chosen([number])
        try:
            state: S | None = self.queue.get(item_id).state
        except ItemNotFound:
            state = None
        assert state is self.model.state(item_id)
