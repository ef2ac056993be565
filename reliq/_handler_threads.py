"""The threads that run handlers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reliq._coroutines import cancel_if_running, is_begun, is_coroutine_function, within
from reliq._handlers import LOST, UNSTARTED, Raised
from reliq._limits import Limited
from reliq._thread_buffer import Gate, ThreadBuffer
from reliq._turns import Turns
from reliq._worker_options import Handler, Options
from reliq.item import Item

Call = Callable[[Item], object]


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
        take, call, turns, open_gate = self._buffer.taker(), self._call, self._turns, self._gate.open
        finished, done = turns.finished, turns.done
        while (item := take()) is not None:
            if item.lost or turns.stopping:
                done.append((item, LOST if item.lost else UNSTARTED))
            else:
                self.item = item
                value: Any
                try:
                    value = call(item)
                    while value is not None and is_begun(value):
                        value = self._run_coroutine(value, item)
                except Exception as error:  # noqa: BLE001  the handler is the user's; the loop logs it
                    value = Raised(error)
                except BaseException as error:  # noqa: BLE001  and raises this one when all is settled
                    value = Raised(error)
                    turns.stop()
                if not item.lost and not item.settled and value is None:  # type: ignore[redundant-expr]  # now?
                    finished.append(item)
                else:
                    done.append((item, value))
            if len(finished) + len(done) >= turns.enough or turns.stopping:
                open_gate()
        if self._runner is not None:
            self._runner.close()

    def _router(self, handlers: Mapping[str, Handler]) -> Call:
        calls = {name: self._caller(handler) for name, handler in handlers.items()}
        if len(calls) == 1:
            return next(iter(calls.values()))
        return lambda item: calls[item.queue](item)

    def _caller(self, handler: Handler) -> Call:
        """How a handler is called: under the time limit, which for coroutines is a matter of their event loop."""
        limit = self._options.time_limit
        if limit is None or is_coroutine_function(handler):
            return handler
        return lambda item: self.limited.call(handler, item, limit)

    def _run_coroutine(self, awaitable: Any, item: Item) -> object:
        """In a loop of this thread, which is there from the first one on."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._handled(awaitable, item))

    async def _handled(self, awaitable: Any, item: Item) -> object:
        loop, mine = asyncio.get_running_loop(), asyncio.current_task()
        if self._options.cancel_on_lost and mine is not None:
            self._cancel = lambda: loop.call_soon_threadsafe(_cancel_if_lost, mine, item)
        try:
            return await within(self._options.time_limit, awaitable)
        except asyncio.CancelledError as error:
            return Raised(error) if item.lost else Raised(RuntimeError("the handler was cancelled from within"))
        finally:
            self._cancel = None


def _cancel_if_lost(task: asyncio.Task[Any], item: Item) -> None:
    if item.lost:
        cancel_if_running(task)
