"""The threads that run handlers, and what lies between them and the loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue as queues
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from reliq._handlers import LOST, UNSTARTED, Raised
from reliq._limits import Limited
from reliq._turns import Turns
from reliq._worker_options import Handler, Options
from reliq.errors import TimeLimit
from reliq.item import Item

Call = Callable[[Item], object]


class Gate:
    """Somebody waits at it; whoever opens it lets them through once, also if they come later. Costs next to nothing.

    May be opened from a signal handler.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Lets the one who waits, or comes next, through."""
        if self._lock.locked():
            with contextlib.suppress(RuntimeError):  # another thread has just opened it
                self._lock.release()

    def wait(self, seconds: float | None) -> None:
        """Waits until it is opened, `seconds` at most, and closes it again."""
        self._lock.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))


class ThreadBuffer:
    """Claimed items that no handler has begun. A token stands for each of them, so that threads can wait for one."""

    def __init__(self, ranks: int) -> None:
        self._ranks: list[deque[Item]] = [deque() for _ in range(ranks)]
        self._tokens: queues.SimpleQueue[bool] = queues.SimpleQueue()

    def __len__(self) -> int:
        return sum(map(len, self._ranks))

    def put(self, items: Sequence[Item], rank: int) -> None:
        """Adds items. Those of a lower rank are taken first."""
        self._ranks[rank].extend(items)
        put = self._tokens.put
        for _ in items:
            put(True)

    def take(self) -> Item | None:
        """Waits for an item and takes it; None when the thread is to end."""
        return self._pop(deque.popleft) if self._tokens.get() else None

    def take_back(self, keep: int = 0) -> list[Item]:
        """Takes items that no handler has begun, all but the first `keep`. In order."""
        items: list[Item] = []
        with contextlib.suppress(queues.Empty):  # the handlers were faster
            while len(self) > keep:
                self._tokens.get_nowait()
                items.append(self._pop(deque.pop, last=True))
        return items[::-1]

    def end(self, threads: int) -> None:
        """Tells so many threads to end."""
        for _ in range(threads):
            self._tokens.put(False)

    def _pop(self, end: Callable[[deque[Item]], Item], *, last: bool = False) -> Item:
        """The item of a token that was taken: there is one, in one of the ranks."""
        ranks = self._ranks[::-1] if last else self._ranks
        while True:
            for rank in ranks:
                try:
                    return end(rank)
                except IndexError:  # empty, or another thread was faster: then there is one elsewhere
                    continue


class HandlerThread:
    """A thread that takes items and calls the handler of each."""

    def __init__(
        self,
        number: int,
        handlers: Mapping[str, Handler],
        options: Options,
        buffer: ThreadBuffer,
        turns: Turns,
        gate: Gate,
    ) -> None:
        self.limited = Limited()
        self.item: Item | None = None
        self._buffer, self._turns, self._gate = buffer, turns, gate
        self._options = options
        self._runner: asyncio.Runner | None = None
        self._cancel: Callable[[], object] | None = None
        self._call = self._router(handlers)
        self.thread = threading.Thread(target=self._work, name=f"reliq-handler-{number}", daemon=True)

    def lose(self, items: Sequence[Item]) -> None:
        """The leases of items are lost: a coroutine that handles one of them is cancelled. From any thread."""
        cancel = self._cancel
        if cancel is not None and self.item in items:
            with contextlib.suppress(RuntimeError):  # its loop has just been closed
                cancel()

    def _work(self) -> None:
        take, call, turns, open_gate = self._buffer.take, self._call, self._turns, self._gate.open
        done = turns.done
        while (item := take()) is not None:
            value: object
            if item.lost:
                value = LOST
            elif turns.stopping:
                value = UNSTARTED
            else:
                self.item = item
                try:
                    value = call(item)
                except Exception as error:  # noqa: BLE001  the handler is the user's; the loop logs it
                    value = Raised(error)
                except BaseException as error:  # noqa: BLE001  and raises this one when all is settled
                    value = Raised(error)
                    turns.stop()
                    done.append((item, value))
                    open_gate()
                    continue
            done.append((item, value))
            if len(done) >= turns.enough:
                open_gate()
        if self._runner is not None:
            self._runner.close()

    def _router(self, handlers: Mapping[str, Handler]) -> Call:
        calls = {name: self._caller(handler) for name, handler in handlers.items()}
        if len(calls) == 1:
            return next(iter(calls.values()))
        return lambda item: calls[item.queue](item)

    def _caller(self, handler: Handler) -> Call:
        """How a handler is called: a coroutine function in a loop of this thread, and each under the time limit."""
        limit = self._options.time_limit
        if is_coroutine_function(handler):
            return lambda item: self._run_coroutine(handler, item)
        if limit is None:
            return handler
        return lambda item: self.limited.call(handler, item, limit)

    def _run_coroutine(self, handler: Handler, item: Item) -> object:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._handled(handler, item))

    async def _handled(self, handler: Handler, item: Item) -> object:
        loop, mine = asyncio.get_running_loop(), asyncio.current_task()
        if self._options.cancel_on_lost and mine is not None:
            self._cancel = lambda: loop.call_soon_threadsafe(_cancel_if_lost, mine, item)
        try:
            return await within(self._options.time_limit, handler, item)
        except asyncio.CancelledError as error:
            return Raised(error) if item.lost else Raised(RuntimeError("the handler was cancelled from within"))
        finally:
            self._cancel = None


def _cancel_if_lost(task: asyncio.Task[Any], item: Item) -> None:
    if item.lost and not task.done():
        task.cancel()


def is_coroutine_function(handler: Handler) -> bool:
    """Whether calling it gives something to await: a function, or an object whose call does."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


async def within(limit: float | None, handler: Handler, item: Item) -> object:
    """Awaits a handler.

    Raises:
        TimeLimit: it was cancelled after `limit` seconds.
    """
    coroutine: Coroutine[Any, Any, object] = handler(item)  # type: ignore[assignment]  # is_coroutine_function said so
    if limit is None:
        return await coroutine
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            return await coroutine
    except TimeoutError as error:
        if scope.expired():
            raise TimeLimit(f"the handler ran longer than {limit:g} s") from error
        raise
