"""Copies items as they are now from Redis into rows, in parts that fit into memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from reliq.mirror._journal import NONE_ENDED, Ended, Journal
from reliq.mirror._rows import MISSING, BatchRow, End, Row, batch_row, end_of, forgotten, has_ended, row_of
from reliq.mirror.store import Connection, columns, query

PART = 500  # items in a call of a script: more would hold up everybody else for too long
PART_BYTES = 4 * 1024 * 1024
FIRST_PART = 50  # while it is not known how large the records are


@dataclass
class Copied:
    """What came of items: how many rows live, how many items have ended, how many the server does not know."""

    live: int = 0
    ended: int = 0
    unknown: int = 0

    def __add__(self, other: Copied) -> Copied:
        return Copied(self.live + other.live, self.ended + other.ended, self.unknown + other.unknown)


@dataclass
class Told:
    """What Redis says of some items."""

    rows: list[Row] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    unknown: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """Where rows go.

    Attributes:
        has_rows: whether the queue has any rows. Where it has none, items that have ended leave no trace.
        has_pending: the same of rows that wait to be met.
        keep_unknown: a row whose item the server does not know stays, and is marked: the server lost it. Otherwise it
            goes: the item has ended and was forgotten.
    """

    connection: Connection
    queue: str
    generation: int
    has_rows: bool = True
    has_pending: bool = True
    keep_unknown: bool = False


class Copier:
    """Asks what became of items and writes it. One for each queue: it learns how large its records are."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._mean = PART_BYTES / FIRST_PART  # bytes of a value

    def copy(self, target: Target, ids: Iterable[bytes], ended: Ended = NONE_ENDED) -> Copied:
        """Brings the rows of these items up to date, in the caller's transaction.

        Those that are known to have ended are asked for only where they have a row: for its end marker.
        """
        ids = list(ids)
        gone = [key for key in ids if key in ended.ids]
        total = Copied(ended=len(gone))
        if gone:
            known = _with_rows(target, gone)
            ids = known + [key for key in ids if key not in ended.ids]
            total.ended -= len(known)
        for told in self._told(ids) if ended.complete else self._told_by_value(ids):
            total += write(target, told)
        return total

    def _told_by_value(self, ids: Sequence[bytes]) -> Iterator[Told]:
        """First the values alone, by a plain command: that is less where most items have ended by now."""
        at = 0
        while at < len(ids):
            part = ids[at : at + self.part]
            values = self._journal.values(part)
            at += len(part)
            self.learn([value for value in values if value])
            known = list(zip(part, values, strict=True))
            yield Told(ends=[end_of(key, value) for key, value in known if value and has_ended(value)])
            yield from self._told([key for key, value in known if not (value and has_ended(value))])

    def _told(self, ids: Sequence[bytes]) -> Iterator[Told]:
        at = 0
        while at < len(ids):
            part = ids[at : at + min(self.part, PART)]
            at += len(part)
            yield self._looked_at(part)

    def _looked_at(self, ids: Sequence[bytes]) -> Told:
        told = Told()
        replies = self._journal.get(ids)
        self.learn([reply[1] for reply in replies if reply[1]])
        for key, reply in zip(ids, replies, strict=True):
            state, record = reply[0], reply[1]
            if not state:
                told.unknown.append(key)
            elif has_ended(record):
                told.ends.append(end_of(key, record))
            elif record:  # else the server lost the record of a dead item: the row that there is knows more
                told.rows.append(row_of(key, reply))
        return told

    @property
    def part(self) -> int:
        """How many values fit into a part."""
        return max(1, min(1000, int(PART_BYTES / max(1.0, self._mean))))

    def learn(self, values: Sequence[bytes]) -> None:
        """Notes how large values are: at once where they are larger than thought, slowly where they are smaller."""
        if values:
            mean = sum(map(len, values)) / len(values)
            self._mean = mean if mean > self._mean else (self._mean + mean) / 2


def _with_rows(target: Target, ids: Sequence[bytes]) -> list[bytes]:
    """Those of the ids that the mirror has anything of."""
    if not (target.has_rows or target.has_pending):
        return []
    found = query(target.connection, "known_ids", {"queue": target.queue, "ids": ids})
    return [key for (key,) in found]


def write(target: Target, told: Told) -> Copied:
    """Writes what Redis said of items."""
    if told.rows:
        _upsert(target, told.rows)
    unknown = [] if target.keep_unknown else told.unknown
    ends = told.ends + [forgotten(key) for key in unknown]
    if ends and (target.has_rows or target.has_pending):
        query(target.connection, "end_items", {"queue": target.queue, **columns(ends, End._fields)})
    if told.unknown and target.keep_unknown:
        query(target.connection, "mark_missing", {"queue": target.queue, "ids": told.unknown, "generation": MISSING})
    return Copied(len(told.rows), len(told.ends), len(told.unknown))


def _upsert(target: Target, rows: Sequence[Row]) -> None:
    values = {"queue": target.queue, "generation": target.generation, **columns(rows, Row._fields)}
    query(target.connection, "upsert_items", values)
    if target.has_pending:
        query(target.connection, "meet_pending", {"queue": target.queue, "ids": values["ids"]})


def copy_batches(target: Target, journal: Journal, names: Sequence[bytes]) -> None:
    """Brings the rows of batches up to date."""
    found = [(name, batch_row(name, state, following)) for name, state, following in journal.batches(names)]
    rows = [row for _, row in found if row is not None]
    if rows:
        query(target.connection, "upsert_batches", {"queue": target.queue, **columns(rows, BatchRow._fields)})
    gone = [name for name, row in found if row is None]
    if gone and not target.keep_unknown:
        query(target.connection, "drop_batches", {"queue": target.queue, "batches": gone})


def copy_settings(target: Target, journal: Journal) -> None:
    """Writes the queue's settings and its recurring items."""
    values = {"settings": json.dumps(journal.settings()), "crons": json.dumps(journal.crons())}
    query(target.connection, "save_settings", {"queue": target.queue, **values})
