"""A transaction of the user's own, whoever's connection it is in: psycopg's, SQLAlchemy's or Django's.

SQLAlchemy and Django are not imported unless a connection is theirs. Errors of the database come as the connection's
own package raises them: it is the user's transaction, and their code knows what to do when it fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

import psycopg
from psycopg.pq import TransactionStatus

from reliq.errors import InvalidArgument

__all__ = ["AsyncHandle", "AsyncTransaction", "Transaction", "async_transaction_of", "transaction_of"]

_PLACE = re.compile(r"%\((\w+)\)s")  # as psycopg has it; SQLAlchemy's is :name
Parameters = Mapping[str, Any]


class AsyncHandle(Protocol):
    """What an async connection or session looks like."""

    def execute(self, *args: Any, **kwargs: Any) -> Any: ...

    async def rollback(self) -> None: ...


class Transaction(Protocol):
    """A connection (or session) of the user's."""

    def is_open(self) -> bool:
        """Whether a transaction is open that its owner has to commit."""

    def autocommits(self) -> bool:
        """Whether the next statement would be a transaction of its own."""

    def begin(self) -> AbstractContextManager[Any]:
        """Opens a transaction that is committed where the block ends well."""

    def run(self, statement: bytes, parameters: Parameters) -> None:
        """Runs a statement that returns nothing."""

    def found(self, statement: bytes, parameters: Parameters) -> bool:
        """Runs a statement, and tells whether it returned a row."""


class AsyncTransaction(Protocol):
    """The same of an async one."""

    def is_open(self) -> bool: ...

    async def autocommits(self) -> bool: ...

    def begin(self) -> AbstractAsyncContextManager[Any]: ...

    async def run(self, statement: bytes, parameters: Parameters) -> None: ...

    async def found(self, statement: bytes, parameters: Parameters) -> bool: ...


def transaction_of(connection: Any) -> Transaction:
    """What to do things with in the transaction of a sync connection.

    Raises:
        InvalidArgument: it is no connection or session that is known here, or its database is no Postgres.
    """
    modules = _modules(connection)
    if isinstance(connection, psycopg.Connection):
        return _Psycopg(connection)
    if any(module.startswith("sqlalchemy.") for module in modules):
        return _SQLAlchemy(connection)
    if any(module.startswith("django.") for module in modules):
        return _Django(connection)
    raise InvalidArgument(
        f"expected a connection of psycopg, SQLAlchemy or Django, or a session of SQLAlchemy, not {_name(connection)}"
    )


def async_transaction_of(connection: Any) -> AsyncTransaction | None:
    """The same for an async connection; None for what is none."""
    if isinstance(connection, psycopg.AsyncConnection):
        return _AsyncPsycopg(connection)
    if any(module.startswith("sqlalchemy.ext.asyncio") for module in _modules(connection)):
        return _AsyncSQLAlchemy(connection)
    return None


def _modules(connection: object) -> list[str]:
    return [kind.__module__ for kind in type(connection).__mro__]


def _name(connection: object) -> str:
    return f"{type(connection).__module__}.{type(connection).__qualname__}"


def _check_postgres(vendor: str) -> None:
    if vendor != "postgresql":
        raise InvalidArgument(f"the connection leads to {vendor}, and the mirror is in Postgres")


class _Psycopg:
    """A plain cursor in each call: the connection's own may have any row factory and any style of parameters."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def is_open(self) -> bool:
        return self._connection.info.transaction_status is not TransactionStatus.IDLE

    def autocommits(self) -> bool:
        return self._connection.autocommit and not self.is_open()

    def begin(self) -> AbstractContextManager[Any]:
        return self._connection.transaction()

    def run(self, statement: bytes, parameters: Parameters) -> None:
        with psycopg.Cursor(self._connection) as cursor:
            cursor.execute(statement, parameters)

    def found(self, statement: bytes, parameters: Parameters) -> bool:
        with psycopg.Cursor(self._connection) as cursor:
            return cursor.execute(statement, parameters).fetchone() is not None


class _AsyncPsycopg:
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    def is_open(self) -> bool:
        return self._connection.info.transaction_status is not TransactionStatus.IDLE

    async def autocommits(self) -> bool:
        return self._connection.autocommit and not self.is_open()

    def begin(self) -> AbstractAsyncContextManager[Any]:
        return self._connection.transaction()

    async def run(self, statement: bytes, parameters: Parameters) -> None:
        async with psycopg.AsyncCursor(self._connection) as cursor:
            await cursor.execute(statement, parameters)

    async def found(self, statement: bytes, parameters: Parameters) -> bool:
        async with psycopg.AsyncCursor(self._connection) as cursor:
            await cursor.execute(statement, parameters)
            return await cursor.fetchone() is not None


def _text(statement: bytes) -> Any:
    import sqlalchemy  # noqa: PLC0415  whoever has one of its connections has it

    return sqlalchemy.text(_PLACE.sub(r":\1", statement.decode()))


def _driver_autocommits(connection: Any) -> bool:
    """Whether a SQLAlchemy connection has the isolation level AUTOCOMMIT: its drivers all say so in an attribute."""
    _check_postgres(connection.dialect.name)
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


class _SQLAlchemy:
    """A Connection, or a Session, which gives the connection of its transaction."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle() if callable(handle) else handle  # a scoped session gives the one of this thread
        if not hasattr(self._handle, "in_transaction"):
            raise InvalidArgument(f"expected a connection or a session of SQLAlchemy, not {_name(handle)}")

    def is_open(self) -> bool:
        return bool(self._handle.in_transaction())

    def autocommits(self) -> bool:
        return _driver_autocommits(self._connection())

    def begin(self) -> AbstractContextManager[Any]:
        block: AbstractContextManager[Any] = self._handle.begin()
        return block

    def run(self, statement: bytes, parameters: Parameters) -> None:
        self._connection().execute(_text(statement), parameters)

    def found(self, statement: bytes, parameters: Parameters) -> bool:
        return self._connection().execute(_text(statement), parameters).first() is not None

    def _connection(self) -> Any:
        is_session = callable(self._handle.connection)
        return self._handle.connection() if is_session else self._handle


class _AsyncSQLAlchemy:
    def __init__(self, handle: Any) -> None:
        self._handle = handle() if callable(handle) else handle

    def is_open(self) -> bool:
        return bool(self._handle.in_transaction())

    async def autocommits(self) -> bool:
        connection = await self._connection()
        return _driver_autocommits(connection.sync_connection)

    def begin(self) -> AbstractAsyncContextManager[Any]:
        block: AbstractAsyncContextManager[Any] = self._handle.begin()
        return block

    async def run(self, statement: bytes, parameters: Parameters) -> None:
        await (await self._connection()).execute(_text(statement), parameters)

    async def found(self, statement: bytes, parameters: Parameters) -> bool:
        result = await (await self._connection()).execute(_text(statement), parameters)
        return result.first() is not None

    async def _connection(self) -> Any:
        is_session = not hasattr(self._handle, "sync_connection")
        return await self._handle.connection() if is_session else self._handle


class _Django:
    """`django.db.connection`, or one of `django.db.connections`."""

    def __init__(self, connection: Any) -> None:
        _check_postgres(connection.vendor)
        self._connection = connection

    def is_open(self) -> bool:
        """As Django's durable blocks see it: the transaction that its TestCase puts around a test does not count."""
        blocks = self._connection.atomic_blocks
        if blocks:
            return any(not getattr(block, "_from_testcase", False) for block in blocks)
        return not self._connection.get_autocommit()

    def autocommits(self) -> bool:
        return bool(self._connection.get_autocommit())

    def begin(self) -> AbstractContextManager[Any]:
        from django.db import transaction  # noqa: PLC0415  as above

        block: AbstractContextManager[Any] = transaction.atomic(using=self._connection.alias)
        return block

    def run(self, statement: bytes, parameters: Parameters) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement.decode(), parameters)

    def found(self, statement: bytes, parameters: Parameters) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(statement.decode(), parameters)
            return cursor.fetchone() is not None
