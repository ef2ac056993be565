"""A worker of one kind, as a program: `python worker_program.py URL FOLDER KIND`. It ends on SIGTERM.

Each process of it writes what it asks, is told and handles into a history of its own in the folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from functools import cache
from pathlib import Path

from reliq import AsyncQueue, AsyncWorker, Item, Queue, Worker
from reliq.testing import AsyncRecording, History, Recording

WORK = 0.002  # seconds of handling
LEASE = 6.0  # longer than any outage here: what is handled again is so because a server forgot


@cache
def history(pid: int) -> History:
    return History(Path(os.environ["HISTORIES"]) / f"worker-{pid}.jsonl", os.environ["KIND"])


class Recorded(Recording):
    """The queue at a URL, in the history of the process that it is in: a worker takes it along to those it starts."""

    def __init__(self, url: str) -> None:
        super().__init__(Queue("q", url), history(os.getpid()))
        self._url = url

    def __reduce__(self) -> tuple[type[Recorded], tuple[str]]:
        return Recorded, (self._url,)


def handle(item: Item) -> None:
    with history(os.getpid()).handling(item):
        time.sleep(WORK)


async def handle_in_task(item: Item) -> None:
    with history(os.getpid()).handling(item):
        await asyncio.sleep(WORK)


async def tasks(url: str) -> None:
    async with AsyncQueue("q", url) as queue:
        recorded = AsyncRecording(queue, history(os.getpid()))
        await AsyncWorker(recorded, handle_in_task, lease=LEASE, concurrency=4).run()


def main(url: str, folder: str, kind: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    os.environ["HISTORIES"], os.environ["KIND"] = folder, kind
    if kind == "tasks":
        asyncio.run(tasks(url))
        return
    with Recorded(url) as queue:
        Worker(queue, handle, lease=LEASE, concurrency=2, processes=2 if kind == "processes" else 1).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
