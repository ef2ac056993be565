"""A process of a supervisor: runs one worker, and is told and tells over a pipe."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from reliq.errors import ReliqError
from reliq.health import BEAT, Vitals

log = logging.getLogger("reliq.worker")


class Link:
    """This process's end of the pipe. Threads share it."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self._lock = threading.Lock()

    def say(self, *message: Any) -> None:
        """Says it; nobody hears it where the supervisor is gone, and then the pipe's end has ended the worker too."""
        with self._lock, contextlib.suppress(OSError):
            self.pipe.send(message)

    def heard(self) -> bool:
        """Waits for the word to stop, or for the supervisor's death, which is the same. True when it came."""
        with contextlib.suppress(OSError, EOFError):
            self.pipe.recv()
        return True


def main(pickled: bytes, pipe: Connection) -> None:
    """What a child process does. Ends with 0 where its worker ended in an orderly way, 1 else."""
    link = Link(pipe)
    _carry_logs(link)
    recycled = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of the terminal's processes: ours is told
    signal.signal(signal.SIGTERM, lambda _number, _frame: recycled.set())
    try:
        worker = pickle.loads(pickled)  # noqa: S301  made by our own parent
    except Exception as error:  # noqa: BLE001  the user's modules are imported here: anything may happen
        link.say("unusable", f"{type(error).__name__}: {error}")
        os._exit(1)
    vitals = Vitals(worker.options.concurrency)
    worker.extras = replace(worker.extras, health=vitals, kind="process")
    link.say("up")
    for target in (_stop_when_told, _stop_when_recycled, _tell_vitals):
        threading.Thread(target=target, args=(worker, link, vitals, recycled), daemon=True).start()
    _run(worker, link, recycled)


def _run(worker: Any, link: Link, recycled: threading.Event) -> None:
    try:
        report = worker.run(signals=False)
    except ReliqError as error:
        link.say("failed", type(error), error.args, dict(error.__dict__))
    else:
        link.say("ended", report, recycled.is_set())


def _stop_when_told(worker: Any, link: Link, _vitals: Vitals, _recycled: threading.Event) -> None:
    if link.heard():
        worker.stop()


def _stop_when_recycled(worker: Any, _link: Link, _vitals: Vitals, recycled: threading.Event) -> None:
    """SIGTERM to a child alone: it ends in an orderly way, and the supervisor starts another one."""
    recycled.wait()
    worker.stop()


def _tell_vitals(_worker: Any, link: Link, vitals: Vitals, _recycled: threading.Event) -> None:
    never = threading.Event()
    while not never.wait(BEAT):
        link.say("vitals", dict(vitals.facts()))


class _Upwards(logging.Handler):
    def __init__(self, link: Link) -> None:
        super().__init__(logging.INFO)
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        self._link.say("log", record.name, record.levelno, self.format(record))


def _carry_logs(link: Link) -> None:
    """Log lines of reliq go to the supervisor, whose process has been told where they belong."""
    if not logging.getLogger().handlers:
        logging.getLogger("reliq").setLevel(logging.INFO)
        logging.getLogger("reliq").addHandler(_Upwards(link))
