"""A thread of every worker that tells its queues who is there, and sweeps for the whole fleet where it is its turn.

Whoever holds a queue's sweep lease returns expired leases and due items to it, the moment they are due: it sleeps until
then, and an item that is due earlier sounds an alarm. One worker of the fleet at a time; when it goes, the next one to
say that it is there takes over. Recurring items are enqueued by whoever sees that a tick is due, which is the one who
sweeps; another one where that one can't.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from reliq import _codec, _commands, _cron
from reliq._commands import Beat
from reliq._driver import Driver
from reliq._plans import Block, Plan
from reliq._renewals_thread import sync_connector
from reliq.errors import ReliqError
from reliq.info import ItemInfo

log = logging.getLogger("reliq.worker")

BEAT = 10.0  # seconds between two beats of a worker that does not sweep
SWEEP = 4.0  # seconds between two sweeps at most, also where nothing is known to fall due: the bound that is promised
SWEEP_LEASE = 12.0  # seconds after which another worker may sweep: three sweeps may fail
PATIENCE = 3.0  # seconds that one call goes on trying; the next beat tries again in any case
UNBORN = 2.0  # seconds between two looks for a queue that nobody has used yet
RETRY = 1.0  # seconds between two beats while they fail
LAST_CALL = 1.0  # seconds that a worker goes on trying to take its leave

Facts = Callable[[], Mapping[str, Any]]
Resolver = Callable[[ItemInfo], str | None]
Duty = Callable[[Any], object]


def worker_name() -> str:
    """A name for a worker: `host:pid:` and eight random characters."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{secrets.token_hex(4)}"


def release_name() -> str:
    """The version of reliq that runs."""
    try:
        return version("reliq-queue")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0.0.0"


@dataclass(slots=True)
class _Charge:
    """A queue to look after. `due`: when the next beat is (monotonic)."""

    queue: Any
    driver: Driver
    due: float = 0.0
    sweeps: bool = False
    failing: bool = field(default=False)


class Housekeeper:
    """Looks after the queues of one worker, over connections of its own.

    Args:
        queues: `Queue` or `AsyncQueue` objects of one server. They are not used themselves.
        facts: what the worker says of itself: the fields of `WorkerInfo` that it knows.
        duties: what else the one who sweeps does for a queue, at each sweep. An error in one is logged.
        name: of the worker.
    """

    def __init__(
        self, queues: Sequence[Any], facts: Facts, *, duties: Sequence[Duty] = (), name: str | None = None
    ) -> None:
        self.name = name or worker_name()
        self._facts, self._duties = facts, tuple(duties)
        self._own = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "version": release_name()}
        self._charges = [_Charge(queue, Driver(sync_connector(queue), queue._session, PATIENCE)) for queue in queues]
        self._stopped = threading.Event()
        self._break_off: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name="reliq-housekeeper", daemon=True)

    def start(self) -> None:
        """Begins, with a first beat at once."""
        self._thread.start()

    def stop(self) -> None:
        """Takes the worker off the lists, gives sweep leases back, and ends the thread.

        Where the server is away, or a duty takes long, that is not waited for: the worker is forgotten in time, and its
        sweep lease ends.
        """
        self._stopped.set()
        for charge in self._charges:
            charge.driver.timeout = LAST_CALL
        if break_off := self._break_off:
            break_off()
        self._thread.join(PATIENCE)
        for charge in self._charges:
            if not charge.failing and not self._thread.is_alive():
                self._leave(charge)
            charge.driver.close()

    def _leave(self, charge: _Charge) -> None:
        try:
            charge.driver.call(_commands.beat(self.name, b"", 0))
        except (ReliqError, OSError) as error:
            log.info("queue %s: not taken off the list of workers: %s", charge.queue.name, error)

    def _run(self) -> None:
        while not self._stopped.is_set():
            now = time.monotonic()
            for charge in self._charges:
                if charge.due <= now:
                    self._look_after(charge)
            self._rest(min(charge.due for charge in self._charges) - time.monotonic())

    def _look_after(self, charge: _Charge) -> None:
        beat = self._beat(charge)
        charge.sweeps = beat is not None and beat.sweeps
        if beat and beat.tick_due:
            self._tick(charge)
        if beat is None:
            charge.due = time.monotonic() + RETRY * random.uniform(0.5, 1.0)
            return
        if not beat.sweeps:
            pause = BEAT if charge.queue._session.epoch else UNBORN
            charge.due = time.monotonic() + pause * random.uniform(0.8, 1.0)  # a fleet that started at once spreads
            return
        for duty in self._duties:
            self._do(duty, charge.queue)
        pause = SWEEP if beat.next_event is None else min(SWEEP, beat.next_event)
        charge.due = time.monotonic() + max(pause, 0.001)

    def _beat(self, charge: _Charge) -> Beat | None:
        """One call. Where it fails the worker goes on without; it is logged when that begins and when it ends."""
        facts = _codec.pack_payload({**self._own, **self._facts()})
        try:
            beat = charge.driver.call(_commands.beat(self.name, facts, SWEEP_LEASE))
        except (ReliqError, OSError) as error:
            if not charge.failing:
                log.warning("queue %s: not looked after: %s", charge.queue.name, error)
            charge.failing = True
            return None
        if charge.failing:
            log.info("queue %s: looked after again", charge.queue.name)
        charge.failing = False
        return beat

    def _tick(self, charge: _Charge) -> None:
        """Enqueues recurring items. Its own connection: the queue's may belong to an event loop."""
        try:
            charge.driver.run(_cron.tick(charge.queue._session))
        except (ReliqError, OSError) as error:
            log.warning("queue %s: ticks wait: %s", charge.queue.name, error)
        except Exception:  # a codec is the user's code; sweeping goes on
            log.exception("queue %s: ticks wait", charge.queue.name)

    def _do(self, duty: Duty, queue: Any) -> None:
        try:
            duty(queue)
        except Exception:  # a duty may call the user's code; sweeping goes on
            log.exception("queue %s: %s failed", queue.name, getattr(duty, "__name__", duty))

    def _rest(self, seconds: float) -> None:
        """Sleeps; where this worker sweeps, until the alarm of one of its queues at most."""
        swept = [charge for charge in self._charges if charge.sweeps]
        if not swept or seconds <= 0:
            self._stopped.wait(max(0.0, seconds))
            return
        keys = tuple(charge.queue._session.keys["alarm"] for charge in swept)
        try:
            rung = swept[0].driver.run(_listen(keys, seconds, self._breakable))
        except (ReliqError, OSError, ValueError) as error:  # the next beat will tell what is wrong
            log.info("queue %s: not listening for alarms: %s", swept[0].queue.name, error)
            self._stopped.wait(min(seconds, RETRY))
            return
        finally:
            self._break_off = None
        for charge, key in zip(swept, keys, strict=True):
            if key == rung:
                charge.due = 0.0

    def _breakable(self, break_off: Callable[[], object]) -> None:
        self._break_off = break_off
        if self._stopped.is_set():
            break_off()


def _listen(
    keys: tuple[bytes, ...], seconds: float, breakable: Callable[[Callable[[], object]], object]
) -> Plan[bytes | None]:
    rung: bytes | None = yield Block(seconds, keys, breakable, exact=True)
    return rung
