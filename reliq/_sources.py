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

LATE = 0.5  # seconds that an answer may be late, where the server notes an idle worker for one second longer than asked
SHORTEST = 0.01  # seconds of a wait on the server, also where something is due sooner
Breakable = Callable[[Callable[[], object]], object]


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
class Heard:
    """How a wait on the server ended.

    Attributes:
        key: the wake-up key that had a token, None where none had, or where nobody knows.
        items: what was claimed when it ended.
        noted: seconds for which the server has the worker as idle from now on.
    """

    key: bytes | None = None
    items: Claimed | None = None
    noted: float = 0.0


@dataclass(frozen=True, slots=True)
class Listen:
    """Begin to run a plan that waits on the server, beside this loop. `Turns.rung` is called with what it heard.

    Attributes:
        plan: makes it from what is told how to break the wait off.
    """

    queue: Any
    plan: Callable[[Breakable | None], Plan[Heard]]


@dataclass(frozen=True, slots=True)
class Hush:
    """Break a wait on the server off, and return when `Turns.rung` has been called for the last time."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until somebody says that it is time, `seconds` at most; None for no bound."""

    seconds: float | None


Effect = Call | Begin | End | Listen | Hush | Wait
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
            return reply.items, _noted(request, reply)


def _command(
    session: Session, request: _plans.ClaimRequest, worker: bytes, finished: Sequence[Item], receipt: bytes, now: float
) -> Any:
    wait_ms = round(request.wait * 1000)
    made: dict[str, Any] = {"receipt": receipt, "asked_at": now, "worker": worker, "wait_ms": wait_ms}
    if finished:
        return _commands.finish_and_claim(session, finished, request.count, lease=request.lease, **made)
    return _commands.claim(session, request.count, lease=request.lease, **made)


def listen(keys: tuple[bytes, ...], seconds: float, breakable: Breakable | None) -> Plan[Heard]:
    """Waits for a token on any of the keys."""
    token: bytes | None = yield Block(seconds, keys, breakable)
    return Heard(token)


def listen_and_claim(
    session: Session,
    request: _plans.ClaimRequest,
    worker: bytes,
    seconds: float,
    breakable: Breakable | None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Plan[Heard]:
    """Waits for a token, and claims in the same flight. Where there is nothing, the worker is noted as idle again.

    What is claimed counts as held from when the wait began: no lease must be thought to last longer than it does.
    """
    began = clock()
    with _plans._receipt(session) as receipt:
        command = _command(session, request, worker, (), receipt, began)
        reply: _commands.ClaimReply = yield Block(seconds, (), breakable, then=command)
        yield from _plans.set_aside(reply)
    stood_still = clock() - began > seconds + LATE  # the server may have forgotten this worker meanwhile
    if reply.items or reply.more or reply.broken or stood_still:
        return Heard(items=reply.items)
    return Heard(items=reply.items, noted=_noted(request, reply))


def _noted(request: _plans.ClaimRequest, reply: _commands.ClaimReply) -> float:
    due = request.wait if reply.next_ms < 0 else min(request.wait, reply.next_ms / 1000)
    return max(SHORTEST, due)
