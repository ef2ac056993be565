"""Reads ahead in a thread of its own, so that one side is read while the other one is written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

DEPTH = 3  # parts that are ready at most: this much more memory is used


class _End:
    """Comes after the last part; with what broke the reading off, if something did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(parts: Iterable[T]) -> Generator[T, None, None]:
    """The same parts, the next ones of which are made while one is used."""
    ready: queue.Queue[T | _End] = queue.Queue(DEPTH)
    stopped = threading.Event()

    def read() -> None:
        source = iter(parts)
        try:
            _fill(ready, source, stopped)
        except BaseException as error:  # noqa: BLE001  raised again where the parts are used
            _put(ready, _End(error), stopped)
        finally:
            if isinstance(source, Generator):
                source.close()  # in the thread that ran it: it may hold a connection

    reader = threading.Thread(target=read, name="reliq-read-ahead", daemon=True)
    reader.start()
    try:
        while not isinstance(part := ready.get(), _End):
            yield part
        if part.error is not None:
            raise part.error
    finally:
        stopped.set()
        reader.join()


def _fill(ready: queue.Queue[T | _End], source: Iterator[T], stopped: threading.Event) -> None:
    for part in source:
        if not _put(ready, part, stopped):
            return
    _put(ready, _End(), stopped)


def _put(ready: queue.Queue[T | _End], part: T | _End, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            ready.put(part, timeout=0.1)
        except queue.Full:  # nobody has used one: look whether somebody still wants them
            continue
        return True
    return False
