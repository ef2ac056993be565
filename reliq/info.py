"""What a queue tells of itself, for people who look: counts, settings, items, batches, workers, recurring items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reliq.item import Progress
from reliq.states import ItemState


@dataclass(frozen=True, slots=True)
class Counts:
    """Items by state, and totals since the queue was made.

    enqueued = queued + scheduled + in_progress + orphaned + dead + finished + removed, at every instant.

    Attributes:
        finished, removed, enqueued: totals since the queue was made.
        remembered: ended ids that are still known, so that a late repeat of their enqueue is refused.
        claims: leases that are open; `expired_claims` of them have ended and wait for recovery.
        due: scheduled items whose time has come.
        blocked: queued items whose group is busy; they are among the queued ones.
        waiting_bytes: what the queued and scheduled items take, as stored.
        idle_workers: workers that wait for an item. `workers`: those that were seen within the last hour.
        paused_claim, paused_enqueue: whether the queue is closed for claims, for new items.
    """

    queued: int = 0
    scheduled: int = 0
    in_progress: int = 0
    orphaned: int = 0
    dead: int = 0
    finished: int = 0
    removed: int = 0
    enqueued: int = 0
    remembered: int = 0
    claims: int = 0
    expired_claims: int = 0
    due: int = 0
    blocked: int = 0
    waiting_bytes: int = 0
    idle_workers: int = 0
    workers: int = 0
    paused_claim: bool = False
    paused_enqueue: bool = False

    @property
    def waiting(self) -> int:
        """Items that still want a worker: queued, scheduled and in progress."""
        return self.queued + self.scheduled + self.in_progress


@dataclass(frozen=True, slots=True)
class Settings:
    """What a queue does with its items, kept on the server for all clients. `Queue.configure` changes it.

    Attributes:
        max_length: queued and scheduled items at most; 0 for no bound.
        max_bytes: bytes of these at most, as stored; 0 for no bound.
        max_in_progress: items held by all workers together at most; 0 for no bound.
        rate: items claimed a second at most; 0 for no bound.
        rate_burst: items that may be claimed at once after a lull; 0 for one second's worth.
        group_limit: items of one group in progress at a time. 1 keeps their order; more limits what one key may take.
        max_attempts: failures after which an item is dead.
        max_deliveries: failures and lost leases after which an item is dead.
        expiry: where an item goes whose lease ended: `requeue`, `hold` (orphaned, until it is resolved), `dead`.
        retry: where a failed item goes: `later` (by its backoff), `tail`, `head`.
        backoff_base, backoff_cap: seconds; the n-th retry waits a random time up to min(cap, base * 2 ** (n - 1)).
        finished_age, finished_count: ended ids are remembered this many seconds, and this many of them, at most.
    """

    max_length: int
    max_bytes: int
    max_in_progress: int
    rate: float
    rate_burst: int
    group_limit: int
    max_attempts: int
    max_deliveries: int
    expiry: str
    retry: str
    backoff_base: float
    backoff_cap: float
    finished_age: float
    finished_count: int


@dataclass(frozen=True, slots=True)
class ItemInfo:
    """Everything that the queue knows about an item, whoever holds it.

    Attributes:
        payload: None for an item that has ended, or whose bytes can't be decoded (then `problem` says why).
        deliveries: claims that came to an end so far without finishing it.
        failures, expiries: how many of them failed, how many lost their worker.
        error: text of the last failure.
        at: Unix seconds: due (scheduled), set aside (orphaned), died (dead), ended (finished, removed); else None.
        raw: the stored payload bytes.
        group: the group that it belongs to.
        progress: what its handler last said with `item.checkpoint`.
        result: what it was finished with, as long as it is remembered.
        batch: the batch that awaits it.
    """

    id: str
    state: ItemState
    payload: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    enqueued_at: float | None = None
    deliveries: int = 0
    failures: int = 0
    expiries: int = 0
    error: str | None = None
    at: float | None = None
    problem: str | None = None
    raw: bytes = field(default=b"", repr=False)
    group: str | None = None
    progress: Progress | None = None
    result: Any = None
    batch: str | None = None


class BatchProgress(NamedTuple):
    """How far a batch is: its members, and how many of them are still awaited."""

    total: int
    awaited: int


@dataclass(frozen=True, slots=True)
class Cron:
    """A recurring item: what is enqueued at each tick of its expression, under the id `cron:{name}:{tick}`.

    Attributes:
        name: its own in its queue.
        expression: five fields as in crontab, or six with seconds first.
        payload: of its items. None where it can't be decoded by this client (then `problem` says why).
        headers, group: of its items.
        time_zone: of the expression.
        missed: what becomes of ticks that nobody saw in time: `one` item for the last of them, `all`, or `skip`.
        paused: it has no ticks until it is resumed.
        next_at: Unix seconds (server clock) of the next tick; None while it is paused.
        last_at: Unix seconds of the last tick that an item was enqueued for; None for never.
    """

    name: str
    expression: str
    payload: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    time_zone: str = "UTC"
    missed: str = "one"
    paused: bool = False
    next_at: float | None = None
    last_at: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as it said of itself when it was last seen.

    Attributes:
        name: `host:pid:` and some random characters.
        seen_at: Unix seconds (server clock).
        age: seconds since then.
        sweeps: it returns expired leases and due items for the whole fleet.
        host, pid, since, version: where it runs, since when (Unix seconds, its own clock), and which reliq.
        kind: `threads`, `tasks` or `process`.
        concurrency: how many handlers it runs.
        holding: items that it has claimed and not settled; `busy` of them have a handler.
        finished, failed, lost: since it began.
    """

    name: str
    seen_at: float = 0.0
    age: float = 0.0
    sweeps: bool = False
    host: str = ""
    pid: int = 0
    since: float = 0.0
    version: str = ""
    kind: str = ""
    concurrency: int = 0
    holding: int = 0
    busy: int = 0
    finished: int = 0
    failed: int = 0
    lost: int = 0


WORKER_FACTS = tuple("host pid since version kind concurrency holding busy finished failed lost".split())
"""The fields of `WorkerInfo` that a worker tells."""
