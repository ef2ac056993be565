"""When the ticks of a cron expression are. No I/O but the time zones of the system."""

from __future__ import annotations

import datetime as dt
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from zoneinfo import ZoneInfo

from reliq.errors import InvalidArgument

LATE = 60.0  # seconds after which a tick counts as missed where `missed` is `skip`
MOST_MISSED = 1000  # items for ticks that nobody saw
MAX_EXPRESSION = 200  # characters


class CronMissing(InvalidArgument):
    """The package cronsim is not installed."""


def cronsim() -> Any:
    """The module that knows cron's expressions.

    Raises:
        CronMissing: it is not installed.
    """
    try:
        return import_module("cronsim")
    except ImportError as error:
        raise CronMissing("the package cronsim is missing: pip install 'reliq-queue[cron]'") from error


class BadSchedule(InvalidArgument):
    """An expression or a zone that is none, here at least."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The ticks of an expression in a time zone, as whole Unix seconds."""

    expression: str
    time_zone: str

    def after(self, start: float) -> Iterator[int]:
        """Ticks after an instant, each later than the one before: where a clock is set back, cronsim repeats some.

        Raises:
            BadSchedule, CronMissing.
        """
        last = math.floor(start)
        for moment in self._simulated(dt.datetime.fromtimestamp(last, zone(self.time_zone))):
            tick = int(moment.timestamp())
            if tick > last:
                last = tick
                yield tick

    def _simulated(self, start: dt.datetime) -> Iterator[dt.datetime]:
        module = cronsim()
        try:
            found: Iterator[dt.datetime] = module.CronSim(self.expression, start)
        except module.CronSimError as error:
            text = f"{self.expression!r} is no cron expression such as '30 4 * * 1-5': {error}"
            raise BadSchedule(text) from error
        return found

    def next(self, start: float) -> int | None:
        """The first tick after an instant, None where there is none within 50 years."""
        return next(self.after(start), None)

    def latest(self, first: int, now: float, most: int) -> list[int]:
        """The last ticks from `first` up to now, `most` at most. Looks back further and further until it has them."""
        back = 60.0
        while True:
            start = max(first - 1, now - back)
            found: deque[int] = deque(maxlen=most)
            for tick in self.after(start):
                if tick > now:
                    break
                found.append(tick)
            if len(found) == most or start <= first - 1:
                return list(found) or [first]
            back *= 4

    def due(self, first: int, now: float, missed: str) -> list[int]:
        """The ticks that an item is enqueued for, where `first` is the first that has none yet."""
        ticks = self.latest(first, now, MOST_MISSED if missed == "all" else 1)
        return [tick for tick in ticks if missed != "skip" or now - tick <= LATE]


def schedule(expression: object, time_zone: object) -> Schedule:
    """A schedule that has a tick.

    Raises:
        BadSchedule, CronMissing.
    """
    if not isinstance(expression, str) or len(expression) > MAX_EXPRESSION:
        raise BadSchedule(f"a cron expression is text of {MAX_EXPRESSION} characters at most")
    made = Schedule(expression, str(time_zone))
    if made.next(0.0) is None:
        raise BadSchedule(f"{expression!r} has no tick in 50 years")
    return made


def zone(name: str) -> dt.tzinfo:
    """A time zone by its name. UTC is told to cronsim in the form that it knows to have no gaps.

    Raises:
        BadSchedule.
    """
    try:
        return dt.UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise BadSchedule(f"there is no time zone {name!r} here; they have names such as Europe/Berlin") from error
