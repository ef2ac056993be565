"""What becomes of psycopg's exceptions, and how a database is called in messages: without a password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as theirs
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import PoolClosed, PoolTimeout

from reliq.connect import mask
from reliq.errors import InvalidURL, MirrorError, MirrorSchema, MirrorUnavailable

_PASSWORD = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE)
_MISSING = (
    theirs.UndefinedTable,
    theirs.UndefinedColumn,
    theirs.UndefinedFunction,
    theirs.InvalidSchemaName,
    theirs.InsufficientPrivilege,
)
_PASSING = (theirs.SerializationFailure, theirs.DeadlockDetected)


@contextmanager
def translated(dsn: str) -> Iterator[None]:
    """Turns what psycopg raises into exceptions of ours, with passwords masked.

    Raises:
        MirrorUnavailable, MirrorSchema, MirrorError.
    """
    try:
        yield
    except psycopg.Error as error:
        raise verdict(error, dsn) from error


def verdict(error: psycopg.Error, dsn: str) -> MirrorError:
    """The exception for one of psycopg's."""
    text = f"{place(dsn)}: {masked(str(error).strip() or type(error).__name__)}"
    if isinstance(error, _MISSING):
        return MirrorSchema(text)
    if isinstance(error, PoolTimeout | PoolClosed):
        return MirrorUnavailable(text)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | theirs.ReadOnlySqlTransaction):
        return MirrorUnavailable(text, may_have_been_applied=_was_lost(error))
    return MirrorError(text)


def _was_lost(error: psycopg.Error) -> bool:
    """Whether the connection broke while an answer was awaited."""
    return not isinstance(error, PoolTimeout | theirs.ConnectionTimeout) and (
        error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))
    )


def may_pass(error: BaseException | None) -> bool:
    """Whether the same request has a chance at once, on another connection."""
    return isinstance(error, _PASSING) or (isinstance(error, psycopg.Error) and _was_lost(error))


def masked(text: str) -> str:
    """A DSN, or text that may hold one, without its password."""
    return _PASSWORD.sub(r"\1***", mask(text))


def place(dsn: str) -> str:
    """Where a DSN leads, for messages: nothing in it is secret."""
    parts = conninfo_to_dict(dsn)
    where = ":".join(str(part) for part in (parts.get("host", "local socket"), parts.get("port")) if part)
    return f"Postgres at {where}/{parts.get('dbname', '')}"


def check_dsn(dsn: object) -> str:
    """Returns a DSN that can be parsed.

    Raises:
        InvalidURL: it can't be.
    """
    try:
        conninfo_to_dict(str(dsn))
    except psycopg.Error as error:
        raise InvalidURL(f"the DSN {masked(str(dsn))} can't be parsed") from error
    return str(dsn)
