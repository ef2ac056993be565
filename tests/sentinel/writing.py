"""A producer that never stops, and what became of its items."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from contract.clients import make_queue
from servers import wait_until

from reliq import Queue

PAUSE = 0.003  # seconds between two items: enough to be no load, short beside what is measured


class Writer:
    """Enqueues in a thread of its own, with a queue of its own, until the block is left.

    `acknowledged` has the moment and the id of each item, in order; `error` what ended it before its time.
    """

    def __init__(self, style: str, url: Any, *, timeout: float = 30.0) -> None:
        self.acknowledged: list[tuple[float, str]] = []
        self.failovers: list[tuple[str, str]] = []
        self.error: BaseException | None = None
        self.counters = (0, 0)  # failovers and retries of the driver, at the end
        self._make: Callable[[], Queue] = lambda: make_queue(
            style, "q", url, timeout=timeout, on_failover=lambda old, new: self.failovers.append((old, new))
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write, name="writer")

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for(20)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def wait_for(self, count: int, timeout: float = 30.0) -> None:
        """Waits until so many more items have been acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_until(lambda: self.error or len(self.acknowledged) >= wanted, f"{count} more items", timeout)
        assert self.error is None, self.error

    def gap(self, since: float) -> float:
        """Seconds from `since` until the first item after the longest silence."""
        moments = [since, *(moment for moment, _ in self.acknowledged if moment > since)]
        length, end = max((after - before, after) for before, after in pairwise(moments))
        assert length > 0
        return end - since

    def lost(self, queue: Queue) -> list[str]:
        """Ids that were acknowledged, and that the queue does not have."""
        there = {info.id for info in queue.scan("queued", page=1000)}
        return [item for _, item in self.acknowledged if item not in there]

    def _write(self) -> None:
        queue, number = self._make(), 0
        try:
            while not self._stopping.wait(PAUSE):
                item = queue.enqueue(number).id
                self.acknowledged.append((time.monotonic(), item))
                number += 1
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.counters = (queue._driver.failovers, queue._driver.retries)
            queue.close()
