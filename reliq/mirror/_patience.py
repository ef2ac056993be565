"""A connection to Postgres that does not wait for ever."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")


class NoAnswer(psycopg.OperationalError):
    """A request was sent and its answer did not come in time."""


class PatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose every request has a time limit: a server that keeps it open and says nothing is given up."""

    patience = 30.0  # seconds

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """Waits for an answer, for `patience` seconds at most; then the connection is closed."""
        try:
            return super().wait(_bounded(gen, self.patience), *args, **options)
        except NoAnswer:
            self.close()  # its answer would be taken for that of the next request
            raise


def _bounded(gen: Generator[Any, Any, T], patience: float) -> Generator[Any, Any, T]:
    until = time.monotonic() + patience
    try:
        wish = next(gen)
        while True:
            ready = yield wish
            if not ready and time.monotonic() > until:
                raise NoAnswer(f"no answer within {patience:g} s")
            wish = gen.send(ready)
    except StopIteration as stop:
        outcome: T = stop.value
        return outcome
