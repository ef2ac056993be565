"""Enqueueing in a transaction of one's own: the item exists if the transaction commits, and not otherwise.

The row that is written here is carried to Redis by the relay (relay.py), in order, once its transaction has committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from functools import lru_cache
from typing import Any, overload

from reliq import _ids, _plans
from reliq._keys import check_name
from reliq._policy import Seconds
from reliq._session import Session
from reliq.errors import InvalidArgument
from reliq.mirror import _sql
from reliq.mirror._transactions import AsyncHandle, AsyncTransaction, Transaction, async_transaction_of, transaction_of
from reliq.queue import Queue
from reliq.queue_async import AsyncQueue

__all__ = ["enqueue_in"]


@overload
def enqueue_in(
    connection: AsyncHandle,
    queue: str | Queue | AsyncQueue,
    payload: Any,
    *,
    id: str | None = ...,
    delay: Seconds | None = ...,
    at: float | None = ...,
    headers: Mapping[str, str] | None = ...,
    group: str | None = ...,
    autocommit: bool = ...,
) -> Awaitable[str]: ...


@overload
def enqueue_in(
    connection: Any,
    queue: str | Queue | AsyncQueue,
    payload: Any,
    *,
    id: str | None = ...,
    delay: Seconds | None = ...,
    at: float | None = ...,
    headers: Mapping[str, str] | None = ...,
    group: str | None = ...,
    autocommit: bool = ...,
) -> str: ...


def enqueue_in(
    connection: Any,
    queue: str | Queue | AsyncQueue,
    payload: Any,
    *,
    id: str | None = None,
    delay: Seconds | None = None,
    at: float | None = None,
    headers: Mapping[str, str] | None = None,
    group: str | None = None,
    autocommit: bool = False,
) -> str | Awaitable[str]:
    """Writes an item into the outbox, in the transaction that is open on `connection`.

    It reaches Redis after the commit, when the relay carries it there: `mirror.relay`. If the transaction is rolled
    back there is no item. Redis is not asked here, so it may be away. An id that the queue knows is left as it is.

    Args:
        connection: a connection of psycopg, SQLAlchemy or Django, or a session of SQLAlchemy, to the database of the
            mirror. With an async one the call is to be awaited.
        queue: a queue, whose codecs and payload type are applied here; or the name of one: plain msgpack.
        payload: anything that msgpack can carry, or what the queue's payload type is.
        id: 1 to 200 bytes of printable text; None for a new UUIDv7.
        delay: seconds (or a timedelta) from now until it is due. They count from this call, not from the commit.
        at: Unix seconds on Redis's clock at which it is due. Not together with `delay`.
        headers: string pairs that travel beside the payload.
        group: items of one group are handled one at a time and in their order.
        autocommit: allow a connection without an open transaction in autocommit mode: the row is committed at once.

    Returns:
        The id.

    Raises:
        InvalidArgument: an argument is out of range, or the connection is in autocommit mode and not in a transaction.
        PayloadError: the payload can't be carried or is over the queue's `max_payload`.
        What the connection's package raises where the database refuses the row or can't be reached.

    If the caller dies before it has committed there is no item; after that it will be enqueued.
    """
    body = _plans.body_of_one(_session_of(queue), payload, id, delay, at, headers, group)
    parameters = {
        "queue": queue if isinstance(queue, str) else queue.name,
        "id": body.key,
        "body": body.body,
        "due": body.due,
        "group_name": body.group.decode(),
    }
    if (awaitable := async_transaction_of(connection)) is not None:
        return _write_async(awaitable, parameters, autocommit=autocommit)
    return _write(transaction_of(connection), parameters, autocommit=autocommit)


def _write(transaction: Transaction, parameters: Mapping[str, Any], *, autocommit: bool) -> str:
    if transaction.autocommits() and not autocommit:
        raise _not_in_a_transaction()
    transaction.run(_sql.statement("add_to_outbox"), parameters)
    return _ids.unpack(parameters["id"])


async def _write_async(transaction: AsyncTransaction, parameters: Mapping[str, Any], *, autocommit: bool) -> str:
    if await transaction.autocommits() and not autocommit:
        raise _not_in_a_transaction()
    await transaction.run(_sql.statement("add_to_outbox"), parameters)
    return _ids.unpack(parameters["id"])


def _not_in_a_transaction() -> InvalidArgument:
    return InvalidArgument(
        "the connection is in autocommit mode, so the item would not depend on what you write beside it: "
        "open a transaction, or pass autocommit=True"
    )


def _session_of(queue: str | Queue | AsyncQueue) -> Session:
    """What codes the payloads of a queue."""
    return _plain_session(check_name(queue)) if isinstance(queue, str) else queue._session


@lru_cache(maxsize=256)
def _plain_session(name: str) -> Session:
    return Session(name)
