"""`durability="checkpointed"`: a row is committed to Postgres before Redis is asked, so no loss of Redis loses it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from reliq import _commands, _ids, _plans, _policy
from reliq._coalesce import Coalescer
from reliq._coalesce_async import AsyncCoalescer
from reliq._commands import Body
from reliq._gathering import Enqueues
from reliq._plans import Plan
from reliq._session import Command, Reply, Session
from reliq.errors import (
    InvalidArgument,
    MirrorUnavailable,
    NotMirrored,
    ReliqError,
    ScriptFailed,
    StaleEpoch,
    Unavailable,
)
from reliq.item import Enqueued

if TYPE_CHECKING:
    from reliq.mirror import Mirror
    from reliq.queue import Queue
    from reliq.queue_async import AsyncQueue

T = TypeVar("T")

# Redis may have taken the items, or the call may be what stands between. Everything else is a refusal.
_UNCLEAR = (Unavailable, ScriptFailed)


@dataclass(frozen=True, slots=True)
class _Checkpointed(Command[Any]):
    """An enqueue that has its rows with it."""

    bodies: Sequence[Body] = ()


def _command(bodies: Sequence[Body]) -> _Checkpointed:
    plain = _commands.enqueue(bodies)

    def decode(reply: Reply) -> list[Enqueued]:
        return [enqueued._replace(durability="checkpointed") for enqueued in plain.decode(reply)]

    return _Checkpointed(plain.script, plain.args, decode, plain.keys, bodies=tuple(bodies))


def _bodies_of(command: Command[Any]) -> Sequence[Body]:
    """The items of an enqueue, also of one that a plan of the queue's own made: `enqueue_many`."""
    if isinstance(command, _Checkpointed):
        return command.bodies
    stride, parts = int(command.args[0]), list(command.args[1:])
    return [Body(*parts[at : at + stride]) for at in range(0, len(parts), stride)]  # type: ignore[arg-type]


class _Verb(Enqueues):
    """Single enqueues that go together, checkpointed."""

    def command(self, values: Sequence[Body]) -> Command[list[Enqueued]]:
        return _command(values)


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
    """As the plan of any enqueue, with rows."""
    if not 0 < len(bodies) <= _policy.MAX_BATCH:
        raise InvalidArgument(f"pass 1 to {_policy.MAX_BATCH} items, not {len(bodies)}")
    plan = _plans.enqueue(session, bodies, wait)
    effect = next(plan)
    while True:
        if isinstance(effect, Command) and effect.script.name == "enqueue":
            effect = _command(bodies)
        try:
            try:
                result = yield effect
            except Exception as error:  # noqa: BLE001  it is the plan's, whatever it is
                effect = plan.throw(error)
            else:
                effect = plan.send(result)
        except StopIteration as stop:
            outcome: list[Enqueued] = stop.value
            return outcome


class Link:
    """A queue and its mirror: what the coalescer takes for a driver, whose enqueues are committed to Postgres first."""

    def __init__(self, mirror: Mirror, queue: Queue) -> None:
        self._session = queue._session
        self._rows = Rows(mirror, self._session)
        self._driver = queue._driver
        self.coalescer: Coalescer[Body, Enqueued] = Coalescer(self, _Verb())  # type: ignore[arg-type]  # call and run

    def enqueue(self, bodies: Sequence[Body], wait: float = 0.0) -> list[Enqueued]:
        """As `enqueue`."""
        if len(bodies) == 1 and not wait:
            return [self.coalescer.call(bodies[0])]
        return self.run(_plan(self._session, bodies, wait))

    def call(self, command: Command[T]) -> T:
        """Sends a command; one that enqueues when its rows are committed."""
        if command.script.name != "enqueue":
            return self._driver.call(command)
        numbers = self._rows.commit(_bodies_of(command))
        try:
            outcome: T = self._driver.call(command)
            return outcome
        except _UNCLEAR as error:
            raise will_be(error) from error.__cause__
        except ReliqError as error:
            self._rows.withdraw(numbers, error)
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
        self.coalescer: AsyncCoalescer[Body, Enqueued] = AsyncCoalescer(self, _Verb())  # type: ignore[arg-type]

    async def enqueue(self, bodies: Sequence[Body], wait: float = 0.0) -> list[Enqueued]:
        """As `enqueue`."""
        if len(bodies) == 1 and not wait:
            return [await self.coalescer.call(bodies[0])]
        return await self.run(_plan(self._session, bodies, wait))

    async def call(self, command: Command[T]) -> T:
        """Asyncio twin of `Link.call`."""
        if command.script.name != "enqueue":
            return await self._driver.call(command)
        numbers = await asyncio.to_thread(self._rows.commit, _bodies_of(command))
        try:
            outcome: T = await self._driver.call(command)
            return outcome
        except _UNCLEAR as error:
            raise will_be(error) from error.__cause__
        except ReliqError as error:
            await asyncio.to_thread(self._rows.withdraw, numbers, error)
            raise

    async def run(self, plan: Plan[T]) -> T:
        """Asyncio twin of `Link.run`."""
        return await self._driver._interpret(plan, self.call)


class Rows:
    """The rows of one queue's checkpointed items."""

    def __init__(self, mirror: Mirror, session: Session) -> None:
        self._mirror = mirror
        self._session = session

    def commit(self, bodies: Sequence[Body]) -> list[int]:
        """Commits a row for each item, where there is none yet. Returns the numbers of those that it made.

        Raises:
            MirrorUnavailable, NotMirrored, StaleEpoch.
        """
        known = int(self._session.epoch or 0)
        values = {"queue": self._session.queue, "epoch": known, **_columns(bodies)}
        try:
            found = self._mirror.store.insert("checkpoint", where_some_are_there="checkpoint_again", **values)
        except MirrorUnavailable as error:
            error.ids = tuple(_ids.unpack(body.key) for body in bodies)
            raise
        if not found:
            raise NotMirrored(f"queue {self._session.queue!r} is not mirrored yet: start `reliq mirror run` first")
        epoch, numbers = found[0]
        if known and epoch != known:
            raise StaleEpoch(self._session.queue, known=known, found=epoch)
        self._session.epoch = str(epoch).encode()  # a server that is older or empty is refused from the first call on
        return numbers or []

    def withdraw(self, numbers: Sequence[int], refusal: ReliqError) -> None:
        """Takes rows back that Redis refused.

        Raises:
            MirrorUnavailable: they are there still, and will be enqueued when Redis takes them.
        """
        try:
            if numbers:
                self._mirror.store.rows("withdraw", numbers=list(numbers))
        except MirrorUnavailable as error:
            text = f"{refusal}; and the rows can't be taken back, so they will be enqueued later: {error}"
            raise MirrorUnavailable(text, may_have_been_applied=True) from refusal


def _columns(bodies: Sequence[Body]) -> dict[str, list[Any]]:
    """Items as arrays. One that would have nothing in it is not sent."""
    later, grouped = any(body.due for body in bodies), any(body.group for body in bodies)
    return {
        "ids": [body.key for body in bodies],
        "bodies": [body.body for body in bodies],
        "dues": [body.due for body in bodies] if later else [],
        "groups": [body.group.decode() for body in bodies] if grouped else [],
    }


def will_be(error: ReliqError) -> ReliqError:
    """Redis gave no answer, but the rows are committed."""
    if isinstance(error, Unavailable):
        error.may_have_been_applied = True
        error.args = (f"{error}. The items are committed in Postgres: they will be enqueued when Redis is back",)
    return error
