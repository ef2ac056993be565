"""The connections of an asyncio driver: idle, busy, and given up because the master has changed. Twin of _links.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from reliq import _replies, _sentinel
from reliq._policy import Applied, Retry
from reliq._topology import Address, Sentinel, shown
from reliq.connect import Connector

log = logging.getLogger("reliq")

OnFailover = Callable[[str, str], object]


class Home(deque[Any]):
    """Idle connections to one master. When it is given up `left` is set, and its connections are used no more."""

    def __init__(self) -> None:
        super().__init__()
        self.left = asyncio.Event()


class AsyncLinks:
    """Connections for one driver, to wherever the master is. Tasks of one event loop share it; on
    another loop, or in a forked child, it starts over.

    Args:
        connector: makes them.
        check: looks at each new one, and raises where it can't be used.
        on_failover: is called with the old and the new address of the master, on the event loop.
    """

    def __init__(
        self,
        connector: Connector[Any],
        check: Callable[[Any], Awaitable[None]],
        on_failover: OnFailover | None = None,
    ) -> None:
        self.home = Home()
        self.failovers = 0
        self._connector = connector
        self._check = check
        self._on_failover = on_failover
        self._busy: dict[Any, Home] = {}
        self._watch: _sentinel.Watch | None = None
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def take(self) -> Any:
        """An idle connection or a new one; give it back with `keep` or `drop`.

        Raises:
            Retry, ReliqError: there is none to be had.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._pid != os.getpid():
            self._pid, self._loop, self.home, self._busy, self._watch = os.getpid(), loop, Home(), {}, None
        if self._connector.sentinel:
            self._watching(self._connector.sentinel)
        try:
            connection = self.home.pop()
        except IndexError:
            pass  # not in here: an error of `open` has nothing to do with this one
        else:
            self._busy[connection] = self.home
            return connection
        return await self.open()

    async def open(self) -> Any:
        """A new connection, as `take` gives one."""
        home, master = self.home, await self._master()
        while home is not self.home:  # the answer may be about the master before
            home, master = self.home, await self._master()
        connection = self._connector.make(master)
        self._busy[connection] = home
        try:
            self._still(home)
            await connection.connect()
            # Both of redis-py's own timeouts, for sending and reading, cost a task or a timer: ours is one for both.
            connection.socket_timeout = None
            await self._check(connection)
        except RedisError as error:
            await self.drop(connection)
            raise self._explained(_replies.from_connect(error, connection)) from error
        except BaseException:
            await self.drop(connection)
            raise
        return connection

    def keep(self, connection: Any) -> None:
        """Takes a connection back, for the next call; ends it where its master was given up meanwhile."""
        home = self._busy.pop(connection, None)
        if home is self.home:
            home.append(connection)
        else:
            connection._close()

    async def drop(self, connection: Any) -> None:
        """Ends a connection."""
        self._busy.pop(connection, None)
        await connection.disconnect(nowait=True)

    async def pause(self, seconds: float, home: Home) -> None:
        """Waits; no longer than until the master that was known as `home` is given up."""
        if self._connector.sentinel is None:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):  # the time has passed
            async with asyncio.timeout(seconds):
                await home.left.wait()

    async def close(self) -> None:
        """Ends idle connections, and busy ones when they come back. Leaves the watch."""
        if self._watch:
            _sentinel.leave(self._watch, self)
            self._watch = None
        left, self.home = self.home, Home()
        left.left.set()
        while left:
            await left.pop().disconnect()

    def changed(self, old: Address, new: Address | None) -> None:
        """The watch's thread: hands it to the event loop."""
        if self._loop:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and its connections with it
                self._loop.call_soon_threadsafe(self._give_up, old, new)

    def _give_up(self, old: Address, new: Address | None) -> None:
        """No connection to the old master is used any more, nobody waits for an answer on one."""
        left, self.home = self.home, Home()
        left.left.set()
        while left:
            left.pop()._close()
        for connection, home in self._busy.items():
            if home is not self.home:
                _break_off(connection)
        if new and new != old:
            self.failovers += 1
            self._told(shown(old), shown(new))

    def _told(self, old: str, new: str) -> None:
        try:
            if self._on_failover:
                self._on_failover(old, new)
        except Exception:
            log.exception("on_failover failed")

    def _still(self, home: Home) -> None:
        if home is not self.home:
            raise RedisConnectionError("the master has changed meanwhile")

    def _watching(self, sentinel: Sentinel) -> _sentinel.Watch:
        if self._watch is None or self._watch.ended:
            self._watch = _sentinel.join(sentinel, self)
        return self._watch

    async def _master(self) -> Address | None:
        if self._connector.sentinel is None:
            return None
        try:
            async with asyncio.timeout(_sentinel.STUCK):
                return await asyncio.wrap_future(self._watching(self._connector.sentinel).resolve())
        except TimeoutError:
            raise Retry("the Sentinels were not asked in time", Applied.NO) from None

    def replicas(self) -> int:
        """How many replicas the master is known to have by the Sentinels, those that are away included; 0: unknown."""
        return self._watch.replicas() if self._watch else 0

    def _explained(self, failure: Exception) -> Exception:
        remarks = self._watch.remarks() if self._watch else ""
        return Retry(f"{failure}{remarks}", failure.applied) if remarks and isinstance(failure, Retry) else failure


def _break_off(connection: Any) -> None:
    """Ends a connection under whoever waits on it, who gets a connection error."""
    writer = connection._writer
    if writer is not None:
        writer.transport.abort()
