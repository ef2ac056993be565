"""What a handler may answer instead of returning or raising an error of its own: as a return value, or raised."""

from __future__ import annotations

import datetime as dt

from reliq.errors import InvalidArgument


class Answer(Exception):
    """Base of the three answers. Return one from a handler, or raise it from anywhere within."""


class Retry(Answer):
    """Try the item again later. Counts as a failed attempt, as an error would.

    Args:
        after: seconds (or a timedelta) until the next attempt; None leaves it to the queue's `retry` and backoff.
        reason: kept with the item as its last error.

    Raises:
        InvalidArgument: `after` is no time that can be waited: in a handler that is a failed attempt like any other.
    """

    def __init__(self, after: float | dt.timedelta | None = None, reason: str = "") -> None:
        super().__init__(reason or "the handler asked for another attempt")
        seconds: object = after.total_seconds() if isinstance(after, dt.timedelta) else after
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0):
            raise InvalidArgument(f"after is a number of seconds, 0 or more, not {after!r}")
        self.after = after
        self.reason = str(self)


class Discard(Answer):
    """The item is of no use: end it without success and without another attempt. It is not kept among the dead.

    Args:
        reason: kept with its id for the retention.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the handler discarded it")
        self.reason = str(self)


class Release(Answer):
    """Not by me, not now: give the item back to the head of the queue. No attempt is counted.

    A handler that always answers so would get the item again at once: it is for a worker that is about to stop, or
    that lacks something which another one has.
    """
