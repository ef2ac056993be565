"""Asyncio twin of `_waits.py`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypeVar

from redis.exceptions import RedisError

from reliq import _policy, _replies
from reliq._calls_async import AsyncCalls
from reliq._plans import Block, Listen
from reliq._policy import Retry, ScriptMissing
from reliq._session import Command

T = TypeVar("T")
log = logging.getLogger("reliq")


class AsyncWaits(AsyncCalls):
    """Waits of a driver. None of them carries an item that its receipt would not bring again."""

    async def call(self, command: Command[T]) -> T:
        """Sends a command until it is answered or the deadline is over."""
        raise NotImplementedError

    async def _block(self, effect: Block) -> bytes | None:
        """Waits for a token. Carries no item, so that nothing is lost with it."""
        keys = effect.keys or (self.session.keys["wake"],)
        seconds = min(effect.seconds, self._connector.longest_block)
        try:
            # Silence beyond the end of the wait is a link that was cut: nobody needs the usual patience to see that.
            patience = min(seconds + _policy.MARGIN, self._connector.patience)
            reply = await self._exchange(_replies.pack(("BLPOP", *keys, f"{seconds:.3f}")), patience)
            return reply[0] if reply else None
        except Retry:
            await asyncio.sleep(_policy.pause_before(1))  # the claim that follows will tell what is wrong
        except RedisError as error:
            log.info("waiting on queue %s: %s", self.session.queue, error)
            await asyncio.sleep(_policy.pause_before(1))
        return None

    async def _block_then(self, effect: Block, command: Command[T]) -> T:
        """Asyncio twin of `Driver._block_then`."""
        keys = effect.keys or (self.session.keys["wake"],)
        seconds = min(effect.seconds, self._connector.longest_block)
        packed = _replies.pack(("BLPOP", *keys, f"{seconds:.3f}")) + _replies.pack(self.session.wire(command))
        connection = await self._take()
        try:
            waited, reply = await self._both(
                connection, packed, min(seconds + _policy.MARGIN, self._connector.patience)
            )
        except RedisError as error:
            raise _replies.from_loss(error, connection) from error
        failure = waited if isinstance(waited, RedisError) else reply
        if not isinstance(failure, RedisError):
            self._links.keep(connection)
            return self.session.accept(command, reply)
        await self._keep(connection, failure)
        verdict = _replies.from_reply(failure, command, self.session, connection)
        if isinstance(verdict, ScriptMissing):
            return await self._attempt(command)
        raise verdict from failure

    async def _listen(self, effect: Listen) -> Any:
        """Asks, and asks again at each message. A listener that breaks off is made up for by asking."""
        loop = asyncio.get_running_loop()
        until = loop.time() + effect.seconds
        connection = await self._listener(effect.channel)
        try:
            while True:
                left = max(0.0, min(until - loop.time(), _policy.BLOCK))
                answer = await self.call(effect.ask(left))
                if answer is not None or not left:
                    return answer
                if connection is None:
                    await asyncio.sleep(_policy.pause_before(1))
                    connection = await self._listener(effect.channel)
                elif not await self._heard(connection, left):
                    connection = None
        finally:
            if connection is not None:
                await self._links.drop(connection)

    async def _listener(self, channel: bytes) -> Any:
        """A connection that listens, None where there can be none now."""
        try:
            connection = await self._links.open()
            await self._answer(connection, _replies.pack(("SUBSCRIBE", channel)))
        except (RedisError, Retry) as error:
            log.info("queue %s: not listening: %s", self.session.queue, error)
            return None
        return connection

    async def _heard(self, connection: Any, seconds: float) -> bool:
        """Waits for a message, or for the time to pass. False where the connection is gone."""
        try:
            async with asyncio.timeout(seconds):
                await connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except TimeoutError:
            return True
        except (RedisError, OSError):
            await self._links.drop(connection)
            return False
        return True
