"""Concurrent calls of tasks, sent together: who comes while a call is on its way goes with the next one."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Any, Generic, TypeVar

from reliq import _gathering
from reliq._driver_async import AsyncDriver
from reliq._gathering import PATIENCE, Entry, Gathering, Verb

V = TypeVar("V")
R = TypeVar("R")


AT_ONCE = 4  # calls on their way before callers gather: to so few tasks a connection each is faster than to wait


class _Waiting(Entry[Any, Any]):
    """An entry whose caller waits for `future`, which says that it is settled."""

    def __init__(self, value: Any, future: asyncio.Future[None]) -> None:
        self.value = value
        self.future = future


class _Batch(Gathering[_Waiting]):
    """Callers that wait for one call, or for the one before it. `task` sends it, as long as anybody waits."""

    def __init__(self, verb: Verb[Any, Any], overdue: asyncio.TimerHandle) -> None:
        super().__init__(verb)
        self.overdue = overdue  # sends the batch although the call before it hangs
        self.task: asyncio.Task[None] | None = None
        self._gone = 0

    def release(self) -> None:
        """Lets the callers go on. Where there is no answer, because the loop is being shut down, they are cancelled."""
        for entry in self.entries:
            if not entry.future.done():
                if entry.settled:
                    entry.future.set_result(None)
                else:
                    entry.future.cancel()

    def leave(self) -> bool:
        """Returns whether nobody waits for this call any more."""
        self._gone += 1
        return self._gone == len(self.entries)


class AsyncCoalescer(Generic[V, R]):
    """Group commit for the tasks that share a queue; twin of `Coalescer`.

    A caller sends at once while fewer than `AT_ONCE` calls are on their way. Beyond that callers gather, and go
    together as soon as the newest of these is answered, sent by a task that lives no longer than this takes: it has
    ended before its callers go on. As long as there are such batches all callers gather. One that hangs holds up the
    next for `PATIENCE` seconds at most.
    """

    def __init__(self, driver: AsyncDriver, verb: Verb[V, R]) -> None:
        self._driver = driver
        self._verb = verb
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """On another loop, or in a forked child: whoever gathered is not of here."""
        self._loop, self._pid = loop, os.getpid()
        self._alone: set[object] = set()  # calls of single callers on their way
        self._flight: object = None  # the newest call on its way: the gathered ones wait for it
        self._gathered: deque[_Batch] = deque()  # all but the last can take no more

    async def call(self, value: V) -> R:
        """Sends a value, alone or with others, and returns or raises what came of it.

        Where the caller is cancelled its value has been sent or not, as with any call; others are not touched.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._pid != os.getpid():
            self._start(loop)
        if not self._gathered and (self._flight is None or 0 < len(self._alone) < AT_ONCE):
            return await self._by_itself(value)
        entry = _Waiting(value, loop.create_future())
        batch = self._join(entry, loop)
        try:
            await entry.future
        except asyncio.CancelledError:
            await self._withdraw(batch, entry)
            raise
        result: R = entry.answer()
        return result

    async def _by_itself(self, value: V) -> R:
        flight = object()
        self._alone.add(flight)
        self._flight = flight
        try:
            values = (value,)
            (result,) = self._verb.results(values, await self._driver.call(self._verb.command(values)))
        finally:
            self._alone.discard(flight)
            self._landed(flight)
        return result

    def _join(self, entry: _Waiting, loop: asyncio.AbstractEventLoop) -> _Batch:
        if self._gathered and self._gathered[-1].add(entry):
            return self._gathered[-1]
        batch = _Batch(self._verb, loop.call_later(PATIENCE, self._depart))
        batch.add(entry)
        self._gathered.append(batch)
        return batch

    def _landed(self, flight: object) -> None:
        """A call is answered, or given up. Where it hung nobody waits for it any more: others have gone since."""
        if self._flight is flight:
            self._flight = next(iter(self._alone), None)
            if self._gathered:
                self._depart()

    def _depart(self) -> None:
        batch = self._gathered.popleft()
        batch.overdue.cancel()
        self._alone.clear()
        self._flight = batch
        if self._loop is not None and not self._loop.is_closed():  # else its callers are gone as well
            batch.task = self._loop.create_task(self._send(batch))

    async def _send(self, batch: _Batch) -> None:
        try:
            await self._driver.run(_gathering.settle(self._verb, batch.unsettled()))
        except Exception as error:  # noqa: BLE001  whatever it is, the callers are told, each of them
            _gathering.broken(self._verb, batch.entries, error)
        finally:
            batch.release()
            self._landed(batch)

    async def _withdraw(self, batch: _Batch, entry: _Waiting) -> None:
        """Takes the value of a cancelled caller back where it has not been sent. The last one ends the call."""
        if batch.task is None:
            batch.remove(entry)
            if not batch.entries:
                batch.overdue.cancel()
                self._gathered.remove(batch)
        elif batch.leave():
            batch.task.cancel()
            await asyncio.wait([batch.task])
