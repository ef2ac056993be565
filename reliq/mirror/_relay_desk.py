"""A relay's side of Postgres: its connection, its locks, and the rows that it reads and removes."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Sequence
from typing import Any

from reliq._commands import Body
from reliq._policy import MAX_BATCH_BYTES
from reliq.mirror._outbox_rows import Refusal, Row
from reliq.mirror.store import Connection, query

_SLICE = 0.5  # seconds after which one who dozes looks whether it is to stop


class Desk:
    """What a relay does with its connection. Its locks are the connection's, and go with it."""

    def __init__(self, connection: Connection, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._noticed = False
        connection.add_notify_handler(self._notice)

    def take(self) -> bool:
        """Becomes the active relay of the queue, where there is none. Once in the life of a connection."""
        if not self._ask("take_relay_lock"):
            return False
        query(self._connection, "listen_to_outbox")
        return True

    def epoch(self) -> int | None:
        """The epoch that Postgres knows of the queue; None where the queue is not mirrored."""
        rows = query(self._connection, "epoch_of_mirrored_queue", {"queue": self._queue})
        return int(rows[0][0]) if rows else None

    def rows(self, limit: int) -> list[Row]:
        """The first rows of the outbox, in order."""
        values = {"queue": self._queue, "rows": limit, "bytes": MAX_BATCH_BYTES}
        return [Row(*row) for row in query(self._connection, "next_of_outbox", values)]

    def checkpoint(self, bodies: Sequence[Body]) -> None:
        """Makes them pending: whatever becomes of Redis before the follower has met them, they are not lost."""
        values: dict[str, Any] = {
            "queue": self._queue,
            "ids": [body.key for body in bodies],
            "bodies": [body.body for body in bodies],
            "dues": [body.due for body in bodies],
            "groups": [body.group.decode() for body in bodies],
        }
        query(self._connection, "checkpoint_outbox", values)

    def remove(self, numbers: Sequence[int]) -> None:
        """Removes rows that Redis has."""
        query(self._connection, "remove_from_outbox", {"queue": self._queue, "numbers": list(numbers)})

    def refuse(self, refusal: Refusal) -> None:
        """Sets a row aside."""
        query(self._connection, "refuse_in_outbox", {"queue": self._queue, **refusal._asdict()})

    def falls_asleep(self) -> bool:
        """From here on who writes to the outbox wakes us. False while somebody who won't has not committed yet."""
        self._noticed = False
        return self._ask("relay_falls_asleep")

    def doze(self, seconds: float, stop: threading.Event) -> None:
        """Waits for a notice, or until `stop` is set. Sends nothing meanwhile."""
        until = time.monotonic() + seconds
        while not self._noticed and not stop.is_set() and (left := until - time.monotonic()) > 0:
            if select.select([self._connection], [], [], min(left, _SLICE))[0]:
                return

    def wakes(self) -> None:
        """Ends `falls_asleep`."""
        self._ask("relay_wakes")

    def _ask(self, name: str) -> bool:
        return bool(query(self._connection, name, {"queue": self._queue})[0][0])

    def _notice(self, _: object) -> None:
        self._noticed = True
