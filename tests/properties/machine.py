"""What can happen to a queue, as rules that do it to the queue and to the model, and what has to hold after each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import pytest
import redis
from contract.clients import Clock, make_queue
from contract.evidence import check_queue
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from properties.model import BACKOFF_CAP, MAX_ATTEMPTS, MAX_DELIVERIES, Model, S
from proxy import FaultProxy

from reliq import Enqueued, Failed, Item, ItemNotFound, LeaseLost, New, Queue, QueuePaused, _scripts
from reliq._keys import Keys
from reliq.embedded import Server
from reliq.item import TRANSITIONS

T = TypeVar("T")

# Ids of the three forms that the server stores: as text, as text of 16 bytes, as a UUID.
KNOWN_IDS = ["a", "b", "sixteen bytes ok", "c" * 200, "018f0000-0000-7000-8000-000000000001"]
LEASES = st.sampled_from([5, 10, 30])  # seconds
claims = st.integers(0, 6) | st.integers(0, 6) | st.integers(0, 200)  # how far back
FAULTS = st.sampled_from(["", "", "reply lost", "reply lost", "scripts lost"])
some_ids = st.lists(st.integers(0, 40), min_size=1, max_size=5)
numbers = itertools.count()


@cache
def reachable(source: S | None, verbs: frozenset[str]) -> set[S | None]:
    """The states that some verbs can bring an item to, one after the other, by the table in item.py."""
    found, size = {source}, 0
    while len(found) > size:
        size = len(found)
        found |= {t.target for t in TRANSITIONS if t.verb in verbs and t.source in found}
    return found


class QueueMachine(RuleBasedStateMachine):
    """Rules call the queue and the model alike; what they return is compared, and so is everything after each rule."""

    def __init__(self, style: str, server: Server, client: redis.Redis, proxy: FaultProxy) -> None:
        super().__init__()
        self.client, self.proxy = client, proxy
        self.name = f"q{next(numbers)}"
        self.clock = Clock()
        self.queue: Queue = make_queue(style, self.name, proxy.url)
        self.eyes = Queue(self.name, server.socket_url)  # looks on, past the proxy
        for queue in (self.queue, self.eyes):
            self.clock.follow(queue)
        self.held: list[Item] = []  # every item ever claimed, also those whose receipt is stale
        self.ids: list[str] = []
        self.payloads: dict[str, Any] = {}
        self.did: set[str] = set()  # the verbs of the last rule
        self.before: dict[str, S | None] = {}

    @initialize(expiry=st.sampled_from(["requeue", "hold", "dead"]), retry=st.sampled_from(["later", "tail", "head"]))
    def settings(self, expiry: str, retry: str) -> None:
        self.model = Model(expiry, retry, self.now_ms())
        self.queue.configure(
            expiry=expiry,
            retry=retry,
            max_attempts=MAX_ATTEMPTS,
            max_deliveries=MAX_DELIVERIES,
            backoff_base=5,
            backoff_cap=BACKOFF_CAP,
            finished_age=10 * 86400,
        )
        self._enqueue([New(f"p{next(numbers)}") for _ in range(8)], "")  # so that there is something to do at once
        self.claim(4, 30, "")
        self.did = {"enqueue", "claim", "recover"}

    def teardown(self) -> None:
        for queue in (self.queue, self.eyes):
            queue.close()
        self.proxy.clear()
        for key in self.client.scan_iter(f"reliq:{{{self.name}}}:*"):
            self.client.delete(key)

    def now_ms(self) -> int:
        return round(self.clock.now * 1000)

    def under(self, fault: str, call: Callable[[], T]) -> T:
        """A call of whose attempts one may lose its reply after the server did it, or meet a server without scripts."""
        if fault == "scripts lost":
            self.client.script_flush()
        elif fault == "reply lost":  # of the call, not the one that says that its script is missing
            for name in _scripts.names():
                self.client.script_load(_scripts.load(name).source)
        lost = self.proxy.lose_reply(match=b"EVALSHA") if fault == "reply lost" else None
        try:
            return call()
        finally:
            assert lost is None or lost.fired == 1
            self.proxy.clear()

    def chosen(self, numbers_of_ids: list[int]) -> list[str]:
        return [(self.ids or KNOWN_IDS)[n % len(self.ids or KNOWN_IDS)] for n in numbers_of_ids]

    def items_of(self, number: int, count: int) -> list[Item]:
        """Some items of one claim: the last one, one before it ..., so that stale ones are met now and then."""
        first = self.held[-1 - number % len(self.held)]
        return [item for item in self.held if item.receipt == first.receipt][:count]

    # Producers

    @rule(fault=FAULTS, data=st.data())
    def enqueue(self, fault: str, data: st.DataObject) -> None:
        new = data.draw(
            st.lists(
                st.tuples(st.none() | st.none() | st.sampled_from(KNOWN_IDS), st.sampled_from([0, 0, 0, 0, 5, 15])),
                min_size=1,
                max_size=8,
            )
        )
        entries = [New(f"p{next(numbers)}", id=item_id, delay=delay or None) for item_id, delay in new]
        self._enqueue(entries, fault)

    def _enqueue(self, entries: list[New], fault: str) -> None:
        self.did = {"enqueue"}
        results = self.under(fault, lambda: self.queue.enqueue_many(entries))
        for entry, result in zip(entries, results, strict=True):
            self._enqueued(entry, result, certain=fault != "reply lost" or entry.id is None)

    def _enqueued(self, entry: New, result: Enqueued, *, certain: bool) -> None:
        delay = entry.delay or 0
        assert isinstance(delay, int)
        created = self.model.enqueue(result.id, delay * 1000)
        assert result.created == created or not certain
        if created:
            self.payloads[result.id] = entry.payload
            if result.id not in self.ids:
                self.ids.append(result.id)

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
        lost = [item.id for item in items if not self.model.finish(item.receipt, item.id)]
        assert self.lost_in(lambda: self.queue.finish(items), fault) == lost

    def lost_in(self, call: Callable[[], object], fault: str) -> list[str]:
        try:
            self.under(fault, call)
        except LeaseLost as error:
            return list(error.ids)
        return []

    @precondition(lambda self: self.held)
    @rule(number=claims, count=st.integers(1, 5), lease=LEASES, fault=FAULTS)
    def finish_and_claim(self, number: int, count: int, lease: int, fault: str) -> None:
        self.did = {"finish", "claim", "recover"}
        items = self.items_of(number, count)
        lost = [item.id for item in items if not self.model.finish(item.receipt, item.id)]
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
    @rule(number=claims, count=st.integers(1, 4), dead=st.booleans(), fault=FAULTS)
    def fail(self, number: int, count: int, dead: bool, fault: str) -> None:
        self.did = {"fail"}
        items = self.items_of(number, count)
        expected = self.model.fail(items[0].receipt, [item.id for item in items], dead=dead)
        outcomes: list[Failed] = []
        lost = self.lost_in(lambda: outcomes.extend(self.queue.fail(items, "no", dead=dead)), fault)
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

    # After each rule

    @invariant()
    def counts_agree(self) -> None:
        counts, model = self.eyes.counts(), self.model
        assert counts.queued == len(model.queued)
        assert counts.in_progress == sum(len(lease.ids) for lease in model.leases.values())
        assert counts.claims == len(model.leases)
        for state, times in model.aside.items():
            assert getattr(counts, state) == len(times)
        assert counts.finished == sum(how is S.FINISHED for how, _ in model.ended.values())
        assert counts.removed == sum(how is S.REMOVED for how, _ in model.ended.values()) + model.purged
        assert counts.enqueued == model.enqueued == sum(getattr(counts, s) for s in S)

    @invariant()
    def every_item_is_where_the_model_has_it(self) -> None:
        held = [item_id for lease in self.model.leases.values() for item_id in lease.ids]
        assert self.all_in(S.QUEUED) == self.model.queued
        assert sorted(self.all_in(S.IN_PROGRESS)) == sorted(held)
        for state in self.model.aside:
            assert self.all_in(state) == self.model.first(state)

    def all_in(self, state: S) -> list[str]:
        """The ids in a state, each of which went through what the model knows."""
        infos = list(self.eyes.scan(state))
        for info in infos:
            history = self.model.history[info.id]
            seen = (info.deliveries, info.failures, info.expiries, info.payload)
            assert seen == (history.claims, history.failures, history.expiries, self.payloads[info.id])
            assert info.at == (self.model.aside[state][info.id] / 1000 if state in self.model.aside else None)
        return [info.id for info in infos]

    @rule(number=st.integers(0, 40))
    def look(self, number: int) -> None:
        self.did = set()
        (item_id,) = self.chosen([number])
        try:
            state: S | None = self.queue.get(item_id).state
        except ItemNotFound:
            state = None
        assert state is self.model.state(item_id)

    @invariant()
    def every_move_is_in_the_table_of_transitions(self) -> None:
        for item_id in self.ids:
            was, now = self.before.get(item_id), self.model.state(item_id)
            assert now in reachable(was, frozenset(self.did)) or (now is None and "purge" in self.did)
            self.before[item_id] = now

    @invariant()
    def the_keys_agree_with_each_other(self) -> None:
        check_queue(self.client, self.name)
        leases: Any = self.client.zrange(Keys(self.name)["leases"], 0, -1, withscores=True)
        assert sorted(deadline for _, deadline in leases) == sorted(
            held.deadline for held in self.model.leases.values()
        )
