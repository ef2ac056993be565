"""A program that forks while its queue is in use; run by test_sharing.py. Ends with 0 where nothing crossed."""

from __future__ import annotations

import os
import sys

from reliq import Queue, Unavailable

ROUNDS = 200


def main(mode: str, url: str) -> int:
    queue = Queue("q", url, timeout=0 if mode == "abandoned" else 10)
    queue.enqueue("warm", id="warm")  # a connection that both will find
    if mode == "abandoned":
        try:
            queue.claim()  # the test loses its reply
        except Unavailable:
            pass
        else:
            return 3
    child = os.fork()
    who = "parent" if child else "child"
    try:
        wrong = (claim_one if mode == "abandoned" else talk)(queue, who)
    except BaseException as error:  # noqa: BLE001  a forked child must never return into the caller's stack
        print(who, repr(error), file=sys.stderr)
        wrong = 1
    if not child:
        os._exit(min(wrong, 100))
    _, status = os.waitpid(child, 0)
    return wrong or os.waitstatus_to_exitcode(status)


def talk(queue: Queue, who: str) -> int:
    """Makes many calls whose answers tell whose they are. Returns how many were somebody else's."""
    wrong = 0
    for number in range(ROUNDS):
        name = f"{who}-{number}"
        wrong += queue.enqueue(name, id=name).id != name
        wrong += queue.get(name).payload != name
    return wrong


def claim_one(queue: Queue, who: str) -> int:
    """Claims an item and finishes it under its own name; both processes must get one."""
    items = queue.claim()
    os.write(1, f"{who} {[item.payload for item in items]}\n".encode())  # in one piece, beside the other process
    return len(items) != 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
