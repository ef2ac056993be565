"""What the SMTP server has accepted: a file with one JSON object in each line, written before the server says 250."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Accepted:
    """A mail that the server took.

    Attributes:
        at: Unix seconds.
        message_id: the Message-ID header.
        recipient: the address of the envelope.
        worker: name of the worker process that sent it.
        delivery: which claim of its item this was, counted from 1.
    """

    at: float
    message_id: str
    recipient: str
    worker: str
    delivery: int


def write(log: BinaryIO, mail: Accepted) -> None:
    """Appends a mail in one write: a reader sees the line whole or not at all. `log` is unbuffered."""
    log.write(json.dumps(asdict(mail), ensure_ascii=False).encode() + b"\n")


def read(path: Path) -> list[Accepted]:
    """All mails of a log, oldest first."""
    return list(Tail(path).fresh())


class Tail:
    """Reads a log while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def fresh(self) -> Iterator[Accepted]:
        """The mails that came since the last call. A last line that is not complete yet is left for the next one."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                yield Accepted(**json.loads(line))
