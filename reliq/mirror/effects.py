"""Effects once: a mark that commits with the user's own writes, and tells a later delivery that they have been done.

Delivery is at least once. A worker can be killed between its commit and its finish; the item is then delivered again,
finds its mark, and is finished without doing its work a second time. This holds for what is written in the transaction
of the mark, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from reliq.errors import InvalidArgument
from reliq.item import Item
from reliq.mirror import _sql
from reliq.mirror._transactions import AsyncHandle, AsyncTransaction, Transaction, async_transaction_of, transaction_of

__all__ = ["effects_once", "finish_in"]

C = TypeVar("C")


@overload
def finish_in(connection: AsyncHandle, item: Item) -> Awaitable[bool]: ...


@overload
def finish_in(connection: Any, item: Item) -> bool: ...


def finish_in(connection: Any, item: Item) -> bool | Awaitable[bool]:
    """Marks an item as done in the transaction that is open on `connection`.

    Call it first, write what the item asks for where it returns True, commit, and then finish the item. Where another
    delivery of the item has a transaction open that marked it, this waits until that one is through.

    Args:
        connection: a connection of psycopg, SQLAlchemy or Django, or a session of SQLAlchemy, to the database of the
            mirror, in which the effects are written too. With an async one the call is to be awaited.
        item: an item that was claimed.

    Returns:
        True: no delivery of this item has committed its effects; they may be done now, in this transaction. False: one
        has, only the finish is missing.

    Raises:
        InvalidArgument: the connection is in autocommit mode and not in a transaction.
        What the connection's package raises where the database refuses, as with an isolation level of REPEATABLE READ
        or above and a mark that was committed since the transaction began: roll back and try again.

    If the caller dies before it has committed there is neither mark nor effect; after it the next delivery sees False.
    The relay forgets a mark when the queue does not hold the item any more and would not know its id either.
    """
    if (awaitable := async_transaction_of(connection)) is not None:
        return _mark_async(awaitable, item)
    return _mark(transaction_of(connection), item)


def _mark(transaction: Transaction, item: Item) -> bool:
    if transaction.autocommits():
        raise _not_in_a_transaction()
    return transaction.found(_sql.statement("mark_effects"), _parameters(item))


async def _mark_async(transaction: AsyncTransaction, item: Item) -> bool:
    if await transaction.autocommits():
        raise _not_in_a_transaction()
    return await transaction.found(_sql.statement("mark_effects"), _parameters(item))


def _parameters(item: Item) -> dict[str, Any]:
    return {"queue": item.queue, "id": item.key, "epoch": item.epoch, "delivery": item.delivery}


def _not_in_a_transaction() -> InvalidArgument:
    return InvalidArgument(
        "the connection is in autocommit mode: the mark would not commit with what you write beside it"
    )


class effects_once(Generic[C]):  # noqa: N801  used as a function is
    """Opens a transaction, marks an item in it, and commits both with what the block writes.

        with effects_once(connection, item) as fresh:
            if fresh:
                connection.execute("UPDATE ...")
        queue.finish(item)

    `fresh` is what `finish_in` returns. Where the block ends with an error, all is rolled back, the mark too.
    When the block is over the effects are committed, and the item can be finished: a worker does that by itself when
    its handler returns. With an async connection it is `async with`.

    Args:
        connection: as for `finish_in`, without an open transaction.
        item: an item that was claimed.

    Raises:
        InvalidArgument: a transaction is open on the connection already, whose commit is not ours. Use `finish_in`.
    """

    def __init__(self, connection: C, item: Item) -> None:
        self._connection = connection
        self._item = item
        self._block = ExitStack()
        self._async_block = AsyncExitStack()

    def __enter__(self) -> bool:
        transaction = transaction_of(self._connection)
        _check_closed(transaction)
        with ExitStack() as opened:
            opened.enter_context(transaction.begin())
            fresh = _mark(transaction, self._item)
            self._block = opened.pop_all()
        return fresh

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._block.__exit__(kind, error, tb)

    async def __aenter__(self) -> bool:
        transaction = async_transaction_of(self._connection)
        if transaction is None:
            raise InvalidArgument("`async with` goes with an async connection")
        _check_closed(transaction)
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(transaction.begin())
            fresh = await _mark_async(transaction, self._item)
            self._async_block = opened.pop_all()
        return fresh

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._async_block.__aexit__(kind, error, tb)


def _check_closed(transaction: Transaction | AsyncTransaction) -> None:
    if transaction.is_open():
        raise InvalidArgument(
            "a transaction is open on the connection already, and it would still be open after the block: "
            "use finish_in, and commit before you finish the item"
        )
