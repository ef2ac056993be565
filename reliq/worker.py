"""A worker of threads: claims, calls handlers, renews leases beside it, retries, and stops without losing anything.

The thread that calls `run` claims and settles; handler threads only call handlers; one thread waits on the server while
a handler is idle; one for each queue renews. A handler that blocks for long does not keep leases from being renewed.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from reliq import _arguments, _worker_options
from reliq._bell import Bell
from reliq._handler_threads import HandlerThread
from reliq._handlers import Policies, about
from reliq._housekeeper import Housekeeper
from reliq._ledger import WorkerReport
from reliq._limits import GRACE, Watchdog
from reliq._pipe import Pipe
from reliq._policy import Seconds
from reliq._renewals import Renewals, renewals_for
from reliq._resolver import duties
from reliq._sources import Begin, Call, Effect, End, Heard, Hush, Source, Wait
from reliq._thread_buffer import Gate, ThreadBuffer
from reliq._turns import Turns
from reliq._worker_options import Handler, Vitals
from reliq.item import Item
from reliq.queue import Queue

log = logging.getLogger("reliq.worker")


class Worker:
    """Calls a handler for each item of one or more queues until it is stopped.

    A handler that returns finishes its item. One that raises fails it: it is tried again as the queue's settings say.
    It may return or raise `Retry`, `Discard` or `Release` instead. A coroutine function is run by an event loop in each
    of the threads. Items whose lease was lost are not settled by this worker, whatever their handler did.

    Args:
        queue: where items come from: a queue; or several on one server, those first that come first; or a mapping from
            queues to their handlers.
        handler: called with each `Item`, in one of `concurrency` threads. None where `queue` is a mapping.
        lease: seconds after which the items of a worker that died are claimed by others. Renewed while handlers run.
        concurrency: handler threads, 1 to 1,000.
        prefetch: items claimed beyond those that are handled; they are given back, unblamed, when the worker stops.
            None: what the handlers get through in a tenth of a second, up to 600; when they stand still for a second,
            one for each of them.
        order: `priority`, what several queues are to each other without `weights`: items of an earlier one first.
        weights: items of each queue to take in turn, such as `{urgent: 3, others: 1}`. None of them starves; what one
            leaves the others take.
        results: store what the handler returns as the item's result.
        on_error: by type of exception an answer (`Retry`, `Discard`, `Release`), or a function of the item and the
            error that gives one, None for a failed attempt. The most specific type counts.
        time_limit: seconds that a handler may take. Then `TimeLimit` is raised in it, and the attempt has failed. In a
            thread that happens at the next line of Python: a call that blocks, in `time.sleep` or a driver, ends first.
            5 s later the lease is not renewed any more.
        cancel_on_lost: cancel a coroutine whose item's lease is lost. A plain function sees it by `item.lost`.
        shutdown_timeout: seconds that a stop waits for handlers. None for no bound. What is not done by then is left to
            its lease, and named in the report.
        max_items: stop after this many items have been settled; None for no end.
        max_seconds: stop after so many seconds; None for no end.
        return_when_empty: stop when the queues have nothing to claim.
        renewals: `thread`, or `process` for handlers that keep the interpreter to themselves for longer than a lease.
        health: is told how the worker does: see `reliq.health.Vitals`.
        resolve: decides on orphaned items, called by one worker at a time with an `ItemInfo`: `finish`, `requeue`,
            `dead`, or None to leave it to somebody else.
        processes: so many processes of `concurrency` threads each. 1: this one.

    Raises:
        InvalidArgument.
    """

    def __init__(
        self,
        queue: Queue | Sequence[Queue] | Mapping[Queue, Handler],
        handler: Handler | None = None,
        *,
        lease: Seconds = _arguments.DEFAULT_LEASE,
        concurrency: int = 1,
        prefetch: int | None = None,
        order: str = "priority",
        weights: Mapping[Queue, int] | None = None,
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
        processes: int = 1,
    ) -> None:
        self.routes = _worker_options.routes(queue, handler, Queue)
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
        self.extras = _worker_options.extras(renewals, health, resolve, processes)
        self._stopped = False
        self._running: _Running | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process: what it is, not what it does."""
        return {**self.__dict__, "_stopped": False, "_running": None}

    def stop(self) -> None:
        """Asks the worker to stop: no further claim, running handlers end, the rest goes back. From any thread."""
        self._stopped = True
        if running := self._running:
            running.stop()

    def run(self, *, signals: bool = True) -> WorkerReport:
        """Works until it is stopped: by `stop`, SIGTERM, SIGINT, or its limits.

        Args:
            signals: stop on SIGTERM and SIGINT; at a second one the handlers that run are not waited for. Only in the
                main thread; elsewhere nothing is installed.

        Returns:
            What it did.

        Raises:
            ReliqError: the queue can't be used: its state was lost, the server refuses. An unreachable server is no
                reason to end: the worker goes on trying.
            BaseException: that a handler raised and that is no Exception, such as SystemExit, when all is settled.

        If the process dies in here, what it held is claimed by others when the lease ends.
        """
        if self.extras.processes > 1:
            from reliq import _supervisor  # noqa: PLC0415  it starts processes that import this module

            return _supervisor.run(self, self.extras.processes)
        running = self._running = _Running(self)
        if self._stopped:
            running.stop()
        try:
            return running.run(signals=signals and threading.current_thread() is threading.main_thread())
        finally:
            self._running = None


class _Running:
    """A worker at work: its threads, and the loop in the thread that called `run`."""

    def __init__(self, worker: Worker) -> None:
        options, self._gate = worker.options, Gate()
        ranks = 1 if options.weights else len(worker.routes)
        self._buffer = ThreadBuffer(ranks)
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
        self._threads = [
            HandlerThread(number, handlers, options, self._buffer, self.turns, self._gate)
            for number in range(options.concurrency)
        ]
        self._bell = Bell(self.rung)
        kind = worker.extras.kind or "threads"
        self._pipe = Pipe(sources[0].queue._driver)
        self._housekeeper = Housekeeper(
            [queue for queue, _ in worker.routes],
            lambda: {"kind": kind, **self.turns.facts()},
            duties=duties(worker.extras.resolve),
        )
        self._watchdog: Watchdog | None = None
        if options.time_limit is not None:
            self._watchdog = Watchdog(options.time_limit, [t.limited for t in self._threads], self._given_up)

    def run(self, *, signals: bool) -> WorkerReport:
        restore = self._catch_signals() if signals else {}
        try:
            self._start()
            try:
                self._work()
            finally:
                self._end()
        finally:
            for number, before in restore.items():
                signal.signal(number, before)
        if self.turns.error is not None:
            raise self.turns.error
        return self.turns.ledger.report(self.turns.abandoned)

    def stop(self) -> None:
        self.turns.stop()
        self._gate.open()

    def rung(self, heard: Heard) -> None:
        self.turns.rung(heard)
        self._gate.open()

    # The loop

    def _work(self) -> None:
        """Does what the loop says. What breaks that off, Ctrl-C for one, is the loop's to deal with."""
        steps = self.turns.run()
        effect: Effect = next(steps)
        try:
            while True:
                try:
                    result = self._do(effect)
                except BaseException as error:  # noqa: BLE001
                    effect = steps.throw(error)
                else:
                    effect = steps.send(result)
        except StopIteration:
            return

    def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Call):
            return effect.queue._driver.once(effect.plan)
        if isinstance(effect, Begin):
            return self._pipe.begin(effect.plan)
        if isinstance(effect, End):
            return self._pipe.end()
        if isinstance(effect, Wait):
            return self._gate.wait(effect.seconds)
        if isinstance(effect, Hush):
            return self._bell.stop()
        return self._bell.listen(effect)

    # Everything beside it

    def _start(self) -> None:
        try:
            for renewals in self._renewals:
                renewals.start()
        except BaseException:
            for renewals in self._renewals:
                renewals.stop()
            raise
        for handler in self._threads:
            handler.thread.start()
        if self._watchdog:
            self._watchdog.start()
        self._housekeeper.start()

    def _end(self) -> None:
        """Nothing of this worker is left, but handlers that are not waited for."""
        self._bell.stop()
        if self._watchdog:
            self._watchdog.stop()
        self._buffer.end()
        if not self.turns.abandoned:
            for handler in self._threads:
                handler.thread.join()
        for renewals in self._renewals:
            renewals.stop()
        self._housekeeper.stop()

    def _lost(self, items: list[Item]) -> None:
        for handler in self._threads:
            handler.lose(items)

    def _given_up(self, item: Item) -> None:
        text = "queue %s: the handler of item %s goes on %g s after its time limit; its lease is not renewed any more"
        log.error(text, item.queue, item.id, GRACE, extra=about(item))
        for renewals in self._renewals:
            renewals.forget([item])

    def _catch_signals(self) -> dict[int, Any]:
        told: list[int] = []

        def stop(number: int, _: FrameType | None) -> None:
            told.append(number)
            log.info("signal %d: %s", number, "stopping" if len(told) == 1 else "not waiting for handlers")
            if len(told) > 1:
                self.turns.hurry_up()
            self.stop()

        return {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
