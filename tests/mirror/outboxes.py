"""An outbox, the queue that it leads to, and a relay that is called by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from reliq import Queue
from reliq.embedded import Server
from reliq.mirror.outbox import enqueue_in
from reliq.mirror.relay import Relay
from reliq.mirror.store import Store


@dataclass
class Outbox:
    """The outbox of the queue `emails`."""

    dsn: str
    queue: Queue
    server: Server
    store: Store

    def write(self, *payloads: Any, **options: Any) -> None:
        """Writes rows in a transaction of their own."""
        with psycopg.connect(self.dsn) as connection:
            for payload in payloads:
                enqueue_in(connection, self.queue, payload, **options)

    def carry(self, queue: Queue | None = None) -> int:
        """Lets a relay carry what is there."""
        return Relay(self.store, queue or self.queue).run_once()

    def sql(self, statement: str) -> list[Any]:
        """Runs a statement by itself."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def rows(self) -> int:
        """How many rows wait."""
        return int(self.sql("SELECT count(*) FROM reliq.outbox")[0][0])

    @contextmanager
    def relay(self, queue: Queue | None = None) -> Iterator[Relay]:
        """A relay that runs."""
        stop, relay = threading.Event(), Relay(self.store, queue or self.queue)
        thread = threading.Thread(target=relay.run, args=(stop,), name="relay")
        thread.start()
        try:
            yield relay
        finally:
            stop.set()
            thread.join(timeout=15)
            assert not thread.is_alive()
