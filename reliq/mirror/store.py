"""The Postgres side: connections, and the statements that go over them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors as theirs
from psycopg_pool import ConnectionPool

from reliq import _policy
from reliq.errors import MirrorSchema, MirrorUnavailable
from reliq.mirror._arrays import ByteaArray, bytea_array
from reliq.mirror._patience import PatientConnection
from reliq.mirror._sql import schema, statement, statements
from reliq.mirror._verdicts import check_dsn, may_pass, place, translated

__all__ = ["Connection", "Store", "check_dsn", "columns", "query", "translated"]

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

SCHEMA_VERSION = 1
MAX_CONNECTIONS = 4  # of a process, beside one for each queue that it follows

# What a connection is told once. TCP gives up a silent server; what keeps its connection and is silent has `timeout`.
_CONNECTION: dict[str, Any] = {
    "application_name": "reliq mirror",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class Store:
    """A database that holds mirrored queues. Threads may share it; a forked child makes connections of its own.

    Args:
        dsn: postgresql://... or key=value pairs, as libpq has them.
        timeout: seconds that a request may wait for a connection, and then for its answer.
    """

    def __init__(self, dsn: str, timeout: float) -> None:
        self.dsn = dsn
        self.timeout = timeout
        self._pool: ConnectionPool[Connection] | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Store({place(self.dsn)!r})"

    def close(self) -> None:
        """Closes the connections that are idle. The store can be used again afterwards."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.close()

    def connect(self) -> Connection:
        """A connection of the caller's own, which closes it.

        Raises:
            MirrorUnavailable, MirrorError.
        """
        with translated(self.dsn):
            connection = PatientConnection.connect(self.dsn, autocommit=True, **_CONNECTION)
        connection.patience = self.timeout
        return connection

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """A connection of the pool, for one use.

        Raises:
            MirrorUnavailable, MirrorSchema, MirrorError.
        """
        with translated(self.dsn), self._own_pool().connection(timeout=self.timeout) as connection:
            yield connection

    def run(self, work: Callable[[Connection], T]) -> T:
        """Calls `work`, which can be repeated, with a connection; again on another one where the first one was lost.

        Raises:
            MirrorUnavailable: no answer within `timeout` seconds.
            MirrorSchema, MirrorError.
        """
        until, attempt, maybe = time.monotonic() + self.timeout, 1, False
        while True:
            try:
                with self.lend() as connection:
                    return work(connection)
            except MirrorUnavailable as error:
                maybe = error.may_have_been_applied = maybe or error.may_have_been_applied
                pause = _policy.pause_before(attempt)
                if not may_pass(error.__cause__) or time.monotonic() + pause > until:
                    raise
                time.sleep(pause)
                attempt += 1

    def rows(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        """Runs a named statement by itself and returns its rows."""
        return self.run(lambda connection: query(connection, name, values))

    def insert(self, name: str, *, where_some_are_there: str, **values: Any) -> list[tuple[Any, ...]]:
        """As `rows` for a plain insert, and where a row is there already with the statement that leaves it as it is.

        Looking for such rows takes a third of the time, and hardly ever finds one.
        """

        def work(connection: Connection) -> list[tuple[Any, ...]]:
            try:
                return query(connection, name, values)
            except theirs.UniqueViolation:  # the same item again: an answer to an earlier call was lost
                return query(connection, where_some_are_there, values)

        return self.run(work)

    def init(self) -> None:
        """Makes the tables where there are none.

        Raises:
            MirrorSchema: there are some of a later version; or this user lacks the right.
        """

        def make(connection: Connection) -> None:
            with connection.transaction():
                query(connection, "take_schema_lock")
                version = self._version(connection)
                if version is None:
                    connection.execute(schema())
                    version = SCHEMA_VERSION
                for step in range(version + 1, SCHEMA_VERSION + 1):
                    connection.execute(statements()[f"migrate_to_{step}"])
                    query(connection, "note_schema_version", {"version": step})

        self.run(make)
        self.check()

    def check(self) -> None:
        """Refuses a database whose tables are missing or of another version.

        Raises:
            MirrorSchema.
        """
        version = self.run(self._version)
        if version is None:
            raise MirrorSchema(f"{place(self.dsn)} has no tables of a mirror: run `reliq mirror init`")
        if version != SCHEMA_VERSION:
            raise MirrorSchema(f"the mirror's tables are of version {version}, this reliq knows {SCHEMA_VERSION}")

    @staticmethod
    def _version(connection: Connection) -> int | None:
        if not query(connection, "has_schema")[0][0]:
            return None
        return int(query(connection, "schema_version")[0][0])

    def _own_pool(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._pool = ConnectionPool(
                    self.dsn,
                    connection_class=PatientConnection,
                    kwargs={"autocommit": True, **_CONNECTION},
                    configure=self._configure,
                    min_size=0,
                    max_size=MAX_CONNECTIONS,
                    num_workers=1,
                    reconnect_timeout=self.timeout,
                    open=True,
                )
            return self._pool

    def _configure(self, connection: Connection) -> None:
        if isinstance(connection, PatientConnection):  # which the pool makes, and its type does not say
            connection.patience = self.timeout


def query(connection: Connection, name: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Runs a named statement on a connection and returns its rows."""
    cursor = connection.execute(statement(name), values)
    return cursor.fetchall() if cursor.description else []


def columns(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> dict[str, Any]:
    """Rows as one array for each column, which is how many of them go in one statement."""
    return {name: _array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _array(values: Sequence[Any]) -> ByteaArray | list[Any]:
    return bytea_array(values) if all(type(value) is bytes for value in values) else list(values)
