"""What the containers of docker-compose.yml run: `python app.py` enqueues, `reliq worker run app:handle` works."""

from __future__ import annotations

import itertools
import sys
import time

import reliq


def produce(seconds: float) -> None:
    """Enqueues an item, waits for so long, and so on until it is stopped."""
    with reliq.Queue("emails") as queue:  # the server in RELIQ_URL
        for number in itertools.count(1):
            queue.enqueue({"to": f"ann+{number}@example.org"})
            time.sleep(seconds)


def handle(item: reliq.Item) -> None:
    """Does nothing but say so; a failover meanwhile is no matter to it."""
    print(f"mail to {item.payload['to']}", flush=True)  # noqa: T201  its only trace


if __name__ == "__main__":
    produce(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
