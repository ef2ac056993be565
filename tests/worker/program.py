"""A worker process for test_processes.py: `python program.py URL LEASE PREFETCH`.

It writes the payload of each item that it begins, and holds each until it reads a line from its standard input.
"""

from __future__ import annotations

import sys

from reliq import Item, Queue, Worker


def handle(item: Item) -> None:
    print("began", item.payload, item.delivery, flush=True)
    sys.stdin.readline()


def main(url: str, lease: str, prefetch: str) -> None:
    with Queue("q", url) as queue:
        report = Worker(queue, handle, lease=float(lease), prefetch=int(prefetch)).run()
    print("ended", report.finished, report.released, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
