"""What stops a client of a mirrored queue at a Redis that is empty, flushed, of another epoch, or an older copy.

A queue that was lost can't tell: only Postgres knows what there was. So each new connection is looked at with the facts
of the mirror, before the first call goes over it, and every call carries the mirror's epoch from then on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from reliq import _replies
from reliq._driver import Driver
from reliq._driver_async import AsyncDriver
from reliq._session import Command, Session
from reliq.errors import MirrorConflict, MirrorError, ReliqError, StaleEpoch, StateLost
from reliq.mirror import rebuild
from reliq.mirror._plan import FORGIVEN, too_old
from reliq.mirror.store import Store
from reliq.queue import Queue

__all__ = ["AsyncGuardedDriver", "Facts", "Guard", "GuardedDriver", "Seen", "judge"]

T = TypeVar("T")
log = logging.getLogger("reliq")

FRESH = 1.0  # seconds; many connections of a process come at once
REBUILD_WAIT = 3600.0  # seconds that a client waits while another one rebuilds


class Facts(NamedTuple):
    """What the mirror knows of a queue."""

    epoch: int
    state: str
    position: str
    top_stamp: int


class Seen(NamedTuple):
    """What a server has of it. `entry`: the last one of the journal up to the mirror's position, '' for none."""

    epoch: int | None
    state: str
    stamp: int
    entry: str


def judge(queue: str, known: int, facts: Facts, seen: Seen) -> ReliqError | None:
    """Why a client must not use this server, None where it may.

    Args:
        queue: its name.
        known: the epoch that the client knows, 0 for none.
        facts: what the mirror knows. Asked before the server: then the server can't be behind it by bad luck.
        seen: what the server has.
    """
    if known and known != facts.epoch:
        return StaleEpoch(queue, known=known, found=facts.epoch)
    if seen.epoch is None:
        return StateLost(queue, epoch=facts.epoch)
    if seen.epoch != facts.epoch:
        return StaleEpoch(queue, known=facts.epoch, found=seen.epoch)
    if seen.state == "ready" and _is_older(facts, seen):
        return StateLost(queue, epoch=facts.epoch, older=True)
    return None


def _is_older(facts: Facts, seen: Seen) -> bool:
    """Whether the server was put back to a state from long before what the mirror has seen of it.

    Stamps only grow. Where somebody has enqueued since, the journal still tells: it reaches back beyond the entry at
    the mirror's position, and what it has before that is older. What a failover or a crash loses is forgiven: the
    follower finds out what it was, and `reconcile` puts it back.
    """
    if too_old(facts.top_stamp, seen.stamp):
        return True
    if facts.state != "following" or not facts.position or not seen.entry:
        return False
    return _seconds(facts.position) - _seconds(seen.entry) > FORGIVEN


def _seconds(entry: str) -> float:
    """When a journal entry was made."""
    return int(entry.partition("-")[0]) / 1000


class Guard:
    """Of one queue in one process.

    Args:
        store: the mirror's.
        queue: the client that is guarded.
        rebuilds: rebuild an empty server instead of raising `StateLost`. Never one that has something.
    """

    def __init__(self, store: Store, queue: Any, *, rebuilds: bool = False) -> None:
        self.store, self.queue, self.rebuilds = store, queue, rebuilds
        self.name: str = queue.name
        self._facts: Facts | None = None
        self._asked = -FRESH
        self._lock = threading.Lock()

    def facts(self, *, fresh: bool = False) -> Facts | None:
        """What the mirror knows. None where it knows nothing, or has never answered: then the queue goes on without.

        While Postgres is away the last answer counts, as long as it takes: no queue stands still for that.
        """
        with self._lock:
            if fresh or time.monotonic() - self._asked > FRESH:
                try:
                    rows = self.store.rows("guard_facts", queue=self.name)
                except MirrorError as error:
                    log.warning("queue %s: not compared with its mirror: %s", self.name, error)
                else:
                    self._facts = Facts(*rows[0]) if rows else None
                self._asked = time.monotonic()
            return self._facts

    def questions(self, session: Session, facts: Facts) -> list[Sequence[bytes | str | int]]:
        """What is asked of a server, command by command."""
        return [
            ("HMGET", session.keys["meta"], "epoch", "state", "stamp"),
            ("XREVRANGE", session.keys["journal"], facts.position or "+", "-", "COUNT", 1),
        ]

    def seen(self, answers: Sequence[Any]) -> Seen:
        """The answers to these questions."""
        (epoch, state, stamp), entries = answers
        entry = entries[0][0].decode() if entries else ""
        return Seen(None if epoch is None else int(epoch), (state or b"").decode(), int(stamp or 0), entry)

    def decide(self, session: Session, facts: Facts, seen: Seen) -> bool:
        """Refuses a server, or notes the mirror's epoch as the one that this client knows. False: look again.

        Raises:
            StateLost, StaleEpoch.
        """
        problem = judge(self.name, int(session.epoch or 0), facts, seen)
        if problem is None:
            session.epoch = str(facts.epoch).encode()
            return True
        if facts != (self.facts(fresh=True) or facts):
            return False  # what was remembered of the mirror was out of date
        if not (self.rebuilds and isinstance(problem, StateLost) and seen.epoch is None):
            raise problem
        self.bring_back(session)
        return False

    def bring_back(self, session: Session) -> None:
        """Rebuilds the queue, or waits while another client does.

        Raises:
            MirrorError, ReliqError: it can't be rebuilt.
        """
        log.warning("queue %s is gone from the server; rebuilding it from its mirror", self.name)
        made_of = {name: self.queue._made_of[name] for name in ("url", "timeout")}
        if isinstance(self.queue, Queue):
            made_of["client"] = self.queue._made_of["client"]
        with Queue(self.name, **made_of) as plain:
            try:
                plan = rebuild.plan_rebuild(self.store, plain)
                rebuild.apply(self.store, plan, wait=REBUILD_WAIT)
                rebuild.verify(self.store, plain, wait=REBUILD_WAIT)
            except MirrorConflict as error:  # another one was faster: the next look tells
                log.info("queue %s: %s", self.name, error)
        session.epoch = b""
        self.facts(fresh=True)


class GuardedDriver(Driver):
    """A driver whose connections are looked at with the facts of a mirror. `guard` is set before the first call."""

    guard: Guard

    @classmethod
    def of(cls, guard: Guard) -> Callable[..., GuardedDriver]:
        """Makes drivers with this guard."""

        def make(*arguments: Any) -> GuardedDriver:
            driver = cls(*arguments)
            driver.guard = guard
            return driver

        return make

    def _check(self, connection: Any) -> None:
        super()._check(connection)
        while facts := self.guard.facts():
            answers = [self._answer(connection, _replies.pack(q)) for q in _wires(self.guard, self.session, facts)]
            if self.guard.decide(self.session, facts, self.guard.seen(answers)):
                return

    def _attempt(self, command: Command[T]) -> T:
        if not self.session.epoch:  # the first call carries the mirror's epoch already
            self._links.keep(self._take())
        try:
            return super()._attempt(command)
        except StateLost:
            if not self.guard.rebuilds:
                raise
            self.guard.bring_back(self.session)  # it was flushed under a connection that was looked at before
            return super()._attempt(command)


class AsyncGuardedDriver(AsyncDriver):
    """The same for asyncio. Postgres is asked in a thread."""

    guard: Guard

    @classmethod
    def of(cls, guard: Guard) -> Callable[..., AsyncGuardedDriver]:
        """Makes drivers with this guard."""

        def make(*arguments: Any) -> AsyncGuardedDriver:
            driver = cls(*arguments)
            driver.guard = guard
            return driver

        return make

    async def _check(self, connection: Any) -> None:
        await super()._check(connection)
        while facts := await asyncio.to_thread(self.guard.facts):
            wires = _wires(self.guard, self.session, facts)
            answers = [await self._answer(connection, _replies.pack(q)) for q in wires]
            if await asyncio.to_thread(self.guard.decide, self.session, facts, self.guard.seen(answers)):
                return

    async def _attempt(self, command: Command[T]) -> T:
        if not self.session.epoch:  # the first call carries the mirror's epoch already
            self._links.keep(await self._take())
        try:
            return await super()._attempt(command)
        except StateLost:
            if not self.guard.rebuilds:
                raise
            await asyncio.to_thread(self.guard.bring_back, self.session)
            return await super()._attempt(command)


def _wires(guard: Guard, session: Session, facts: Facts) -> list[tuple[bytes | str | int, ...]]:
    return [tuple(question) for question in guard.questions(session, facts)]
