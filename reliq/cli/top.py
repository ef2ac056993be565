"""`reliq top`: queues on a live screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from reliq.cli._base import Command
from reliq.cli._exit import Exit, Stop
from reliq.cli._options import Options, duration_option
from reliq.cli._output import cell
from reliq.cli._queues import STATES, age_of, is_open, limits_reached
from reliq.info import Counts

if TYPE_CHECKING:
    from rich.table import Table

    from reliq.queue import Queue

LISTING = 5.0  # seconds between looks for new queues
SHORT = {"scheduled": "sched", "in_progress": "held", "orphaned": "orph", "blocked": "block", "workers": "work"}
COLUMNS = ("queue", *(state.value for state in STATES), *"blocked oldest in/s out/s workers idle expired notes".split())


@click.command(cls=Command)
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@click.option("--once", is_flag=True, help="Print one frame and end; without a terminal it is so.")
@duration_option("--interval", default=1.0, help="Between two frames: 1s by default.")
@click.pass_obj
def top(options: Options, names: tuple[str, ...], once: bool, interval: float) -> None:
    """Watch queues on a live screen: all of the server, or those that are named. q ends it.

    in/s and out/s are items enqueued and finished since the last frame. With --once it looks twice, an interval apart.
    """
    if not 0.1 <= interval <= 3600:
        raise click.UsageError("--interval is 100ms to 1h")
    with closing(Screen(options, names)) as screen:
        if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            screen.look()
            time.sleep(interval)
            options.out().rows(COLUMNS, screen.look())
        else:
            from reliq.cli._live import show

            show(lambda: _table(screen.look()), interval)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("QUEUE", no_wrap=True, min_width=8, overflow="ellipsis")
    for name in COLUMNS[1:-1]:
        table.add_column(SHORT.get(name, name).upper(), justify="right", no_wrap=True)
    table.add_column("NOTES", overflow="fold")
    for row in rows:
        style = "bold red" if row["expired"] or row["notes"] else ""
        table.add_row(*(Text(cell(value)) for value in row.values()), style=style)
    table.caption = time.strftime("%H:%M:%S   q: quit")
    table.caption_justify = "left"
    return table


@dataclass
class _Seen:
    """A queue as it was in the last frame."""

    queue: Queue
    counts: Counts | None = None
    at: float = 0.0


class Screen:
    """What is to be shown, frame by frame."""

    def __init__(self, options: Options, names: Sequence[str]) -> None:
        self._options, self._names = options, names
        self._seen: dict[str, _Seen] = {}
        self._listed_at = float("-inf")
        self._stack = ExitStack()

    def close(self) -> None:
        """Closes the connections."""
        self._stack.close()

    def look(self) -> list[dict[str, Any]]:
        """A row for each queue. Raises where there is none, or the server can't be reached."""
        if time.monotonic() - self._listed_at > LISTING:
            self._list()
        return [_row(name, seen) for name, seen in self._seen.items()]

    def _list(self) -> None:
        self._listed_at = time.monotonic()
        found = self._names or self._all()
        if not found:
            raise Stop(Exit.NOTHING_FOUND, "the server has no queues")
        for name in dict.fromkeys(found):
            if name not in self._seen:
                queue = self._stack.enter_context(closing(self._options.queue(name, timeout=5.0)))
                self._seen[name] = _Seen(queue)

    def _all(self) -> list[str]:
        from reliq.queue import queues

        return queues(self._options.server(), timeout=5.0 if self._options.timeout is None else self._options.timeout)


def _row(name: str, seen: _Seen) -> dict[str, Any]:
    """One call, and one more for the age where something is queued."""
    from reliq import _commands
    from reliq.errors import QueueError

    try:
        counts, settings = seen.queue._driver.call(_commands.inspect())
        oldest = age_of(seen.queue) if counts.queued else None
    except QueueError as error:
        return {**dict.fromkeys(COLUMNS), "queue": name, "notes": str(error)}
    if not seen.queue._session.epoch:
        return {**dict.fromkeys(COLUMNS), "queue": name, "notes": "the server has no such queue"}
    now = time.monotonic()
    coming, going = _rates(seen, counts, now)
    seen.counts, seen.at = counts, now
    notes = [] if is_open(counts) == "open" else [is_open(counts)]
    notes += [f"{limit} reached" for limit in limits_reached(counts, settings, going)]
    return {
        "queue": name,
        **{state.value: getattr(counts, state.value) for state in STATES},
        "blocked": counts.blocked,
        "oldest": oldest,
        "in/s": coming,
        "out/s": going,
        "workers": counts.workers,
        "idle": counts.idle_workers,
        "expired": counts.expired_claims,
        "notes": ", ".join(notes) or None,
    }


def _rates(seen: _Seen, counts: Counts, now: float) -> tuple[float | None, float | None]:
    """Items enqueued and finished a second since the last frame; None in the first one, and for a queue made anew."""
    before = seen.counts
    if before is None or counts.enqueued < before.enqueued or counts.finished < before.finished:
        return None, None
    elapsed = max(now - seen.at, 1e-3)
    return (
        round((counts.enqueued - before.enqueued) / elapsed, 1),
        round((counts.finished - before.finished) / elapsed, 1),
    )
