"""Asyncio twin of `_pipe.py`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from reliq import _replies
from reliq._driver_async import AsyncDriver
from reliq._pipe import Sent
from reliq._plans import Plan
from reliq._policy import ScriptMissing
from reliq._session import Command


class AsyncPipe:
    """Plans of a driver that are begun, and ended in the order in which they began. For one task.

    A connection is taken with the first of them and given back with the last. Where it breaks, all that is on its way
    fails when it is ended, as each call fails whose reply was lost; what is begun after that takes another connection.
    """

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._sent: deque[Sent] = deque()
        self._connection: Any = None

    async def begin(self, plan: Plan[Any]) -> None:
        """Sends the first effect of a plan, which is a command.

        Raises:
            Retry, ReliqError: it could not be sent.
        """
        plan = self._driver.seen(plan)
        try:
            command: Any = next(plan)
            connection = await self._send(command)
        except BaseException as error:
            plan.throw(error)  # at once, so that it notes what it may have left behind
            raise
        self._sent.append(Sent(plan, command, connection))

    async def end(self) -> Any:
        """Reads the answer to what was begun first, and runs its plan to the end. Each command is tried once.

        Raises:
            Retry, ReliqError: as `AsyncDriver.once`.
        """
        sent, driver = self._sent.popleft(), self._driver

        async def perform(command: Command[Any]) -> Any:
            return await (self._read(sent) if command is sent.command else driver._attempt(command))

        return await driver._interpret(sent.plan, perform, begun=sent.command)

    async def _send(self, command: Command[Any]) -> Any:
        packed = _replies.pack(self._driver.session.wire(command))
        connection = self._connection = self._connection or await self._driver._links.take()
        try:
            async with asyncio.timeout(self._driver._connector.patience):
                await connection.send_packed_command(packed, check_health=False)
        except BaseException as error:
            await self._drop(connection)
            if isinstance(error, RedisError | TimeoutError):
                raise _replies.from_loss(error, connection) from error
            raise
        return connection

    async def _read(self, sent: Sent) -> Any:
        try:
            async with asyncio.timeout(self._driver._connector.patience):
                reply = await sent.connection.read_response(disable_decoding=True)
        except BaseException as error:
            if isinstance(error, TimeoutError):
                error = RedisTimeoutError(f"no answer in {self._driver._connector.patience:g} s")
            if not isinstance(error, RedisError):
                await self._drop(sent.connection)
                raise
            return await self._refused(sent, error)
        self._read_from(sent.connection)
        return self._driver.session.accept(sent.command, reply)

    async def _refused(self, sent: Sent, error: RedisError) -> Any:
        if not _replies.is_reply(error):
            await self._drop(sent.connection)
            raise _replies.from_loss(error, sent.connection) from error
        verdict = _replies.from_reply(error, sent.command, self._driver.session, sent.connection)
        if _replies.ends_connection(error):
            await self._drop(sent.connection)
        else:
            self._read_from(sent.connection)
        if isinstance(verdict, ScriptMissing):
            return await self._driver._attempt(sent.command)  # by itself: it loads the script first
        raise verdict from error

    def _read_from(self, connection: Any) -> None:
        """Gives the connection back when nothing is on its way any more."""
        if connection is self._connection and not self._sent:
            self._connection = None
            self._driver._links.keep(connection)

    async def _drop(self, connection: Any) -> None:
        if connection is self._connection:
            self._connection = None
        await self._driver._links.drop(connection)
