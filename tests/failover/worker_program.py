"""A worker of one kind, as a program: `python worker_program.py URL FOLDER KIND`. It ends on SIGTERM.

Each process of it writes what it handles into a history of its own in the folder.
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
from reliq.testing import History

WORK = 0.002  # seconds of handling
LEASE = 6.0  # longer than any outage here: what is handled again is so because a server forgot


@cache
def history(pid: int) -> History:
    return History(Path(os.environ["HISTORIES"]) / f"worker-{pid}.jsonl", os.environ["KIND"])


def handle(item: Item) -> None:
    with history(os.getpid()).handling(item):
        time.sleep(WORK)


async def handle_in_task(item: Item) -> None:
    with history(os.getpid()).handling(item):
        await asyncio.sleep(WORK)


async def tasks(url: str) -> None:
    async with AsyncQueue("q", url) as queue:
        await AsyncWorker(queue, handle_in_task, lease=LEASE, concurrency=4).run()


def main(url: str, folder: str, kind: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    os.environ["HISTORIES"], os.environ["KIND"] = folder, kind
    if kind == "tasks":
        asyncio.run(tasks(url))
        return
    with Queue("q", url) as queue:
        Worker(queue, handle, lease=LEASE, concurrency=2, processes=2 if kind == "processes" else 1).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
