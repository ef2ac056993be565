"""What commands ask about a queue as a whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from reliq.cli._exit import Exit, Stop
from reliq.cli._output import Age
from reliq.errors import AccessDenied
from reliq.item import Counts, ItemState

if TYPE_CHECKING:
    from reliq.queue import Queue

STATES = (ItemState.QUEUED, ItemState.SCHEDULED, ItemState.IN_PROGRESS, ItemState.ORPHANED, ItemState.DEAD)


def counts_of(queue: Queue) -> Counts:
    """The counts of a queue that exists; ends with 3 where it does not: a name that is mistyped is no empty queue."""
    counts = queue.counts()
    if not queue._session.epoch:
        raise Stop(Exit.NOTHING_FOUND, f"the server has no queue {queue.name!r}")
    return counts


def age_of(queue: Queue, state: ItemState = ItemState.QUEUED) -> Age | None:
    """Age of the first item of a state, None where there is none."""
    age = queue.oldest_age(state)
    return None if age is None else Age(age)


def is_open(counts: Counts) -> str:
    """Which ways a queue is open, in a word."""
    closed = (counts.paused_claim, counts.paused_enqueue)
    return {(False, False): "open", (True, False): "no claims", (False, True): "no enqueues"}.get(closed, "closed")


def server_info(queue: Queue) -> dict[str, str]:
    """INFO of the server; empty where the user has no right to it."""
    try:
        return queue._driver.info()
    except AccessDenied:
        return {}


def server_time(queue: Queue) -> float:
    """Unix seconds by the server's clock, which is the one that made the times of items."""
    micros: Any = server_info(queue).get("server_time_usec")
    return int(micros) / 1e6 if micros else time.time()
