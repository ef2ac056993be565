"""`durability="checkpointed"`: a row is committed to Postgres before Redis is asked, so no loss of Redis loses it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from reliq import _durability, _ids, _plans, _policy
from reliq._coalesce import Coalescer
from reliq._coalesce_async import AsyncCoalescer
from reliq._commands import Body
from reliq._gathering import Enqueues
from reliq._plans import Plan
from reliq._session import Command, Session
from reliq.errors import (
    InvalidArgument,
    MirrorUnavailable,
    NotMirrored,
    ReliqError,
    ScriptFailed,
    StaleEpoch,
    Unavailable,
)
from reliq.mirror._arrays import ByteaArray, bytea_array
from reliq.outcomes import Enqueued

if TYPE_CHECKING:
    from reliq.mirror import Mirror
    from reliq.queue import Queue
    from reliq.queue_async import AsyncQueue

T = TypeVar("T")

CHECKPOINTED = _durability.parse("checkpointed")

# Redis may have taken the items, or the call may be what stands between. Everything else is a refusal.
_UNCLEAR = (Unavailable, ScriptFailed)


def enqueue(mirror: Mirror, queue: Queue, bodies: Sequence[Body], wait: float = 0.0) -> list[Enqueued]:
    """Commits the items to Postgres, then enqueues them.

    Args:
        mirror: a mirror that has followed this queue before.
        queue: the queue.
        bodies: 1 to 1,000 items that are ready to be sent.
        wait: seconds to wait for room where the queue is full.

    Returns:
        One `Enqueued` for each, in order.

    Raises:
        MirrorUnavailable: Postgres does not take them; nothing was enqueued, see `may_have_been_applied`.
        NotMirrored, StaleEpoch: nothing was written anywhere.
        QueueFull, QueuePaused, MemoryFull: nothing was added, and the rows have been taken back.
        Unavailable: the rows are committed, so the follower enqueues what Redis did not get. Repeating is safe.

    If the caller dies in this call, either there are no rows, or all items will be enqueued.
    """
    return Link(mirror, queue).enqueue(bodies, wait)


async def enqueue_async(mirror: Mirror, queue: AsyncQueue, bodies: Sequence[Body], wait: float = 0.0) -> list[Enqueued]:
    """Asyncio twin of `enqueue`. Postgres is asked in a thread: a cancelled task may leave its row committed."""
    return await AsyncLink(mirror, queue).enqueue(bodies, wait)


def _plan(session: Session, bodies: Sequence[Body], wait: float) -> Plan[list[Enqueued]]:
    if not 0 < len(bodies) <= _policy.MAX_BATCH:
        raise InvalidArgument(f"pass 1 to {_policy.MAX_BATCH} items, not {len(bodies)}")
    return _plans.enqueue(session, bodies, wait, CHECKPOINTED)


class Link:
    """A queue and its mirror: what the coalescer takes for a driver, whose enqueues are committed to Postgres first."""

    def __init__(self, mirror: Mirror, queue: Queue) -> None:
        self._session = queue._session
        self._rows = Rows(mirror, self._session)
        self._driver = queue._driver
        self.coalescer: Coalescer[Body, Enqueued] = Coalescer(self, Enqueues(CHECKPOINTED))  # type: ignore[arg-type]  # call and run

    def enqueue(self, bodies: Sequence[Body], wait: float = 0.0) -> list[Enqueued]:
        """As `enqueue`."""
        if len(bodies) == 1 and not wait:
            return [self.coalescer.call(bodies[0])]
        return self.run(_plan(self._session, bodies, wait))

    def call(self, command: Command[T]) -> T:
        """Sends a command; one that enqueues when its rows are committed."""
        if command.script.name != "enqueue":
            return self._driver.call(command)
        written = self._rows.commit(command)
        try:
            outcome: T = self._driver.call(command)
            return outcome
        except _UNCLEAR as error:
            raise will_be(error) from error.__cause__
        except ReliqError as error:
            self._rows.withdraw(written, error)
            raise

    def run(self, plan: Plan[T]) -> T:
        """Runs a plan to its end."""
        outcome: T = self._driver._interpret(plan, self.call)
        return outcome


class AsyncLink:
    """Asyncio twin of `Link`. Postgres is asked in a thread."""

    def __init__(self, mirror: Mirror, queue: AsyncQueue) -> None:
        self._session = queue._session
        self._rows = Rows(mirror, self._session)
        self._driver = queue._driver
        self.coalescer: AsyncCoalescer[Body, Enqueued] = AsyncCoalescer(self, Enqueues(CHECKPOINTED))  # type: ignore[arg-type]

    async def enqueue(self, bodies: Sequence[Body], wait: float = 0.0) -> list[Enqueued]:
        """As `enqueue`."""
        if len(bodies) == 1 and not wait:
            return [await self.coalescer.call(bodies[0])]
        return await self.run(_plan(self._session, bodies, wait))

    async def call(self, command: Command[T]) -> T:
        """Asyncio twin of `Link.call`."""
        if command.script.name != "enqueue":
            return await self._driver.call(command)
        written = await asyncio.to_thread(self._rows.commit, command)
        try:
            outcome: T = await self._driver.call(command)
            return outcome
        except _UNCLEAR as error:
            raise will_be(error) from error.__cause__
        except ReliqError as error:
            await asyncio.to_thread(self._rows.withdraw, written, error)
            raise

    async def run(self, plan: Plan[T]) -> T:
        """Asyncio twin of `Link.run`."""
        return await self._driver._interpret(plan, self.call)


class Written(NamedTuple):
    """The rows that one transaction made, of those that it was asked for: a row that was there is not among them."""

    ids: ByteaArray
    transaction: str


class Rows:
    """The rows of one queue's checkpointed items."""

    def __init__(self, mirror: Mirror, session: Session) -> None:
        self._mirror = mirror
        self._session = session

    def commit(self, command: Command[Any]) -> Written:
        """Commits a row for each item of an enqueue, where there is none yet. Returns those that it made.

        Raises:
            MirrorUnavailable, NotMirrored, StaleEpoch.
        """
        known, columns = int(self._session.epoch or 0), _columns(command)
        values = {"queue": self._session.queue, "epoch": known, **columns}
        try:
            found = self._mirror.store.insert("checkpoint", where_some_are_there="checkpoint_again", **values)
        except MirrorUnavailable as error:
            error.ids = tuple(map(_ids.unpack, command.keys))
            raise
        if not found:
            raise NotMirrored(f"queue {self._session.queue!r} is not mirrored yet: start `reliq mirror run` first")
        epoch, transaction = found[0]
        if known and epoch != known:
            raise StaleEpoch(self._session.queue, known=known, found=epoch)
        self._session.epoch = str(epoch).encode()  # a server that is older or empty is refused from the first call on
        return Written(columns["ids"], transaction)

    def withdraw(self, written: Written, refusal: ReliqError) -> None:
        """Takes rows back that Redis refused.

        Raises:
            MirrorUnavailable: they are there still, and will be enqueued when Redis takes them.
        """
        try:
            self._mirror.store.rows("withdraw", queue=self._session.queue, **written._asdict())
        except MirrorUnavailable as error:
            text = f"{refusal}; and the rows can't be taken back, so they will be enqueued later: {error}"
            raise MirrorUnavailable(text, may_have_been_applied=True) from refusal


def _columns(command: Command[Any]) -> dict[str, Any]:
    """The items of an enqueue as arrays: its arguments are their parts. What none of them has is not sent."""
    stride, parts = int(command.args[0]), command.args[1:]
    return {
        "ids": bytea_array(parts[::stride]),  # type: ignore[arg-type]  # see `_commands.enqueue`: these are bytes
        "bodies": bytea_array(parts[1::stride]),  # type: ignore[arg-type]
        "dues": list(parts[2::stride]) if stride > 2 else [],
        "groups": [group.decode() for group in parts[3::stride]] if stride > 3 else [],  # type: ignore[union-attr]
    }


def will_be(error: ReliqError) -> ReliqError:
    """Redis gave no answer, but the rows are committed."""
    if isinstance(error, Unavailable):
        error.may_have_been_applied = True
        error.args = (f"{error}. The items are committed in Postgres: they will be enqueued when Redis is back",)
    return error
