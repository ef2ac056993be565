"""A random workload on a mirrored queue, that remembers what it was told: to hold it against what comes back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from reliq import New, Queue, _ids
from reliq.item import Item
from reliq.mirror import Mirror
from reliq.mirror._journal import Journal


@dataclass
class Known:
    """What the workload knows of an item, because a call was answered."""

    id: str
    group: str | None = None
    sure: bool = False  # checkpointed
    deliveries: int = 0
    failures: int = 0
    ended: bool = False
    dead: bool = False
    held: bool = False  # came back as orphaned, and was queued again by hand
    retried: bool = False  # was to be tried again later, and was queued again by hand


@dataclass
class Workload:
    """Draws one step after the other. One thread; every answer is noted before the next step."""

    queue: Queue
    sure: Queue  # the same queue with durability="checkpointed"
    random: random.Random
    items: dict[str, Known] = field(default_factory=dict)
    held: list[Item] = field(default_factory=list)
    batches: int = 0

    def step(self) -> None:
        """One call of some kind."""
        steps: list[tuple[int, Callable[[], None]]] = [
            (5, self.enqueue),
            (3, self.enqueue_surely),
            (2, self.enqueue_later),
            (4, self.enqueue_groups),
            (1, self.batch),
            (5, self.claim),
            (4, self.finish),
            (3, self.fail),
            (1, self.release),
            (1, self.cancel),
        ]
        self.random.choices([do for _, do in steps], [weight for weight, _ in steps])[0]()

    def _added(self, entries: list[New]) -> None:
        self.queue.enqueue_many(entries)
        for entry in entries:
            assert entry.id is not None
            self.items[entry.id] = Known(entry.id, entry.group)

    def _ids(self) -> list[str]:
        return [f"{len(self.items) + n:05}" for n in range(self.random.randint(1, 12))]

    def enqueue(self) -> None:
        self._added([New({"n": i}, id=i) for i in self._ids()])

    def enqueue_surely(self) -> None:
        for item_id in self._ids():
            self.sure.enqueue({"n": item_id}, id=item_id)
            self.items[item_id] = Known(item_id, sure=True)

    def enqueue_later(self) -> None:
        self._added([New({"n": i}, id=i, delay=3600) for i in self._ids()])

    def enqueue_groups(self) -> None:
        self._added([New({"n": i}, id=i, group=f"group-{self.random.randrange(4)}") for i in self._ids()])

    def batch(self) -> None:
        self.batches += 1
        ids, follows = self._ids(), f"then-{self.batches}"
        self.queue.batch([New({"n": i}, id=i) for i in ids], then=New("all", id=follows), id=f"batch-{self.batches}")
        self.items |= {i: Known(i) for i in ids}

    def claim(self) -> None:
        claimed = self.queue.claim(self.random.randint(1, 10), lease=600)
        for item in claimed:
            self.known(item.id).deliveries = item.delivery
        self.held += claimed

    def known(self, item_id: str) -> Known:
        """What is known of an item: those that follow batches are met when they are claimed."""
        return self.items.setdefault(item_id, Known(item_id))

    def _some(self) -> list[Item]:
        self.random.shuffle(self.held)
        count = self.random.randint(0, min(6, len(self.held)))
        some, self.held = self.held[:count], self.held[count:]
        return some

    def finish(self) -> None:
        some = self._some()
        self.queue.finish(some)
        for item in some:
            self.items[item.id].ended = True

    def fail(self) -> None:
        for item in self._some():
            dead = self.random.random() < 0.3
            self.queue.fail(item, "it failed", dead=dead)
            self.items[item.id].failures += 1
            self.items[item.id].dead = dead

    def release(self) -> None:
        self.queue.release(self._some())

    def cancel(self) -> None:
        chosen = self.random.sample(sorted(self.items), min(2, len(self.items)))
        if chosen:
            for item_id in self.queue.cancel(*chosen).ids:
                self.items[item_id].ended = True


def unread(mirror: Mirror, queue: Queue) -> set[str]:
    """The items that the journal names beyond what the mirror has read: all that may be lost, or be known wrongly."""
    position = mirror.store.rows("reconcile_position", queue=queue.name)[0][2]
    found: set[str] = set()
    more = True
    while more:
        page = Journal(queue).page(position, "+", 1000)
        if page.trimmed:  # the follower has gone on meanwhile: from where it is now
            return unread(mirror, queue)
        found |= {_ids.unpack(key) for key in page.ids}
        position, more = page.last, page.full
    return found
