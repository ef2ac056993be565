"""A scheduler that walks through time: `python scheduler_program.py URL FROM TO`.

Goes from one Unix second to the next, does what is due, and prints each second when it is done with it.
"""

from __future__ import annotations

import sys

from reliq import Queue, cron


def main(url: str, start: int, end: int) -> None:
    with Queue("q", url) as queue:
        for now in range(start, end + 1):
            queue._session.now_ms = b"%d" % (now * 1000)
            cron.tick(queue)
            print(now, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
