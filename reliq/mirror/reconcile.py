"""Compares a live queue with its mirror, both ways, and puts back what one of them has lost."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from reliq import _ids
from reliq.errors import MirrorConflict, ReliqError
from reliq.mirror import _plan, _structures
from reliq.mirror._filling import PAGE, Filling
from reliq.mirror._journal import Journal
from reliq.mirror._mending import Batches, ended_since
from reliq.mirror._plan import LIVE, Entry
from reliq.mirror._recoveries import Recoveries, who
from reliq.mirror._rows import row_of
from reliq.mirror.store import Store, columns, query
from reliq.queue import Queue

__all__ = ["Difference", "Reconciliation", "on_failover", "reconcile"]

log = logging.getLogger("reliq")

MOST = 10_000  # suspects that are looked at again together
SHOWN = 1000  # differences that a report names


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the two sides disagree about, also after the follower had read all that was to be read.

    Attributes:
        kind: `missing in redis`, `missing in postgres`, `state`, `ended`, `batch`, `structure`, `counter`.
        id: of the item or the batch, '' where it is about none.
        text: what each side has.
        repaired: it was put right.
    """

    kind: str
    id: str
    text: str
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a reconciliation found.

    Attributes:
        queue: its name.
        looked_at: items that were compared.
        differences: at most 1,000 of them.
        found, repaired: how many there were in all, and how many were put right.
        certain: the follower had read everything that happened before; else some differences may just be its lag.
        seconds: how long it took.
    """

    queue: str
    looked_at: int
    differences: tuple[Difference, ...]
    found: int
    repaired: int
    certain: bool
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether both sides agree now."""
        return self.found == self.repaired

    def __bool__(self) -> bool:
        return self.ok


def reconcile(store: Store, queue: Queue, *, repair: bool = False, patience: float = 30.0) -> Reconciliation:
    """Goes through both sides of a live queue, a thousand items at a time, and names what differs.

    With `repair` an item that Redis has lost and that has not ended is put back at its place, in its batch, and a row
    that Postgres lacks is written. An item that has ended by the mirror and lives in Redis, because a failover lost its
    end, is ended there again where nobody holds it. Everything else is for people to decide. No item that has not ended
    is removed. Run it as often as you like.

    Args:
        store: the mirror's.
        queue: a client of the live queue.
        repair: put right what can be put right safely.
        patience: seconds to wait for the follower to read what happened before something is called a difference.

    Raises:
        MirrorConflict: the two sides have different epochs, or the queue is closed for a rebuild.
        MirrorUnavailable, Unavailable: one of them does not answer.
    """
    with contextlib.closing(Filling(queue)) as filling:
        return _Comparison(store, filling, repair=repair, patience=patience).run()


def on_failover(
    store: Store, queue: Queue, *, then: Callable[[Reconciliation], object] | None = None
) -> Callable[[str, str], None]:
    """A function for `Queue(..., on_failover=)`: puts back what the new master did not get and the mirror has.

    Args:
        store: the mirror's.
        queue: a client of the queue.
        then: is called with what was found.
    """

    def put_back(old: str, new: str) -> None:
        try:
            report = reconcile(store, queue, repair=True)
        except ReliqError:
            log.exception("queue %s: not reconciled after the failover from %s to %s", queue.name, old, new)
            return
        log.warning("queue %s: %s put back after the failover from %s to %s", queue.name, report.repaired, old, new)
        if then is not None:
            then(report)

    return put_back


@dataclass
class _Comparison:
    store: Store
    filling: Filling
    repair: bool
    patience: float
    differences: list[Difference] = field(default_factory=list)
    found: int = 0
    repaired: int = 0
    looked_at: int = 0
    certain: bool = True
    older: bool = False

    def run(self) -> Reconciliation:
        started = time.monotonic()
        self.recoveries = Recoveries(self.store, self.filling.name)
        self.batches = Batches(self.recoveries, self.filling)
        self._same_epoch()
        self.older = self._is_older()
        for suspects in self._suspects():
            self._judge(suspects)
        self._batches()
        for text in _structures.problems(self.filling):
            self._note(Difference("counter" if text.startswith("counter") else "structure", "", text))
        report = Reconciliation(
            self.filling.name,
            self.looked_at,
            tuple(self.differences),
            self.found,
            self.repaired,
            self.certain,
            time.monotonic() - started,
        )
        if self.repair:
            if self.certain:
                self._accept()
            self._keep(report)
        return report

    def _accept(self) -> None:
        """What could not be put back is known now: this server is the queue from here on, and clients may use it."""
        stamp = self.filling.look().stamp
        self.store.rows("reconcile_accept", queue=self.filling.name, stamp=stamp)

    def _is_older(self) -> bool:
        """Whether Redis has a copy of the queue that nobody may use. No follower reads its journal: it is behind the
        mirror, not the mirror behind it.
        """
        met = self.store.rows("guard_facts", queue=self.filling.name)[0][3]
        return _plan.too_old(met, self.filling.look().stamp)

    def _same_epoch(self) -> None:
        target, known = self.filling.look(), self.recoveries.position()
        if known is None or target.epoch != known[0]:
            has = known[0] if known else "none"
            raise MirrorConflict(f"queue {self.filling.name!r} has epoch {target.epoch} in Redis, {has} in the mirror")
        if target.state != "ready":
            raise MirrorConflict(f"queue {self.filling.name!r} is closed for a rebuild: verify it")

    def _suspects(self) -> Iterator[list[bytes]]:
        """Ids whose state is not the same on both sides at this moment, up to `MOST` at a time."""
        suspects: dict[bytes, None] = {}
        for key in self._looks_different():
            suspects[key] = None
            if len(suspects) >= MOST:
                yield list(suspects)
                suspects.clear()
        if suspects:
            yield list(suspects)

    def _looks_different(self) -> Iterator[bytes]:
        for rows in self.recoveries.pages(PAGE):
            self.looked_at += len(rows)
            entries = self.filling.get([key for key, _ in rows])
            yield from (e.id for e, (_, state) in zip(entries, rows, strict=True) if e.state != state)
        for state in LIVE:
            for page in self.filling.pages(state):
                rows_there = self.recoveries.states(page)
                yield from (key for key in page if key not in rows_there)
        for page in self.recoveries.undone(PAGE):
            yield from page

    def _judge(self, suspects: Sequence[bytes]) -> None:
        """Looks at suspects again, when the follower has read everything that had happened when they were found."""
        caught_up = self._caught_up()
        unread = set() if caught_up else self._unread()
        self.certain &= caught_up or unread is not None
        for start in range(0, len(suspects), PAGE):
            page = [key for key in suspects[start : start + PAGE] if key not in (unread or ())]
            rows = {entry.id: entry for entry in self.recoveries.by_id(page)}
            ended = self.recoveries.ended_among(page)
            lost, unknown, undone = list[Entry](), list[bytes](), list[tuple[Entry, bytes]]()
            for entry in self.filling.get(page):
                row, marker, lives = rows.get(entry.id), ended.get(entry.id), entry.state.decode() in LIVE
                if marker is not None and lives and ended_since(entry, marker):
                    undone.append((entry, marker))
                elif row is not None and not entry.state:
                    lost += [] if ended_since(row, marker) else [row]
                elif row is None and lives:
                    unknown.append(entry.id)
                elif row is not None and row.state != entry.state:
                    self._note(_difference("state", row, entry))
            self._lost_by_redis(lost)
            self._unknown_to_postgres(unknown)
            self._lives_again(undone)

    def _lost_by_redis(self, rows: Sequence[Entry]) -> None:
        put: set[bytes] = set()
        if self.repair and self.certain and rows:  # else it may have been purged, and the follower not know it yet
            self.batches.open_for(rows)
            put = self.filling.put_back([_plan.back(row, "requeue", 0) for row in rows])
        for row in rows:
            blank = row._replace(state=b"")
            self._note(_difference("missing in redis", row, blank, repaired=row.id in put))

    def _unknown_to_postgres(self, keys: Sequence[bytes]) -> None:
        """The row of the queue is locked while Redis is asked, so that the follower writes nothing newer meanwhile."""
        written: set[bytes] = set()
        if self.repair and keys:
            with self.store.lend() as connection, connection.transaction():
                generation = query(connection, "reconcile_lock", {"queue": self.filling.name})[0][0]
                rows = [
                    row_of(e.id, (e.state, e.record, e.history, e.error, e.at, e.group, e.checkpoint, e.batch))
                    for e in self.filling.get(keys)
                    if e.state.decode() in LIVE
                ]
                if rows:
                    told = {"queue": self.filling.name, "generation": generation}
                    query(connection, "upsert_items", told | columns(rows, ROW_COLUMNS))
                written = {row.ids for row in rows}
        for entry in self.filling.get(keys):
            if entry.state.decode() in LIVE:
                self._note(_difference("missing in postgres", None, entry, repaired=entry.id in written))

    def _lives_again(self, undone: Sequence[tuple[Entry, bytes]]) -> None:
        """What a failover took back the end of: else it would be done a second time."""
        over: set[bytes] = set()
        if self.repair and self.certain and undone:
            over = self.filling.end_again([(entry.id, marker) for entry, marker in undone])
        for entry, _ in undone:
            text = f"it has ended by the mirror, and is {entry.state.decode()} in Redis"
            self._note(_difference("ended", None, entry, text, repaired=entry.id in over))

    def _batches(self) -> None:
        """Behind the items: a batch is sealed when its members are there, or it would be followed too early."""
        suspects = [batch.id for batch, _ in self.batches.different()]
        if not suspects:
            return
        if not self._caught_up():
            self.certain = False
            return
        for start in range(0, len(suspects), PAGE):
            for batch, text in self.batches.still_different(suspects[start : start + PAGE]):
                done = self.repair and self.certain and self.batches.put_right(batch)
                self._note(Difference("batch", _ids.unpack(batch.id), text, repaired=done))

    def _caught_up(self) -> bool:
        """Waits until the follower has read what is in the journal now. False where it does not come that far."""
        if self.older:
            return True
        last, until = self.filling.last_in_journal(), time.monotonic() + self.patience
        while True:
            known = self.recoveries.position()
            if known is not None and known[1] == "following" and _place(known[2]) >= _place(last):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.05)

    def _unread(self) -> set[bytes] | None:
        """Items that the follower will look at yet. None where the journal does not reach back to its position."""
        known, journal, found = self.recoveries.position(), Journal(self.filling.queue), set[bytes]()
        position, more = known[2] if known and known[1] == "following" else "", True
        while position and more:
            page = journal.page(position, "+", PAGE)
            found |= set(page.ids)
            position, more = "" if page.trimmed else page.last, page.full
        return found if position else None

    def _note(self, difference: Difference) -> None:
        self.found += 1
        self.repaired += difference.repaired
        if len(self.differences) < SHOWN:
            self.differences.append(difference)

    def _keep(self, report: Reconciliation) -> None:
        """For whoever asks later what was done."""
        told = {"found": report.found, "repaired": report.repaired, "looked_at": report.looked_at}
        named = [f"{d.id or 'the queue'}: {d.text}" for d in report.differences[:20]]
        self.store.rows(
            "reconcile_note",
            queue=self.filling.name,
            recovery=str(uuid4()),
            report=json.dumps(told | {"differences": named}),
            who=who(),
        )


ROW_COLUMNS = ("ids", "stamps", "states", "bodies", "histories", "times", "errors", "groups", "checkpoints", "batches")


def _difference(kind: str, row: Entry | None, found: Entry, more: str = "", *, repaired: bool = False) -> Difference:
    text = more or _plan.difference(row, found).partition(": ")[2]
    return Difference(kind, _ids.unpack(found.id), text, repaired)


def _place(position: str) -> tuple[int, ...]:
    """The id of a journal entry as something that can be compared."""
    return tuple(int(part) for part in position.split("-")) if position else (0, 0)
