"""Data on stdout: a table for people, JSON for programs."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import click

ROWS_AT_A_TIME = 1000  # of a table: what is listed may be longer than memory
BAR = 20  # characters of a progress bar
SHORT = 60  # characters of a payload or an error in a table with several columns

Row = Mapping[str, Any]


class Age(float):
    """Seconds: a number in JSON, `3m 20s` in a table."""


@dataclass(frozen=True)
class Shown:
    """A value of the user's, of which a table shows at most `width` characters (0: all of it), as JSON or as text."""

    value: Any
    width: int = SHORT
    as_json: bool = True


@dataclass(frozen=True)
class Bar:
    """So much of so much: the fraction in JSON, a bar in a table where the total is known."""

    done: float
    total: float | None

    def fraction(self) -> float | None:
        """0 to 1; None where it can't be told."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None

    def __str__(self) -> str:
        fraction = self.fraction()
        if fraction is None:
            return f"{self.done:g}"
        full = int(fraction * BAR)
        return f"{'#' * full}{'.' * (BAR - full)} {fraction:.0%} ({self.done:g} of {self.total:g})"


class Output:
    """Prints data in one of the formats `table`, `json` and `jsonl`."""

    def __init__(self, form: str) -> None:
        self.form = form

    def rows(self, columns: Sequence[str], rows: Iterable[Row]) -> int:
        """Prints rows as they come; a table a thousand at a time. Returns how many."""
        if self.form == "table":
            return _print_table(columns, rows)
        return _print_lines(rows) if self.form == "jsonl" else _print_array(rows)

    def record(self, record: Row) -> None:
        """Prints one thing: as a JSON object, or a line for each of its values."""
        if self.form == "table":
            _print_table(("name", "value"), [{"name": n, "value": v} for n, v in record.items()], header=False)
        else:
            click.echo(to_json(record, indent=2 if self.form == "json" else None))


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON for any value that an item can carry. What JSON has no form for: see `plain`."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    ascii_only = not encoding.lower().startswith("utf")
    return json.dumps(plain(value), ensure_ascii=ascii_only, allow_nan=False, indent=indent)


def plain(value: Any) -> Any:
    """A value as JSON can carry it: bytes as {"$bytes": base64}, times as ISO 8601 in UTC, other things as text."""
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return float(value) if math.isfinite(value) else str(value)
        case Shown():
            return _plain_payload(value.value)
        case Bar():
            return plain(value.fraction())
        case bytes():
            return {"$bytes": base64.b64encode(value).decode()}
        case dt.datetime():
            return iso(value) if value.tzinfo else value.isoformat()
        case Mapping():
            return {key if isinstance(key, str) else str(key): plain(part) for key, part in value.items()}
        case list() | tuple() if type(value) in (list, tuple):
            return [plain(part) for part in value]
    return str(value)


def _plain_payload(value: Any) -> Any:
    try:
        return plain(value)
    except RecursionError:
        return "(nested too deeply to be shown)"


def iso(value: dt.datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return value.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instant(unix_seconds: float | None) -> dt.datetime | None:
    """A time in UTC from Unix seconds."""
    return None if unix_seconds is None else dt.datetime.fromtimestamp(unix_seconds, dt.UTC)


def cell(value: Any) -> str:
    """A value as a table shows it. What could steer the terminal is escaped."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Age():
            return _age(value)
        case dt.datetime():
            return iso(value)
        case Shown():
            text = to_json(value) if value.as_json else str(value.value or "-")
            return _printable(_cut(text, value.width))
    return _printable(str(value))


def _age(seconds: float) -> str:
    """The two largest units: 12.3s, 3m 20s, 2h 5m, 4d 3h."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    for unit, smaller, size, per in (("m", "s", 60, 1), ("h", "m", 3600, 60), ("d", "h", 86400, 3600)):
        if seconds < size * (24 if unit == "h" else 60) or unit == "d":
            return f"{int(seconds // size)}{unit} {int(seconds % size // per)}{smaller}"
    raise AssertionError


def _cut(text: str, width: int) -> str:
    return text if not width or len(text) <= width else text[: width - 1] + "…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _print_lines(rows: Iterable[Row]) -> int:
    count = 0
    for row in rows:
        click.echo(to_json(row))
        count += 1
    return count


def _print_array(rows: Iterable[Row]) -> int:
    """An array that is whole also where the rows break off: the exit code tells."""
    count = 0
    try:
        for row in rows:
            click.echo(("[" if count == 0 else ",\n ") + to_json(row), nl=False)
            count += 1
    finally:
        click.echo("]" if count else "[]")
    return count


def _print_table(columns: Sequence[str], rows: Iterable[Row], *, header: bool = True) -> int:
    count, source = 0, iter(rows)
    for chunk in _chunks(source):
        cells = [[cell(value) for value in row.values()] for row in chunk]
        if not (sys.stdout.isatty() and _print_rich(columns, cells, header=header and not count)):
            _print_plain(columns, cells, header=header and not count)
        count += len(chunk)
    return count


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, ROWS_AT_A_TIME)):
        yield chunk


def _print_plain(columns: Sequence[str], cells: list[list[str]], *, header: bool) -> None:
    lines = [[name.upper() for name in columns], *cells] if header else cells
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(columns: Sequence[str], cells: list[list[str]], *, header: bool) -> bool:
    """Prints a table for a terminal. False where rich is not installed."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=None, show_header=header, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name.upper(), overflow="fold")
    for line in cells:
        table.add_row(*(Text(text) for text in line))  # Text: nothing in it is markup
    Console().print(table)
    return True
