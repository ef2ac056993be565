"""A time limit for handlers in threads: an exception that is raised in a thread from outside."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence

from reliq.errors import TimeLimit
from reliq.item import Item

GRACE = 5.0  # seconds after its time limit for which the lease of an item is still renewed

_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)


class Limited:
    """A thread that calls handlers under a time limit. Either the thread or the watchdog ends a turn, never both."""

    def __init__(self) -> None:
        self.item: Item | None = None
        self.started = 0.0
        self.struck_at: float | None = None
        self._thread = 0
        self._armed: list[Item] = []  # whoever takes the item out of here has the right to end its turn
        self._struck = threading.Event()

    def call(self, handler: Callable[[Item], object], item: Item, limit: float) -> object:
        """Calls a handler, in this thread.

        Raises:
            TimeLimit: it ran for longer than `limit` seconds.
        """
        self._thread, self.started, self.struck_at = threading.get_ident(), time.monotonic(), None
        self._struck.clear()
        self.item = item
        self._armed.append(item)
        try:
            return handler(item)
        except TimeLimit as error:
            raise TimeLimit(f"the handler ran longer than {limit:g} s") from error
        finally:
            self._disarm()

    def _disarm(self) -> None:
        try:
            self._armed.pop()
        except IndexError:
            self._absorb()
        self.item = None

    def _absorb(self) -> None:
        """The watchdog was faster, and its exception may still be on its way: it must not hit the next handler."""
        try:
            self._struck.wait()
            _set_exception(self._thread, ctypes.py_object())  # a null pointer: nothing is on its way any more
        except TimeLimit:
            pass  # here it is

    def strike(self) -> None:
        """Raises `TimeLimit` in the thread, at its next bytecode. In the watchdog's thread."""
        try:
            self._armed.pop()
        except IndexError:
            return  # the handler has just ended
        self.struck_at = time.monotonic()
        _set_exception(self._thread, TimeLimit)
        self._struck.set()


class Watchdog:
    """Strikes handlers that run for too long, and says which of them do not even end then.

    Args:
        limit: seconds that a handler may run.
        slots: the threads to look after.
        given_up: called with an item whose handler still runs `GRACE` seconds after it was struck.
    """

    def __init__(self, limit: float, slots: Sequence[Limited], given_up: Callable[[Item], object]) -> None:
        self._limit = limit
        self._slots = slots
        self._given_up = given_up
        self._told: set[Item] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reliq-limits", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends: handlers that run have no limit any more."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        """Sleeps until the first handler is due. One that begins meanwhile is due no sooner than a limit from now."""
        pause = self._limit
        while not self._stop.wait(pause):
            now = time.monotonic()
            pause = min([self._limit, *(due - now for due in map(self._look, self._slots) if due is not None)])
            pause = max(0.001, pause)

    def _look(self, slot: Limited) -> float | None:
        """Strikes where it is time. Returns when to look again."""
        item, started, struck_at, now = slot.item, slot.started, slot.struck_at, time.monotonic()
        if item is None:
            return None
        if struck_at is None:
            if now < started + self._limit:
                return started + self._limit
            slot.strike()
            return now + GRACE
        if now >= struck_at + GRACE and item not in self._told:
            self._told.add(item)
            self._given_up(item)
        return None if item in self._told else struck_at + GRACE
