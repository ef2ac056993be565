"""Workers as the queue knows them."""

from __future__ import annotations

from typing import NamedTuple

from reliq import _reading, _scripts
from reliq._commands.arguments import ms
from reliq._session import Command, Reply
from reliq.info import WorkerInfo


class Beat(NamedTuple):
    """What a beat brought: whether this worker sweeps, and the seconds until time brings something (None: never).

    `tick_due`: a recurring item is to be enqueued.
    """

    sweeps: bool
    next_event: float | None
    tick_due: bool = False


def beat(worker: str, facts: bytes, sweep: float) -> Command[Beat]:
    """Says that a worker is there (b"": that it leaves), and sweeps where it holds the sweep lease of the fleet."""

    def decode(reply: Reply) -> Beat:
        return Beat(bool(reply[2]), None if int(reply[3]) < 0 else int(reply[3]) / 1000, int(reply[4]) == 0)

    return Command(_scripts.load("beat"), (worker, facts, ms(sweep)), decode)


def workers() -> Command[list[WorkerInfo]]:
    """Who works on the queue, those seen last first."""

    def decode(reply: Reply) -> list[WorkerInfo]:
        now, sweeper = int(reply[2]), reply[3]
        seen = zip(reply[4], reply[5], reply[6], strict=True)
        return [_reading.worker_info(n, now, int(at), f or b"", sweeps=n == sweeper) for n, at, f in seen]

    return Command(_scripts.load("workers"), (), decode)
