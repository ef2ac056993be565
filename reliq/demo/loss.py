"""Redis is lost with all that it had, in mid-delivery, and the queue comes back from Postgres."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from reliq.demo.processes import Child, ChildFailed
from reliq.embedded import Server
from reliq.mirror import Mirror
from reliq.queue import Queue

POSTGRES = "RELIQ_DEMO_POSTGRES"  # a DSN; without it a Postgres of the demo's own
_PATIENCE = 60.0  # seconds for the follower to have read everything
_TICK = 0.02


@dataclass(frozen=True, slots=True)
class Loss:
    """What was lost, and came back.

    Attributes:
        at: Unix seconds at which the last worker had stopped that knew the old Redis.
        rebuilt: live items that came back.
        remembered: ids of ended items that came back, so that they are not delivered again.
        seconds: from the kill to the queue's being open again.
        verified: whether Redis agreed with Postgres then.
    """

    at: float
    rebuilt: int
    remembered: int
    seconds: float
    verified: bool


class Insurance:
    """The mirror of a run: a Postgres, and a follower in a process of its own. A context manager."""

    def __init__(self, server: Server, queue: str) -> None:
        self._server = server
        self._queue = queue
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as started:
            dsn = os.environ.get(POSTGRES) or _own_postgres(started)
            self._mirror = started.enter_context(Mirror(dsn))
            self._mirror.init()
            started.callback(self._leave_nothing)
            environment = {"RELIQ_URL": self._server.socket_url, POSTGRES: dsn}
            follower = Child("the follower", "reliq.demo.follower", self._queue, environment=environment)
            self._follower = started.enter_context(follower)
            self._follower.greeting()
            self._stack = started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, tb)

    def await_rows(self, items: int) -> None:
        """Waits until Postgres has so many items.

        Raises:
            ChildFailed: it has not, after a minute.
        """
        until = time.monotonic() + _PATIENCE
        while sum(status.rows for status in self._mirror.status([self._queue])) < items:
            self._follower.check()
            if time.monotonic() > until:
                raise ChildFailed(f"the follower has not brought {items} items to Postgres in {_PATIENCE:g} s")
            time.sleep(_TICK)

    def lose(self) -> float:
        """Kills Redis, removes what it had on disk, and starts an empty one at its address. Returns the time."""
        at = time.time()
        self._server.kill()
        shutil.rmtree(self._server.directory / "data", ignore_errors=True)
        self._server.start()
        return at

    def bring_back(self, killed_at: float) -> Loss:
        """Rebuilds the queue: plan, apply, verify. Call it when all workers have stopped.

        Raises:
            MirrorError, ReliqError.
        """
        at = time.time()
        with Queue(self._queue, self._server.socket_url) as queue:
            plan = self._mirror.plan_rebuild(queue)
            self._mirror.apply(plan)
            verified = bool(self._mirror.verify(queue))
        return Loss(at, plan.items, plan.ended, time.time() - killed_at, verified)

    def _leave_nothing(self) -> None:
        """Removes the queue from a database that is not ours."""
        self._mirror.store.rows("forget_queue", queue=self._queue)


def _own_postgres(stack: ExitStack) -> str:
    return stack.enter_context(Child("Postgres", "reliq.demo.postgres")).greeting()
