"""The follower of the demo's queue: `python -m reliq.demo.follower QUEUE`.

The server is in RELIQ_URL and Postgres in RELIQ_DEMO_POSTGRES: arguments are visible to every user of the machine.
"""

from __future__ import annotations

import os
import sys

from reliq.demo import processes
from reliq.demo.loss import POSTGRES
from reliq.mirror import Mirror
from reliq.queue import Queue


def main() -> None:
    """Follows until it is stopped, or the demo is gone."""
    processes.leave_with_parent()
    with Mirror(os.environ[POSTGRES]) as mirror, Queue(sys.argv[1]) as queue:
        print("ready", flush=True)
        mirror.follow(queue)


if __name__ == "__main__":
    main()
