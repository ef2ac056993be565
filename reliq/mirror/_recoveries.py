"""The Postgres side of rebuilding: what there is of a queue, and the record of what was done to bring it back."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from reliq.errors import MirrorConflict
from reliq.mirror import _plan
from reliq.mirror._plan import Entry, RebuildPlan, Source
from reliq.mirror._sql import statement
from reliq.mirror.store import Connection, Store, query

FIRST_ROWS, MOST_ROWS = 100, 5000  # of one statement, so that no transaction runs for long
PAGE_BYTES = 4 * 1024 * 1024  # of what one statement brings, about
PAGE = 1000  # ended ids in one statement
HELD = 1000  # rows that one statement looks through for items in progress
AGE, COUNT = 3600.0, 1_000_000  # of ended ids, where the queue's settings say nothing: as lua/_end.lua


@dataclass(frozen=True, slots=True)
class Recovery:
    """A rebuild that has begun, as Postgres has it."""

    id: str
    fingerprint: str
    options: Mapping[str, Any]
    plan: Mapping[str, Any]
    progress: Mapping[str, Any]
    state: str
    epoch: int
    who: str

    @property
    def in_progress(self) -> str:
        """What becomes of items that were in progress."""
        return str(self.options["in_progress"])

    @property
    def at_ms(self) -> int:
        """When it began: what is held was set aside then, however often the rebuild was broken off."""
        return int(self.options["at_ms"])

    @property
    def settings(self) -> dict[str, str]:
        """What Redis notes of the queue from the start: its settings, and that it is mirrored."""
        return {str(name): str(value) for name, value in self.options["settings"].items()}


class Recoveries:
    """Of one queue."""

    def __init__(self, store: Store, queue: str) -> None:
        self.store, self.queue = store, queue

    def _row(self, name: str, **values: Any) -> tuple[Any, ...]:
        """The first row, an empty one where there is none."""
        return next(iter(self.store.rows(name, **values)), ())

    def _binary(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows whose bytes need no conversion on the way."""

        def work(connection: Connection) -> list[tuple[Any, ...]]:
            with connection.cursor(binary=True) as cursor:
                return cursor.execute(statement(name), values).fetchall()

        return self.store.run(work)

    # What there is

    def source(self) -> Source | None:
        """What Postgres has of the queue, None where that is nothing."""
        row = self._row("recovery_source", queue=self.queue)
        if not row:
            return None
        epoch, state, position, top, lag_items, lag_seconds, ago, follower, settings, _ = row
        counts = self.store.rows("recovery_counts", queue=self.queue)
        others = self._row("recovery_others", queue=self.queue, age=_age(settings))
        top = max(top, 0, *(stamp for _, _, stamp in counts))
        by_state = {name: count for name, count, _ in counts}
        pending, ended, batches = others
        return Source(
            epoch, state, position, top, lag_items, lag_seconds, ago, follower, by_state, ended, pending, batches
        )

    def rows(self, after: tuple[int, bytes] = (-1, b"")) -> Iterator[Entry]:
        """All live items behind a stamp and id, in order, as they were when the follower met them."""
        stamp, key = after
        size, more = FIRST_ROWS, True
        while more:
            page = self._binary("recovery_items", queue=self.queue, stamp=stamp, id=key, limit=size)
            yield from map(Entry._make, page)
            more = len(page) == size
            if page:
                key, stamp = page[-1][0], Entry._make(page[-1]).stamp
                mean = sum(len(row[2]) + len(row[7]) for row in page) / len(page)
                size = max(1, min(MOST_ROWS, int(PAGE_BYTES / (mean + 100))))

    def by_id(self, ids: Sequence[bytes]) -> list[Entry]:
        """The live items among these ids."""
        return [Entry._make(row) for row in self._binary("recovery_rows_by_id", queue=self.queue, ids=list(ids))]

    def pages(self, size: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """Ids and states of all live items, in order."""
        stamp, key = -1, b""
        while rows := self.store.rows("reconcile_page", queue=self.queue, stamp=stamp, id=key, limit=size):
            yield [(row_id, state.encode()) for row_id, state, _ in rows]
            key, _, stamp = rows[-1]

    def states(self, ids: Sequence[bytes]) -> dict[bytes, str]:
        """The states of those ids that are live items."""
        return dict(self.store.rows("reconcile_states", queue=self.queue, ids=list(ids)))

    def ended_among(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those ids that have ended, with their last end markers."""
        return dict(self.store.rows("reconcile_ended", queue=self.queue, ids=list(ids)))

    def undone(self, size: int) -> Iterator[list[bytes]]:
        """Ids of rows that were enqueued before an end that is known of them: the follower met them again since."""
        after = b""
        while rows := self.store.rows("reconcile_undone", queue=self.queue, id=after, limit=size):
            yield [key for (key,) in rows]
            after = rows[-1][0]

    def position(self) -> tuple[int, str, str] | None:
        """Epoch and state of the queue, and the last journal entry whose items are here."""
        row = self._row("reconcile_position", queue=self.queue)
        return (row[0], row[1], row[2]) if row else None

    def ended(self, recovery: Recovery) -> Iterator[Entry]:
        """Ids that ended within the retention, as it was when the rebuild began; those that ended first come first."""
        since, key = datetime.fromisoformat(recovery.options["ended_since"]), b""
        while page := self._binary("recovery_ended", queue=self.queue, since=since, id=key, limit=PAGE):
            yield from (_plan.marker(key, ended) for key, ended, _ in page)
            key, _, since = page[-1]

    def batches(self) -> list[tuple[Any, ...]]:
        """Batches as lua/restore_batch.lua takes them."""
        return self.store.rows("recovery_batches", queue=self.queue)

    def page_of_batches(self, after: bytes, size: int) -> list[tuple[Any, ...]]:
        """Ids of batches behind one."""
        return self.store.rows("page_of_batches", queue=self.queue, after=after, limit=size)

    def batches_by_id(self, names: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Id, when it is followed, whether it is sealed, members in all, and what follows."""
        return self.store.rows("reconcile_batches", queue=self.queue, batches=list(names))

    def members_of(self, names: Sequence[bytes]) -> dict[bytes, int]:
        """How many live members batches have."""
        return dict(self.store.rows("reconcile_count_members", queue=self.queue, batches=list(names)))

    def members(self, name: bytes, after: bytes, size: int) -> list[bytes]:
        """Ids of live members of a batch behind one."""
        rows = self.store.rows("reconcile_members", queue=self.queue, batch=name, after=after, limit=size)
        return [key for (key,) in rows]

    def forget_batch(self, name: bytes, gone: Callable[[], bool]) -> bool:
        """Removes the row of a batch that is gone, while the follower writes nothing. Returns whether it was."""
        with self.store.lend() as connection, connection.transaction():
            query(connection, "reconcile_lock", {"queue": self.queue})
            if found := gone():
                query(connection, "drop_batches", {"queue": self.queue, "batches": [name]})
        return found

    def following(self) -> set[bytes]:
        """Ids of the items that follow batches which await nobody: they were enqueued when the batch was restored."""
        through = [bytes(row[5]) for row in self.batches() if row[2] and row[4] <= 0]
        return {packed[1 : 1 + packed[0]] for packed in through}

    # What was done

    @contextlib.contextmanager
    def locked(self, wait: float) -> Iterator[None]:
        """While one holds this, nobody else rebuilds or verifies the queue.

        Raises:
            MirrorConflict: after `wait` seconds somebody else still does.
        """
        until = time.monotonic() + wait
        with contextlib.closing(self.store.connect()) as connection:
            while not query(connection, "recovery_lock", {"queue": self.queue})[0][0]:
                if time.monotonic() >= until:
                    raise MirrorConflict(f"{self._holder()} is rebuilding queue {self.queue!r}; wait, or stop it")
                time.sleep(0.1)
            try:
                yield
            finally:
                with contextlib.suppress(psycopg.Error):  # the connection is gone, and the lock with it
                    query(connection, "recovery_unlock", {"queue": self.queue})  # else it is held until Postgres sees

    def _holder(self) -> str:
        row = self._row("recovery_lock_holder", queue=self.queue)
        found = self.unfinished()
        who = found.who if found else "another program"
        return f"{who} (Postgres session {row[2]} from {row[1]})" if row else who

    def begin(self, plan: RebuildPlan, in_progress: str, who: str) -> Recovery:
        """Raises the epoch, notes the rebuild, and takes in what is pending: in one transaction."""
        options = self._options(in_progress)
        facts: dict[str, Any] = {"queue": self.queue, "recovery": plan.recovery, "fingerprint": plan.fingerprint}
        facts |= {"epoch_before": plan.epoch_before, "epoch_after": plan.epoch_after, "who": who}
        facts |= {"options": json.dumps(options), "plan": json.dumps(plan.as_dict())}
        with self.store.lend() as connection, connection.transaction():
            if not query(connection, "recovery_begin", facts):
                raise MirrorConflict(f"the epoch of queue {self.queue!r} has changed; make a new plan")
            query(connection, "recovery_abort_earlier", facts)
            query(connection, "recovery_adopt_pending", facts)
        return Recovery(plan.recovery, plan.fingerprint, options, plan.as_dict(), {}, "applying", plan.epoch_after, who)

    def _options(self, in_progress: str) -> dict[str, Any]:
        settings = dict(self._row("recovery_source", queue=self.queue)[8])
        now, since = self._row("recovery_times", age=_age(settings))
        most = int(settings.get("finished_count") or COUNT)
        first = self._row("recovery_ended_since", queue=self.queue, since=since, count=most)[0] if most else now
        return {
            "in_progress": in_progress,
            "at_ms": int(now.timestamp() * 1000),
            "ended_since": (first - timedelta(microseconds=1) if first else since).isoformat(),
            "settings": _plan.unlike_default(settings) | {"mirrored": "1"},
        }

    def find(self, recovery: str) -> Recovery | None:
        """A rebuild by its id."""
        return _recovery(self._row("recovery_find", queue=self.queue, recovery=recovery))

    def unfinished(self) -> Recovery | None:
        """The rebuild that was begun and has not been verified."""
        return _recovery(self._row("recovery_unfinished", queue=self.queue))

    def last(self) -> Recovery | None:
        """The rebuild that was begun last."""
        return _recovery(self._row("recovery_last", queue=self.queue))

    def history(self, limit: int) -> list[dict[str, Any]]:
        """Rebuilds and repairs, the last one first."""
        return [_told(*row) for row in self.store.rows("recovery_status", queue=self.queue, limit=limit)]

    def note(self, recovery: str, progress: Mapping[str, Any], state: str) -> None:
        """How far it is."""
        self.store.rows("recovery_progress", recovery=recovery, progress=json.dumps(progress), state=state)

    def settle(self, recovery: Recovery) -> None:
        """The rows of what was in progress become what Redis has of them now."""
        with self.store.lend() as connection, connection.transaction():
            after = {"stamp": -1, "id": b""}
            while page := query(connection, "recovery_held", {"queue": self.queue, "limit": HELD, **after}):
                if held := [(key, history) for key, _, history in page if history is not None]:
                    query(connection, "recovery_settle_held", {"queue": self.queue, **_settled(held, recovery)})
                after = {"id": page[-1][0], "stamp": page[-1][1]}

    def crons(self) -> list[tuple[str, str, bytes]]:
        """Recurring items: name, next tick in ms, and what Redis had of it."""
        return [
            (name, tick, bytes.fromhex(kept)) for name, tick, kept in self._row("recovery_source", queue=self.queue)[9]
        ]

    def verified(self, recovery: Recovery, position: str, server: str) -> None:
        """A follower may go on, behind an entry of the new journal."""
        facts = {"queue": self.queue, "epoch": recovery.epoch, "recovery": recovery.id}
        self.store.rows("recovery_verified", **facts, position=position, server=server)

    def report(self, recovery: Recovery, report: Mapping[str, Any]) -> None:
        """Notes what the comparison brought."""
        self.store.rows("recovery_report", recovery=recovery.id, report=json.dumps(report), ok=report["ok"])


def _settled(held: Sequence[Sequence[Any]], recovery: Recovery) -> dict[str, Any]:
    """What rows of items in progress become, as columns."""
    rows = [Entry(key, b"in_progress", b"", history.encode(), b"", b"", b"", b"", b"") for key, history in held]
    entries = [_plan.back(entry, recovery.in_progress, recovery.at_ms) for entry in rows]
    orphaned = recovery.in_progress == "hold"
    return {
        "state": "orphaned" if orphaned else "queued",
        "at_ms": recovery.at_ms if orphaned else None,
        "ids": [entry.id for entry in entries],
        "histories": [entry.history.decode() for entry in entries],
    }


def _told(kind: str, state: str, epoch: int, by: str, progress: Any, report: Any, started: datetime) -> dict[str, Any]:
    counted = progress or report or {}
    done, total = counted.get("done", counted.get("repaired")), counted.get("total", counted.get("found"))
    told = {"started": started, "kind": kind, "state": state, "done": done, "total": total, "epoch": epoch, "by": by}
    return told | {"report": report}


def _recovery(row: Sequence[Any]) -> Recovery | None:
    return Recovery(str(row[0]), *row[1:]) if row else None


def who() -> str:
    """Who does something, for the record."""
    user = str(os.getuid())
    with contextlib.suppress(KeyError, OSError):  # a container may have no name for its user
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}:{os.getpid()}"


def _age(settings: Mapping[str, Any]) -> float:
    """Seconds for which ended ids are remembered."""
    return float(settings["finished_age_ms"]) / 1000 if settings.get("finished_age_ms") else AGE
