"""A queue and its model side by side, and what has to hold after each thing that is done to both."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import redis
from contract.clients import Clock, make_queue
from contract.evidence import check_queue
from hypothesis.stateful import RuleBasedStateMachine, invariant
from properties.model import Model, S
from properties.turns import Batch
from proxy import FaultProxy

from reliq import Item, LeaseLost, Queue, _scripts
from reliq._keys import Keys
from reliq.embedded import Server
from reliq.states import TRANSITIONS

T = TypeVar("T")

# Ids of the three forms that the server stores: as text, as text of 16 bytes, as a UUID.
KNOWN_IDS = ["a", "b", "sixteen bytes ok", "c" * 200, "018f0000-0000-7000-8000-000000000001"]
numbers = itertools.count()


@cache
def reachable(source: S | None, verbs: frozenset[str]) -> set[S | None]:
    """The states that some verbs can bring an item to, one after the other, by the table in item.py."""
    found, size = {source}, 0
    while len(found) > size:
        size = len(found)
        found |= {t.target for t in TRANSITIONS if t.verb in verbs and t.source in found}
    return found


class SideBySide(RuleBasedStateMachine):
    """The queue, its clients and the model."""

    model: Model

    def __init__(self, style: str, server: Server, client: redis.Redis, proxy: FaultProxy) -> None:
        super().__init__()
        self.client, self.proxy = client, proxy
        self.name = f"q{next(numbers)}"
        self.clock = Clock()
        self.clients: list[Queue] = [make_queue(style, self.name, proxy.url) for _ in range(2)]
        self.eyes = Queue(self.name, server.socket_url)  # looks on, past the proxy
        for queue in (*self.clients, self.eyes):
            self.clock.follow(queue)
        self.held: list[Item] = []  # every item ever claimed, also those whose receipt is stale
        self.ids: list[str] = []
        self.payloads: dict[str, Any] = {}
        self.did: set[str] = set()  # the verbs of the last rule
        self.before: dict[str, S | None] = {}
        self.enqueued_before = 0
        self.batches: dict[str, Batch] = {}

    @property
    def queue(self) -> Queue:
        """The client that is to do the next call: each in its turn, so that what one did the other goes on with."""
        self.clients.reverse()
        return self.clients[0]

    def teardown(self) -> None:
        for queue in (*self.clients, self.eyes):
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

    def lost_in(self, call: Callable[[], object], fault: str) -> list[str]:
        try:
            self.under(fault, call)
        except LeaseLost as error:
            return list(error.ids)
        return []

    # After each rule

    @invariant()
    def counts_agree(self) -> None:
        counts, model = self.eyes.counts(), self.model
        assert counts.queued == len(model.queued) + len(model.turns.parked)
        assert counts.blocked == len(model.turns.parked)
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
        assert self.all_in(S.QUEUED) == self.model.queued + self.model.turns.in_order()
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
            assert info.group == self.model.turns.group.get(info.id)
            assert (info.progress and info.progress.state) == self.model.progress.get(info.id)
            assert info.at == (self.model.aside[state][info.id] / 1000 if state in self.model.aside else None)
        return [info.id for info in infos]

    @invariant()
    def every_move_is_in_the_table_of_transitions(self) -> None:
        verbs = self.did | ({"enqueue"} if self.model.enqueued > self.enqueued_before else set())
        self.enqueued_before = self.model.enqueued
        for item_id in self.ids:
            was, now = self.before.get(item_id), self.model.state(item_id)
            assert now in reachable(was, frozenset(verbs)) or (now is None and "purge" in self.did)
            self.before[item_id] = now

    @invariant()
    def batches_await_what_the_model_has(self) -> None:
        for name, batch in self.batches.items():
            progress = self.eyes.batch_progress(name)
            assert (None if progress is None else progress.awaited) == (len(batch.awaited) or None)

    @invariant()
    def the_keys_agree_with_each_other(self) -> None:
        check_queue(self.client, self.name)
        leases: Any = self.client.zrange(Keys(self.name)["leases"], 0, -1, withscores=True)
        assert sorted(deadline for _, deadline in leases) == sorted(
            held.deadline for held in self.model.leases.values()
        )
