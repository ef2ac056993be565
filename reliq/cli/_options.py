"""What every command knows of how it was called, and the types of options that several commands share."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reliq.errors import InvalidURL

if TYPE_CHECKING:
    from reliq.cli._output import Output
    from reliq.queue import Queue
    from reliq.queue_async import AsyncQueue

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d|)")


@dataclass
class Options:
    """The options that every command has. Those given after a command's name win over those before it."""

    url: str | None = None
    output: str = "table"
    timeout: float | None = None
    quiet: bool = False
    verbose: int = 0

    def server(self) -> str:
        """The URL. Raises InvalidURL where none was given."""
        if not self.url:
            raise InvalidURL(
                "no server: pass --url redis://host:6379/0 (or rediss://, unix:///socket, embedded:///directory), "
                "or set RELIQ_URL"
            )
        return self.url

    def queue(self, name: str, *, timeout: float = 30.0) -> Queue:
        """A client of a queue; without `--timeout` its calls give up after `timeout` seconds."""
        from reliq.queue import Queue

        return Queue(name, self.server(), timeout=timeout if self.timeout is None else self.timeout)

    def queue_async(self, name: str) -> AsyncQueue:
        """A client of a queue for asyncio."""
        from reliq.queue_async import AsyncQueue

        return AsyncQueue(name, self.server(), timeout=30.0 if self.timeout is None else self.timeout)

    def out(self) -> Output:
        """Where data goes."""
        from reliq.cli._output import Output

        return Output(self.output)

    def note(self, message: str) -> None:
        """A message that `--quiet` leaves out."""
        if not self.quiet:
            click.echo(message, err=True)

    def start_logging(self) -> None:
        """Sends what reliq logs to stderr: warnings, with `-v` more, with `-q` errors alone."""
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        level = logging.ERROR if self.quiet else logging.WARNING - 10 * min(self.verbose, 2)
        logging.getLogger("reliq").setLevel(level)


class Duration(click.ParamType):  # type: ignore[type-arg]  # in click 8.1 it has none
    """Seconds from text such as 10s, 5m, 2h, 1d, 250ms; a bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads it, or fails with what is expected."""
        if isinstance(value, float | int):
            return float(value)
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_duration(text: str) -> float:
    """Seconds from text.

    Raises:
        ValueError: it is not a duration.
    """
    if not (match := _DURATION.fullmatch(text.strip())):
        raise ValueError(f"{text!r} is not a duration such as 10s, 5m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def duration_option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option whose value is a duration."""
    return click.option(*names, type=Duration(), metavar="DURATION", **settings)


yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only show what would be done.")
