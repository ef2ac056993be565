"""What lies between handler threads and the loop: a gate, and the items that wait for a thread."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence

from reliq.item import Item


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
    """Claimed items that no handler has begun.

    Taking one is taking it off a deque, which threads may do at once. Only a thread that finds nothing waits, at a gate
    of its own: a lock for each item would cost as much as everything else that is done with it.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks: list[deque[Item]] = [deque() for _ in range(ranks)]
        self._sleepers: deque[Gate] = deque()
        self._ended = False

    def __len__(self) -> int:
        return sum(map(len, self._ranks))

    def put(self, items: Sequence[Item], rank: int) -> None:
        """Adds items, and wakes as many threads. Those of a lower rank are taken first."""
        self._ranks[rank].extend(items)
        self._wake(len(items))

    def take(self) -> Item | None:
        """Takes an item; None where there is none."""
        for rank in self._ranks:
            with contextlib.suppress(IndexError):  # empty, or another thread was faster
                return rank.popleft()
        return None

    def taker(self) -> Callable[[], Item | None]:
        """A function for one thread, that waits for an item and takes it; None when the thread is to end."""
        gate, first, take = Gate(), self._ranks[0].popleft, self.take

        def take_or_wait() -> Item | None:
            while True:
                try:
                    return first()
                except IndexError:  # not contextlib.suppress, which costs more than all the rest
                    if (item := take()) is not None or self._ended:
                        return item
                self._sleep(gate)

        return take_or_wait

    def take_back(self, keep: int = 0) -> list[Item]:
        """Takes items that no handler has begun, all but the first `keep`. In order."""
        items: list[Item] = []
        for rank in reversed(self._ranks):
            with contextlib.suppress(IndexError):  # the handlers were faster
                while len(self) > keep:
                    items.append(rank.pop())
        return items[::-1]

    def end(self) -> None:
        """Tells all threads to end when nothing is left."""
        self._ended = True
        self._wake(len(self._sleepers))

    def _sleep(self, gate: Gate) -> None:
        """Waits to be woken. What came before this thread was seen to sleep is seen by itself."""
        self._sleepers.append(gate)
        if len(self) or self._ended:
            with contextlib.suppress(ValueError):  # somebody has woken it: the gate is open
                self._sleepers.remove(gate)
                return
        gate.wait(None)

    def _wake(self, count: int) -> None:
        with contextlib.suppress(IndexError):  # no more of them sleep
            for _ in range(count):
                self._sleepers.popleft().open()
