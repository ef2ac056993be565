"""What a worker's loop asks for, and the queues that it works on. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reliq import _commands, _plans
from reliq._handlers import Pending
from reliq._plans import Block, Plan
from reliq._session import Session
from reliq.item import Claimed, Item

SHORTEST = 0.01  # seconds of a wait on the server, also where something is due sooner


@dataclass(frozen=True, slots=True)
class Call:
    """Run a plan on a queue, each of its commands tried once. The result is the plan's; errors are thrown in."""

    queue: Any
    plan: Plan[Any]


@dataclass(frozen=True, slots=True)
class Begin:
    """Send the first command of a plan of a queue, behind what was begun before, and do not wait for the answer."""

    queue: Any
    plan: Plan[Any]


@dataclass(frozen=True, slots=True)
class End:
    """Take the answer to what was begun first, and run its plan to the end. Result and errors as of a `Call`."""

    queue: Any


@dataclass(frozen=True, slots=True)
class Listen:
    """Begin to wait for a token on the server, beside this loop. When that ends, `Turns.rung` is called."""

    queue: Any
    keys: tuple[bytes, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until somebody says that it is time, `seconds` at most; None for no bound."""

    seconds: float | None


Effect = Call | Begin | End | Listen | Wait
Steps = Generator[Effect, Any, Any]


class Buffer(Protocol):
    """Items that wait for a handler of this worker."""

    def put(self, items: Sequence[Item], rank: int) -> None:
        """Adds items. Those of a lower rank are taken first."""

    def take_back(self, keep: int = 0) -> list[Item]:
        """Takes items that no handler has begun, all but the first `keep`. In order."""

    def __len__(self) -> int:
        """How many there are."""


class Watcher(Protocol):
    """Renews leases."""

    def watch(self, items: Sequence[Item]) -> None:
        """Renews these from now on."""

    def forget(self, items: Iterable[Item]) -> None:
        """Renews these no more."""


@dataclass(slots=True, eq=False)
class Source:
    """A queue that a worker takes items from.

    Attributes:
        noted_until: monotonic time until which the server has this worker as idle.
        again_at: monotonic time before which an unreachable server is not asked again; `failures` in a row.
    """

    queue: Any
    number: int
    rank: int
    renewals: Watcher
    pending: Pending = field(default_factory=Pending)
    noted_until: float = 0.0
    failures: int = 0
    again_at: float = 0.0

    @property
    def session(self) -> Session:
        session: Session = self.queue._session
        return session

    @property
    def wake_key(self) -> bytes:
        return self.session.keys["wake"]


def ask(
    session: Session,
    request: _plans.ClaimRequest,
    worker: bytes = b"",
    finished: Sequence[Item] = (),
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Plan[tuple[Claimed, float]]:
    """Finishes, and claims without waiting. Where nothing is there a worker that has a name is noted as idle.

    Returns:
        The items, and for how many seconds the worker is noted: until something falls due, `request.wait` at most.
    """
    lost: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    while True:
        with _plans._receipt(session) as receipt:
            command = _command(session, request, worker, finished, receipt, clock())
            reply: _commands.ClaimReply = yield command
            yield from _plans.set_aside(reply)
        ended = yield from _plans.finish_lost(finished, reply.items)
        lost, finished = lost or reply.items.lost, ()
        unreadable += reply.items.unreadable
        if reply.items or not (reply.more or reply.broken or ended or session.abandoned):
            reply.items.lost, reply.items.unreadable = lost, unreadable
            due = request.wait if reply.next_ms < 0 else min(request.wait, reply.next_ms / 1000)
            return reply.items, max(SHORTEST, due)


def _command(
    session: Session, request: _plans.ClaimRequest, worker: bytes, finished: Sequence[Item], receipt: bytes, now: float
) -> Any:
    wait_ms = round(request.wait * 1000)
    made: dict[str, Any] = {"receipt": receipt, "asked_at": now, "worker": worker, "wait_ms": wait_ms}
    if finished:
        return _commands.finish_and_claim(session, finished, request.count, lease=request.lease, **made)
    return _commands.claim(session, request.count, lease=request.lease, **made)


def listen(keys: tuple[bytes, ...], seconds: float, breakable: Callable[[Any], object] | None) -> Plan[bytes | None]:
    """Waits for a token on any of the keys."""
    token: bytes | None = yield Block(seconds, keys, breakable)
    return token
