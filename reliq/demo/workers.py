"""One worker process of the demo: `python -m reliq.demo.workers QUEUE SMTP_PORT LEASE NAME`, the server in RELIQ_URL.

The URL is not an argument, because arguments are visible to every user of the machine. SIGTERM stops the worker in
order. When its standard input ends the demo is gone, and the worker goes at once: its leases bring its items back.
"""

from __future__ import annotations

import argparse
from contextlib import closing

from reliq.demo import processes
from reliq.demo.mailer import Mailer
from reliq.queue import Queue
from reliq.worker import Worker

CONCURRENCY = 4  # mails under way
CAPACITY = 2 * CONCURRENCY  # items that a worker holds at most: those, and as many claimed ahead


def main() -> None:
    """Works until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m reliq.demo.workers")
    parser.add_argument("queue")
    parser.add_argument("smtp_port", type=int)
    parser.add_argument("lease", type=float)
    parser.add_argument("name")
    options = parser.parse_args()
    processes.leave_with_parent()
    with closing(Mailer(options.smtp_port, options.name)) as mailer, Queue(options.queue) as queue:
        ahead = CAPACITY - CONCURRENCY
        worker = Worker(queue, mailer, lease=options.lease, concurrency=CONCURRENCY, prefetch=ahead)
        print("ready", flush=True)
        worker.run()


if __name__ == "__main__":
    main()
