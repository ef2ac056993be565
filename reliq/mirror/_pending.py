"""Checkpointed items that were committed and that Redis does not know: their producer died, or could not reach it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from reliq._commands import Body
from reliq.errors import QueueFull, QueuePaused
from reliq.mirror._journal import Journal
from reliq.mirror.store import Connection, query

log = logging.getLogger("reliq.mirror")
PAGE = 200


class Pending:
    """Enqueues such items in the order of their commits, when they are old enough and the follower has caught up.

    What is enqueued here never reached Redis, or a server that was lost. The id says whether an item is there already,
    so this may happen any number of times, and beside its producer. `copy` brings rows of items up to date.
    """

    def __init__(
        self,
        journal: Journal,
        connection: Connection,
        queue: str,
        age: float,
        copy: Callable[[Sequence[bytes]], None],
    ) -> None:
        self._journal = journal
        self._copy = copy
        self._connection = connection
        self._queue = queue
        self._age = age
        self._looked_at = 0.0

    def look(self, *, at_once: bool = False) -> None:
        """Once in `age` seconds: enqueues what is missing."""
        if not at_once and time.monotonic() - self._looked_at < self._age / 3:
            return
        self._looked_at = time.monotonic()
        after = 0
        values = {"queue": self._queue, "age": self._age, "limit": PAGE}
        while page := query(self._connection, "page_of_pending", {**values, "after": after}):
            after = page[-1][0]
            bodies = {row[1]: body_of(*row[1:]) for row in page}
            if not self._settle(bodies):
                return

    def _settle(self, bodies: dict[bytes, Body]) -> bool:
        """Those that Redis knows are met; the others are enqueued, and met when their journal entry is read."""
        ids = list(bodies)
        known = [key for key, value in zip(ids, self._journal.values(ids), strict=True) if value is not None]
        if known:
            self._copy(known)
        missing = [bodies[key] for key in ids if key not in set(known)]
        try:
            if missing:
                self._journal.enqueue(missing)
                text = "queue %s: enqueued %d checkpointed items that Redis did not know"
                log.warning(text, self._queue, len(missing))
        except (QueueFull, QueuePaused) as error:  # they wait in Postgres, and their order stays
            log.info("queue %s: %d checkpointed items wait: %s", self._queue, len(missing), error)
            return False
        return True


def body_of(key: bytes, body: bytes, due: str, group: str, committed_at_ms: int) -> Body:
    """An item as it is sent. A delay counts from the commit."""
    if due.startswith("+"):
        due = str(committed_at_ms + int(due[1:]))
    return Body(key, body, due, group.encode())
