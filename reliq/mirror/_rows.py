"""An item as lua/get.lua tells it, as a row of Postgres, and as the arguments that put it back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reliq import _codec, _reading

MISSING = -1  # generation of a row whose item the server does not know since it was replaced or restarted
ENDED = 0xFF  # the first byte of an end marker: lua/_stamp.lua

Reply = Sequence[bytes]


class Row(NamedTuple):
    """A row of `items`. Names and order are those of the arrays that go to Postgres."""

    ids: bytes
    stamps: int
    states: str
    bodies: bytes
    histories: str
    times: int | None
    errors: str
    groups: str
    checkpoints: bytes
    batches: bytes


class End(NamedTuple):
    """How an item has ended; without a marker where the server has forgotten it."""

    ids: bytes
    markers: bytes | None
    seconds: float | None


def has_ended(value: bytes) -> bool:
    """Whether a value of the hash `items` is an end marker."""
    return value[:1] == b"\xff"


def row_of(key: bytes, reply: Reply) -> Row:
    """The row of an item that exists, from what lua/get.lua says of it."""
    state, record, history, error, at, group, checkpoint, batch = reply
    return Row(
        key,
        int.from_bytes(record[: _codec.STAMP], "big"),
        state.decode(),
        record[_codec.STAMP :],
        _kept(state.decode(), history),
        int(float(at)) if at else None,
        text_of(error),
        text_of(group),
        checkpoint,
        batch,
    )


def end_of(key: bytes, marker: bytes) -> End:
    """How an item ended, from its end marker."""
    return End(key, marker, _codec.enqueued_at(marker[1:]))


def forgotten(key: bytes) -> End:
    """An item that the server does not know any more."""
    return End(key, None, None)


def _kept(state: str, history: bytes) -> str:
    """A history as it is worth keeping: what an item went through.

    Not its receipt, which is of a claim that a rebuild would not know, and not its place: items that wait for the turn
    of their group change theirs without being named in the journal, and a rebuild puts all of them into their order.
    """
    if not history:
        return ""
    counts = _reading.history_of(history)
    return "" if state == "queued" and not any(counts) else f"q {counts[0]} {counts[1]} {counts[2]} "


def text_of(stored: bytes) -> str:
    """Text as Postgres can have it: a cut character and a NUL byte are spelled out."""
    return stored.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def unpack_ids(packed: bytes) -> list[bytes]:
    """Ids as lua/_ids.lua packs them."""
    if packed[:1] == b"u":
        return [packed[at : at + 16] for at in range(1, len(packed), 16)]
    ids, at = [], 1
    while at < len(packed):
        size = packed[at]
        ids.append(packed[at + 1 : at + 1 + size])
        at += 1 + size
    return ids


class BatchRow(NamedTuple):
    """A row of `batches`."""

    batches: bytes
    conditions: str
    sealed: bool
    totals: int
    awaited: int
    following: bytes


def batch_row(batch: bytes, state: bytes | None, following: bytes | None) -> BatchRow | None:
    """The row of a batch from what lua/_batch.lua keeps of it; None where there is no such batch any more."""
    if not state:
        return None
    condition, sealed, total, awaited = state.decode().split(" ")
    return BatchRow(batch, condition, sealed == "1", int(total), int(awaited), following or b"")
