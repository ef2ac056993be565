"""A process of a supervisor, as the supervisor sees it; `_supervised.py` is what it does."""

from __future__ import annotations

import logging
import multiprocessing
import time
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from reliq import _supervised
from reliq._ledger import WorkerReport
from reliq.errors import ReliqError

log = logging.getLogger("reliq.worker")

YOUNG = 30.0  # seconds; a child that does not live as long makes the next start wait longer
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # seconds before a child is started again


class Child:
    """One place for a process: the process that is in it, and what is known of those that were."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled
        self.process: SpawnProcess | None = None
        self.facts: dict[str, Any] = {}
        self.reports: list[WorkerReport] = []
        self.error: ReliqError | None = None
        self.problem = ""  # why it did not come up
        self.up = self.done = False
        self.start_at = self._began = 0.0
        self._young = 0
        self._pipe: Connection | None = None

    @property
    def pipes(self) -> list[Connection]:
        return [self._pipe] if self._pipe else []

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_supervised.main, args=(self._pickled, theirs), name="reliq-worker")
        self.up, self.facts, self._began = False, {}, time.monotonic()
        self.process.start()
        theirs.close()

    def tell_to_stop(self) -> None:
        if self._pipe:
            try:
                self._pipe.send("stop")
            except OSError:  # it has just died, which is seen next
                log.debug("worker process %s is gone already", self.pid)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def listen(self) -> None:
        """Hears what its process has said, and notices its end."""
        try:
            while self._pipe and self._pipe.poll():
                self._heed(*self._pipe.recv())
        except (EOFError, OSError):
            self._bury()

    def _heed(self, word: str, *arguments: Any) -> None:
        if word == "vitals":
            (self.facts,) = arguments
        elif word == "log":
            name, level, text = arguments
            logging.getLogger(name).log(level, "[%s] %s", self.pid, text)
        elif word == "up":
            self.up = True
        elif word == "ended":
            report, recycled = arguments
            self.reports.append(report)
            self.done = not recycled
        elif word == "failed":
            self.error = _thawed(*arguments)
        elif word == "unusable":
            (self.problem,) = arguments

    def _bury(self) -> None:
        process, self.process = self.process, None
        for pipe in self.pipes:
            pipe.close()
        self._pipe = None
        if not process:
            return
        process.join()
        self.problem = self.problem or f"it ended with {process.exitcode}"
        lived = time.monotonic() - self._began
        self._young = self._young + 1 if lived < YOUNG else 0
        self.start_at = time.monotonic() + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** max(0, self._young - 1))
        process.close()


def _thawed(kind: type[ReliqError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> ReliqError:
    """An error of another process. Made without its constructor, whose arguments are not known any more."""
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(attributes)
    return error
