"""Rows of the outbox, made into items that are ready to be sent. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reliq import _ids
from reliq._commands import Body
from reliq._session import Session
from reliq.errors import CodecError, InvalidArgument, PayloadError
from reliq.typed import PayloadType


class Row(NamedTuple):
    """A row as `next_of_outbox` gives it. `payload` is JSON text; `age_ms` is how long ago it was written."""

    number: int
    id: bytes
    body: bytes | None
    payload: str | None
    headers: Mapping[str, str]
    due: str
    group: str
    age_ms: int


class Refusal(NamedTuple):
    """A row that can't be sent, and why."""

    number: int
    error: str


@dataclass(frozen=True, slots=True)
class Packer:
    """Makes rows ready with the codecs of their queue.

    Attributes:
        session: what codes the payloads; without a payload type, because what is in the outbox is plain already.
        kind: the payload type, which a payload in JSON has to fit.
    """

    session: Session
    kind: PayloadType | None

    def sort(self, rows: Sequence[Row]) -> tuple[list[Body], list[Refusal]]:
        """What can be sent, in order, and what can't.

        Raises:
            OSError: a codec could not reach its store. That is no fault of the row.
        """
        bodies, refusals = [], []
        for row in rows:
            try:
                bodies.append(self._ready(row))
            except (InvalidArgument, CodecError) as error:
                if isinstance(error.__cause__, OSError):
                    raise error.__cause__ from error
                refusals.append(Refusal(row.number, f"{type(error).__name__}: {error}"))
        return bodies, refusals

    def _ready(self, row: Row) -> Body:
        if _ids.pack(_ids.check(_ids.unpack(row.id))) != row.id:
            raise InvalidArgument("the id is not as reliq.pack_id makes it")
        if row.group:
            _ids.check(row.group, "a group")
        body = self._packed(row) if row.body is None else row.body
        return Body(row.id, body, _left(row.due, row.age_ms), row.group.encode())

    def _packed(self, row: Row) -> bytes:
        payload = _parsed(row.payload or "")
        if self.kind is not None:
            payload = self.kind.encode(self.kind.decode(payload))
        return self.session.encode(payload, row.id, row.headers)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or lists in lists in lists
        raise PayloadError(f"the payload can't be read: {error}") from error


def _left(due: str, age_ms: int) -> str:
    """The delay that is left. It counts from when the row was written, on Postgres's clock alone."""
    if not due.startswith("+"):
        return due
    left = int(due) - age_ms
    return f"+{left}" if left > 0 else ""
