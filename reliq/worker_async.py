"""A worker of tasks: as worker.py, in one event loop. Renewing has a thread: a blocked loop keeps its leases."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from reliq import _arguments, _worker_options
from reliq._handler_tasks import HandlerTask, TaskBuffer, TaskGate
from reliq._handlers import Policies, about
from reliq._housekeeper import Housekeeper
from reliq._ledger import WorkerReport
from reliq._limits import GRACE, Watchdog
from reliq._pipe_async import AsyncPipe
from reliq._policy import Seconds
from reliq._renewals import Renewals, renewals_for
from reliq._resolver import duties
from reliq._sources import Begin, Call, Effect, End, Heard, Hush, Listen, Source, Wait
from reliq._turns import Turns
from reliq._worker_options import Handler, Vitals
from reliq.item import Item
from reliq.queue_async import AsyncQueue

log = logging.getLogger("reliq.worker")

LAST_WORDS = 1.0  # seconds that cancelled handlers have to end


class AsyncWorker:
    """Asyncio twin of `Worker`: the same arguments, answers and promises, with `concurrency` tasks.

    A plain function is called in a thread, of which there is one for each task that needs it; it is not cancelled when
    its lease is lost. Where the task that runs the worker is cancelled, handlers are cancelled too, what they had goes
    back to the queue, and `run` is over when all is settled.
    """

    def __init__(
        self,
        queue: AsyncQueue | Sequence[AsyncQueue] | Mapping[AsyncQueue, Handler],
        handler: Handler | None = None,
        *,
        lease: Seconds = _arguments.DEFAULT_LEASE,
        concurrency: int = 1,
        prefetch: int | None = None,
        order: str = "priority",
        weights: Mapping[AsyncQueue, int] | None = None,
        results: bool = False,
        on_error: Policies | None = None,
        time_limit: Seconds | None = None,
        cancel_on_lost: bool = True,
        shutdown_timeout: Seconds | None = None,
        max_items: int | None = None,
        max_seconds: Seconds | None = None,
        return_when_empty: bool = False,
        renewals: str = "thread",
        health: Vitals | None = None,
        resolve: _worker_options.Resolve | None = None,
    ) -> None:
        self.routes = _worker_options.routes(queue, handler, AsyncQueue)
        self.options = _worker_options.options(
            [source for source, _ in self.routes],
            lease=lease,
            concurrency=concurrency,
            prefetch=prefetch,
            order=order,
            weights=weights,
            results=results,
            on_error=on_error,
            time_limit=time_limit,
            cancel_on_lost=cancel_on_lost,
            shutdown_timeout=shutdown_timeout,
            max_items=max_items,
            max_seconds=max_seconds,
            return_when_empty=return_when_empty,
        )
        self.extras = _worker_options.extras(renewals, health, resolve, 1)
        self._stopped = False
        self._running: _Running | None = None

    def stop(self) -> None:
        """Asyncio twin of `Worker.stop`. From any thread, too."""
        self._stopped = True
        if running := self._running:
            running.stop()

    async def run(self, *, signals: bool = True) -> WorkerReport:
        """Asyncio twin of `Worker.run`."""
        running = self._running = _Running(self)
        if self._stopped:
            running.stop()
        try:
            return await running.run(signals=signals and threading.current_thread() is threading.main_thread())
        finally:
            self._running = None


class _Running:
    """A worker at work: its tasks, and the loop in the task that called `run`."""

    def __init__(self, worker: AsyncWorker) -> None:
        options, self._gate = worker.options, TaskGate()
        self._loop = asyncio.get_running_loop()
        self._buffer = TaskBuffer(1 if options.weights else len(worker.routes))
        self._renewals: list[Renewals] = [
            renewals_for(queue, options.lease, self._lost, worker.extras.renewals, on_renewed=worker.extras.renewed)
            for queue, _ in worker.routes
        ]
        sources = [
            Source(queue, number, 0 if options.weights else number, self._renewals[number])
            for number, (queue, _) in enumerate(worker.routes)
        ]
        self.turns = Turns(sources, options, self._buffer, worker.extras.health)
        handlers = {queue.name: handler for queue, handler in worker.routes}
        self._tasks = [
            HandlerTask(number, handlers, options, self._buffer, self.turns, self._gate)
            for number in range(options.concurrency)
        ]
        self._bell: asyncio.Task[None] | None = None
        self._pipe = AsyncPipe(sources[0].queue._driver)
        self._housekeeper = Housekeeper(
            [queue for queue, _ in worker.routes],
            lambda: {"kind": "tasks", **self.turns.facts()},
            duties=duties(worker.extras.resolve),
        )
        self._watchdog: Watchdog | None = None
        if options.time_limit is not None:
            self._watchdog = Watchdog(options.time_limit, [task.limited for task in self._tasks], self._given_up)

    async def run(self, *, signals: bool) -> WorkerReport:
        caught = self._catch_signals() if signals else []
        try:
            await self._start()
            try:
                await self._work()
            finally:
                await self._end()
        finally:
            for number in caught:
                self._loop.remove_signal_handler(number)
        if self.turns.error is not None:
            raise self.turns.error
        return self.turns.ledger.report(self.turns.abandoned)

    def stop(self) -> None:
        self.turns.stop()
        self._loop.call_soon_threadsafe(self._gate.open)

    # The loop

    async def _work(self) -> None:
        """Does what the loop says. What breaks that off, a cancelled task for one, is the loop's to deal with."""
        steps = self.turns.run()
        effect: Effect = next(steps)
        try:
            while True:
                try:
                    result = await self._do(effect)
                except BaseException as error:  # noqa: BLE001
                    if isinstance(error, asyncio.CancelledError):
                        self._cancelled()
                    effect = steps.throw(error)
                else:
                    effect = steps.send(result)
        except StopIteration:
            return

    async def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Call):
            return await effect.queue._driver.once(effect.plan)
        if isinstance(effect, Begin):
            return await self._pipe.begin(effect.plan)
        if isinstance(effect, End):
            return await self._pipe.end()
        if isinstance(effect, Wait):
            return await self._gate.wait(effect.seconds)
        if isinstance(effect, Hush):
            return await self._hush()
        self._bell = asyncio.create_task(self._listen(effect), name="reliq-bell")
        return None

    async def _listen(self, effect: Listen) -> None:
        heard = Heard()
        try:
            heard = await effect.queue._driver.once(effect.plan(None))
        except Exception as error:  # noqa: BLE001  whatever it is, the claim that follows will tell it
            log.info("waiting: %s", error)
        self.turns.rung(heard)
        self._gate.open()

    async def _hush(self) -> None:
        if self._bell:
            self._bell.cancel()
            await asyncio.wait([self._bell])

    def _cancelled(self) -> None:
        """The task that runs this worker is cancelled: so are the handlers, and their items go back."""
        for task in self._tasks:
            task.cancel("back")

    # Everything beside it

    async def _start(self) -> None:
        try:
            for renewals in self._renewals:
                await asyncio.to_thread(renewals.start)
        except BaseException:
            for renewals in self._renewals:
                renewals.stop()
            raise
        for task in self._tasks:
            task.start()
        if self._watchdog:
            self._watchdog.start()
        self._housekeeper.start()

    async def _end(self) -> None:
        """Nothing of this worker is left, but plain functions that are not waited for."""
        self._buffer.end()
        for task in self._tasks:
            task.cancel("end")
            task.end()
        if self._bell:
            self._bell.cancel()
        left = [task.task for task in self._tasks if task.task] + ([self._bell] if self._bell else [])
        await asyncio.wait(left, timeout=LAST_WORDS)
        if self._watchdog:
            self._watchdog.stop()
        for renewals in self._renewals:
            renewals.stop()
        await asyncio.to_thread(self._housekeeper.stop)

    def _lost(self, items: list[Item]) -> None:
        self._loop.call_soon_threadsafe(self._lose, items)

    def _lose(self, items: list[Item]) -> None:
        for task in self._tasks:
            task.lose(items)

    def _given_up(self, item: Item) -> None:
        text = "queue %s: the handler of item %s goes on %g s after its time limit; its lease is not renewed any more"
        log.error(text, item.queue, item.id, GRACE, extra=about(item))
        for renewals in self._renewals:
            renewals.forget([item])

    def _catch_signals(self) -> list[signal.Signals]:
        told: list[signal.Signals] = []

        def stop(number: signal.Signals) -> None:
            told.append(number)
            log.info("signal %d: %s", number, "stopping" if len(told) == 1 else "not waiting for handlers")
            if len(told) > 1:
                self.turns.hurry_up()
            self.stop()

        caught = [signal.SIGTERM, signal.SIGINT]
        for number in caught:
            self._loop.add_signal_handler(number, stop, number)
        return caught
