"""The tasks that run handlers, and what lies between them and the loop. All in one event loop, but for plain functions.

Twin of _handler_threads.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue as queues
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from reliq._coroutines import is_begun, is_coroutine_function, within
from reliq._handlers import LOST, UNSTARTED, Outcome, Raised
from reliq._limits import Limited
from reliq._turns import Turns
from reliq._worker_options import Handler, Options
from reliq.answers import Release
from reliq.item import Item

Call = Callable[[Item], Awaitable[object]]


class TaskGate:
    """Somebody waits at it; whoever opens it lets them through once, also if they come later."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def open(self) -> None:
        """Lets the one who waits, or comes next, through."""
        self._event.set()

    async def wait(self, seconds: float | None) -> None:
        """Waits until it is opened, `seconds` at most, and closes it again."""
        if seconds == 0:
            await asyncio.sleep(0)
        else:
            with contextlib.suppress(TimeoutError):  # then the time is over
                async with asyncio.timeout(seconds):
                    await self._event.wait()
        self._event.clear()


class TaskBuffer:
    """Claimed items that no handler has begun."""

    def __init__(self, ranks: int) -> None:
        self._ranks: list[deque[Item]] = [deque() for _ in range(ranks)]
        self._sleepers: deque[asyncio.Future[None]] = deque()
        self.ended = False

    def __len__(self) -> int:
        return sum(map(len, self._ranks))

    def put(self, items: Sequence[Item], rank: int) -> None:
        """Adds items, and wakes as many handlers. Those of a lower rank are taken first."""
        self._ranks[rank].extend(items)
        self._wake(len(items))

    def take(self) -> Item | None:
        """Takes an item; None where there is none."""
        for rank in self._ranks:
            if rank:
                return rank.popleft()
        return None

    async def news(self) -> None:
        """Waits until there are items, or the end."""
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        try:
            await sleeper
        finally:
            if not sleeper.done() or sleeper.cancelled():
                with contextlib.suppress(ValueError):  # it has just been woken
                    self._sleepers.remove(sleeper)

    def take_back(self, keep: int = 0) -> list[Item]:
        """Takes items that no handler has begun, all but the first `keep`. In order."""
        items: list[Item] = []
        for rank in reversed(self._ranks):
            while rank and len(self) > keep:
                items.append(rank.pop())
        return items[::-1]

    def end(self) -> None:
        """Tells the handlers to end."""
        self.ended = True
        self._wake(len(self._sleepers))

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._sleepers))):
            sleeper = self._sleepers.popleft()
            if not sleeper.done():
                sleeper.set_result(None)


class PlainCalls:
    """A thread that calls plain functions for one handler task, one at a time. It ends with the process, or `end`."""

    def __init__(self, number: int) -> None:
        self._asked: queues.SimpleQueue[tuple[asyncio.Future[object], Handler, Item] | None] = queues.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, name=f"reliq-handler-{number}", daemon=True).start()

    async def call(self, handler: Handler, item: Item) -> object:
        """Calls a handler in the thread. Broken off, the handler goes on there."""
        answer: asyncio.Future[object] = self._loop.create_future()
        self._asked.put((answer, handler, item))
        return await answer

    def end(self) -> None:
        """The thread ends when its handler has."""
        self._asked.put(None)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            answer, handler, item = asked
            try:
                value = handler(item)
            except BaseException as error:  # noqa: BLE001  raised where the answer is awaited
                value = Raised(error)
            with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits for it
                self._loop.call_soon_threadsafe(_give, answer, value)


def _give(answer: asyncio.Future[object], value: object) -> None:
    if not answer.done():
        answer.set_result(value)


class HandlerTask:
    """A task that takes items and calls the handler of each."""

    def __init__(
        self,
        number: int,
        handlers: Mapping[str, Handler],
        options: Options,
        buffer: TaskBuffer,
        turns: Turns,
        gate: TaskGate,
    ) -> None:
        self.limited = Limited()
        self.item: Item | None = None
        self._number, self._options = number, options
        self._buffer, self._turns, self._gate = buffer, turns, gate
        self._plain: PlainCalls | None = None
        self._in_thread = False
        self._told = ""  # why this task was cancelled
        self._call = self._router(handlers)
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins."""
        self.task = asyncio.create_task(self._work(), name=f"reliq-handler-{self._number}")

    def lose(self, items: Sequence[Item]) -> None:
        """The leases of items are lost: a coroutine that handles one of them is cancelled."""
        if not self._in_thread and self.item in items and self._options.cancel_on_lost:
            self.cancel("lost")

    def cancel(self, why: str) -> None:
        """Breaks the handler off that runs. `why`: `lost`; `back`, give its item back; `end`, leave it."""
        if self.task is not None and self.item is not None and not self._told:
            self._told = why
            self.task.cancel()

    def end(self) -> None:
        """What is left of it ends."""
        if self._plain is not None:
            self._plain.end()

    async def _work(self) -> None:
        take, turns, call, finished, done = self._buffer.take, self._turns, self._call, *self._ends()
        while not self._buffer.ended:
            if (item := take()) is None:
                await self._buffer.news()
                continue
            if item.lost or turns.stopping:
                done.append((item, LOST if item.lost else UNSTARTED))
            else:
                self.item = item
                value: Any
                try:
                    value = await call(item)
                    while value is not None and is_begun(value):
                        value = await within(self._options.time_limit, cast("Any", value))
                except BaseException as error:  # noqa: BLE001  the handler is the user's; the loop logs it
                    value = self._raised(error)
                self.item = None
                if not item.lost and not item.settled and value is None:  # type: ignore[redundant-expr]  # now?
                    finished.append(item)
                else:
                    done.append((item, value))
            if len(finished) + len(done) >= turns.enough:
                self._gate.open()
                await asyncio.sleep(0)  # handlers that never wait must not keep the loop from its turn

    def _ends(self) -> tuple[deque[Item], deque[Outcome]]:
        return self._turns.finished, self._turns.done

    def _raised(self, error: BaseException) -> Raised:
        if isinstance(error, asyncio.CancelledError):
            return Raised(self._why_cancelled(error))
        if not isinstance(error, Exception):  # such as SystemExit: raised again when all is settled
            self._turns.stop()
            self._gate.open()
        return Raised(error)

    def _why_cancelled(self, error: asyncio.CancelledError) -> BaseException:
        why, self._told = self._told, ""
        if self.task is not None and self.task.cancelling():
            if not why or why == "end":
                raise error
            self.task.uncancel()
        return Release() if why == "back" else RuntimeError("the handler was cancelled from within")

    def _router(self, handlers: Mapping[str, Handler]) -> Call:
        calls = {name: self._caller(handler) for name, handler in handlers.items()}
        if len(calls) == 1:
            return next(iter(calls.values()))
        return lambda item: calls[item.queue](item)

    def _caller(self, handler: Handler) -> Call:
        limit = self._options.time_limit
        if not is_coroutine_function(handler):
            plain = handler if limit is None else lambda item: self.limited.call(handler, item, limit)
            return lambda item: self._call_plain(plain, item)
        if limit is None:
            return cast("Call", handler)
        return lambda item: within(limit, cast("Call", handler)(item))

    async def _call_plain(self, handler: Handler, item: Item) -> object:
        if self._plain is None:
            self._plain = PlainCalls(self._number)
        self._in_thread = True
        try:
            value = await self._plain.call(handler, item)
        finally:
            self._in_thread = False
        if isinstance(value, Raised):
            raise value.error
        return value
