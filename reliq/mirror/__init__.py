"""Queues mirrored in Postgres: followed, rebuilt from there, and never enqueued without it where that is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from reliq import _policy
from reliq._policy import Seconds
from reliq.errors import InvalidArgument, MirrorError
from reliq.mirror._recovering import Recovering
from reliq.queue import Queue

if TYPE_CHECKING:
    from reliq._driver import Driver
    from reliq._driver_async import AsyncDriver
    from reliq.mirror.checkpointed import AsyncLink, Link
    from reliq.mirror.follower import Pace
    from reliq.mirror.relay import OutboxStatus
    from reliq.mirror.store import Store
    from reliq.queue_async import AsyncQueue

__all__ = ["Mirror", "MirrorStatus"]

QUIET = 10.0  # seconds after which a queue whose follower has said nothing is not followed any more


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """How a mirrored queue stands, as Postgres knows it.

    Attributes:
        queue: its name.
        epoch: the generation that the mirror holds.
        state: `following`; `resyncing`: all items are being looked at again; `rebuilding`; `stopped`: nobody has
            followed it for ten seconds, or the follower waits for a person (Redis holds another generation).
        lag_items: about how many changes have not been read yet.
        lag_seconds: age of the oldest of them; 0 where there is none. Where nobody follows, what it may be by now.
        followed_ago: seconds since the follower last wrote, also that there was nothing to write; None: never.
        journal_entries, journal_max: entries in the journal in Redis, and how many it may have, when it was last seen.
        rows: items in the mirror.
        pending: checkpointed items that the follower has not met in Redis yet.
    """

    queue: str
    epoch: int
    state: str
    lag_items: int
    lag_seconds: float
    followed_ago: float | None
    journal_entries: int
    journal_max: int
    rows: int
    pending: int


class Mirror(Recovering):
    """A Postgres database in which queues are mirrored.

    Threads may share one; a forked child may go on using it. Nothing is sent before the first call.

    Args:
        dsn: postgresql://user@host/database, or key=value pairs, as libpq has them.
        timeout: seconds that a request may wait for a connection, and then for its answer.
        settle: seconds that a change waits before the follower looks at it. Items that end within them leave no trace
            in Postgres.
        journal_max: entries that the journal of a followed queue may have in Redis; None leaves that as it is
            (1,000,000 where nobody said so). An entry is one call of a script. Where Postgres is away for longer than
            that lasts, the whole queue is looked at again.
        remember: seconds (or a timedelta) for which the ids of ended items that had a row are kept.
        on_state_lost: what a client of `Queue(..., mirror=)` does when Redis has lost the queue: `stop` or `rebuild`.

    Raises:
        InvalidArgument, InvalidURL.
        MirrorError: psycopg is not installed (extra `postgres`).
    """

    def __init__(
        self,
        dsn: str,
        *,
        timeout: Seconds = 5.0,
        settle: Seconds = 0.2,
        journal_max: int | None = None,
        remember: Seconds = 86400.0,
        on_state_lost: str = "stop",
    ) -> None:
        self._made_of: dict[str, Any] = {"timeout": timeout, "settle": settle, "journal_max": journal_max}
        self._made_of |= {"remember": remember, "on_state_lost": on_state_lost}
        self._settle = _policy.seconds(settle, "settle", low=0, high=60)
        self._remember = _policy.seconds(remember, "remember", low=0, high=10 * 365 * 86400)
        if journal_max is not None:
            _policy.whole(journal_max, "journal_max", low=100, high=10**9)
        self._journal_max = journal_max
        self.on_state_lost = _policy.one_of(on_state_lost, "on_state_lost", ("stop", "rebuild"))
        self.store = _store(dsn, _policy.seconds(timeout, "timeout", low=0.1, high=3600))

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process makes the same mirror of."""
        return _made, (self.store.dsn, self._made_of)

    def __repr__(self) -> str:
        return f"Mirror({self.store!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes idle connections. The mirror can be used again afterwards."""
        self.store.close()

    def init(self) -> None:
        """Makes the schema `reliq` and its tables, as the owner of the database. Where they are there it does nothing.

        Raises:
            MirrorSchema: they are of another version, or this user lacks the right.
            MirrorUnavailable.

        If the caller dies in this call, all of it is there or nothing.
        """
        self.store.init()

    def migrate(self) -> None:
        """Brings the tables of an earlier reliq to the version of this one. As `init`; there is one version so far."""
        self.store.init()

    def follow(
        self, queues: Queue | Iterable[Queue], *, stop: threading.Event | None = None, once: bool = False
    ) -> None:
        """Mirrors queues: reads what changes and keeps a row for each item that lives. It runs until it is stopped.

        The queues keep a journal from the first time on. Of several followers of a queue one is active, the others
        stand by. It waits for Postgres and for Redis where they are away, and for a person where Redis lost a queue,
        and logs that once. It goes on by itself, with a full resynchronisation where the journal has a gap or another
        server answers.

        Args:
            queues: one or several, each with a connection to Postgres and a thread of its own.
            stop: set it to end; what is being written is finished.
            once: end when each queue is mirrored as it was when this began, or raise what prevents that.

        Raises:
            MirrorSchema, AccessDenied, ServerTooOld, UnknownLayout, CorruptState: what no waiting cures.
            MirrorConflict: with `once`, another follower is active.

        If the process dies, nothing is lost and nothing counts twice: position and rows change in one transaction.
        """
        from reliq.mirror._running import follow_all

        listed = [queues] if isinstance(queues, Queue) else list(queues)
        if not listed or not all(isinstance(queue, Queue) for queue in listed):
            raise InvalidArgument("follow takes a Queue, or several")
        self.store.check()
        follow_all(self.store, listed, self._pace(), stop or threading.Event(), once=once)

    def status(self, queues: Sequence[str] | None = None) -> list[MirrorStatus]:
        """How the mirrored queues stand, by name; all, or those that are named. Redis is not asked.

        Raises:
            MirrorUnavailable, MirrorSchema.
        """
        found = self.store.rows("status", queues=None if queues is None else list(queues))
        return [_status(row) for row in found]

    def adopt(self, queue: Queue) -> None:
        """Accepts a queue as Redis has it, after it was lost and made anew. A rebuild is what brings it back instead.

        The rows of items that Redis does not know are deleted as soon as the queue is followed again.

        Raises:
            NotMirrored: Postgres knows no such queue.
            Unavailable, MirrorUnavailable.
        """
        from reliq.mirror._running import adopt_queue

        adopt_queue(self.store, queue)

    def unfollow(self, queue: Queue) -> None:
        """Has the queue keep no journal any more. Its rows stay. Stop its follower first: it would begin a new one.

        Raises:
            Unavailable.
        """
        from reliq.mirror._journal import Journal

        Journal(queue).end()

    def link(self, queue: Queue) -> Link:
        """What `Queue(..., mirror=)` enqueues with where `durability="checkpointed"` is asked for."""
        from reliq.mirror.checkpointed import Link

        return Link(self, queue)

    def async_link(self, queue: AsyncQueue) -> AsyncLink:
        """Asyncio twin of `link`."""
        from reliq.mirror.checkpointed import AsyncLink

        return AsyncLink(self, queue)

    def guarded(self, queue: Queue) -> Callable[..., Driver]:
        """What `Queue(..., mirror=)` makes its driver with: one that knows a lost queue from an empty one."""
        from reliq.mirror.guard import Guard, GuardedDriver

        return GuardedDriver.of(Guard(self.store, queue, rebuilds=self.on_state_lost == "rebuild"))

    def async_guarded(self, queue: AsyncQueue) -> Callable[..., AsyncDriver]:
        """Asyncio twin of `guarded`."""
        from reliq.mirror.guard import AsyncGuardedDriver, Guard

        return AsyncGuardedDriver.of(Guard(self.store, queue, rebuilds=self.on_state_lost == "rebuild"))

    # Outbox and effects

    def relay(self, queues: Queue | Iterable[Queue], *, stop: threading.Event | None = None, once: bool = False) -> int:
        """Carries what `enqueue_in` and `reliq.enqueue` have written from Postgres to Redis, in order.

        A row is carried when its transaction has committed. One relay of a queue is active, others stand by. Where
        Redis is away or the queue takes nothing, it waits and keeps the order. A row that can't be sent is set aside in
        `reliq.outbox_refused`. What goes to a mirrored queue stays in Postgres until its follower has met it. Marks of
        `finish_in` that nobody can ask for any more are forgotten on the way.

        Args:
            queues: one or several, each with a connection to Postgres and a thread of its own; what SQL wrote as JSON
                goes through their codecs.
            stop: set it to end; a batch that is being sent is finished.
            once: end when what is there has been carried, or raise what prevents that.

        Returns:
            With `once`, how many rows it dealt with.

        Raises:
            MirrorSchema: the tables are missing, or this user lacks a right.
            MirrorConflict: with `once`, another relay is active.

        If the process dies, nothing is lost and nothing is enqueued twice.
        """
        from reliq.mirror.relay import Relay, relay

        listed = [queues] if isinstance(queues, Queue) else list(queues)
        if not listed or not all(isinstance(queue, Queue) for queue in listed):
            raise InvalidArgument("relay takes a Queue, or several")
        self.store.check()
        if once:
            return sum(Relay(self.store, queue).run_once() for queue in listed)
        relay(self.store, listed, stop=stop)
        return 0

    def outbox(self) -> list[OutboxStatus]:
        """The outboxes that have rows, by queue: how many wait, for how long, and how many were set aside.

        Raises:
            MirrorUnavailable, MirrorSchema.
        """
        from reliq.mirror.relay import outbox_status

        return outbox_status(self.store)

    def _pace(self) -> Pace:
        from reliq.mirror.follower import Pace

        return Pace(settle=self._settle, journal_max=self._journal_max, remember=self._remember)


def _store(dsn: str, timeout: float) -> Store:
    try:
        from reliq.mirror.store import Store, check_dsn
    except ImportError as error:
        raise MirrorError(f"{error}: pip install 'reliq-queue[postgres]'") from error
    return Store(check_dsn(dsn), timeout)


def _made(dsn: str, options: dict[str, Any]) -> Mirror:
    return Mirror(dsn, **options)


def _status(row: tuple[Any, ...]) -> MirrorStatus:
    status = MirrorStatus(*row)
    ago = status.followed_ago
    if status.state == "rebuilding" or (ago is not None and ago <= QUIET and status.state != "stopped"):
        return status
    return replace(status, state="stopped", lag_seconds=status.lag_seconds + (ago or 0.0))
