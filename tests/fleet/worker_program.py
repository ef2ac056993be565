"""A worker of a fleet, as a program: `python worker_program.py URL HISTORIES NAME LEASE CONCURRENCY PREFETCH`.

Its payloads say what handling does: {"work": seconds, "fail": attempts that fail}. It ends on SIGTERM.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from reliq import Item, Queue, Worker
from reliq.testing import History, Recording


def main(url: str, histories: str, name: str, lease: str, concurrency: str, prefetch: str) -> None:
    history = History(Path(histories) / f"{name}-{os.getpid()}.jsonl", name)

    def handle(item: Item) -> None:
        with history.handling(item):
            time.sleep(item.payload.get("work", 0))
            if item.attempt <= item.payload.get("fail", 0):
                raise RuntimeError("this attempt was to fail")

    with Queue("q", url) as queue:
        recording = Recording(queue, history)
        Worker(
            recording,
            handle,
            lease=float(lease),
            concurrency=int(concurrency),
            prefetch=None if prefetch == "auto" else int(prefetch),
        ).run()
    history.write("report", ended="in good order")


if __name__ == "__main__":
    main(*sys.argv[1:])
