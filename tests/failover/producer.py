"""A producer that never stops: it repeats an item, under the same id, until it is confirmed as far as it wants."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

from reliq import DurabilityNotReached, Queue
from reliq.testing import History, Recording

PAUSE = 0.01  # seconds between two items
CONFIRMED_IN = 0.5  # seconds that a confirmation may take


class Producer:
    """A thread with a queue of its own, which is recorded.

    Attributes:
        level: what its items are confirmed by.
        acknowledged: moment and id of each.
        unconfirmed: how often it was told that an item is not as safe as that.
        error: what ended it before its time.
    """

    def __init__(self, name: str, url: str, level: str, history: History) -> None:
        self.level = level
        self.acknowledged: list[tuple[float, str]] = []
        self.unconfirmed = 0
        self.error: BaseException | None = None
        self._name, self._url, self._history = name, url, history
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._produce, name=name)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(90)
        assert not self._thread.is_alive()

    def silence(self, since: float) -> float:
        """Seconds of the longest time without an acknowledged item."""
        moments = [since, *(moment for moment, _ in self.acknowledged if moment > since)]
        return max(after - before for before, after in pairwise(moments))

    def _produce(self) -> None:
        try:
            with Queue("q", self._url, timeout=60.0, durability=self.level, durability_timeout=CONFIRMED_IN) as queue:
                recorded, number = Recording(queue, self._history), 0
                while not self._stopping.wait(PAUSE):
                    self._enqueue(recorded, f"{self._name}-{number}")
                    number += 1
        except BaseException as error:
            self.error = error
            raise

    def _enqueue(self, queue: Queue, item_id: str) -> None:
        while not self._stopping.is_set():
            try:
                queue.enqueue({}, id=item_id)
            except DurabilityNotReached:
                self.unconfirmed += 1
            else:
                self.acknowledged.append((time.monotonic(), item_id))
                return
