"""What an item is, the states it can be in, and the only ways from one state to another."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class ItemState(StrEnum):
    """Where an item is. An item that the queue knows is in exactly one of these."""

    SCHEDULED = "scheduled"  # due later: delayed, or waiting for its next attempt
    QUEUED = "queued"  # waits for its turn
    IN_PROGRESS = "in_progress"  # held under a lease
    ORPHANED = "orphaned"  # the lease ended and the policy is that somebody looks
    DEAD = "dead"  # attempts or deliveries used up
    FINISHED = "finished"  # done; its id is remembered for the retention
    REMOVED = "removed"  # cancelled or discarded; its id is remembered as well


@dataclass(frozen=True, slots=True)
class Transition:
    """One way from a state to another. `source` is None where the item is new."""

    verb: str
    source: ItemState | None
    target: ItemState
    when: str = ""


_S = ItemState

TRANSITIONS: tuple[Transition, ...] = (
    Transition("enqueue", None, _S.QUEUED),
    Transition("enqueue", None, _S.SCHEDULED, "due later"),
    Transition("claim", _S.SCHEDULED, _S.QUEUED, "due"),
    Transition("claim", _S.QUEUED, _S.IN_PROGRESS),
    Transition("claim", _S.QUEUED, _S.DEAD, "its record or payload is unreadable"),
    Transition("finish", _S.IN_PROGRESS, _S.FINISHED),
    Transition("finish", _S.QUEUED, _S.FINISHED, "its claim was lost in a failover, and nobody else had it"),
    Transition("release", _S.IN_PROGRESS, _S.QUEUED, "at the head"),
    Transition("fail", _S.IN_PROGRESS, _S.SCHEDULED, "retry later"),
    Transition("fail", _S.IN_PROGRESS, _S.QUEUED, "retry head or tail"),
    Transition("fail", _S.IN_PROGRESS, _S.DEAD, "attempts used up"),
    Transition("fail", _S.IN_PROGRESS, _S.REMOVED, "discarded by its holder"),
    Transition("recover", _S.IN_PROGRESS, _S.QUEUED, "expiry requeue, at the head"),
    Transition("recover", _S.IN_PROGRESS, _S.ORPHANED, "expiry hold"),
    Transition("recover", _S.IN_PROGRESS, _S.DEAD, "expiry dead, or deliveries used up"),
    Transition("recover", _S.SCHEDULED, _S.QUEUED, "due"),
    Transition("requeue", _S.SCHEDULED, _S.QUEUED),
    Transition("requeue", _S.ORPHANED, _S.QUEUED),
    Transition("requeue", _S.DEAD, _S.QUEUED),
    Transition("redrive", _S.DEAD, _S.QUEUED),
    Transition("resolve", _S.ORPHANED, _S.FINISHED, "finish"),
    Transition("resolve", _S.ORPHANED, _S.QUEUED, "requeue, at the head"),
    Transition("resolve", _S.ORPHANED, _S.DEAD, "dead"),
    Transition("resolve", _S.DEAD, _S.FINISHED, "finish"),
    Transition("resolve", _S.DEAD, _S.QUEUED, "requeue, at the head"),
    Transition("cancel", _S.QUEUED, _S.REMOVED),
    Transition("cancel", _S.SCHEDULED, _S.REMOVED),
    Transition("discard", _S.ORPHANED, _S.REMOVED),
    Transition("discard", _S.DEAD, _S.REMOVED),
)


def sources(verb: str) -> frozenset[ItemState]:
    """The states that a verb takes items from."""
    return frozenset(t.source for t in TRANSITIONS if t.verb == verb and t.source is not None)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an item has come, as its handler last said with `item.checkpoint`. The next delivery goes on from it.

    Attributes:
        state: what the handler needs to go on: anything that msgpack can carry, 64 KiB at most.
        done, total: how much of the work is done, for people who look; None where it can't be told.
        note: a few words for them, 200 characters at most.
        at: Unix seconds (server clock) of the checkpoint; None where it was made by this claim.
    """

    state: Any = None
    done: float | None = None
    total: float | None = None
    note: str = ""
    at: float | None = None


@dataclass(slots=True, eq=False)
class Lease:
    """The lease of one claim, shared by its items. `text_of` and `time_of` read the server's bytes.

    `proof` is the receipt as the server has it; `expires` is on this process's monotonic clock, counted from before the
    claim was sent; `owner` is the queue object that claimed.
    """

    queue: str
    proof: bytes
    seconds: float
    expires: float
    epoch: int
    owner: Any
    text_of: Callable[[bytes], str]
    time_of: Callable[[bytes], float]


class Item:
    """An item that this process has claimed. End it with exactly one of finish, release and fail.

    Made for many a second: what a handler may never ask for is worked out when it is asked for.

    Attributes:
        payload: what was enqueued.
        headers: string pairs that travel beside the payload.
        group: items of one group are handled one at a time and in their order; None for an item of no group.
        progress: the last checkpoint of this item, by this delivery or an earlier one; None where there is none.
        lost: the lease is known to be lost: stop, and undo or leave what was begun. False proves nothing.
        settled: finish, release or fail was called for it through its queue.
    """

    __slots__ = ("_history", "group", "headers", "held", "key", "lost", "payload", "progress", "settled", "stamp")

    def __init__(
        self,
        held: Lease,
        key: bytes,
        payload: Any,
        headers: Mapping[str, str],
        stamp: bytes = b"",
        history: bytes | None = None,
    ) -> None:
        self.held = held
        self.key = key  # the id as the server has it
        self.payload = payload
        self.headers = headers
        self.stamp = stamp  # when it was enqueued, and which enqueue that was, as the server has it
        self._history = history
        self.group: str | None = None
        self.progress: Progress | None = None
        self.lost = False
        self.settled = False

    def __repr__(self) -> str:
        return f"Item(id={self.id!r}, payload={self.payload!r}, queue={self.queue!r}, delivery={self.delivery})"

    @property
    def id(self) -> str:
        """Its id, immutable over its whole life."""
        return self.held.text_of(self.key)

    @property
    def delivery(self) -> int:
        """1 for the first claim, 2 for the second ...; with `epoch` a fencing number that only grows."""
        return 1 + (int(self._history.split(b" ", 2)[1]) if self._history else 0)

    @property
    def attempt(self) -> int:
        """1 plus the failures so far. Releases and lost workers are not failures."""
        return 1 + (int(self._history.split(b" ", 3)[2]) if self._history else 0)

    @property
    def epoch(self) -> int:
        """Generation of the queue's state."""
        return self.held.epoch

    @property
    def enqueued_at(self) -> float:
        """Unix seconds on the server's clock."""
        return self.held.time_of(self.stamp)

    @property
    def receipt(self) -> str:
        """Proves the lease. New at every claim, shared by the items of one claim."""
        return self.held.text_of(self.held.proof)

    @property
    def proof(self) -> bytes:
        """The receipt as the server has it."""
        return self.held.proof

    @property
    def queue(self) -> str:
        """Name of its queue."""
        return self.held.queue

    @property
    def lease(self) -> float:
        """Seconds that were asked for."""
        return self.held.seconds

    @property
    def expires(self) -> float:
        """When the lease ends, on this process's monotonic clock."""
        return self.held.expires

    @expires.setter
    def expires(self, when: float) -> None:
        self.held.expires = when

    @property
    def owner(self) -> Any:
        """The queue object that claimed it."""
        return self.held.owner

    def remaining(self) -> float:
        """Seconds until the lease ends unless it is renewed, by this process's own monotonic clock; negative after."""
        return self.held.expires - time.monotonic()

    def checkpoint(
        self, state: Any = None, *, done: float | None = None, total: float | None = None, note: str = ""
    ) -> Any:
        """Stores how far the work has come, and renews the lease: `queue.checkpoint(item, ...)`.

        On an item of an `AsyncQueue` this returns an awaitable.

        Args:
            state: what the next delivery needs to go on from here: anything that msgpack can carry, 64 KiB at most.
            done: how much of the work is done.
            total: how much there is in all.
            note: a few words for people who look, 200 characters at most.

        Raises:
            LeaseLost: somebody else may have the item: stop.
            PayloadError: the state can't be stored.
        """
        return self.held.owner.checkpoint(self, state, done=done, total=total, note=note)


class Claimed(list[Item]):
    """The items of one claim, oldest first.

    Attributes:
        lost: ids that `finish_and_claim` could not finish, because somebody else may have them now.
        unreadable: ids whose payload can't be decoded. They have been set aside among the dead, bytes and all.
    """

    lost: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class New:
    """An item to enqueue, with options.

    Attributes:
        payload: anything that msgpack can carry, and datetime, date, timedelta, UUID, Decimal, large integers.
        id: 1 to 200 bytes of printable text; None for a new UUIDv7.
        delay: seconds (or a timedelta) from now until it is due.
        at: Unix seconds (server clock) at which it is due. Not together with `delay`.
        headers: string pairs, for tracing for instance.
        group: 1 to 200 bytes of printable text. Items of one group are handled one at a time and in their order, also
            across retries and crashes. One that is delayed takes its place when it is due.
    """

    payload: Any
    id: str | None = None
    delay: float | dt.timedelta | None = None
    at: float | None = None
    headers: Mapping[str, str] | None = None
    group: str | None = None


class Enqueued(NamedTuple):
    """What became of an enqueue.

    Attributes:
        created: False where the queue knew the id already and left it as it was.
        durability: what is confirmed of it: `memory`, `replicated:2`, `replicated:all`, `fsynced` or `checkpointed`.
    """

    id: str
    created: bool
    durability: str = "memory"


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that belong together, and the one that follows when they are through.

    Attributes:
        id: pass it to `queue.batch` again to go on with a batch whose making was broken off, and to `batch_progress`.
        then_id: the item that follows.
        members: what became of the enqueue of each member, in order.
    """

    id: str
    then_id: str
    members: tuple[Enqueued, ...]


class BatchProgress(NamedTuple):
    """How far a batch is: its members, and how many of them are still awaited."""

    total: int
    awaited: int


@dataclass(frozen=True, slots=True)
class Failed:
    """What became of an item whose attempt failed. `due_at` is in Unix seconds, for scheduled ones."""

    id: str
    state: ItemState
    due_at: float | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """What a verb did that goes by ids. True where it did what was asked for all of them.

    Attributes:
        ids: those that are now as asked, also where an earlier call did it.
        skipped: the others, with the state they are in (None: the queue knows no such id).
    """

    ids: tuple[str, ...]
    skipped: Mapping[str, ItemState | None]

    def __bool__(self) -> bool:
        return not self.skipped


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many items a recovery took back, by where they went. `unreadable` ones are among the dead as well."""

    requeued: int = 0
    orphaned: int = 0
    dead: int = 0
    unreadable: int = 0
    due: int = 0

    def __add__(self, other: Recovered) -> Recovered:
        return Recovered(
            self.requeued + other.requeued,
            self.orphaned + other.orphaned,
            self.dead + other.dead,
            self.unreadable + other.unreadable,
            self.due + other.due,
        )


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
