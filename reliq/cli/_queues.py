"""What commands ask about a queue as a whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from reliq.cli._exit import Exit, Stop
from reliq.cli._output import Age
from reliq.errors import AccessDenied
from reliq.info import Counts, Settings
from reliq.states import ItemState

if TYPE_CHECKING:
    from reliq.queue import Queue

RATE_MARGIN = 1.05  # a rate is measured over a second or so
STATES = (ItemState.QUEUED, ItemState.SCHEDULED, ItemState.IN_PROGRESS, ItemState.ORPHANED, ItemState.DEAD)


LIMITS = ("max_length", "max_bytes", "max_in_progress", "rate", "rate_burst", "group_limit")


def limits_reached(counts: Counts, settings: Settings, rate: float | None = None) -> list[str]:
    """The bounds of a queue that hold something up now. `rate`: items a second that it gives out; None: not known."""
    figures = {
        "max_length": (counts.queued + counts.scheduled, settings.max_length),
        "max_bytes": (counts.waiting_bytes, settings.max_bytes),
        "max_in_progress": (counts.in_progress, settings.max_in_progress),
        "rate": (0 if rate is None or not counts.queued else rate * RATE_MARGIN, settings.rate),
    }
    return [name for name, (figure, limit) in figures.items() if limit and figure >= limit]


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
