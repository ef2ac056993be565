"""Waiting on the server beside a worker's loop."""

from __future__ import annotations

import logging
import queue as queues
import threading
from collections.abc import Callable
from typing import Any

from reliq._sources import Heard, Listen

log = logging.getLogger("reliq.worker")


class Bell:
    """A thread that waits on the server, so that the loop can wait for this and for handlers at once.

    Args:
        rung: is called in that thread, at the end of each wait.
    """

    def __init__(self, rung: Callable[[Heard], object]) -> None:
        self._rung = rung
        self._asked: queues.SimpleQueue[Listen | None] = queues.SimpleQueue()
        self._break_off: Any = None
        self._stopped = False
        self._thread: threading.Thread | None = None

    def listen(self, effect: Listen) -> None:
        """Begins a wait; `rung` is called at its end."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="reliq-bell", daemon=True)
            self._thread.start()
        self._asked.put(effect)

    def stop(self) -> None:
        """Breaks a wait off and ends."""
        self._stopped = True
        self._asked.put(None)
        if self._thread:
            if break_off := self._break_off:
                break_off()
            self._thread.join()

    def _work(self) -> None:
        while (effect := self._asked.get()) is not None and not self._stopped:
            try:
                heard = effect.queue._driver.once(effect.plan(self._breakable))
            except Exception as error:  # noqa: BLE001  whatever it is, the claim that follows will tell it
                log.info("waiting: %s", error)
                heard = Heard()
            self._break_off = None
            self._rung(heard)

    def _breakable(self, break_off: Any) -> None:
        self._break_off = break_off
        if self._stopped:
            break_off()
