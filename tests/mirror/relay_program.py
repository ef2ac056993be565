"""A relay in a process of its own, to be killed: `relay_program.py DSN URL QUEUE`."""

from __future__ import annotations

import sys
import threading

from reliq import Queue
from reliq.mirror.relay import Relay
from reliq.mirror.store import Store


def main() -> None:
    """Runs until it is killed."""
    dsn, url, name = sys.argv[1:]
    Relay(Store(dsn, timeout=10.0), Queue(name, url)).run(threading.Event())


if __name__ == "__main__":
    main()
