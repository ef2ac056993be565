"""Keeps the leases of what a worker holds: by a thread here, or by a process that no handler can keep from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reliq import _arguments, _policy
from reliq._policy import Seconds
from reliq._renewals_process import ProcessRenewals
from reliq._renewals_thread import ThreadRenewals, driver_for, sync_connector
from reliq._watched import OnLost, Renewals, tell
from reliq.queue import Queue
from reliq.queue_async import AsyncQueue

__all__ = ["OnLost", "Renewals", "renewals_for"]


def renewals_for(
    queue: Queue | AsyncQueue,
    lease: Seconds,
    on_lost: OnLost,
    kind: str = "thread",
    *,
    on_renewed: Callable[[], object] = lambda: None,
) -> Renewals:
    """What renews the leases of a worker of this queue.

    Args:
        queue: the queue that the items are claimed from. It is not used: renewing has connections of its own.
        lease: seconds that a renewal gives, 0.001 to 86,400.
        on_lost: called with a list of items whose lease is lost, once for each, in a thread of its own: it must not
            block, and must be safe to call beside anything. Their `lost` is set before.
        kind: `thread`, or `process` for handlers that may hold the interpreter's lock for longer than a lease.
        on_renewed: called when leases have been renewed, such as `health.Vitals.renewed`.

    Returns:
        It is not started. In a forked child it watches nothing and does not run; it may be started there.

    Raises:
        InvalidArgument: an `AsyncQueue` made with `client=`, for which no sync connection can be made.
    """
    length = _arguments.lease_length(lease)
    tell_them = partial(tell, on_lost)
    if _policy.one_of(kind, "kind", ("thread", "process")) == "thread":
        driver = driver_for(sync_connector(queue), queue._session, length)
        return ThreadRenewals(driver, length, tell_them, on_renewed=lambda _leases, _expires: on_renewed())
    return ProcessRenewals(queue, length, tell_them, on_renewed)
