"""One Sentinel: asked again and again, and listened to, over two connections. Part of the watch in _sentinel.py."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import RedisError, ResponseError

from reliq import _topology, connect
from reliq._topology import Address, Answer, Sentinel

# What Sentinels tell their listeners. The first ones say that there is (or may be) a new master, each from another
# Sentinel: the leader, those that hear of it from the leader. The others say that a failover is on its way, or is off.
PROMOTING = b"+failover-state-send-slaveof-noone"
ABORTED = (b"-failover-abort-no-good-slave", b"-failover-abort-slave-timeout", b"-failover-abort-not-elected")
CHANNELS = (b"+switch-master", b"+failover-state-reconf-slaves", b"+try-failover", b"+odown", PROMOTING, *ABORTED)

RECONNECT = 1.0  # seconds between attempts to listen again


class SentinelLink:
    """Reports what one Sentinel answers and announces, until its tasks are cancelled.

    Args:
        sentinel: the topology, for names and credentials.
        address: of this Sentinel.
        pace: seconds until it is asked the next time.
        report: gets each answer, and the round in which it was asked.
        announced: gets the channel of each announcement about our master.
    """

    def __init__(
        self,
        sentinel: Sentinel,
        address: Address,
        *,
        pace: Callable[[], float],
        report: Callable[[Answer, int], None],
        announced: Callable[[bytes], None],
    ) -> None:
        self._sentinel, self.address = sentinel, address
        self._pace, self._report, self._announced = pace, report, announced
        self._wanted = 0
        self._nudged = asyncio.Event()
        self._asking: Any
        self._listening: Any
        self._asking, self._listening = (connect.sentinel_connection(sentinel, address) for _ in range(2))
        self._tasks = [asyncio.create_task(task) for task in (self._ask_on(), self._listen_on())]

    def nudge(self, number: int) -> None:
        """Asks at once, for the round of this number."""
        self._wanted = number
        self._nudged.set()

    async def close(self) -> None:
        """Ends its tasks and closes its connections."""
        for connection in (self._asking, self._listening):
            if writer := getattr(connection, "_writer", None):
                writer.transport.abort()  # TLS would wait for the other side's farewell, and the loop ends before that
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def leave_to_parent(self) -> None:
        """In a forked child: lets go of the copies of both connections, without a word to anybody.

        Their numbers stay taken, by something harmless: Python's objects may still close them.
        """
        for connection in (self._asking, self._listening):
            writer = getattr(connection, "_writer", None)
            opened = writer.get_extra_info("socket") if writer else None
            if opened is not None and opened.fileno() >= 0:
                nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                os.dup2(nothing, opened.fileno(), inheritable=False)
                os.close(nothing)

    async def _ask_on(self) -> None:
        try:
            while True:
                self._nudged.clear()
                number = self._wanted
                self._report(await self._ask(), number)
                with contextlib.suppress(TimeoutError):  # nobody is in a hurry
                    async with asyncio.timeout(self._pace()):
                        await self._nudged.wait()
        finally:
            await self._asking.disconnect(nowait=True)

    async def _ask(self) -> Answer:
        try:
            async with asyncio.timeout(self._sentinel.sentinel_timeout):
                await self._asking.connect()
                return _topology.answer_of(self.address, await self._replies())
        except TimeoutError:
            failure = f"no answer in {self._sentinel.sentinel_timeout:g} s"
        except (RedisError, OSError) as error:
            failure = connect.mask(str(error))
        except (ValueError, TypeError, AttributeError, LookupError) as error:  # what answers is no Sentinel
            failure = f"its answer can't be read: {type(error).__name__}"
        await self._asking.disconnect(nowait=True)
        return Answer(self.address, failure=failure)

    async def _replies(self) -> list[Any]:
        questions = _topology.questions(self._sentinel.name)
        await self._asking.send_packed_command(b"".join(map(_packed, questions)), check_health=False)
        return [await _reply(self._asking) for _ in questions]

    async def _listen_on(self) -> None:
        try:
            while True:
                with contextlib.suppress(RedisError, OSError, TimeoutError):  # asking goes on, and says what is wrong
                    await self._listen()
                await self._listening.disconnect(nowait=True)
                await asyncio.sleep(RECONNECT)
        finally:
            await self._listening.disconnect(nowait=True)

    async def _listen(self) -> None:
        """One channel a command: a user may have a right to some of them only."""
        await self._listening.connect()
        subscriptions = b"".join(_packed(("SUBSCRIBE", channel)) for channel in CHANNELS)
        await self._listening.send_packed_command(subscriptions, check_health=False)
        name = self._sentinel.name.encode()
        while True:
            message = await _reply(self._listening)
            if not isinstance(message, Exception) and message[0] == b"message" and name in message[2].split():
                self._announced(message[1])


def _packed(words: tuple[str | bytes, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub wants a tuple of one
    return packed


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
