"""Payloads from JSON: arguments, and files with one on each line, which are read twice: to check, then to send."""

from __future__ import annotations

import datetime as dt
import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from typing import IO, Any, NoReturn

import click

from reliq import _plans
from reliq._session import Session
from reliq.cli._options import parse_duration
from reliq.errors import InvalidArgument, PayloadError
from reliq.item import New

MAX_LINE = 16 * 1024 * 1024  # bytes; a payload of 512 KiB takes less, however it is escaped
ENVELOPE = ("payload", "id", "delay", "at", "headers", "group")


class BadLine(Exception):
    """A line that can't be enqueued, and why."""


@dataclass(frozen=True)
class Reader:
    """Makes items of lines.

    Attributes:
        text: a line is the payload as it stands.
        envelope: a line is an object that has the payload and the item's options.
        defaults: options of every item.
    """

    session: Session
    defaults: New
    text: bool = False
    envelope: bool = False

    def item(self, line: str) -> New:
        """The item that a line describes, checked as the library checks it when it is enqueued.

        Raises:
            BadLine.
        """
        try:
            new = self._item(line)
            _plans.body_of(self.session, new, repeat(bytes(16)))
        except (BadLine, InvalidArgument) as error:
            raise BadLine(str(error)) from error
        return new

    def _item(self, line: str) -> New:
        if self.text:
            return replace(self.defaults, payload=line)
        value = parse_json(line)
        return from_envelope(value) if self.envelope else replace(self.defaults, payload=value)


def parse_json(text: str) -> Any:
    """A value from strict JSON: no NaN, no numbers that become infinite.

    Raises:
        BadLine.
    """
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise BadLine("not JSON: nested too deeply") from None
    except ValueError as error:
        raise BadLine(f"not JSON: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text} is out of range")
    return number


def from_envelope(value: Any) -> New:
    """An item from an object with `payload` and perhaps `id`, `delay`, `at`, `headers` and `group`.

    Raises:
        BadLine.
    """
    if not isinstance(value, dict) or "payload" not in value:
        raise BadLine('an envelope is an object with a "payload"')
    if unknown := [name for name in value if name not in ENVELOPE]:
        raise BadLine(f"an envelope has {', '.join(ENVELOPE)}, not {unknown[0]!r}")
    headers = value.get("headers")
    if headers is not None and not isinstance(headers, dict):
        raise BadLine("headers are an object of strings")
    times = _delay(value.get("delay")), _at(value.get("at"))
    return New(value["payload"], value.get("id"), *times, headers, value.get("group"))


def _delay(value: Any) -> Any:
    try:
        return parse_duration(value) if isinstance(value, str) else value
    except ValueError as error:
        raise BadLine(f"delay: {error}") from error


def _at(value: Any) -> Any:
    """Unix seconds, from these or from ISO 8601 text with an offset."""
    if not isinstance(value, str):
        return value
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError as error:
        raise BadLine(f"at: {error}") from error
    if moment.tzinfo is None:
        raise BadLine(f"at: {value!r} has no offset from UTC, such as Z or +02:00")
    return moment.timestamp()


def argument(text: str, reader: Reader) -> New:
    """The item for a payload on the command line.

    Raises:
        PayloadError: it says how to quote, because a bare word is the usual mistake.
    """
    try:
        return reader.item(text)
    except BadLine as error:
        hint = "; quote JSON for the shell ('\"word\"', '{\"a\": 1}'), or pass --text for text as it stands"
        problem = str(error)
        raise PayloadError(f"{text[:60]!r}: {problem}{hint if problem.startswith('not JSON') else ''}") from error


def pairs(given: Iterable[str], option: str = "--header") -> dict[str, str] | None:
    """NAME=VALUE, as a mapping; None where there are none."""
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise click.UsageError(f"{option} takes NAME=VALUE, not {pair!r}")
        found[name] = value
    return found or None


@contextmanager
def rewindable(source: IO[bytes]) -> Iterator[IO[bytes]]:
    """The source itself where it can be read twice, else a temporary file with what it has to give."""
    if source.seekable():
        yield source
        return
    with tempfile.TemporaryFile() as spool:
        shutil.copyfileobj(source, spool)
        spool.seek(0)
        yield spool


def numbered(source: IO[bytes], end: int | None = None) -> Iterator[tuple[int, bytes | None]]:
    """Line numbers and lines, None for a line that is too long; up to the byte `end`. Blank lines are left out."""
    number = 0
    while (end is None or source.tell() < end) and (line := source.readline(MAX_LINE)):
        number += 1
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            while (rest := source.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif line.strip():
            yield number, line


def read(line: bytes | None, reader: Reader) -> New:
    """The item for a line of a file.

    Raises:
        BadLine.
    """
    if line is None:
        raise BadLine(f"longer than {MAX_LINE} bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8: {error}") from error
    return reader.item(text.rstrip("\r\n"))
