"""A topology under load from producers of each level and workers of each kind, and what a fault does to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from failover.crew import Crew, Vitals
from failover.producer import Producer
from servers import wait_until

from reliq import Item, LeaseLost, Queue, _commands, _ids
from reliq.states import ItemState
from reliq.testing import History, Recording, Report, check_history, final_state, read
from reliq.testing.faults import Faults
from reliq.testing.topology import Topology

LEVELS = ("memory", "memory", "replicated:1", "replicated:all")
SOME = 20  # items
SPARE = 6  # connections of all workers together: so many more may be idle after a time of many calls at once


@dataclass
class Round:
    """What one fault did.

    Attributes:
        switched: seconds until most Sentinels named the new master, of all switches of the round together.
        silence: of each producer, by level: seconds of the longest time without an acknowledged item.
        lost: acknowledged items that are nowhere, by level.
        window: seconds between the first and the last of those that were acknowledged in memory and lost.
        duplicates: items that were handled to the end more than once.
        stale: finishes under a receipt that somebody else's had replaced, and that were accepted.
        restarts: workers that are not the processes that they were.
        threads, connections: how many more there are than before the first round.
        items: acknowledged in all.
        took: seconds of the whole round, until everything was as before.
    """

    switched: float
    silence: dict[str, list[float]]
    lost: dict[str, int] = field(default_factory=dict)
    window: float = 0.0
    duplicates: int = 0
    stale: int = 0
    restarts: int = 0
    threads: int = 0
    connections: int = 0
    items: int = 0
    took: float = 0.0


Breaking = Callable[["Arena"], float]


class Arena:
    """Four producers and the workers of a crew on one queue. What they ask and are told is written down.

    `torn` has from when to when some clients may be at an old master that serves them, and others at the new one: what
    they are told there is lost, whenever it was within that time.
    """

    def __init__(self, topology: Topology, folder: Path) -> None:
        self.topology, self.folder = topology, folder
        self.history = History(folder / "test.jsonl", "test")
        self.faults = Faults(topology, self.history)
        self.producers: list[Producer] = []
        self.torn: list[tuple[float, float]] = []
        self._crew: Crew | None = None
        self._first: Vitals | None = None

    @property
    def crew(self) -> Crew:
        assert self._crew
        return self._crew

    def start(self) -> Self:
        self.topology.start()
        self.queue = Recording(Queue("q", self.topology.url, timeout=60.0), self.history)
        self.queue.configure(max_deliveries=1_000_000, finished_count=10_000_000)
        names = [f"{level}-{number}" for number, level in enumerate(LEVELS)]
        self.producers = [
            Producer(n, self.topology.url, level, self.history) for n, level in zip(names, LEVELS, strict=True)
        ]
        self._crew = Crew(self.topology.url, self.folder)
        self.crew.wait_at_work()
        self.progress(LEVELS)
        return self

    def close(self) -> None:
        """Everybody is gone, however the test went."""
        for node in self.topology.everyone:  # else nobody is there to answer the last calls
            if node.running:
                node.resume()
        self.faults.heal()
        for producer in self.producers:
            producer.stop()
        if self._crew:
            self._crew.kill()
            self.queue.close()
        self.history.close()
        self.topology.close()

    def progress(self, levels: Sequence[str], timeout: float = 60.0) -> None:
        """Waits until each producer of these levels has some more items acknowledged."""
        wanted = [(p, len(p.acknowledged) + SOME) for p in self.producers if p.level in levels]
        wait_until(
            lambda: all(p.error or len(p.acknowledged) >= count for p, count in wanted), "producers to go on", timeout
        )
        assert [p.error for p in self.producers if p.error] == []

    @contextmanager
    def tearing(self) -> Iterator[None]:
        """Around a change of the master that the clients don't all learn at once."""
        began = time.monotonic()
        yield
        self.torn.append((began, time.monotonic()))

    def suffer(self, breaking: Breaking) -> Round:
        """One round: something breaks and is mended, and everybody goes on as before.

        Args:
            breaking: breaks and mends; returns how long the Sentinels took to switch, 0 where there was nothing to.
        """
        before, began = self.at_rest(), time.monotonic()
        stale = self.queue.claim(5, lease=0.5, wait=10)
        switched = breaking(self)
        self.topology.wait_ready(90)
        self.progress(LEVELS)
        silence: dict[str, list[float]] = {}
        for producer in self.producers:
            silence.setdefault(producer.level, []).append(producer.silence(began))
        return self.judged(Round(switched, silence), stale, before, began)

    def report(self) -> Report:
        """Ends the load in good order, and decides on all that everybody has written down."""
        for producer in self.producers:
            producer.stop()
        wait_until(lambda: self.queue.counts().waiting == 0, "everything to be finished", 60)
        self.crew.stop()
        final_state(self.queue, self.history)
        return check_history(read(self.folder))

    def judged(self, round: Round, stale: Sequence[Item], before: Vitals, began: float) -> Round:
        """What became of all items that were acknowledged in this round and shortly before it."""
        acknowledged = [(p.level, at, i) for p in self.producers for at, i in list(p.acknowledged) if at > began - 2]
        there = self.drained({i for _, _, i in acknowledged})
        gone = [(level, at) for level, at, i in acknowledged if i not in there]
        round.lost = {level: sum(each == level for each, _ in gone) for level in set(LEVELS)}
        moments = [at for level, at in gone if level == "memory"]
        round.window = max(moments) - min(moments) if moments else 0.0
        handled = self.crew.handled()
        round.duplicates = sum(handled[i] > 1 for _, _, i in acknowledged)
        round.stale = self.accepted(stale)
        after = self.at_rest()
        first = self._first or after
        round.restarts = len(after.pids ^ before.pids)
        round.threads, round.connections = after.threads - first.threads, after.connections - first.connections
        round.items, round.took = len(acknowledged), time.monotonic() - began
        return round

    def drained(self, ids: set[str]) -> set[str]:
        """Those ids that are finished, when none of them is open any more; all others of them are nowhere."""
        finished: set[str] = set()
        left = sorted(ids)

        def none_is_open() -> bool:
            found = self.states(left)
            finished.update(i for i, state in found.items() if state is ItemState.FINISHED)
            left[:] = [i for i, state in found.items() if state is not ItemState.FINISHED]
            return not left

        wait_until(none_is_open, "all that was enqueued in the round to be finished", 60)
        return finished

    def states(self, ids: Sequence[str]) -> dict[str, ItemState]:
        """Where the queue has items; those that it does not know are left out."""
        found: dict[str, ItemState] = {}
        for start in range(0, len(ids), 500):
            keys = [_ids.pack(i) for i in ids[start : start + 500]]
            infos = self.queue._driver.call(_commands.get(self.queue._session, keys))
            found |= {info.id: info.state for info in infos if info}
        return found

    def accepted(self, items: Sequence[Item]) -> int:
        """How many finishes come through under a receipt whose item somebody else has finished."""
        if not items:
            return 0
        try:
            self.queue.finish(items)
        except LeaseLost as error:
            return len(items) - len(error.ids)
        return len(items)

    def at_rest(self) -> Vitals:
        """What the workers have open, when that is not more than at the beginning, or after a while."""
        if self._first is None:
            self._first = self.crew.vitals()
        first, until = self._first, time.monotonic() + 10
        seen = [first]

        def as_before() -> bool:
            seen.append(self.crew.vitals())
            more = seen[-1].connections > first.connections + SPARE or seen[-1].threads > first.threads
            return not more or time.monotonic() > until

        wait_until(as_before, "the workers to come to rest", 20)
        return seen[-1]
