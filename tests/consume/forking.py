"""A program that is in a loop over the queue "q" when it forks, or is killed; run by test_abandoned.py."""

from __future__ import annotations

import os
import sys
import threading

from reliq import Queue


def fork(queue: Queue) -> int:
    items = iter(queue.consume(chunk=3, max_items=3))
    next(items)
    if not (child := os.fork()):
        del items  # closes it
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert queue.counts().in_progress == 3, "the child has settled something"
    assert [item.payload for item in items] == [1, 2]
    return os.waitstatus_to_exitcode(status)


def hang(queue: Queue) -> int:
    for item in queue.consume(chunk=3, lease=1.0):
        if item.payload == 4:
            print("at 4", flush=True)
            threading.Event().wait()
    return 1


if __name__ == "__main__":
    with Queue("q", sys.argv[1]) as opened:
        sys.exit(hang(opened) if "hang" in sys.argv else fork(opened))
