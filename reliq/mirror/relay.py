"""The relay: carries committed rows of the outbox to Redis, in order, and forgets old marks of effects.

It enqueues a batch and then removes its rows. If it dies in between, the next one enqueues the same ids again, which
changes nothing.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from reliq import _plans, _policy
from reliq._commands import Body
from reliq._driver import Driver
from reliq._policy import MAX_BATCH
from reliq._session import Session
from reliq.errors import MirrorConflict, MirrorUnavailable, QueueFull, ReliqError, StaleEpoch
from reliq.mirror._forgetting import forget_effects
from reliq.mirror._outbox_rows import Packer
from reliq.mirror._relay_desk import Desk
from reliq.mirror.store import Store, translated
from reliq.queue import Queue

__all__ = ["OutboxStatus", "Relay", "outbox_status", "relay"]

log = logging.getLogger("reliq.mirror")

_STANDBY = 1.0  # seconds between looks whether the active relay is gone
_SLOW_LOOK = 5.0  # seconds after which a relay that sleeps looks by itself
_HELD = 0.1  # seconds at most between looks while a transaction is open that won't wake us
_REDIS = 2.0  # seconds for Redis to answer, and for room in a full queue: `stop` is not seen meanwhile
_FORGET_EVERY = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """A queue's outbox.

    Attributes:
        queue: its name.
        waiting: rows on their way.
        oldest_age: seconds since the first of them was written.
        refused: rows that were set aside because they can't be sent; `reliq.outbox_refused` has them, with the reason.
        relayed: whether a relay is active.
    """

    queue: str
    waiting: int
    oldest_age: float
    refused: int
    relayed: bool


def outbox_status(store: Store) -> list[OutboxStatus]:
    """The outboxes that have rows, waiting or refused, by queue.

    Raises:
        MirrorError.
    """
    return [OutboxStatus(*row) for row in store.rows("outbox_status")]


class Relay:
    """Carries the outbox of one queue. One relay of a queue is active; others stand by, and take over when it is gone.

    Attributes:
        problem: why it waits, in words; '' while all is well.
    """

    def __init__(self, store: Store, queue: Queue) -> None:
        self.problem = ""
        self.queue = queue.name
        self._store = store
        self._session = Session(queue.name, codecs=queue._session.codecs, max_payload=queue._session.max_payload)
        self._driver = Driver(queue._driver._connector, self._session, _REDIS)
        self._packer = Packer(self._session, queue._session.payload_type)
        self._size = MAX_BATCH
        self._failures = 0
        self._forget_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Carries rows until `stop` is set. Where Postgres or Redis is away, or the queue takes nothing, it waits.

        Raises:
            MirrorSchema: the tables are missing, of another version, or this user lacks a right.

        If the process dies in here the next relay goes on: nothing is lost, and nothing is enqueued twice.
        """
        while not stop.is_set():
            try:
                with self._opened() as desk:
                    self._serve(desk, stop)
            except MirrorUnavailable as error:
                self._wait(error, stop)

    def run_once(self) -> int:
        """Carries what is there now.

        Returns:
            How many rows it dealt with, those that it set aside among them.

        Raises:
            MirrorConflict: another relay of this queue is active.
            MirrorError, and what an enqueue raises: rows that were not sent stay where they are.
        """
        done = 0
        with self._opened() as desk:
            if not desk.take():
                raise MirrorConflict(f"another relay of queue {self.queue!r} is active")
            while count := self._carry(desk):
                done += count
        return done

    @contextmanager
    def _opened(self) -> Iterator[Desk]:
        with translated(self._store.dsn), closing(self._store.connect()) as connection, closing(self._driver):
            yield Desk(connection, self.queue)

    def _serve(self, desk: Desk, stop: threading.Event) -> None:
        while not desk.take():
            if stop.wait(_STANDBY * random.uniform(0.5, 1.0)):
                return
        log.info("queue %s: this relay is the active one", self.queue)
        held = 0
        while not stop.is_set():
            if self._carried(desk, stop):
                held = 0
            elif desk.falls_asleep():
                if not self._carried(desk, stop):
                    self._forget()
                    desk.doze(_SLOW_LOOK, stop)
                desk.wakes()
            else:
                held += 1
                stop.wait(min(_HELD, _policy.pause_before(held)))

    def _carried(self, desk: Desk, stop: threading.Event) -> bool:
        """Whether there was anything to carry; where it could not be sent it has waited a little."""
        try:
            count = self._carry(desk)
        except QueueFull as error:
            if self._size == 1:
                self._wait(error, stop)
            self._size = max(1, self._size // 2)
        except (ReliqError, OSError) as error:
            self._wait(error, stop)
        else:
            self._relieved()
            return count > 0
        return True

    def _carry(self, desk: Desk) -> int:
        rows = desk.rows(self._size)
        if not rows:
            return 0
        bodies, refusals = self._packer.sort(rows)
        for refusal in refusals:
            log.error("queue %s: row %d of the outbox is set aside: %s", self.queue, *refusal)
            desk.refuse(refusal)
        if bodies:
            self._send(desk, bodies)
            desk.remove([row.number for row in rows])
            self._size = min(MAX_BATCH, self._size * 2)
        return len(rows)

    def _send(self, desk: Desk, bodies: list[Body]) -> None:
        epoch = desk.epoch()
        if epoch is not None:  # Postgres knows best which generation of the queue counts
            self._session.epoch = str(epoch).encode()
            desk.checkpoint(bodies)
        self._driver.register()
        patience = _REDIS if self._size == 1 else 0.0
        try:
            self._driver.run(_plans.enqueue(self._session, bodies, patience))
        except StaleEpoch as error:
            if epoch is None and error.found > error.known:  # made anew, and who lost the old one has accepted that
                self._session.epoch = b""
            raise

    def _wait(self, error: Exception, stop: threading.Event) -> None:
        reason = f"{type(error).__name__}: {error}"
        if not self.problem:
            log.warning("queue %s: the relay waits: %s", self.queue, reason)
        self.problem = reason
        self._failures += 1
        stop.wait(_policy.pause_before(self._failures))

    def _relieved(self) -> None:
        if self.problem:
            log.warning("queue %s: the relay goes on", self.queue)
        self.problem, self._failures = "", 0

    def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + _FORGET_EVERY
        try:
            forget_effects(self._store, self._driver, self._session)
        except ReliqError as error:  # they are forgotten the next time
            log.info("queue %s: old marks of effects are kept: %s", self.queue, error)


def relay(store: Store, queues: Sequence[Queue], *, stop: threading.Event | None = None) -> None:
    """Carries the outboxes of several queues until `stop` is set, each in a thread and on a connection of its own.

    Raises:
        MirrorSchema: see `Relay.run`; the others have ended then as well.
    """
    stop, errors = stop or threading.Event(), list[Exception]()

    def work(one: Relay) -> None:
        try:
            one.run(stop)
        except Exception as error:  # noqa: BLE001  raised again in the caller's thread
            errors.append(error)
            stop.set()

    threads = [
        threading.Thread(target=work, args=(Relay(store, queue),), name=f"relay-{queue.name}") for queue in queues
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
    if errors:
        raise errors[0]
