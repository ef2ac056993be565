"""Runs a worker in several processes: starts them, starts them again when they die, stops them in an orderly way.

The supervisor holds no items and runs no code of the user's: what kills a worker does not reach it.
"""

from __future__ import annotations

import copy
import logging
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import wait
from types import FrameType
from typing import Any, Protocol

from reliq import _policy
from reliq._child import Child
from reliq._ledger import WorkerReport
from reliq.errors import InvalidArgument
from reliq.health import Facts

log = logging.getLogger("reliq.worker")

GRACE = 5.0  # seconds beyond shutdown_timeout that children get to say what they leave behind
TURN = 0.2  # seconds: how long a stop may go unnoticed


class Supervised(Protocol):
    """As much of a worker as its supervisor needs to know. It can be pickled."""

    options: Any  # _worker_options.Options
    extras: Any  # _worker_options.Extras
    _stopped: bool


class Supervisor:
    """Runs a worker in `processes` processes.

    Args:
        worker: what each of them runs. Its `max_items` is shared out among them: each gets its part, and a part that
            was begun by a process that died is begun anew, so that more may be handled then. With
            `return_when_empty` each ends when it finds nothing, and with `max_seconds` after that time. Its `health`
            is told that it claimed when all processes are ready.
        processes: how many, 1 to 1,000.

    Raises:
        InvalidArgument: the worker can't be handed to another process, or `processes` is out of its range.
    """

    def __init__(self, worker: Supervised, processes: int) -> None:
        self._count = _policy.whole(processes, "processes", low=1, high=1000)
        self._worker = worker
        self._stop = threading.Event()
        self._signals = 0
        self._ever_up = False
        parts = shares(worker.options.max_items, self._count)
        self._children = [Child(_pickled(worker, part)) for part in parts if part != 0]

    def stop(self) -> None:
        """Asks all processes to stop: no further claim, running handlers end, the rest goes back. From any thread."""
        self._stop.set()

    def facts(self) -> Facts:
        """What is known of all of them: alive and ready where each is. For `health.Monitor`."""
        each = [child.facts for child in self._children]
        told = [facts for facts in each if facts]
        return {
            "alive": all(facts["alive"] for facts in told),
            "ready": len(told) == len(each) and all(facts["ready"] for facts in told),
            "held": sum(facts["held"] for facts in told),
            "busy": sum(facts["busy"] for facts in told),
            "processes": each,
        }

    def run(self, *, signals: bool = True) -> WorkerReport:
        """Runs until it is stopped or every process has come to its end.

        A process that dies is started again, later and later where it dies young. The first SIGTERM or SIGINT, or
        `stop`, ends all in an orderly way; a second one, or `shutdown_timeout` (and five seconds), kills what is left.

        Args:
            signals: heed SIGTERM and SIGINT. Only in the main thread; elsewhere nothing is installed.

        Returns:
            What all of them did together; what a process did that was killed is not in it.

        Raises:
            InvalidArgument: not one process could be started: the handler can't be imported there, for example.
            ReliqError: the queue can't be used; the other processes have been stopped.

        If the process dies in here, its children see that and stop in an orderly way.
        """
        with self._heeding(signals):
            try:
                while not self._stopped() and not all(child.done for child in self._children):
                    self._start_missing()
                    self._listen()
                    self._check()
            finally:
                self._end()
        self._raise()
        return sum((report for child in self._children for report in child.reports), WorkerReport())

    def _stopped(self) -> bool:
        return self._stop.is_set() or self._worker._stopped

    def _start_missing(self) -> None:
        for child in self._children:
            if not child.process and not child.done and time.monotonic() >= child.start_at:
                if child.start_at:
                    log.warning("starting a worker process again: %s", child.problem)
                child.problem = ""
                child.start()

    def _listen(self) -> None:
        wait([pipe for child in self._children for pipe in child.pipes], TURN)
        for child in self._children:
            child.listen()
        if health := self._worker.extras.health:
            self._pass_on(health, self.facts())

    def _pass_on(self, health: Any, facts: Facts) -> None:
        if facts["alive"]:
            health.turned()
        if facts["ready"]:
            health.claimed()
        health.holding(facts["held"], facts["busy"])

    def _check(self) -> None:
        self._ever_up |= any(child.up for child in self._children)
        hopeless = not self._ever_up and all(child.problem and not child.process for child in self._children)
        if hopeless or any(child.error for child in self._children):
            self._stop.set()

    def _raise(self) -> None:
        for child in self._children:
            if child.error:
                raise child.error
        if not self._ever_up and (problems := {child.problem for child in self._children} - {""}):
            raise InvalidArgument(
                f"no worker process could be started: {'; '.join(sorted(problems))}. The handler and the queue must be "
                "importable from a module, and the program's own start must stand under if __name__ == '__main__'"
            )

    # Stopping

    def _end(self) -> None:
        """Waits until the last process is gone. Those that live are told to stop; in the end they are killed."""
        for child in self._children:
            child.tell_to_stop()
        limit = self._worker.options.shutdown_timeout
        deadline = None if limit is None else time.monotonic() + limit + GRACE
        while left := [child for child in self._children if child.process]:
            self._listen()
            if self._signals > 1 or (deadline is not None and time.monotonic() > deadline):
                self._kill([child for child in left if child.process])

    def _kill(self, children: list[Child]) -> None:
        for child in children:
            if child.process:
                held = child.facts.get("held", "an unknown number of")
                log.warning("killing worker process %s, which holds %s items until their lease ends", child.pid, held)
                child.process.kill()
                child.process.join()

    @contextmanager
    def _heeding(self, signals: bool) -> Iterator[None]:
        def stop(number: int, _: FrameType | None) -> None:
            log.info("signal %d: stopping %d worker processes", number, self._count)
            self._signals += 1
            self._stop.set()

        if not signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(worker: Supervised, processes: int, *, signals: bool = True) -> WorkerReport:
    """Runs a worker in several processes: see `Supervisor`."""
    return Supervisor(worker, processes).run(signals=signals)


def shares(total: int | None, count: int) -> list[int | None]:
    """A limit, divided among so many."""
    if total is None:
        return [None] * count
    return [total // count + (1 if number < total % count else 0) for number in range(count)]


def _pickled(worker: Supervised, max_items: int | None) -> bytes:
    part = copy.copy(worker)
    part.options = replace(worker.options, max_items=max_items)
    part.extras = replace(worker.extras, processes=1, health=None)
    try:
        return pickle.dumps(part)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InvalidArgument(
            f"this worker can't run in other processes: {error}. Use a handler that is defined at the top of a module "
            "(no lambda, no inner function, no method of an object that can't be pickled), and queues made with a URL"
        ) from error
