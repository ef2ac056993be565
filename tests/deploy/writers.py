"""Writers that note what was acknowledged, and what of it is still there."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from reliq import Queue
from reliq.errors import ItemNotFound, ReliqError

PAUSE = 0.004  # seconds: a rate of about 600 a second leaves the servers time to be measured


class Writers:
    """Threads that enqueue without a break, each over a client of its own, from `with` until its end.

    `acknowledged` has the ids, `longest` the seconds that one call took, `failures` what was raised.
    """

    def __init__(self, url: str, count: int = 4, *, queue: str = "emails") -> None:
        self._url, self._name = url, queue
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(count)]
        self.acknowledged: list[str] = []
        self.longest = 0.0
        self.failures: list[ReliqError] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more_than(self, count: int) -> bool:
        """Whether so many were acknowledged."""
        return len(self.acknowledged) > count

    def lost(self) -> list[str]:
        """Ids that were acknowledged and that the queue does not know."""
        with Queue(self._name, self._url) as queue:
            return [item_id for item_id in self.acknowledged if not _knows(queue, item_id)]

    def _write(self, number: int) -> None:
        with Queue(self._name, self._url, timeout=30.0) as queue:
            sent = 0
            while not self._stop.wait(PAUSE):
                began = time.monotonic()
                try:
                    queue.enqueue("hi", id=f"{number}-{sent}")
                except ReliqError as error:
                    self.failures.append(error)
                else:
                    self.acknowledged.append(f"{number}-{sent}")
                self.longest = max(self.longest, time.monotonic() - began)
                sent += 1


def _knows(queue: Queue, item_id: str) -> bool:
    try:
        queue.get(item_id)
    except ItemNotFound:  # what is looked for
        return False
    return True
