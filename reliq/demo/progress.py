"""What a run shows while it goes on: a bar on a terminal, else a line now and then. On stderr."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from reliq.demo.report import Report
from reliq.info import Counts

_EVERY = 1.0  # seconds between plain lines


class Display:
    """Shows what happens. A context manager: the bar is gone from the screen when it ends."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._console,
            transient=True,
        )
        self._line: TaskID | None = None
        self._total = 0
        self._next_at = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, highlight=False)

    def begin(self, total: int) -> None:
        """Starts the bar, where there is a terminal to draw it on. `total` is how many items there are."""
        self._total = total
        if self._console.is_terminal:
            self._line = self._bar.add_task("finished", total=total, state="")
            self._bar.start()

    def update(self, counts: Counts, mails: int) -> None:
        """The figures of the moment: the queue's counts, and the mails that SMTP has accepted."""
        state = f"{mails} mails, {counts.queued} queued, {counts.in_progress} in progress"
        if self._line is not None:
            self._bar.update(self._line, completed=counts.finished, state=state)
        elif time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _EVERY
            self.say(f"{counts.finished} of {self._total} finished, {state}")

    def end(self) -> None:
        """Takes the bar off the screen."""
        if self._line is not None:
            self._bar.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()


def print_table(report: Report) -> None:
    """The reconciliation table, on stdout."""
    table = Table(title="SMTP log against recipients file", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, figure, note in _rows(report):
        table.add_row(name, figure, note)
    Console(highlight=False).print(table)


def _rows(report: Report) -> list[tuple[str, str, str]]:
    killed = f"held by {report.killed} when it was killed: {report.held}" if report.killed else "no worker was killed"
    lines = ", ".join(map(str, report.lost_lines[:5])) + (" ..." if report.lost > 5 else "")
    rows = [
        ("recipients", str(report.recipients), f"of {report.lines} lines"),
        ("malformed", str(report.malformed), "reported with line and reason"),
        ("delivered", str(report.delivered), ""),
        ("duplicates", str(report.duplicates), f"{report.duplicates_by_kill} accepted, and not finished at the kill"),
        ("lost", str(report.lost), f"lines {lines}" if report.lost else ""),
        ("unexpected", str(report.unexpected), ""),
        ("recovered", str(report.recovered), killed),
        ("counters", "add up" if report.conserved else "DON'T ADD UP", "of the queue"),
        ("seconds", f"{report.seconds:.1f}", ""),
        ("items/s", f"{report.per_second:.0f}", ""),
    ]
    if report.rebuilt is not None:
        verdict = "verified" if report.verified else "NOT VERIFIED"
        again = f"from Postgres, {verdict}; sent again: {report.duplicates_by_loss}"
        rows.insert(7, ("rebuilt", str(report.rebuilt), again))
    return rows
