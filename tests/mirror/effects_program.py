"""A worker that is killed at a point of its work: `effects_program.py DSN URL POINT`. It books each item's amount.

POINT: `marked` after the mark, `written` after the effect, `committed` after the commit, or `finished`.
"""

from __future__ import annotations

import os
import signal
import sys

import psycopg

from reliq import Queue
from reliq.mirror.effects import effects_once


def die(point: str) -> None:
    """As by SIGKILL from elsewhere, where this is the point."""
    if point == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Works until nothing is left, or dies."""
    with Queue("bookings", sys.argv[2]) as queue, psycopg.connect(sys.argv[1]) as connection:
        while items := queue.claim(1, lease=0.2, wait=1.0):
            with effects_once(connection, items[0]) as fresh:
                die("marked")
                if fresh:
                    connection.execute("INSERT INTO bookings VALUES (%s, %s)", (items[0].id, items[0].delivery))
                die("written")
            die("committed")
            queue.finish(items)
            die("finished")


if __name__ == "__main__":
    main()
