"""Recurring items, for whoever has no worker of reliq's: what `Queue.set_cron` keeps is enqueued by calls of `tick`.

A worker does this by itself: one of a fleet, the one that sweeps. So few programs call these functions.
"""

from __future__ import annotations

from reliq import _cron, _schedule
from reliq._plans import Plan
from reliq._session import Session
from reliq.info import Cron
from reliq.queue import Queue
from reliq.queue_async import AsyncQueue

__all__ = ["Cron", "tick", "tick_async"]


def tick(queue: Queue) -> int:
    """Enqueues the items of all ticks of a queue that have come, each once, whoever else does the same.

    A tick waits, and is not lost, while the queue is closed for new items, is full, or needs a codec that this client
    was not given.

    Args:
        queue: a client of it; with the codecs that its payloads need.

    Returns:
        How many items this call enqueued.

    Raises:
        MemoryFull, Unavailable, StateLost, StaleEpoch.
        InvalidArgument: the package cronsim is missing.

    If the caller dies in here, each tick was enqueued whole or not at all, and the next caller goes on.
    """
    return queue._driver.run(_due(queue._session))


async def tick_async(queue: AsyncQueue) -> int:
    """Asyncio twin of `tick`."""
    return await queue._driver.run(_due(queue._session))


def _due(session: Session) -> Plan[int]:
    _schedule.cronsim()  # to say at once where it is missing
    return _cron.tick(session)
