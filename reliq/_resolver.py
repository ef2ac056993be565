"""Orphaned items, decided on by a function of the user's: was it done or not?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from reliq._worker_options import Resolve
from reliq.info import ItemInfo
from reliq.queue import Queue
from reliq.states import ItemState

log = logging.getLogger("reliq.worker")

DECISIONS = ("finish", "requeue", "dead")
PAUSE = 1.0  # seconds between two looks at a queue, however often it is swept
LONGEST = 4.0  # seconds of asking in one go: the sweep lease has to be kept


def duties(resolve: Resolve | None) -> list[Callable[[Any], object]]:
    """What the resolver adds to the duties of a housekeeper."""
    return [] if resolve is None else [Resolving(resolve)]


class Resolving:
    """Asks the user's function about a queue's orphaned items at each sweep. For `Queue` and `AsyncQueue`."""

    def __init__(self, fn: Resolve) -> None:
        self._fn = fn
        self._again_at: dict[str, float] = {}

    def __call__(self, queue: Any) -> None:
        """Called in the housekeeper's thread, so an `AsyncQueue` gets a twin that needs no event loop."""
        if time.monotonic() < self._again_at.get(queue.name, 0.0):
            return
        if isinstance(queue, Queue):
            resolve_orphaned(queue, self._fn)
        else:
            with Queue(queue.name, **queue._made_of) as twin:
                resolve_orphaned(twin, self._fn)
        self._again_at[queue.name] = time.monotonic() + PAUSE


def resolve_orphaned(queue: Queue, fn: Resolve, limit: int = 100) -> int:
    """Asks a function about orphaned items, and does what it says. For one worker of a fleet at a time.

    Where there are none it costs one call. An item about which the function says None, or fails, is left as it is. It
    ends after four seconds: what is left comes next time.

    Args:
        queue: the queue to look at.
        fn: is called with an `ItemInfo`; gives `finish`, `requeue`, `dead` or None.
        limit: items to ask about at most, first those that were orphaned first.

    Returns:
        How many items it decided on.

    Raises:
        ReliqError: the queue can't be used.

    If the process dies in here, each item has been resolved or is orphaned still: the function is asked again.
    """
    if not queue.counts().orphaned:
        return 0
    decided, until = 0, time.monotonic() + LONGEST
    for info in islice(queue.scan(ItemState.ORPHANED), limit):
        if time.monotonic() > until:
            break
        decision = _asked(queue.name, fn, info)
        if decision is not None:
            decided += bool(queue.resolve(info.id, decision))
    return decided


def _asked(queue: str, fn: Resolve, info: ItemInfo) -> str | None:
    about = {"reliq_queue": queue, "reliq_item": info.id}
    try:
        decision = fn(info)
    except Exception:  # the function is the user's: an item that it fails on waits for a person
        log.exception("queue %s: resolve failed for item %s", queue, info.id, extra=about)
        return None
    if decision is not None and decision not in DECISIONS:
        log.error("queue %s: resolve says %r for item %s, which is nothing", queue, decision, info.id, extra=about)
        return None
    return decision
