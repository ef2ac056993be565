"""A queue that keeps its promises, its producers and its workers, told by chance: histories in which nothing is wrong.

What the server does has one instant each; what is on record lies around it: the question before, the answer after it,
and those of different processes overlap. Workers are killed in calls and between them, answers get lost, leases end.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

from reliq.testing import Event

LEASE = 8.0
MAX_FAILURES = 3
GROUPS = (None, None, None, "even", "odd")


@dataclass
class Stored:
    """An item as the server has it."""

    id: str
    place: int
    group: str | None
    state: str = "queued"
    delivery: int = 0
    failures: int = 0
    receipt: str = ""


@dataclass
class Held:
    """What a worker knows of an item that it claimed."""

    item: Stored
    receipt: str


@dataclass
class Process:
    """A producer or a worker: what it holds, and since when it is free for the next call."""

    name: str
    free: float = 0.0
    calls: int = 0
    held: list[Held] = field(default_factory=list)


class Server:
    """The queue: every method is one instant."""

    def __init__(self) -> None:
        self.items: dict[str, Stored] = {}
        self.queued: list[Stored] = []
        self.leases: dict[str, float] = {}
        self.turns: dict[str, str] = {}  # group -> id

    def enqueue(self, ids: list[str], group: str | None) -> None:
        for item_id in ids:
            self.items[item_id] = Stored(item_id, len(self.items), group)
            self.queued.append(self.items[item_id])

    def to_head(self, items: list[Stored]) -> None:
        for item in items:
            item.state, item.receipt = "queued", ""
        self.queued[:0] = sorted(items, key=lambda item: item.place)
        again = [item for item in self.queued if item.delivery]
        self.queued = sorted(again, key=lambda item: item.place) + [item for item in self.queued if not item.delivery]

    def recover(self, now: float) -> None:
        ended = {receipt for receipt, deadline in self.leases.items() if deadline <= now}
        self.to_head([item for item in self.items.values() if item.receipt in ended])
        for receipt in ended:
            del self.leases[receipt]

    def claim(self, count: int, receipt: str, now: float) -> list[Stored]:
        self.recover(now)
        taken: list[Stored] = []
        for item in list(self.queued):
            if len(taken) < count and self.turns.setdefault(item.group or item.id, item.id) == item.id:
                taken.append(item)
                item.state, item.receipt, item.delivery = "in_progress", receipt, item.delivery + 1
        self.queued = [item for item in self.queued if item.state == "queued"]
        if taken:
            self.leases[receipt] = now + LEASE
        return taken

    def settle(self, verb: str, held: Held, now: float) -> bool:
        item = held.item
        if item.receipt != held.receipt:
            return False
        if verb == "renew":
            self.leases[held.receipt] = max(self.leases[held.receipt], now + LEASE)
        elif verb == "release":
            self.to_head([item])
        elif verb == "fail" and item.failures + 1 < MAX_FAILURES:
            item.failures += 1
            self.to_head([item])
        else:
            item.state, item.receipt = "finished" if verb == "finish" else "dead", ""
            self.turns.pop(item.group or item.id)
        return True


class Simulation:
    """Draws what happens next."""

    def __init__(self, seed: int, items: int) -> None:
        self.random, self.items = random.Random(seed), items
        self.server, self.now = Server(), 100.0
        self.events: list[Event] = []
        self.producers = [Process(f"p{n}") for n in range(2)]
        self.workers = [Process(f"worker-{n}") for n in range(4)]
        self.names, self.receipts = itertools.count(4), itertools.count()

    def run(self) -> list[Event]:
        while len(self.server.items) < self.items or self.random.random() < 0.99:
            self.now += self.random.expovariate(4)
            if len(self.server.items) < self.items and self.random.random() < 0.3:
                self.enqueue(self.random.choice(self.producers))
            else:
                self.work(self.random.randrange(len(self.workers)))
        self.end()
        return sorted(self.events, key=lambda event: event.t)

    def write(self, t: float, process: Process, kind: str, **data: Any) -> None:
        self.events.append(Event(t, process.name, kind, data))

    def window(self, process: Process) -> tuple[float, float] | None:
        """When a call whose effect is now was made and answered; None where the process is busy."""
        if process.free >= self.now:
            return None
        asked = max(process.free, self.now - self.random.expovariate(5))
        process.free, process.calls = self.now + self.random.expovariate(5), process.calls + 1
        return (asked + self.now) / 2, process.free

    def answered(self) -> bool:
        return self.random.random() < 0.96

    def enqueue(self, process: Process) -> None:
        if (window := self.window(process)) is None:
            return
        ids = [f"i{len(self.server.items) + n}" for n in range(self.random.randint(1, 4))]
        group = self.random.choice(GROUPS)
        asked, told = window
        self.write(asked, process, "enqueue", phase="invoke", call=process.calls, ids=ids, groups=[group] * len(ids))
        self.server.enqueue(ids, group)
        phase = "ok" if self.answered() else "info"
        self.write(told, process, "enqueue", phase=phase, call=process.calls, ids=ids)

    def work(self, number: int) -> None:
        process = self.workers[number]
        if self.random.random() < 0.03:
            return self.kill(number)
        if len(process.held) < 3 and self.random.random() < 0.5:
            return self.claim(process)
        if process.held:
            verbs = ["finish"] * 6 + ["fail", "release", "renew"]
            self.settle(process, self.random.choice(verbs))
        return None

    def kill(self, number: int) -> None:
        process = self.workers[number]
        if process.free < self.now:
            self.write(self.now, self.producers[0], "process", what="killed", who=process.name)
            self.workers[number] = Process(f"worker-{next(self.names)}", self.now)

    def claim(self, process: Process) -> None:
        if (window := self.window(process)) is None:
            return
        asked, told = window
        receipt = f"claim-{next(self.receipts)}"
        taken = self.server.claim(self.random.randint(1, 3), receipt, self.now)
        if taken and self.answered():  # else nobody will ever know of this claim
            ids, numbers = [item.id for item in taken], [item.delivery for item in taken]
            about = {"receipt": receipt, "asked": asked, "lease": LEASE, "epoch": 1}
            self.write(told, process, "claim", **about, ids=ids, deliveries=numbers)
            process.held += [Held(item, receipt) for item in taken]

    def settle(self, process: Process, verb: str) -> None:
        held = process.held[0]
        free = process.free
        if (window := self.window(process)) is None:
            return
        asked, told = window
        if verb in ("finish", "fail"):
            about = {"id": held.item.id, "receipt": held.receipt}
            self.write(free + (asked - free) * 0.2, process, "began", **about)
            self.write(free + (asked - free) * 0.8, process, "ended", **about)
        self.write(
            asked, process, verb, phase="invoke", call=process.calls, held={held.receipt: [held.item.id]}, lease=8
        )
        accepted = self.server.settle(verb, held, self.now)
        if verb != "renew" or not accepted:
            process.held.pop(0)
        answer: dict[str, Any] = {"phase": "ok", "lost": [] if accepted else [held.item.id]}
        answer |= {"dead": [held.item.id] if held.item.state == "dead" else []} if verb == "fail" else {}
        self.write(told, process, verb, call=process.calls, **(answer if self.answered() else {"phase": "info"}))

    def end(self) -> None:
        states: dict[str, list[str]] = {name: [] for name in ("queued", "in_progress", "dead", "finished")}
        for item in self.server.items.values():
            states[item.state].append(item.id)
        self.now += 100
        for state, ids in states.items():
            self.write(self.now, self.producers[0], "final", state=state, ids=ids)
        counts = {state: len(ids) for state, ids in states.items()} | {"enqueued": len(self.server.items)}
        self.write(self.now, self.producers[0], "counts", counts=counts)


def simulate(seed: int, items: int) -> list[Event]:
    """A history in which nothing is wrong."""
    return Simulation(seed, items).run()
