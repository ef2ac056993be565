"""What a history is made of: one JSON object a line, each an event with its time and its process.

Times are seconds of CLOCK_MONOTONIC, which all processes of one machine share; a history of several machines can't be
decided. docs/reference/history-checker.md lists the events and their fields.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliq.errors import ReliqError

STARTED = "started"


class HistoryDamaged(ReliqError, ValueError):
    """A file is no history, or is damaged elsewhere than at the end of what a killed process wrote."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a process did, or was told.

    Attributes:
        t: seconds on the monotonic clock of the machine.
        process: name of the process that wrote it, with its number.
        kind: `enqueue`, `claim`, `finish`, `began`, `process` ...
        data: what belongs to this kind.
    """

    t: float
    process: str
    kind: str
    data: Mapping[str, Any]

    def line(self) -> bytes:
        """The event as it stands in a file, with its newline."""
        return json.dumps({"t": self.t, "process": self.process, "event": self.kind, **self.data}).encode() + b"\n"


def from_line(line: bytes) -> Event:
    """Reads one line.

    Raises:
        ValueError: it is no event.
    """
    found = json.loads(line)
    try:
        return Event(float(found.pop("t")), str(found.pop("process")), str(found.pop("event")), found)
    except (AttributeError, KeyError, TypeError) as error:  # no object, or one that lacks something
        raise ValueError(f"an event has t, process and event: {error}") from error


def read(*paths: str | Path) -> list[Event]:
    """All events of some files, and of the `*.jsonl` files of some folders, in the order of their times.

    A process that was killed may have torn its last line: such a line is left out, at the end of a file and where the
    file was opened anew after it.

    Raises:
        HistoryDamaged: another line is no event.
        OSError: a file can't be read.
    """
    events = [event for path in _files(paths) for event in _events_of(path)]
    return sorted(events, key=lambda event: event.t)


def _files(paths: Iterable[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        yield from sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


def _events_of(path: Path) -> Iterator[Event]:
    torn = 0
    with io.BytesIO(path.read_bytes()) as lines:  # at once: a file that grows while it is read has torn lines anywhere
        for number, line in enumerate(lines, start=1):
            try:
                event = from_line(line)
            except ValueError:
                if torn:
                    raise _damaged(path, torn) from None
                torn = number
                continue
            if torn and event.data.get("what") != STARTED:
                raise _damaged(path, torn)
            torn = 0
            yield event


def _damaged(path: Path, line: int) -> HistoryDamaged:
    return HistoryDamaged(f"{path}, line {line}: not an event of a history")
