"""Concurrent calls of threads, sent together: who comes while a call is on its way goes with the next one."""

from __future__ import annotations

import os
import threading
from typing import Any, Generic, TypeVar

from reliq import _gathering
from reliq._driver import Driver
from reliq._gathering import PATIENCE, Entry, Gathering, Verb

V = TypeVar("V")
R = TypeVar("R")

AT_ONCE = 4  # calls on their way before callers gather: to so few threads a connection each is faster than to wait


class _Batch(Gathering[Entry[Any, Any]]):
    """Callers that wait for one call, or for the one before it.

    `turn` lets them through one at a time. The first one through sends for all; where that thread is interrupted the
    next one through does, with the same ids; the others find their answers. So threads are woken one by another, and
    don't all contend for the interpreter at once, and no list of them can be left half done.
    """

    def __init__(self, verb: Verb[Any, Any], before: threading.Lock) -> None:
        super().__init__(verb)
        self.before = before  # locked until the batch before this one is through
        self.turn = threading.Lock()
        self.through = threading.Lock()
        self.through.acquire()
        self._inside: list[bool] = []  # true for the first who came in. Its pop() needs no lock and has one last taker

    def enter(self) -> None:
        self._inside.append(not self._inside)

    def leave(self) -> bool:
        """Returns whether nobody is left; then the next batch may go."""
        last = self._inside.pop()
        if last:
            self.through.release()
        return last


class Coalescer(Generic[V, R]):
    """Group commit for the threads that share a queue.

    A caller sends at once while fewer than `AT_ONCE` calls are on their way. Beyond that callers gather, and the first
    of them sends for all when the batch before is through. As long as there are such batches all callers gather. There
    is no thread behind this: each call is sent by one of those who wait for it. A batch that hangs holds up the next
    one for `PATIENCE` seconds at most.
    """

    def __init__(self, driver: Driver, verb: Verb[V, R]) -> None:
        self._driver = driver
        self._verb = verb
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._alone = [threading.Lock() for _ in range(AT_ONCE)]  # one is locked while its call is on its way
        self._newest = threading.Lock()  # locked until the newest batch is through
        self._gathering: _Batch | None = None

    def call(self, value: V) -> R:
        """Sends a value, alone or with others, and returns or raises what came of it.

        Where the caller is interrupted its value has been sent or not, as with any call; others are not touched.
        """
        if self._pid != os.getpid():
            self._start()  # in a forked child: whoever gathered is the parent's
        if not self._newest.locked():
            for place, flight in enumerate(self._alone):
                if not flight.locked():
                    return self._by_itself(place, value)
        return self._together(value)

    def _by_itself(self, place: int, value: V) -> R:
        flight = threading.Lock()
        with flight:  # a new one: of two threads that found the same place free neither waits for the other
            self._alone[place] = flight
            values = (value,)
            (result,) = self._verb.results(values, self._driver.call(self._verb.command(values)))
        return result

    def _together(self, value: V) -> R:
        entry: Entry[V, R] = Entry(value)
        batch = self._join(entry)
        try:
            with batch.turn:
                if not entry.settled:
                    self._lead(batch)
        except BaseException:
            self._withdraw(batch, entry)
            raise
        batch.leave()
        return entry.answer()

    def _join(self, entry: Entry[V, R]) -> _Batch:
        with self._mutex:
            batch = self._gathering
            if batch is None or not batch.add(entry):
                self._gathering = batch = _Batch(self._verb, self._newest)
                self._newest = batch.through
                batch.add(entry)
            batch.enter()
            return batch

    def _lead(self, batch: _Batch) -> None:
        if batch.before.acquire(timeout=PATIENCE):
            batch.before.release()
        self._close(batch)
        self._driver.run(_gathering.settle(self._verb, batch.unsettled()))

    def _close(self, batch: _Batch) -> None:
        with self._mutex:
            if self._gathering is batch:
                self._gathering = None

    def _withdraw(self, batch: _Batch, entry: Entry[V, R]) -> None:
        """Takes the value of an interrupted caller back, where it has not been sent."""
        with self._mutex:
            gathering = self._gathering is batch
            if gathering:
                batch.remove(entry)
            if batch.leave() and gathering:
                self._gathering = None
