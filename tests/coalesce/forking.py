"""A program that forks while its threads are in calls; run by test_threads.py. Ends with 0 where the child could go on.

Its argument is the server's URL. All its threads enqueue without a pause, so the fork meets some that gather.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from reliq import Queue

THREADS = 24
FORKS = 5


def main(url: str) -> int:
    queue = Queue("q", url)
    queue.enqueue("warm")
    threads = [threading.Thread(target=enqueue, args=(queue, f"parent-{n}", 30)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    statuses = [fork(queue, f"child-{n}") for n in range(FORKS)]
    for thread in threads:
        thread.join()
    return max(statuses)


def fork(queue: Queue, name: str) -> int:
    child = os.fork()
    if not child:
        signal.alarm(20)  # one that hangs is a failure as well
        try:
            enqueue(queue, name, 10)
        except BaseException as error:  # noqa: BLE001  a forked child must never return into the caller's stack
            print(name, repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def enqueue(queue: Queue, name: str, count: int) -> None:
    for number in range(count):
        queue.enqueue(f"{name}-{number}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
