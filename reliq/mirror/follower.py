"""The follower of one queue: it takes its turn as the active one, says what is wrong, and tries again."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading

import psycopg

from reliq import errors
from reliq.errors import MirrorConflict, ReliqError, StaleEpoch
from reliq.mirror._copying import Copier
from reliq.mirror._journal import Facts, Journal
from reliq.mirror._turn import Pace, Turn, adopt
from reliq.mirror.store import Connection, Store, query, translated
from reliq.queue import Queue

__all__ = ["Follower", "Pace", "adopt"]

log = logging.getLogger("reliq.mirror")

STANDBY = 1.0  # seconds between two tries to become the active one
NEARLY_FULL = 0.8  # of the journal's bound: then it says so
MAX_PAUSE = 5.0  # seconds between two attempts

# What no waiting cures. Everything else is tried again for as long as the follower runs.
_FATAL = (
    errors.MirrorSchema,
    errors.InvalidArgument,
    errors.AccessDenied,
    errors.ServerTooOld,
    errors.UnknownLayout,
    errors.CorruptState,
)


class Follower:
    """Follows one queue, as the active one or as a standby.

    A session lock in Postgres says who is active. It is not what keeps two from writing: each transaction moves the
    position on from where its writer had read, and writes nothing where somebody else has moved it.
    """

    def __init__(self, store: Store, queue: Queue, pace: Pace, stop: threading.Event) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._store = store
        self._queue = queue
        self._pace = pace
        self._stop = stop
        self._journal = Journal(queue)
        self._copier = Copier(self._journal)
        self._trouble = ""  # what was logged last, so that it is logged once
        self._nearly_full = False
        self._failures = 0

    def run(self, *, once: bool = False) -> None:
        """Follows until it is told to stop; with `once` until it has caught up with what is there now.

        Raises:
            ReliqError: what no waiting cures; with `once` anything.
        """
        while not self._stop.is_set():
            try:
                if self._lead(once) and once:
                    return
            except ReliqError as error:
                if once or isinstance(error, _FATAL):
                    raise
                self._report(error)
                self._stop.wait(self._pause())

    def _lead(self, once: bool) -> bool:
        """Takes the lock and follows. True when it has caught up (`once`) or was told to stop."""
        with translated(self._store.dsn):
            connection = self._store.connect()
            try:
                return self._take_turn(connection, once)
            except (errors.StateLost, StaleEpoch, MirrorConflict):
                query(connection, "note_stopped", {"queue": self._queue.name})
                raise
            finally:
                connection.close()

    def _take_turn(self, connection: Connection, once: bool) -> bool:
        queue = {"queue": self._queue.name}
        while not query(connection, "take_follower_lock", queue)[0][0]:
            if once:
                (follower,) = (query(connection, "who_follows", queue) or [("another program",)])[0]
                raise MirrorConflict(f"queue {self._queue.name!r} is followed by {follower}")
            log.debug("queue %s: another follower is active", self._queue.name)
            if self._stop.wait(STANDBY):
                return True
        try:
            return Turn(self, connection).run(once)
        finally:
            with contextlib.suppress(psycopg.Error):  # the connection is gone, and the lock with it
                query(connection, "leave_follower_lock", queue)  # else it is held until Postgres sees that it is closed

    def _report(self, error: ReliqError) -> None:
        trouble = f"{type(error).__name__}: {error}"
        log.log(logging.WARNING if trouble != self._trouble else logging.DEBUG, "queue %s: %s", self._queue.name, error)
        self._trouble = trouble
        try:  # what can't be written goes on growing: the alarm must not wait for Postgres
            self.watch(self._journal.facts())
        except ReliqError as other:
            log.debug("queue %s: %s", self._queue.name, other)

    def recovered(self) -> None:
        """It works: what comes next is a new trouble."""
        if self._trouble:
            log.warning("queue %s: following again", self._queue.name)
        self._trouble, self._failures = "", 0

    def watch(self, facts: Facts) -> None:
        """Says once that the journal is nearly full."""
        filled = facts.entries / facts.most
        if filled >= NEARLY_FULL and not self._nearly_full:
            text = "queue %s: its journal has %d of %d entries; when it is full the mirror misses changes"
            log.error(text, self._queue.name, facts.entries, facts.most)
        self._nearly_full = filled >= NEARLY_FULL or (self._nearly_full and filled > NEARLY_FULL / 2)

    def _pause(self) -> float:
        self._failures += 1
        return random.uniform(0.5, 1.0) * min(MAX_PAUSE, 0.1 * 2.0 ** min(self._failures, 10))
